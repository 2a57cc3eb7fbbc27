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
- **It packs what saves at least 7 %**: 16-bit weights, tensors with structure, templates, licences. A frame that saves
  less (4-bit, 5-bit and 8-bit weights, what is packed already) is stored: its readers get it back at memory speed, the
  system copies it, and `tar -xzf` has little to do. Packed, a frame costs as much time at both ends whether it saves
  4 % or 22 %. Two parts of 16 KiB of each tell which it is.
- **It does not look at the clock.** The same models give the same archive, on a slow stick as on a fast disk; volumes
  are gone on with because of it, and two people can compare sums.
- **An export says what it chose**, and about how much `--compress fast` would save.

## Which one, when
- **`auto`**, a disk or network of more than some 200 MB/s: nothing is waited for that does not pay. Or a plain `.tar`,
  which costs least.
- **`fast`**, a stick (20 to 150 MB/s), a USB disk, a line of 1 Gbit/s (118 MB/s) or less: packing and unpacking run on
  all cores while the bytes are on their way and cost no time there, and what shrinks by 1 % or more is packed. 4-bit
  weights are 4.5 % smaller, 8-bit ones 3.6 %, as by `gzip -6`, which takes many times as long.
- **`.tar.zst`** with `fast` unpacks about twice as fast as `.tar.gz`; the target needs a tar that knows zstd.
- **`none`** stores all, whatever it is.
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
