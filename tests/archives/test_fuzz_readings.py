"""What `verify` passes is what five tars restore: a seeded run; ``python -m support.fuzz_readings`` runs for longer."""

from __future__ import annotations

from pathlib import Path
from random import Random

from support.five_tars import Restored, require_tools
from support.fuzz_readings import difference, run
from support.hostile import MADE
from support.odd_tars import made


def test_no_archive_that_passes_is_restored_otherwise(tmp_path: Path, seed: int, long: bool) -> None:
    require_tools()
    found = run(seed, count=50_000 if long else 500)
    for number, (extension, archive, _) in enumerate(found.differing):
        (tmp_path / f"{number}{extension}").write_bytes(archive)
    assert not found.differing, (seed, tmp_path, [what for _, _, what in found.differing])
    # Neither all of them nor none: else nothing would be compared.
    assert found.tried // 20 < found.passed < found.tried // 2


def test_the_same_seed_makes_the_same_archives() -> None:
    assert [made(Random(1)) for _ in range(3)] == [made(Random(1))] * 3
    numbers = Random(1)
    assert len({made(numbers) for _ in range(50)}) > 45


def test_a_difference_is_told() -> None:
    right: dict[str, bytes | None] = {**MADE.files, "notes": b"text"}
    name = next(iter(MADE.files))
    assert not difference(MADE.files, {"tar": Restored(0, right)})
    assert "lacks 1" in difference(MADE.files, {"tar": Restored(0, {k: v for k, v in right.items() if k != name})})
    assert "other" in difference(MADE.files, {"tar": Restored(0, {**right, name: b"x"})})
    assert "other" in difference(MADE.files, {"tar": Restored(0, {**right, name: None})})
    assert "more" in difference(MADE.files, {"tar": Restored(0, {**right, f"x/{name}": b"x"})})
    assert "exit code 2" in difference(MADE.files, {"tar": Restored(2, right)})
