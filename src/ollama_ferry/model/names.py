"""Model names: Ollama's grammar, mirrored.

Source: ``types/model/name.go`` of Ollama. ``[host/][namespace/]model[:tag]`` with a scheme allowed before
the host; missing parts get the defaults. Nothing outside this grammar ever becomes part of a path.
"""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Iterable
from dataclasses import dataclass

from ollama_ferry.errors import InvalidName

DEFAULT_HOST = "registry.ollama.ai"
DEFAULT_NAMESPACE = "library"
DEFAULT_TAG = "latest"

# One expression per part; upstream's lengths are in bytes, and the characters are ASCII only.
_PART = {
    "host": re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.:-]{0,349}"),
    "namespace": re.compile(r"[A-Za-z0-9_][A-Za-z0-9_-]{0,79}"),
    "model": re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,79}"),
    "tag": re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,79}"),
}
_ALLOWED = {
    "host": "letters, digits, '_', '-', '.' and ':'",
    "namespace": "letters, digits, '_' and '-'",
    "model": "letters, digits, '_', '-' and '.'",
    "tag": "letters, digits, '_', '-' and '.'",
}


@dataclass(frozen=True, order=True)
class ModelName:
    """A fully qualified model name; every instance is valid.

    Attributes:
        host: the registry, with its port where one was given.
        namespace: the owner below the registry.
        model: the model itself.
        tag: which variant of it.
    """

    host: str
    namespace: str
    model: str
    tag: str

    def __post_init__(self) -> None:
        for kind in ("host", "namespace", "model", "tag"):
            _check_part(kind, getattr(self, kind), whole="/".join(self.parts))

    @classmethod
    def parse(cls, text: str) -> ModelName:
        """Read a name as Ollama does.

        Args:
            text: for example ``qwen3:8b``, ``hf.co/org/repo:Q4_K_M`` or ``localhost:5000/library/x:y``.

        Raises:
            InvalidName: the text is not a name.
        """
        host, namespace, model, tag = _split(text)
        parts = {"host": host, "namespace": namespace, "model": model, "tag": tag}
        for kind, value in parts.items():
            _check_part(kind, value, whole=text)
        return cls(**parts)

    @classmethod
    def from_path(cls, parts: Iterable[str]) -> ModelName:
        """Read the four parts of a path below ``manifests/``.

        Raises:
            InvalidName: there are not four parts, or one of them is none.
        """
        four = tuple(parts)
        if len(four) != 4:
            raise InvalidName(f"{'/'.join(four)!r} is not host/namespace/model/tag")
        return cls(*four)

    @property
    def parts(self) -> tuple[str, str, str, str]:
        return (self.host, self.namespace, self.model, self.tag)

    @property
    def path(self) -> str:
        """Where the manifest lies below ``manifests/``, with ``/`` between the parts."""
        return "/".join(self.parts)

    @property
    def key(self) -> tuple[str, str, str, str]:
        """The name as look-ups compare it: letter case does not count."""
        return (self.host.lower(), self.namespace.lower(), self.model.lower(), self.tag.lower())

    @property
    def file_stem(self) -> str:
        """The name as part of a file name on any disk: ``deepseek-r1-8b``, without ``:`` and ``/``."""
        return re.sub(r"[/:]", "-", str(self))

    def __str__(self) -> str:
        """The shortest form that Ollama prints, always with the tag."""
        if self.host.lower() != DEFAULT_HOST:
            return f"{self.host}/{self.namespace}/{self.model}:{self.tag}"
        if self.namespace.lower() != DEFAULT_NAMESPACE:
            return f"{self.namespace}/{self.model}:{self.tag}"
        return f"{self.model}:{self.tag}"


class Spelling:
    """How a store spells names: letter case does not count in a look-up, and paths keep it.

    Ollama writes a new model under the spelling that is there (``getExistingName`` in ``server/routes.go``). Two
    spellings of one part side by side make what it finds a matter of chance.

    Args:
        names: the models that are there.
    """

    def __init__(self, names: Iterable[ModelName]) -> None:
        self._exact: set[tuple[str, ...]] = set()
        self._folded: dict[tuple[str, ...], tuple[str, ...]] = {}
        for name in names:
            for length in range(1, 5):
                self._exact.add(name.parts[:length])
                self._folded.setdefault(name.key[:length], name.parts[:length])

    def of(self, name: ModelName) -> ModelName:
        """Return a name with every leading part that is there, in whatever case, spelt as it is there."""
        if name.parts in self._exact:
            return name
        for length in range(4, 0, -1):
            if name.parts[:length] in self._exact:
                break
            known = self._folded.get(name.key[:length])
            if known is not None:
                return ModelName(*known, *name.parts[length:])
        return name


def printed_forms(path: str) -> set[str]:
    """Return how somebody may write the name that a manifest's path is, whether Ollama takes that name or not."""
    above, _, tag = path.rpartition("/")
    short = above.removeprefix(f"{DEFAULT_HOST}/").removeprefix(f"{DEFAULT_NAMESPACE}/")
    forms = {path, f"{above}:{tag}", f"{short}:{tag}"}
    return forms | {short} if tag == DEFAULT_TAG else forms


