"""What the project asks of itself, and whether a run shows it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from statistics import median

from figures import Figures, Row
from parts import growth, http, small_blobs, ssh

_MEMORY = 64e6
_FLAT = 1.25
# What a disk and a clock may add to a line that is straight.
_STRAIGHT = 1.25

_EXPORT, _IMPORT = "ollama-ferry export", "ollama-ferry import"


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
    for kind, most in ((".tar", 1.25), (".tar.gz", 1.35)):
        yield f"export of 4-bit weights to `{kind}`: at most {most} times the limit", _ratio(f"{_EXPORT} {kind}", most)
        yield (
            f"its processor time: at most 1.5 times that of the limit (`{kind}`)",
            _processor(f"{_EXPORT} {kind}", 1.5),
        )
    yield "`tar -czf`: at least 25 times slower", _times_as_fast(f"{_EXPORT} .tar.gz", "tar -czf", 25)
    fast = f"{_EXPORT} .tar.gz --compress fast"
    yield "`--compress fast`: the file is no larger than that of gzip -6", _no_larger(fast, "tar -czf")
    yield "`--compress fast`: 15 times as fast as `tar -czf`", _times_as_fast(fast, "tar -czf", 15)
    yield "BF16 to `.tar.gz`: 20 % smaller", _bf16_shrinks
    yield "BF16 to `.tar.gz`: at most 2.4 times the limit", _ratio("bf16: export .tar.gz", 2.4, "weight-kinds")
    yield "import of `.tar`: at most 1.2 times the limit", _ratio(f"{_IMPORT} .tar", 1.2)
    yield "import of stored `.tar.gz`: at most 1.35 times the limit", _ratio(f"{_IMPORT} .tar.gz", 1.35)
    yield "import of BF16 `.tar.gz`: at most 2.6 times the limit", _ratio("bf16: import .tar.gz", 2.6, "weight-kinds")
    yield (
        "import of what `tar -czf` made: 2.2 times as fast as `tar -xzf`, synced",
        _times_as_fast(f"{_IMPORT} of what tar -czf made", "tar -xzf of what tar -czf made", 2.2),
    )
    for packs, unpacks in (
        ("ollamazip pack --compress zstd", "ollamazip unpack, --compress zstd"),
        ("ollamazip pack --compress none", "ollamazip unpack, --compress none"),
        ("ollama-tool-cli backup", "ollama-tool-cli restore"),
        ("ollama-models.py tar", "tar -xf of what ollama-models.py made"),
        ("tar -cf", "tar -xf of what tar -cf made"),
    ):
        yield f"faster than `{packs}` (`.tar`)", _times_as_fast(f"{_EXPORT} .tar", packs, 1)
        yield f"faster than `{packs}` (`.tar.gz`)", _times_as_fast(f"{_EXPORT} .tar.gz", packs, 1)
        yield f"faster than `{unpacks}` (`.tar`)", _times_as_fast(f"{_IMPORT} .tar", unpacks, 1)
        yield f"faster than `{unpacks}` (`.tar.gz`)", _times_as_fast(f"{_IMPORT} .tar.gz", unpacks, 1)
    yield (
        "send at least 0.95 times as fast as `rsync -W`, synced",
        _times_as_fast("send of the model", "rsync -W of the blob", 0.95, "ssh"),
    )
    yield (
        "pull at least 0.95 times as fast as `curl`, synced",
        _times_as_fast("pull of the model", http.CURL, 0.95, "http"),
    )
    yield "serve at least 0.9 times as fast as nginx", _times_as_fast("curl from serve", http.NGINX, 0.9, "http")
    yield "a model of 10,000 blobs: export of 5,000 a second", _blobs_a_second
    yield "its import as fast as `cp -r` and `sync`", _times_as_fast("import .tar.gz", small_blobs.CP, 1, "small-blobs")
    yield "peak memory at most 64 MB, whatever is done", _peak
    yield "peak memory is flat from 1 to 16 GB", _flat
    for counted in growth.AMOUNTS:
        yield f"time grows no faster than the {counted}", _in_proportion_to(counted)
    yield "`--help` in at most 0.12 s", _seconds("--help", 0.12, "start-up")
    yield "`list` of 1,000 models in at most 0.3 s", _seconds("list of 1,000 models", 0.3, "start-up")
    yield "`list` of the archive under 0.25 s", _seconds("list of the archive", 0.25, "two-models")
    yield "import of what is there under 0.5 s", _seconds("import of what is there", 0.5, "two-models")
    yield "`import --model` costs in proportion to the model: at most twice its share, and 0.3 s", _in_proportion
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


def _processor(name: str, most: float) -> Callable[[_Measured], _Finding]:
    def find(measured: _Measured) -> _Finding:
        row = measured.row(name)
        if not row.processor_ratios:
            raise _NotMeasuredError
        found = median(row.processor_ratios)
        return f"{found:.2f} times", found <= most

    return find


def _seconds(name: str, most: float, part: str) -> Callable[[_Measured], _Finding]:
    def find(measured: _Measured) -> _Finding:
        row = measured.row(name, part)
        return f"{row.time:.2f} s", row.time <= most

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
        peaks = [measured.row(growth.name_of(what, "bytes", n), "growth").peak for n in growth.AMOUNTS["bytes"]]
        texts.append(f"{what} " + ", ".join(f"{peak / 1e6:.0f}" for peak in peaks) + " MB")
        met = met and max(peaks) <= _FLAT * min(peaks)
    return "; ".join(texts), met


def _in_proportion_to(counted: str) -> Callable[[_Measured], _Finding]:
    middle, most = growth.AMOUNTS[counted][1:]

    def find(measured: _Measured) -> _Finding:
        texts, met = [], True
        for what in ("export", "import", "list"):
            before = measured.row(growth.name_of(what, counted, middle), "growth").time
            found = measured.row(growth.name_of(what, counted, most), "growth").time
            texts.append(f"{what} {found / before:.1f}")
            met = met and found / before <= most / middle * _STRAIGHT
        return f"{', '.join(texts)} times for {most / middle:g} times as many", met

    return find


def _blobs_a_second(measured: _Measured) -> _Finding:
    rate = small_blobs.COUNT / measured.row("export .tar.gz", "small-blobs").time
    return f"{rate:.0f} a second", rate >= 5000


def _faster_than_scp_of_each(measured: _Measured) -> _Finding:
    each = measured.row(f"scp of {ssh.FEW} of them, one by one", "ssh").time / ssh.FEW * 5000
    times = each / measured.row("send of 5,000 small blobs", "ssh").time
    return f"{times:.0f} times", times >= 5
