"""The benchmark's machinery: that it tells the truth about what failed. Nothing here is timed."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import pytest

import measuring
from alternatives import LIMIT, Carried, model_tools
from figures import Figures, Row, as_json, read_figures, write_text
from growth_plot import growth_plot
from measuring import Chain, Step, line, run_rounds
from parts import growth
from plot import plot
from sample_stores import chat_variant, one_model, sparse_models, what_is_wrong
from support.stores import StoreBuilder, faults_of
from tables import regressions, report
from targets import targets

ROOT = Path(__file__).parent.parent


def row(name: str, *ratios: float, ours: bool = True, table: str = "Export", failed: str = "") -> Row:
    seconds = [3 * ratio for ratio in ratios]
    return Row(
        name,
        table,
        f"run {name}",
        seconds,
        list(ratios),
        100,
        95,
        30_000_000,
        failed,
        ours=ours,
        processor=[1.0, 1.5],
        processor_ratios=[1.3],
    )


def figures(*rows: Row, gigabytes: float = 4, part: str = "one-model") -> Figures:
    return Figures("2026-11-25", gigabytes, {"processor": "Abacus", "cores": "2"}, {part: list(rows)})


def by_name(rows: list[Row]) -> dict[str, Row]:
    return {row.name: row for row in rows}


@pytest.mark.parametrize("runs", [1, 2])
def test_what_fails_or_is_missing_has_a_reason_and_no_figures(tmp_path: Path, runs: int) -> None:
    archive, never = tmp_path / "archive", tmp_path / "never"
    chains = [
        Chain((Step("cp", "true", "t"),)),
        Chain((Step("broken", f"echo half > {archive}; echo 'no | room' >&2; exit 3", "t", makes=archive),
               Step("unpack", "true", "t")), (archive,)),
        Chain((Step("silent", "true", "t", makes=never), Step("unpack of that", "true", "t"))),
        Chain((Step("absent", "true", "t", missing="not installed: absent"),)),
        Chain((Step("killed", "kill -9 $$", "t"),)),
    ]  # fmt: skip
    rows = by_name(run_rounds(chains, runs, "cp", tmp_path))
    assert rows["broken"].failed == "failed with 3: no ¦ room"
    assert rows["unpack"].failed == "needs the file of broken"
    assert rows["silent"].failed == "ended well and made no file"
    assert rows["unpack of that"].failed == "needs the file of silent"
    assert rows["absent"].failed == "not installed: absent"
    assert rows["killed"].failed == "failed with -9"
    assert len(rows.pop("cp").seconds) == runs
    assert not any(row.seconds or row.ratios or row.size or row.peak for row in rows.values())
    assert not archive.exists()


def test_what_fails_in_a_later_round_keeps_nothing_of_the_first(tmp_path: Path) -> None:
    flag = tmp_path / "flag"
    chains = [
        Chain((Step("cp", "true", "t"),)),
        Chain((Step("wavers", f"test ! -e {flag} && touch {flag}", "t"),)),
    ]
    rows = by_name(run_rounds(chains, 2, "cp", tmp_path))
    assert rows["wavers"].failed == "failed with 1"
    assert rows["wavers"].seconds == [] and rows["wavers"].ratios == []


def test_a_round_measures_size_peak_and_ratio_and_looks_at_the_result(tmp_path: Path) -> None:
    archive, target = tmp_path / "archive", tmp_path / "target"
    # 40 MB in a process, which is more than any shell has.
    eats = line(sys.executable, "-c", f"x = bytearray(40_000_000); open({str(archive)!r}, 'wb').write(bytes(70))")
    copy = Step("cp", "true", "t")
    chains = [
        Chain((copy,)),
        Chain((Step("pack", eats, "t", makes=archive, content=100),
               Step("unpack", f"cp {archive} {target}", "t", fills=target,
                    check=lambda: "" if (target / "archive").is_file() else "lost")), (archive, target)),
        Chain((Step("loses", "true", "t", fills=target, check=lambda: "lost"),), (target,)),
        Chain((copy,)),
    ]  # fmt: skip
    rows = by_name(run_rounds(chains, 2, "cp", tmp_path))
    assert (len(rows["cp"].seconds), len(rows["pack"].seconds)) == (4, 2)
    assert rows["cp"].ratios == [1, 1] and len(rows["pack"].ratios) == 2
    assert rows["pack"].size == 70 and rows["pack"].peak > 40_000_000 > rows["cp"].peak
    assert (rows["unpack"].looked_at, rows["unpack"].wrong) == (True, "")
    assert (rows["loses"].looked_at, rows["loses"].wrong) == (True, "lost")
    assert not archive.exists() and not target.exists()


def test_what_is_slow_runs_once_and_what_needs_it_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measuring, "_SLOW_SECONDS", 0.0)
    archive = tmp_path / "archive"
    chains = [
        Chain((Step("cp", "true", "t"),)),
        Chain((Step("slow", f"sleep 0.1; echo x > {archive}", "t", makes=archive), Step("unpack", "true", "t")),
              (archive,)),
    ]  # fmt: skip
    rows = by_name(run_rounds(chains, 3, "cp", tmp_path))
    assert [len(rows[name].seconds) for name in ("cp", "slow", "unpack")] == [3, 1, 1]
    assert not any(row.failed for row in rows.values())


def test_the_whole_machinery_with_a_broken_alternative(tmp_path: Path) -> None:
    others, work, written = tmp_path / "others", tmp_path / "work", tmp_path / "report"
    (others / "bin").mkdir(parents=True)
    (others / "bin/ollamazip").write_text("#!/bin/sh\necho the wheel came off >&2\nexit 3\n")
    (others / "bin/ollamazip").chmod(0o755)
    command = [sys.executable, f"{ROOT}/benchmarks/run.py", "--quick", "--gigabytes", "0.001", "--runs", "1"]
    done = subprocess.run(
        [*command, "--only", "one-model", "--work", work, "--report", written, "--others", others],
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    text = (written / "benchmarks-figures.md").read_text()
    cells = {
        found[1].strip().strip("*"): [cell.strip() for cell in found[2:]]
        for found in (line.split("|") for line in text.splitlines() if line.count("|") == 11)
    }
    for name in ("ollama-ferry export .tar.gz", "ollama-ferry import .tar.gz", LIMIT, "tar -czf"):
        assert float(cells[name][0]) >= 0 and float(cells[name][3]) > 0
    assert cells["ollama-ferry import .tar.gz"][8] == cells["tar -xzf of our .tar.gz"][8] == "whole"
    assert cells["ollamazip pack --compress zstd"][:2] == ["failed with 3: the wheel came off", ""]
    assert cells["ollamazip unpack, --compress zstd"][0] == "needs the file of ollamazip pack --compress zstd"
    assert cells["ollama-tool-cli backup"][0] == "not installed: ollama-tool-cli"
    assert "faster than `ollamazip pack --compress zstd` (`.tar.gz`) |  | not measured |" in text
    assert "a quick run" in text and "Not in this run: weight-kinds" in text
    # Neither this machine's folders nor digests are of any use to a reader.
    assert str(tmp_path) not in text and sys.executable not in text and "sha256-" not in text
    assert sorted(path.name for path in written.iterdir()) == [
        "benchmarks-figures.json", "benchmarks-figures.md", "benchmarks-figures.svg",
    ]  # fmt: skip
    recorded = read_figures(written / "benchmarks-figures.json")
    assert recorded and recorded.find("one-model", "tar -czf") and not recorded.find("one-model", "ollamazip pack")
    assert list(work.iterdir()) == []


def test_a_ratio_that_got_worse_is_marked() -> None:
    before = figures(row("ours", 1.0, 1.2, 1.1), row("theirs", 2, ours=False))
    now = figures(row("ours", 1.5, 1.3, 1.4), row("theirs", 4, ours=False), row("new", 9))
    text = report(now, before, command="x", plot="p.svg", growth="g.svg")
    assert "| **ours** | 4.20 | 3.90 to 4.50 | 3 | 1.10 → 1.40 **worse** | 1.25 | 1.30 | 95.0 % | 30 MB |" in text
    assert "2.00 → 4.00 |" in text and "| 9.00 |" in text
    assert regressions(now, before) == ["worse: one-model, ours: 1.10 → 1.40"]
    assert regressions(figures(row("ours", 1.26)), before) == []
    # Another size is another benchmark.
    assert regressions(replace(now, gigabytes=1), before) == []
    assert "→ 1.40" not in report(replace(now, gigabytes=1), before, command="x", plot="p.svg", growth="g.svg")
    assert regressions(now, None) == []


def test_targets_tell_what_is_met_what_is_not_and_what_was_not_measured() -> None:
    rows = [row("ollama-ferry export .tar.gz", 1.36), row("tar -czf", 35, ours=False)]
    found = {target.asked: target for target in targets(figures(*rows))}
    assert found["export of 4-bit weights to `.tar.gz`: at most 1.35 times the limit"].met is False
    assert found["`tar -czf`: at least 25 times slower"].met is True
    assert found["import of stored `.tar.gz`: at most 1.35 times the limit"].met is None
    assert found["`--help` in at most 0.12 s"].found == ""
    peaks = figures(*(replace(row(growth.name_of(way, "bytes", n)), seconds=[1.0], peak=3 * n * 10**6)
                      for way in ("export", "import") for n in (1, 4, 16)), part="growth")  # fmt: skip
    flat = {target.asked: target for target in targets(peaks)}
    assert flat["peak memory is flat from 1 to 16 GB"].met is False
    assert flat["peak memory at most 64 MB, whatever is done"].met is True


def test_the_record_is_read_back_and_another_form_is_none(tmp_path: Path) -> None:
    path = tmp_path / "record.json"
    assert read_figures(path) is None
    whole = figures(row("ours", 1.5), row("broken", failed="failed with 3"))
    write_text(path, as_json(whole))
    assert read_figures(path) == whole and [p.name for p in tmp_path.glob("record*")] == ["record.json"]
    for other in ("{", "[]", '{"rows": {}}', '{"date": "", "gigabytes": 1, "machine": {}, "parts": {"x": [{"y": 1}]}}'):
        path.write_text(other)
        assert read_figures(path) is None


def test_the_plot_stands_alone_and_shows_what_failed_in_words() -> None:
    drawn = plot(figures(row("ours <&>", 1.5, 2), row("tar", 40, ours=False, table="Import"),
                         row("broken", failed="failed with 3", ours=False)))  # fmt: skip
    root = ElementTree.fromstring(drawn)  # noqa: S314 -- made here
    assert {element.tag.partition("}")[2] for element in root.iter()} == {
        "svg", "title", "rect", "text", "line", "circle",
    }  # fmt: skip
    assert "href" not in drawn and "url(" not in drawn and "font-face" not in drawn
    words = [element.text for element in root.iter() if element.tag.endswith("text")]
    assert "ours <&>" in words and "1.75×, 95.0 % of the size" in words and "failed with 3" in words
    assert len([element for element in root.iter() if element.tag.endswith("circle")]) == 2
    assert ElementTree.fromstring(plot(figures())) is not None  # noqa: S314 -- made here


def test_growth_is_drawn_and_judged() -> None:
    def run(slow: float) -> Figures:
        rows = []
        for counted, amounts in growth.AMOUNTS.items():
            for what in ("export", "import", "list"):
                for amount in amounts:
                    seconds = 0.2 + amount / amounts[-1] * 30 * (slow if amount == amounts[-1] else 1)
                    rows.append(replace(row(growth.name_of(what, counted, amount), 1), seconds=[seconds]))
        return figures(*rows, part="growth")

    drawn = growth_plot(run(1))
    assert ElementTree.fromstring(drawn) is not None  # noqa: S314 -- made here
    assert drawn.count("<polyline") == 9 and "import 30.2 s" in drawn
    assert ElementTree.fromstring(growth_plot(figures())) is not None  # noqa: S314 -- made here
    asked = {target.asked: target.met for target in targets(run(1))}
    assert asked["time grows no faster than the blobs"] is True
    assert {target.asked: target.met for target in targets(run(2))}["time grows no faster than the blobs"] is False
    assert {target.met for target in targets(figures()) if "grows no faster" in target.asked} == {None}


def test_restored_stores_are_looked_at_without_the_code_under_test(source: StoreBuilder) -> None:
    manifest = source.model("bench:q4_0", [("model", b"weights"), ("template", b"words")])
    assert what_is_wrong(source.root, "bench:q4_0") == ""
    assert what_is_wrong(source.root, "bench:other") == "no manifest"
    assert manifest.config
    source.blob_path(manifest.layers[0].digest).write_bytes(b"WEIGHTS")
    source.blob_path(manifest.config.digest).unlink()
    assert what_is_wrong(source.root, "bench:q4_0") == "a config is missing, a layer is damaged"


def test_sample_stores_are_whole_and_the_weights_real(tmp_path: Path) -> None:
    np = pytest.importorskip("numpy")
    pytest.importorskip("gguf")
    from gguf.quants import dequantize

    from weights import KINDS, quantised

    one_model(tmp_path, "bench:one", 200_000, "q4_k")
    chat_variant(tmp_path, "bench:chat", "bench:one")
    sparse_models(tmp_path, {"sparse:small": 5_000_000, "sparse:big": 9_000_000})
    assert faults_of(tmp_path) == []
    one, chat = (
        json.loads((tmp_path / f"manifests/registry.ollama.ai/library/bench/{tag}").read_bytes())
        for tag in ("one", "chat")
    )
    assert one["layers"][0]["digest"] == chat["layers"][0]["digest"]
    zeros = tmp_path / f"blobs/sha256-{hashlib.sha256(bytes(9_000_000)).hexdigest()}"
    assert zeros.stat().st_size == 9_000_000 and zeros.stat().st_blocks == 0
    values = np.random.default_rng(1).standard_normal((64, 256), dtype=np.float32) * np.float32(0.02)
    for kind, most in (("q4_0", 0.1), ("q4_k", 0.1), ("q8_0", 0.01), ("bf16", 0.003)):
        back = dequantize(quantised(values, kind), KINDS[kind]).reshape(values.shape)
        assert np.sqrt(((back - values) ** 2).mean()) < most * 0.02, kind


def test_the_others_are_called_with_what_is_there(tmp_path: Path) -> None:
    carried = Carried(tmp_path / "store", "bench:q4_0", tmp_path / "blob", 1, tmp_path, lambda: "")
    steps = [step for chain in model_tools(carried, tmp_path / "none") for step in chain.steps]
    assert steps and all(step.missing for step in steps)
    assert not any(step.ours for step in steps) and LIMIT not in {step.name for step in steps}