def is_pattern(text: str) -> bool:
    """Return whether a text is a pattern (``*``, ``?``, ``[...]``); none of these occurs in a name."""
    return any(c in text for c in "*?[")


def is_id(text: str) -> bool:
    """Tell whether a text may be an ID: the first digits of a manifest's SHA-256; ``ollama list`` prints twelve.

    It may be a name as well, which counts first.
    """
    return bool(re.fullmatch(r"[0-9A-Fa-f]{8,64}", text))


def match(pattern: str, names: Iterable[ModelName]) -> list[ModelName]:
    """Pick the names that a pattern covers, in the order given.

    It is compared with a name as ``ollama list`` prints it, letter case aside; ``*`` stands for any characters: ``*``
    covers all, ``hf.co/*`` whatever is of that host. Without a tag it covers every tag (``gemma3*``). The defaults that
    are not printed may be written all the same: ``library/*``, ``registry.ollama.ai/*``, ``*/*/*``.
    """
    wanted = pattern.lower()
    has_tag = wanted.rfind(":") > wanted.rfind("/")
    return [name for name in names if _covers(wanted, name, has_tag=has_tag)]


def matched_text(pattern: str, name: ModelName) -> str:
    """Return the text of a name that a pattern is compared with."""
    folded = pattern.lower()
    if name.host.lower() == DEFAULT_HOST:
        if folded.startswith(f"{DEFAULT_HOST}/") or folded.count("/") >= 2:
            return f"{name.host}/{name.namespace}/{name.model}:{name.tag}"
        if folded.startswith(f"{DEFAULT_NAMESPACE}/"):
            return f"{name.namespace}/{name.model}:{name.tag}"
    return str(name)


def _covers(wanted: str, name: ModelName, *, has_tag: bool) -> bool:
    text = matched_text(wanted, name).lower()
    return fnmatch.fnmatchcase(text, wanted) or (
        not has_tag and fnmatch.fnmatchcase(text.removesuffix(f":{name.tag.lower()}"), wanted)
    )


def nearest(text: str, names: Iterable[ModelName], most: int = 3) -> list[ModelName]:
    """Return the names most like a mistyped one, the closest first.

    A right model with a wrong tag is the likeliest slip, then a slip in the model's own name, then a name cut short.
    What two names share by default, as ``:latest``, makes them no more alike.
    """
    import difflib

    _, namespace, model, tag = (part.lower() for part in _split(text))
    if not model:
        return []

    def like(one: str, other: str) -> float:
        return difflib.SequenceMatcher(None, one, other).ratio()

    found: list[tuple[float, float, str, ModelName]] = []
    for name in names:
        own = name.model.lower()
        # A namespace that was forgotten, or written as part of the model, is a slip too.
        close = max(like(model, own), like(f"{namespace}/{model}", f"{name.namespace.lower()}/{own}") - 0.1)
        if len(model) > 2 and (own.startswith(model) or model in re.split(r"[-_.]", own)):
            close = max(close, 0.8)
        if close >= 0.7:
            found.append((-round(close, 2), -like(tag, name.tag.lower()), str(name), name))
    return [name for *_, name in sorted(found)[:most]]


def _split(text: str) -> tuple[str, str, str, str]:
    """Cut a text where upstream's ``ParseNameBare`` cuts it, and merge in the defaults.

    A part that a separator promises and that is empty stays empty here, which no part may be.
    """
    host, namespace, rest, tag = DEFAULT_HOST, DEFAULT_NAMESPACE, text, DEFAULT_TAG
    if rest.rfind(":") > rest.rfind("/"):
        rest, _, tag = rest.rpartition(":")
    if "/" in rest:
        rest, _, model = rest.rpartition("/")
        if "/" in rest:
            rest, _, namespace = rest.rpartition("/")
            scheme, found, after = rest.partition("://")
            host = after if found else scheme
            # Upstream merges the default over an empty host behind a scheme ("http:///ns/model"), and only
            # there: elsewhere an empty part was promised and makes the name invalid.
            if found and not host:
                host = DEFAULT_HOST
        else:
            namespace = rest
    else:
        model = rest
    return host, namespace, model, tag


def _check_part(kind: str, value: str, *, whole: str) -> None:
    if _PART[kind].fullmatch(value):
        return
    shown = repr(whole) if len(whole) <= 200 else repr(whole[:200]) + "..."
    limit = 350 if kind == "host" else 80
    if not value:
        why = f"its {kind} is empty"
    elif len(value) > limit:
        why = f"its {kind} is longer than {limit} characters"
    else:
        why = f"its {kind} {value!r} may hold only {_ALLOWED[kind]}, the first a letter, a digit or '_'"
    raise InvalidName(
        f"{shown} is not a model name: {why}",
        hint="A name is [host/][namespace/]model[:tag], for example deepseek-r1:8b or hf.co/org/repo:Q4_K_M.",
    )
