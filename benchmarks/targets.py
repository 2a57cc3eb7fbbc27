"""What the project asks of itself, and whether a run shows it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from figures import Figures, Row
from parts import small_blobs, ssh

_MEMORY = 150e6
_FLAT = 1.25

OURS = "ollama-ferry export .tar.gz"


@dataclass(frozen=True)
class Target:
    """One thing that is asked.

    Attributes:
        asked: what, in words.
        found: what was measured; empty where it was not.
        met: whether that is enough; None where it was not measured.
    """

    asked: str
    found: str = ""
    met: bool | None = None


class _NotMeasuredError(Exception):
    """A row that a target needs has no figures."""


class _Measured:
    """The rows of a run; asking for one without figures raises."""

    def __init__(self, figures: Figures) -> None:
        self.figures = figures

    def row(self, name: str, part: str = "one-model") -> Row:
        row = self.figures.find(part, name)
        if row is None:
            raise _NotMeasuredError
        return row


_Finding = tuple[str, bool]


def targets(figures: Figures) -> list[Target]:
    """Hold a run against everything that is asked."""
    found = []
    measured = _Measured(figures)
    for asked, find in _asked():
        try:
            text, met = find(measured)
            found.append(Target(asked, text, met))
        except _NotMeasuredError:
            found.append(Target(asked))
    return found


def _asked() -> Iterator[tuple[str, Callable[[_Measured], _Finding]]]:
    yield "export to `.tar.gz`: 20 times as fast as `tar -czf`", _times_as_fast(OURS, "tar -czf", 20)
    yield "export to `.tar.gz`: at most 1.3 times `cp`", _ratio(OURS, 1.3)
    yield "the file is no larger than that of gzip -6", _no_larger(OURS, "tar -czf")
    yield "export `--compress none`: at most 1.15 times `cp`", _ratio(f"{OURS} --compress none", 1.15)
    yield "export to `.tar`: at most 1.15 times `cp`", _ratio("ollama-ferry export .tar", 1.15)
    yield "BF16 to `.tar.gz`: at most 1.5 times `cp`", _ratio("bf16: export .tar.gz", 1.5, "weight-kinds")
    yield "BF16 to `.tar.gz`: 20 % smaller", _bf16_shrinks
    yield "import of `.tar.gz`: at most 1.4 times `cp`", _ratio("ollama-ferry import .tar.gz", 1.4)
    yield (
        "import of ours: 3 times as fast as `tar -xzf` of it",
        _times_as_fast("ollama-ferry import .tar.gz", "tar -xzf of our .tar.gz", 3),
    )
    yield (
        "import of what `tar -czf` made: 3 times as fast as `tar -xzf`",
        _times_as_fast("ollama-ferry import of what tar -czf made", "tar -xzf of what tar -czf made", 3),
    )
    # Like with like: zstd with zstd, gzip with gzip, and stored with stored.
    for packs, ours_packs, unpacks, ours_unpacks in (
        ("ollamazip pack --compress zstd", "ollama-ferry export .tar.zst",
         "ollamazip unpack, --compress zstd", "ollama-ferry import .tar.zst"),
        ("ollamazip pack --compress gzip", OURS, "ollamazip unpack, --compress gzip", "ollama-ferry import .tar.gz"),
        ("ollama-tool-cli backup", f"{OURS} --compress none",
         "ollama-tool-cli restore", "ollama-ferry import .tar.gz --compress none"),
        ("ollama-models.py tar", "ollama-ferry export .tar",
         "tar -xf of what ollama-models.py made", "ollama-ferry import .tar"),
    ):  # fmt: skip
        yield f"faster than `{packs}` (`{ours_packs}`)", _times_as_fast(ours_packs, packs, 1)
        yield f"faster than `{unpacks}` (`{ours_unpacks}`)", _times_as_fast(ours_unpacks, unpacks, 1)
    yield "`list` of the archive under 0.25 s", _seconds("list of the archive", 0.25, "two-models")
    yield "import of what is there under 0.5 s", _seconds("import of what is there", 0.5, "two-models")
    yield "`import --model` costs in proportion to the model: at most twice its share, and 0.3 s", _in_proportion
    yield "peak memory under 150 MB, whatever is done", _peak
    yield "peak memory is flat from a quarter of the size to four times the size", _flat
    yield "a model of 5,000 blobs: over 2,000 a second", _blobs_a_second
    yield "`list` of 1,000 models under 0.5 s", _seconds("list of 1,000 models", 0.5, "start-up")
    yield "`--help` under 0.2 s", _seconds("--help", 0.2, "start-up")
    yield "send at least 0.9 times as fast as `scp`", _times_as_fast("send of the model", ssh.SCP, 0.9, "ssh")
    yield "and as `rsync -W`", _times_as_fast("send of the model", "rsync -W of the blob", 0.9, "ssh")
    yield "send of what is there under 1 s", _seconds("send again", 1, "ssh")
    yield "5,000 small blobs: 5 times as fast as `scp` of each", _faster_than_scp_of_each


def _times_as_fast(ours: str, other: str, times: float, part: str = "one-model") -> Callable[[_Measured], _Finding]:
    def find(measured: _Measured) -> _Finding:
        found = measured.row(other, part).time / measured.row(ours, part).time
        return f"{found:.2f} times", found > times if times == 1 else found >= times

    return find


def _ratio(name: str, most: float, part: str = "one-model") -> Callable[[_Measured], _Finding]:
    def find(measured: _Measured) -> _Finding:
        row = measured.row(name, part)
        if not row.ratios:
            raise _NotMeasuredError
        return f"{row.ratio:.2f} times", row.ratio <= most

    return find


def _seconds(name: str, most: float, part: str) -> Callable[[_Measured], _Finding]:
    def find(measured: _Measured) -> _Finding:
        row = measured.row(name, part)
        return f"{row.time:.2f} s", row.time < most

    return find


def _no_larger(ours: str, other: str) -> Callable[[_Measured], _Finding]:
    def find(measured: _Measured) -> _Finding:
        sizes = measured.row(ours).size, measured.row(other).size
        return f"{sizes[0]:,} and {sizes[1]:,} bytes", sizes[0] <= sizes[1]

    return find


def _bf16_shrinks(measured: _Measured) -> _Finding:
    row = measured.row("bf16: export .tar.gz", "weight-kinds")
    saved = 1 - row.size / row.content
    return f"{saved * 100:.1f} %", saved >= 0.2


def _in_proportion(measured: _Measured) -> _Finding:
    small = measured.row("import --model of the small one", "two-models").time
    whole = measured.row("import of all three", "two-models").time
    # The small one is a sixteenth of the big one; 0.3 s is what starting and syncing take, whatever the size.
    return f"{small:.2f} s of {whole:.2f} s for 1/17 of the weights", small <= 2 * whole / 17 + 0.3


def _peak(measured: _Measured) -> _Finding:
    rows = [row for row in measured.figures.rows if row.ours and row.seconds]
    if not rows:
        raise _NotMeasuredError
    largest = max(rows, key=lambda row: row.peak)
    return f"{largest.peak / 1e6:.0f} MB ({largest.name})", largest.peak < _MEMORY


def _flat(measured: _Measured) -> _Finding:
    texts, met = [], True
    for what in ("export", "import"):
        rows = [row for row in measured.figures.parts.get("memory", ()) if row.name.startswith(what) and row.seconds]
        if len(rows) < 3:
            raise _NotMeasuredError
        peaks = [row.peak for row in rows]
        texts.append(f"{what} " + ", ".join(f"{peak / 1e6:.0f}" for peak in peaks) + " MB")
        met = met and max(peaks) <= _FLAT * min(peaks)
    return "; ".join(texts), met


def _blobs_a_second(measured: _Measured) -> _Finding:
    rate = small_blobs.COUNT / measured.row("export .tar.gz", "small-blobs").time
    return f"{rate:.0f} a second", rate > 2000


def _faster_than_scp_of_each(measured: _Measured) -> _Finding:
    each = measured.row(f"scp of {ssh.FEW} of them, one by one", "ssh").time / ssh.FEW * small_blobs.COUNT
    times = each / measured.row("send of 5,000 small blobs", "ssh").time
    return f"{times:.0f} times", times >= 5
