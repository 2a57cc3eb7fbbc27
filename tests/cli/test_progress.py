"""What is shown of a job that takes long: in a painted line, line by line, for programs, and in a log."""

from __future__ import annotations

import json
import subprocess
import time
from pathlib import Path

import pytest

from ollama_ferry.cli.meter import Meter
from ollama_ferry.cli.output import Output
from ollama_ferry.cli.progress import _Json, _Lines, painted_line, progress
from ollama_ferry.engine.events import Advanced, BlobStarted, Event, ModelDone, Noted, Phase, Started
from ollama_ferry.errors import FerryError
from ollama_ferry.model.manifests import Descriptor, Digest
from ollama_ferry.model.names import ModelName
from support.command_line import COMMAND, ferry
from support.screen import terminal
from support.stores import StoreBuilder, weights

NAME = ModelName.parse("hf.co/bartowski/DeepSeek-R1-Distill-Qwen-32B-GGUF:Q4_K_M")
BLOB = Descriptor(Digest("ab" * 32), 4000, "application/vnd.ollama.image.model")


class Clock:
    """A clock that stands until it is set."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def metered(*events: tuple[float, Event]) -> Meter:
    clock = Clock()
    meter = Meter("exporting", clock)
    for clock.now, event in events:
        meter.observe(event)
    return meter


def test_stream_of_which_nothing_was_read_for_long_has_no_time_left(capsys: pytest.CaptureFixture[str]) -> None:
    clock = Clock()
    notify = _Lines("verifying", Output(), clock)
    notify(Started(0, 0, 4000))
    for clock.now, amount in ((20.0, 0), (40.0, 1000)):
        notify(Advanced(amount))
    lines = capsys.readouterr().err.splitlines()
    assert lines == [
        "verifying the archive, 4.0 kB",
        "verifying: 25 %, 1.0 kB of 4.0 kB, 50 B/s, 60 s left",
    ]


def test_what_an_earlier_run_moved_is_counted_and_is_no_speed() -> None:
    meter = metered(
        (0.0, Started(1, 1, 4000)), (1.0, Advanced(2000, resumed=True)), (2.0, Advanced(100)), (3.0, Advanced(100))
    )
    assert (meter.percent, meter.resumed, meter.done) == (55, 2000, 2200)
    assert meter.rate == pytest.approx(200 / 3)
    assert "2.0 kB resumed" in meter.sums()


def test_speed_is_that_of_the_last_seconds() -> None:
    fast = [(second / 10, Advanced(1000)) for second in range(1, 100)]
    slow = [(10.0 + second, Advanced(10)) for second in range(60)]
    assert metered((0.0, Started(1, 1, 10**6)), *fast).rate == pytest.approx(10000, rel=0.05)
    assert metered((0.0, Started(1, 1, 10**6)), *fast, *slow).rate == pytest.approx(10, rel=0.15)


def test_phases_are_said() -> None:
    assert metered((0.0, Phase("connecting to lab"))).sums() == ["connecting to lab"]
    whole = metered(
        (0.0, Started(1, 1, 4000)),
        (0.1, BlobStarted(BLOB, (NAME,))),
        (1.0, Advanced(4000)),
        (1.0, Phase("waiting for the disk")),
    )
    assert whole.sums() == ["100 %", "4.0 kB of 4.0 kB", "waiting for the disk"]
    assert metered((0.0, Started(0, 0, 10, "looking through x.tar"))).heading() == "looking through x.tar, 10 B"


@pytest.mark.parametrize(
    ("columns", "line"),
    [
        (130, f"exporting  {NAME} and 1 more  25 %  1.0 kB of 4.0 kB  1.0 kB/s  3 s left"),
        (112, f"{NAME} and 1 more  25 %  1.0 kB of 4.0 kB  1.0 kB/s  3 s left"),
        (100, "...GUF:Q4_K_M and 1 more  25 %  1.0 kB of 4.0 kB  1.0 kB/s  3 s left"),
        (60, "25 %  1.0 kB of 4.0 kB  1.0 kB/s  3 s left"),
        (20, "25 %"),
        (3, "25 "),
    ],
)
def test_a_line_fits_and_leaves_out_what_matters_least(columns: int, line: str) -> None:
    meter = metered((0.0, Started(2, 1, 4000)), (0.0, BlobStarted(BLOB, (NAME, NAME))), (1.0, Advanced(1000)))
    painted = painted_line(meter, columns)
    assert painted == line and len(painted) <= columns


@pytest.mark.parametrize("columns", [200, 60, 20])
def test_no_name_from_outside_steers_the_terminal(columns: int) -> None:
    evil = "\x1b[2J\x1b]52;c;cHduZWQ=\x07"
    meter = metered((0.0, Started(0, 0, 10, f"looking through {evil}.tar")), (0.0, Phase(f"connecting to {evil}")))
    assert painted_line(meter, columns).isprintable()


SCRIPT = """
import sys, tty
from ollama_ferry.cli.output import Output
from ollama_ferry.cli.progress import progress
from ollama_ferry.engine.events import *
from ollama_ferry.model.names import ModelName
from ollama_ferry.model.manifests import Descriptor, Digest
tty.setcbreak(0)
with progress("exporting", Output()) as notify:
    notify(Phase("connecting to lab"))
    input()
    notify(Started(1, 1, 4000))
    notify(BlobStarted(Descriptor(Digest("ab" * 32), 4000, "x"), (ModelName.parse("qwen3:8b"),)))
    notify(Advanced(1000))
    notify(Phase("waiting for the disk"))
    input()
    notify(Noted("a note"))
    notify(Phase(""))
    input()
