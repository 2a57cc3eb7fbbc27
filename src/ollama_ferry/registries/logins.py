"""What a registry is shown of who asks: the logins that are kept, and the tokens that these were exchanged for."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from threading import Lock

from ollama_ferry.errors import FerryError
from ollama_ferry.registries.challenges import Challenge
from ollama_ferry.registries.credentials import Credential, find_credential
from ollama_ferry.registries.tokens import Authorization, TokenRequest, basic, bearer, read_token, token_request


class Logins:
    """Logs in to one registry, from any thread.

    A login may be kept for a part of the registry only, so there is one for each repository.

    Args:
        registry: its name as the user wrote it.
        environ: the environment's variables, which say where logins are kept.
        ask: sends a request for a token, for a purpose that it tells in messages, and returns the answer's bytes.
    """

    def __init__(self, registry: str, environ: Mapping[str, str], ask: Callable[[TokenRequest, str], bytes]) -> None:
        self._registry = registry
        self._environ = environ
        self._ask = ask
        self._tokens: dict[str, Authorization] = {}
        self._basic: dict[str, Authorization] = {}
        self._challenges: dict[str, Challenge] = {}
        self._kept: dict[str, _Kept] = {}
        self._lock = Lock()

    def ready(self, scope: str, what: str) -> Authorization | None:
        """Return what to send for a right, as far as that is known; a token that is about to end is replaced before.

        Raises:
            FerryError: no other token can be had.
        """
        known = self._known(scope)
        if known is None and (challenge := self._challenges.get(scope)) is not None:
            return self.renew(challenge, scope, None, what)[0]
        return known

    def renew(
        self, challenge: Challenge, scope: str, refused: Authorization | None, what: str
    ) -> tuple[Authorization | None, bool]:
        """Return what to send instead of what was refused, None where there is nothing better; and if it is new.

        Raises:
            FerryError: no token can be had.
        """
        with self._lock:
            known = self._known(scope)
            if known is not None and known is not refused:
                # Another thread was faster.
                return known, False
            credential = self._find(scope).credential
            if challenge.scheme == "basic":
                if credential is None or not credential.username or refused is not None:
                    return None, False
                found = self._basic[_repository(scope)] = Authorization(basic(credential))
                return found, True
            if credential is not None and credential.registry_token:
                if refused is not None:
                    return None, False
                found = self._tokens[scope] = bearer(credential.registry_token)
                return found, True
            asked = time.monotonic()
            found = read_token(self._ask(token_request(challenge, scope, credential), what), asked)
            self._tokens[scope] = found
            self._challenges[scope] = challenge
            return found, True

    def used(self, scope: str) -> str:
        """Whose login is used for a right, and where it is kept, for people; empty for none."""
        kept = self._kept.get(_repository(scope))
        if kept is None or kept.credential is None:
            return ""
        return f"{kept.credential.username or 'a token'} in {kept.credential.origin}"

    def hint(self, scope: str) -> str:
        """What to do where another login is wanted for a right."""
        hint = f"Log in with `docker login {self._registry}` (or podman, skopeo), as a user that has this right."
        kept = self._kept.get(_repository(scope))
        return f"{kept.note}\n{hint}" if kept and kept.note else hint

    def _known(self, scope: str) -> Authorization | None:
        known = self._tokens.get(scope) or self._basic.get(_repository(scope))
        return known if known is not None and known.fresh else None

    def _find(self, scope: str) -> _Kept:
        repository = _repository(scope)
        if repository not in self._kept:
            try:
                self._kept[repository] = _Kept(find_credential(self._registry, self._environ, repository))
            except FerryError as error:
                # What is open to all needs no login; where it is needed, this is why there was none.
                self._kept[repository] = _Kept(None, f"{error.message}. {error.hint}".strip())
        return self._kept[repository]


@dataclass(frozen=True)
class _Kept:
    """The login that was found for a repository.

    Attributes:
        credential: None for none.
        note: why none could be found, where that is no ordinary thing; for people.
    """

    credential: Credential | None
    note: str = ""


def _repository(scope: str) -> str:
    """Return the repository that a right is about; of several the first, which is the one that is written to."""
    return scope.partition(" ")[0].removeprefix("repository:").rpartition(":")[0]
