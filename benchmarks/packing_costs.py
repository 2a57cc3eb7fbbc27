"""Measure what packing saves and costs for each kind of weights: ``.venv/bin/python benchmarks/packing_costs.py``.

Writes docs/compression.md, whose figures are the reason for what ``--compress auto`` does. Times are of one core.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import date
from pathlib import Path

import numpy as np
from gguf import GGMLQuantizationType
from gguf.quants import quantize

from machine import summary
from ollama_ferry.archives.frame_reading import inflater
from ollama_ferry.archives.frames import FRAME_SIZE
from ollama_ferry.archives.kinds import Compression, Kind
from ollama_ferry.archives.packing import packer

DOCUMENT = Path(__file__).parent.parent / "docs/compression.md"
SIZE = 32 * FRAME_SIZE
# The smallest packing is so slow that a few frames are enough.
SIZE_OF_BEST = 2 * FRAME_SIZE
KINDS = ("Q4_0", "Q4_1", "Q5_0", "Q8_0", "BF16", "F16")
WAYS = (
    (Kind.TAR_GZ, Compression.AUTO),
    (Kind.TAR_GZ, Compression.FAST),
    (Kind.TAR_GZ, Compression.BEST),
    (Kind.TAR_ZST, Compression.AUTO),
)

HEAD = """# What packing saves, and what it costs

`.venv/bin/python benchmarks/packing_costs.py` on {date}: {machine}, one core, frames of 1 MiB of Gaussian weights
quantised by the gguf package; "random" stands for what is packed already. Megabytes a second of what is unpacked.

| weights | format | `--compress` | size | packs | unpacks |
| --- | --- | --- | --: | --: | --: |
"""

TAIL = """
## What `auto` makes of it
- **It packs what saves at least 1 %**: 4-bit, 8-bit and 16-bit weights. A frame that saves less (5-bit weights, what is
  packed already) is stored, which its readers get back at memory speed; packed, it would cost as much time as one
  that saves 22 %. Two parts of 32 KiB of each frame tell which it is.
- **It does not look at the clock.** The same models give the same archive, on a slow stick as on a fast disk; volumes
  are gone on with because of it, and two people can compare sums.
- **Where the time goes.** Packing and unpacking run on all cores while the disk works, so they cost time only where the
  disk is faster than they are. Two cores export 4-bit weights to a .tar.gz, and import them, at some 450 MB/s
  ([benchmarks](benchmarks.md)). A stick (20 to 150 MB/s), a USB disk or a network of 1 Gbit/s (118 MB/s) is slower:
  there an archive costs what its bytes cost, and 4.5 % or 22 % less of them is that much less time. Between two NVMe
  disks the packing is what is waited for: use `--compress none`, or a plain .tar, which costs least of all; or
  .tar.zst, which unpacks twice as fast.
- **`best`** saves next to nothing more on weights, at a fifteenth of the speed. It is for models of many texts.
"""


def main() -> None:
    """Measure all kinds in all ways, and write the document."""
    rng = np.random.default_rng(7)
    values = rng.standard_normal((4096, 16384), dtype=np.float32) * np.float32(0.02)
    weights = {kind: quantize(values, GGMLQuantizationType[kind]).tobytes()[:SIZE] for kind in KINDS}
    weights["random"] = rng.bytes(SIZE)
    rows = []
    for name, content in weights.items():
        for kind, compression in WAYS:
            part = content[:SIZE_OF_BEST] if compression is Compression.BEST else content
            rows.append(_row(name, part, kind, compression))
            print(rows[-1])
    text = HEAD.format(date=date.today(), machine=summary())
    DOCUMENT.write_text(text + "\n".join(rows) + "\n" + TAIL, encoding="utf-8")


def _row(name: str, content: bytes, kind: Kind, compression: Compression) -> str:
    frames = [content[at : at + FRAME_SIZE] for at in range(0, len(content), FRAME_SIZE)]
    pack = packer(kind, compression)
    inflate = inflater("gzip" if kind is Kind.TAR_GZ else "zstd")
    packed: list[bytes] = []
    packing = _seconds(lambda: packed.extend(b"".join(pack(frame)) for frame in frames))
    unpacking = _seconds(lambda: [inflate(frame, FRAME_SIZE) for frame in packed])
    size, length = sum(map(len, packed)), len(content)
    return (
        f"| {name} | {kind.value} | {compression.value} | {size * 100 / length:.1f} % "
        f"| {length / packing / 1e6:.0f} | {length / unpacking / 1e6:.0f} |"
    )


def _seconds(work: Callable[[], object]) -> float:
    started = time.process_time()
    work()
    return time.process_time() - started


if __name__ == "__main__":
    main()