print("done")
"""


@pytest.mark.parametrize("narrow", [100, 30, 12])
def test_painted_line_and_title_leave_no_trace(narrow: int) -> None:
    with terminal(script=SCRIPT, columns=100, rows=12) as opened:
        opened.wait_for(lambda: "connecting to lab" in opened.text)
        opened.type("\n")
        opened.wait_for(lambda: "waiting for the disk" in opened.text)
        assert opened.lines[-1].split("  ") == [
            "exporting", "qwen3:8b", "[#####...............]", "25 %", "1.0 kB of 4.0 kB", "waiting for the disk",
        ]  # fmt: skip
        assert b"\x1b]2;25 % qwen3:8b - ollama-ferry\x07" in opened.raw
        opened.resize(narrow, 12)
        opened.type("\n")
        opened.wait_for(lambda: "a note" in opened.text and "25 %" in opened.text)
        opened.type("\n")
        assert opened.wait() == 0
        assert opened.lines == ["a note", "done"]
        assert opened.raw.count(b"\x1b[22;2t") == opened.raw.count(b"\x1b[23;2t") == 1


def test_a_dumb_terminal_gets_lines(source: StoreBuilder, tmp_path: Path) -> None:
    source.model("a:1", [("model", weights(1000))])
    with terminal("export", "a:1", tmp_path / "a.tar", "--models", source.root, TERM="dumb") as opened:
        assert opened.wait() == 0
    assert "exporting 1 model in 2 blobs" in opened.text and b"\x1b" not in opened.raw


def test_programs_get_a_document_a_line(source: StoreBuilder, tmp_path: Path) -> None:
    source.model("a:1", [("model", weights(100_000))])
    done = ferry("export", "a:1", tmp_path / "a.tar", "--models", source.root, "--progress", "json")
    events = [json.loads(line) for line in done.stderr.splitlines()]
    kinds = [event["event"] for event in events]
    assert kinds[0] == "started" and {"blob", "progress", "model", "phase"} <= set(kinds)
    assert events[0] == {"event": "started", "what": "exporting", "models": 1, "blobs": 2, "total": 100_024}
    last = [event for event in events if event["event"] == "progress"][-1]
    assert (last["done"], last["total"], last["resumed"]) == (100_024, 100_024, 0)
    assert next(event for event in events if event["event"] == "blob")["models"] == ["a:1"]


def test_bytes_come_once_a_second_for_programs(capsys: pytest.CaptureFixture[str]) -> None:
    clock = Clock()
    notify = _Json("exporting", Output(), clock)
    notify(Started(1, 1, 4000))
    for clock.now in (0.1, 0.2, 1.3, 1.4, 2.5):
        notify(Advanced(10))
    notify(ModelDone(NAME))
    kinds = [json.loads(line)["event"] for line in capsys.readouterr().err.splitlines()]
    assert kinds == ["started", "progress", "progress", "model"]


def test_a_log_says_when_and_how_it_ended(tmp_path: Path) -> None:
    output = Output(quiet=True, log=tmp_path / "ferry.log")
    with progress("exporting", output) as notify:
        notify(Started(1, 1, 4000))
        notify(Advanced(4000))
    with pytest.raises(FerryError), progress("sending", output) as notify:
        notify(Noted("a \x1b[31mnote"))
        raise FerryError("the line broke")
    stamps, said = zip(*(line.split(" ", 1) for line in (tmp_path / "ferry.log").read_text().splitlines()), strict=True)
    assert all(len(stamp) == len("2026-01-01T00:00:00+0000") for stamp in stamps)
    assert said[0] == "exporting 1 model in 1 blob, 4.0 kB" and said[1].startswith("done: exporting, 100 %")
    assert said[2:] == ("a \\x1b[31mnote", "failed: the line broke")


def test_a_log_that_can_not_be_written_ends_it_before(source: StoreBuilder, tmp_path: Path) -> None:
    source.model("a:1")
    done = ferry("export", "a:1", tmp_path / "a.tar", "--models", source.root, "--log", tmp_path / "no/x.log")
    assert done.returncode == 3 and "x.log" in done.stderr and not (tmp_path / "a.tar").exists()


def test_what_a_killed_import_left_is_counted_apart(source: StoreBuilder, tmp_path: Path) -> None:
    source.model("a:1", [("model", weights(20_000_000))])
    assert ferry("export", "a:1", tmp_path / "a.tar", "--models", source.root).returncode == 0
    store = tmp_path / "new"
    words = [*COMMAND, "import", "-", "--models", str(store)]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stderr=subprocess.DEVNULL) as begun:
        assert begun.stdin is not None
        begun.stdin.write((tmp_path / "a.tar").read_bytes()[:12_000_000])
        begun.stdin.flush()
        deadline = time.monotonic() + 60
        while sum(path.stat().st_size for path in store.rglob("*") if path.is_file()) < 8_000_000:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        begun.kill()
    told = json.loads(ferry("import", tmp_path / "a.tar", "--models", store, "--json").stdout)["archives"][0]
    assert 8_000_000 <= told["resumed"] < 12_000_000 < told["size"]
