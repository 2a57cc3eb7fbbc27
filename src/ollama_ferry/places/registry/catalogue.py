"""Which models a registry has: its repositories and their tags, as far as it lists them.

Sources: ``_catalog`` of the distribution project's API; ``tags/list`` and ``Link`` of the OCI distribution
specification 1.1, "Content Discovery".
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase
from urllib.parse import urlsplit

from ollama_ferry.errors import Damaged, NotFound, UsageError
from ollama_ferry.model.manifests import parse_json
from ollama_ferry.model.names import is_pattern
from ollama_ferry.places.registry.references import PushTarget, Reference, is_repository, is_tag, without_scheme
from ollama_ferry.registries.client import Client

# What a registry may list at a time, in bytes, and in all, in entries.
_PAGE = 4 * 1024 * 1024
_ENTRIES = 100_000
_COUNT = 1000


def is_reference_pattern(text: str) -> bool:
    """Return whether a reference is a pattern; an address of IPv6 in it is none: ``[::1]:5000/models/m:1``."""
    return is_pattern(re.sub(r"^((?:https?://)?)\[[0-9A-Fa-f:.]+\]", r"\1", text))


@dataclass(frozen=True)
class ReferencePattern:
    """Models of one registry.

    Attributes:
        registry: host, with its port where one was given; no pattern.
        repository: the pattern of their repositories.
        tag: that of their tags.
    """

    registry: str
    repository: str
    tag: str

    @classmethod
    def parse(cls, text: str) -> ReferencePattern:
        """Read ``host[:port]/repository[:tag]`` with ``*``, ``?`` or ``[...]`` in it; without a tag it means all.

        Raises:
            UsageError: it does not say of which registry.
        """
        host, _, path = without_scheme(text).partition("/")
        if is_reference_pattern(host) or not path:
            raise UsageError(
                f"{text[:200]!r} does not say of which registry",
                hint="Only that of one can be searched: 'registry.lab:5000/models/*'",
            )
        repository, tag = path, "*"
        if path.rfind(":") > path.rfind("/"):
            repository, _, tag = path.rpartition(":")
        return cls(PushTarget.parse(host).registry, repository, tag)

    @classmethod
    def below(cls, text: str) -> ReferencePattern:
        """Read ``host[:port][/prefix]``: all models there.

        Raises:
            UsageError: it is none.
        """
        target = PushTarget.parse(text)
        return cls(target.registry, f"{target.prefix}/*" if target.prefix else "*", "*")

    def __str__(self) -> str:
        return f"{self.registry}/{self.repository}:{self.tag}"


def listed_models(client: Client, pattern: ReferencePattern) -> Iterator[Reference]:
    """Give the models that a pattern means, in the order of the registry's lists.

    A repository that is named, and no pattern, is asked for its tags alone, which all registries list. What
    nobody could ask for is passed over.

    Raises:
        UsageError: the registry lists no repositories.
        Damaged: what it lists can't be read, or does not end.
        FerryError: it refuses, or can't be reached.
    """
    repositories = [pattern.repository]
    if is_pattern(pattern.repository):
        repositories = [text for text in _repositories(client) if fnmatchcase(text, pattern.repository)]
    for repository in filter(is_repository, repositories):
        for tag in _tags(client, repository):
            if fnmatchcase(tag, pattern.tag) and is_tag(tag):
                yield Reference(client.registry, repository, tag)


def _repositories(client: Client) -> Iterator[str]:
    what = f"listing the repositories of {client.registry}"
    try:
        yield from _listed(client, "/v2/_catalog", "repositories", "registry:catalog:*", what)
    except NotFound:
        raise UsageError(
            f"{client.registry} does not list its repositories",
            hint="Name the models. A pattern of a tag needs no such list: 'registry.lab:5000/models/qwen3:*'",
        ) from None


def _tags(client: Client, repository: str) -> Iterator[str]:
    what = f"listing the tags of {client.registry}/{repository}"
    try:
        yield from _listed(client, f"/v2/{repository}/tags/list", "tags", f"repository:{repository}:pull", what)
    except NotFound:
        # Some list repositories whose last tag was removed.
        return


def _listed(client: Client, path: str, key: str, scope: str, what: str) -> Iterator[str]:
    query, count, seen = f"n={_COUNT}", 0, set[str]()
    while query not in seen and count <= _ENTRIES:
        seen.add(query)
        raw, answer = client.read(
            f"{path}?{query}",
            scope=scope,
            what=what,
            limit=_PAGE,
            kind="a list",
            headers={"Accept": "application/json"},
        )
        try:
            document = parse_json(raw)
        except Damaged as error:
            raise Damaged(f"{what}: {error.message}") from error
        texts = document.get(key) if isinstance(document, dict) else []
        if not isinstance(texts or [], list):
            raise Damaged(f"{what}: the answer has no list of {key}")
        for text in texts or []:
            count += 1
            if isinstance(text, str):
                yield text
        following = re.match(r'\s*<([!-;=?-~]{1,4000})>[^,]*;\s*rel="?next"?', answer.header("Link"))
        if not following:
            return
        # Where the rest is, is known: nothing of the address counts but from which entry on.
        query = urlsplit(following[1]).query
    raise Damaged(f"{what}: the list does not end")
