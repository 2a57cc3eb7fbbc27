"""What a registry calls a model: ``host[:port]/repository[:tag][@sha256:...]``.

Source: the grammar of names in the OCI distribution specification. Reading is lenient in one thing: parts of a
repository may have capitals, for Ollama's own registry and hf.co take them. Writing is strict: a push makes lower-case
repositories.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from ollama_ferry.errors import InvalidName, Remedy, UsageError
from ollama_ferry.model.manifests import Digest
from ollama_ferry.model.names import DEFAULT_HOST, DEFAULT_NAMESPACE, DEFAULT_TAG, ModelName
from ollama_ferry.registries.docker_hub import repository_at

_LIMIT = 1000
_HOST = re.compile(r"([A-Za-z0-9_](?:[A-Za-z0-9_.-]{0,252})|\[[0-9A-Fa-f:.]{2,45}\])(?::([0-9]{1,5}))?")
_PART = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}")
_STRICT_PART = re.compile(r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*")
_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}")
_FORM = "A reference is [host[:port]/]repository[:tag], for example registry.lab:5000/models/deepseek-r1:8b."


@dataclass(frozen=True, order=True)
class Reference:
    """A model in a registry.

    Attributes:
        registry: host, with its port where one was given.
        repository: one part or more with ``/`` between them.
        tag: which of the repository's models; empty where only a digest tells.
        digest: what the manifest's bytes must hash to, or None.
    """

    registry: str
    repository: str
    tag: str
    digest: Digest | None = None

    @property
    def wanted(self) -> str:
        """What is asked for in the repository: the digest where there is one, else the tag."""
        return str(self.digest) if self.digest else self.tag

    @property
    def model_name(self) -> ModelName | None:
        """The name that Ollama gives the model when it pulls it; None where its grammar has none.

        Ollama's names have one namespace and one model below the host, and tags of up to 80 characters.
        """
        parts = [self.registry, *self.repository.split("/"), self.tag]
        try:
            return ModelName.from_path(parts)
        except InvalidName:
            return None

    def __str__(self) -> str:
        tag = f":{self.tag}" if self.tag else ""
        return f"{self.registry}/{self.repository}{tag}" + (f"@{self.digest}" if self.digest else "")


def parse_reference(text: str) -> Reference:
    """Read a reference; a name of one or two parts without a host is one of Ollama's own registry, as for Ollama.

    Raises:
        UsageError: the text is no reference.
    """
    rest = without_scheme(text)
    rest, at, digest_text = rest.partition("@")
    if at and not re.fullmatch(r"sha256:[0-9a-f]{64}", digest_text):
        raise _no_reference(text, "behind the @ belongs sha256: and 64 hexadecimal digits")
    tag = "" if at else DEFAULT_TAG
    if rest.rfind(":") > rest.rfind("/"):
        rest, _, tag = rest.rpartition(":")
        if not _TAG.fullmatch(tag):
            raise _no_reference(text, "its tag may hold only letters, digits, '_', '-' and '.'")
    parts = rest.split("/")
    # A namespace of Ollama's has neither dot nor colon.
    if len(parts) > 2 or (len(parts) == 2 and re.search(r"[.:\[]", parts[0])):
        host, parts = parts[0], parts[1:]
    else:
        host = DEFAULT_HOST
        parts = parts if len(parts) == 2 else [DEFAULT_NAMESPACE, *parts]
    _check_host(host, text)
    for part in parts:
        if not _PART.fullmatch(part):
            raise _no_reference(text, f"the part {part!r} may hold only letters, digits, '_', '-' and '.'")
    return Reference(host, repository_at(host, "/".join(parts)), tag, Digest.parse(digest_text) if at else None)


@dataclass(frozen=True)
class PushTarget:
    """Where models are pushed to: a registry, and what their repositories begin with; that may be empty."""

    registry: str
    prefix: str

    @classmethod
    def parse(cls, text: str) -> PushTarget:
        """Read ``host[:port][/prefix]``.

        Raises:
            UsageError: it is none, or the prefix is not lower case.
        """
        host, _, prefix = without_scheme(text).rstrip("/").partition("/")
        hint = "Name a registry and where in it: registry.lab:5000/models"
        if not re.search(r"[.:\[]", host) and host != "localhost":
            raise UsageError(f"{text[:200]!r} is no registry: it has neither a dot nor a port", hint=hint)
        _check_host(host, text)
        for part in prefix.split("/") if prefix else ():
            if not _STRICT_PART.fullmatch(part):
                raise UsageError(
                    f"{text[:200]!r}: a registry takes no {part!r} in a repository",
                    hint=f"{hint}\nEach part: a-z, 0-9, and single '.', '_' or '-' between them.",
                    remedies=[Remedy("rename")],
                )
        return cls(host, prefix)

    def place(self, name: ModelName) -> Reference:
        """Return where a model goes: ``PREFIX/model:tag``, or ``PREFIX/namespace/model:tag``.

        The namespace is left out where it is ``library``, and so is the host of the model's name. Capitals become small
        letters, but in the tag.

        Raises:
            UsageError: the name has what no repository may have.
        """
        own = [name.model] if name.namespace.lower() == DEFAULT_NAMESPACE else [name.namespace, name.model]
        return self._below([part.lower() for part in own], name.tag, str(name))

    def place_as(self, text: str) -> Reference:
        """Return where a model goes under another name, which is ``repository[:tag]`` below the prefix.

        Raises:
            UsageError: a registry takes no such name.
        """
        path, _, tag = text.partition(":")
        if not _TAG.fullmatch(tag or DEFAULT_TAG):
            raise UsageError(f"the new name {text[:200]!r}: a registry takes no such tag")
        return self._below(path.split("/"), tag or DEFAULT_TAG, text)

    def _below(self, parts: list[str], tag: str, whole: str) -> Reference:
        for part in parts:
            if not _STRICT_PART.fullmatch(part):
                raise UsageError(
                    f"{whole[:200]!r} can't be pushed under its name: a registry takes no {part!r} in a repository",
                    remedies=[Remedy("rename", "NAME:TAG")],
                )
        return Reference(self.registry, "/".join(filter(None, [self.prefix, *parts])), tag)

    def __str__(self) -> str:
        return f"{self.registry}/{self.prefix}" if self.prefix else self.registry


def check_repository(text: str) -> str:
    """Return the name of a repository that a user gave.

    Raises:
        UsageError: it is none.
    """
    if not is_repository(text):
        raise UsageError(
            f"{text[:200]!r} is no repository", hint="For example models/deepseek-r1, without the registry."
        )
    return text


def is_repository(text: str) -> bool:
    """Tell whether a text is a repository's name."""
    return len(text) <= _LIMIT and all(_PART.fullmatch(part) for part in text.split("/"))


def is_tag(text: str) -> bool:
    """Tell whether a text is a tag."""
    return bool(_TAG.fullmatch(text))


def without_scheme(text: str) -> str:
    """Return what stands behind ``https://``, or the text where nothing of that kind stands there.

    Raises:
        UsageError: it is too long, or another scheme stands there.
    """
    if len(text) > _LIMIT:
        raise _no_reference(text, f"it is longer than {_LIMIT} characters")
    scheme, found, rest = text.partition("://")
    if not found:
        return text
    if scheme.lower() == "http":
        raise UsageError(
            f"{text[:200]!r}: plain http is asked for in another way",
            hint=f"Name it as {rest[:200]}",
            remedies=[Remedy("insecure")],
        )
    if scheme.lower() != "https":
        raise _no_reference(text, f"{scheme[:20]!r} is no scheme of a registry")
    return rest


def _check_host(host: str, text: str) -> None:
    found = _HOST.fullmatch(host)
    if not found or ".." in host or (found[2] and not 0 < int(found[2]) < 65536):
        raise _no_reference(text, f"{host[:100]!r} is no host, or its port is none")


def _no_reference(text: str, why: str) -> UsageError:
    return UsageError(f"{text[:200]!r} is not a model in a registry: {why}", hint=_FORM)
