"""What a registry is shown of who asks: the logins that are kept, and the tokens that these were exchanged for."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from threading import Lock

from ollama_ferry.errors import FerryError
from ollama_ferry.registries.challenges import Challenge
from ollama_ferry.registries.credentials import Credential, find_credential
from ollama_ferry.registries.tokens import Authorization, TokenRequest, basic, read_token, token_request


class Logins:
    """Logs in to one registry, from any thread.

    Args:
        registry: its name as the user wrote it.
        environ: the environment's variables, which say where logins are kept.
        ask: sends a request for a token, for a purpose that it tells in messages, and returns the answer's bytes.
    """

    def __init__(self, registry: str, environ: Mapping[str, str], ask: Callable[[TokenRequest, str], bytes]) -> None:
        self._registry = registry
        self._environ = environ
        self._ask = ask
        self._authorizations: dict[str, Authorization] = {}
        self._credential: Credential | None = None
        self._note = ""
        self._looked = False
        self._lock = Lock()

    def known(self, scope: str) -> Authorization | None:
        """Return what to send for a right, as far as that is known and has not ended."""
        known = self._authorizations.get(scope) or self._authorizations.get("")
        return known if known is not None and known.fresh else None

    def renew(
        self, challenge: Challenge, scope: str, refused: Authorization | None, what: str
    ) -> tuple[Authorization | None, bool]:
        """Return what to send instead of what was refused, None where there is nothing better; and if it is new.

        Raises:
            FerryError: no token can be had.
        """
        with self._lock:
            known = self.known(scope)
            if known is not None and known is not refused:
                # Another thread was faster.
                return known, False
            credential = self._find()
            if challenge.scheme == "basic":
                if credential is None or not credential.username or refused is not None:
                    return None, False
                found = Authorization(basic(credential))
                self._authorizations[""] = found
                return found, True
            asked = time.monotonic()
            found = read_token(self._ask(token_request(challenge, scope, credential), what), asked)
            self._authorizations[scope] = found
            return found, True

    @property
    def used(self) -> str:
        """Whose login is used, and where it is kept, for people; empty for none."""
        if self._credential is None:
            return ""
        return f"{self._credential.username or 'a token'} in {self._credential.origin}"

    @property
    def hint(self) -> str:
        """What to do where another login is wanted."""
        hint = f"Log in with `docker login {self._registry}` (or podman, skopeo), as a user that has this right."
        return f"{self._note}\n{hint}" if self._note else hint

    def _find(self) -> Credential | None:
        if not self._looked:
            self._looked = True
            try:
                self._credential = find_credential(self._registry, self._environ)
            except FerryError as error:
                # What is open to all needs no login; where it is needed, this is why there was none.
                self._note = f"{error.message}. {error.hint}".strip()
        return self._credential
