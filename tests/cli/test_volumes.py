"""Archives in volumes: written, joined by plain tools, read from their first, resumed, and carried on several media."""

from __future__ import annotations

import hashlib
import json
import os
import re
import select
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import ollama_ferry
from ollama_ferry.archives.volumes.reading import FAT32_VOLUME, Volumes, volume_size
from ollama_ferry.archives.volumes.writing import PendingVolumes
from ollama_ferry.errors import AlreadyExists, UsageError
from support import needs
from support.command_line import COMMAND, assert_one_clear_error, ferry
from support.stores import StoreBuilder, faults_of, tree, weights

KINDS = [".tar", ".tar.gz", ".tgz", ".tar.zst"]
SIZE = 700_000


@pytest.fixture
def store(source: StoreBuilder) -> StoreBuilder:
    source.model("qwen3:8b", [("model", weights(2_500_000)), ("template", b"{{ .Prompt }}")])
    source.model("other:1", [("model", weights(400_000, 5))], config={"other": 1})
    return source


def split(store: StoreBuilder, archive: Path, *more: str, size: int = SIZE) -> subprocess.CompletedProcess[str]:
    return ferry("export", "--models", store.root, "--all", archive, "--split", str(size), *more)


def volumes_in(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if re.search(r"\.[0-9]{3}$", path.name))


@pytest.mark.parametrize("kind", KINDS)
def test_volumes_joined_are_the_archive(store: StoreBuilder, tmp_path: Path, kind: str) -> None:
    folder = tmp_path / "stick"
    folder.mkdir()
    done = split(store, folder / f"x{kind}")
    assert done.returncode == 0, done.stderr
    whole = tmp_path / f"whole{kind}"
    assert ferry("export", "--models", store.root, "--all", whole).returncode == 0
    paths = volumes_in(folder)
    assert [path.name for path in paths] == [f"x{kind}.{number:03d}" for number in range(1, len(paths) + 1)]
    assert len(paths) > 3
    assert b"".join(path.read_bytes() for path in paths) == whole.read_bytes()
    assert {path.stat().st_size for path in paths[:-1]} == {SIZE}
    assert {path.name for path in folder.iterdir()} == {path.name for path in paths} | {"x.sha256"}


@pytest.mark.parametrize("kind", KINDS)
def test_plain_tools_check_and_restore_them(store: StoreBuilder, tmp_path: Path, kind: str) -> None:
    folder = tmp_path / "stick"
    folder.mkdir()
    done = split(store, folder / f"x{kind}")
    lines = [line.strip() for line in done.stdout.splitlines()]
    restored = tmp_path / "restored"
    restored.mkdir()
    # The lines that the user is told to run.
    check = next(line for line in lines if "sha256sum -c" in line)
    assert subprocess.run(check, shell=True, cwd=tmp_path, capture_output=True, check=False).returncode == 0  # noqa: S602
    restore = next(line for line in lines if line.startswith("cat ")).rpartition(" -C ")[0].replace("sudo ", "")
    subprocess.run(f"{restore} -C {restored}", shell=True, check=True)  # noqa: S602
    assert tree(restored) == tree(store.root)


@pytest.mark.parametrize(("kind", "named"), [*((kind, ".001") for kind in KINDS), (".tar.gz", ".002"), (".tar.gz", "")])
def test_import_list_show_and_verify_take_them_by_name(
    store: StoreBuilder, tmp_path: Path, kind: str, named: str
) -> None:
    folder = tmp_path / "stick"
    folder.mkdir()
    assert split(store, folder / f"x{kind}").returncode == 0
    archive = folder / f"x{kind}{named}"
    assert "qwen3:8b" in ferry("list", archive).stdout
    assert "template" in ferry("show", "qwen3:8b", archive).stdout
    assert ferry("verify", archive).returncode == 0
    target = tmp_path / "target"
    done = ferry("import", archive, "--models", target, "--model", "other:1")
    assert done.returncode == 0, done.stderr
    done = ferry("import", archive, "--models", target)
    assert done.returncode == 0, done.stderr
    assert tree(target) == tree(store.root)


def test_one_volume_is_enough_for_a_small_archive(store: StoreBuilder, tmp_path: Path) -> None:
    assert split(store, tmp_path / "x.tar.gz", size=100_000_000).returncode == 0
    assert [path.name for path in volumes_in(tmp_path)] == ["x.tar.gz.001"]
    assert ferry("import", tmp_path / "x.tar.gz.001", "--models", tmp_path / "t").returncode == 0


@pytest.mark.parametrize("kind", [".tar", ".tar.gz"])
def test_what_is_missing_is_named(store: StoreBuilder, tmp_path: Path, kind: str) -> None:
    folder = tmp_path / "stick"
    folder.mkdir()
    assert split(store, folder / f"x{kind}").returncode == 0
    paths = volumes_in(folder)
    first = paths[0]
    hidden = tmp_path / "hidden"
    hidden.mkdir()
    for missing in ([paths[1]], [paths[-1]], paths[1:3], [first]):
        for path in missing:
            path.rename(hidden / path.name)
        for command in (["import", "--models", str(tmp_path / "t")], ["verify"], ["list"]):
            done = ferry(*command, first)
            assert_one_clear_error(done, 3)
            assert all(path.name in done.stderr for path in missing)
        for path in missing:
            (hidden / path.name).rename(path)
    # Without the sums nobody knows how many there are; that something is missing is told all the same.
    (folder / "x.sha256").unlink()
    paths[-1].unlink()
    done = ferry("import", first, "--models", tmp_path / "t")
    assert_one_clear_error(done, 4)
    assert "volumes are missing" in done.stderr
    assert not list((tmp_path / "t").glob("manifests/*/*/*/*"))


def test_each_volume_is_checked_by_itself(store: StoreBuilder, tmp_path: Path) -> None:
    assert split(store, tmp_path / "x.tar.gz").returncode == 0
    sums = tmp_path / "x.sha256"
    done = ferry("verify", sums)
    assert done.returncode == 0 and done.stdout.count("good") == len(volumes_in(tmp_path))
    second, third = volumes_in(tmp_path)[1:3]
    second.unlink()
    assert_one_clear_error(ferry("verify", sums), 3)
    raw = bytearray(third.read_bytes())
    raw[1000] ^= 1
    third.write_bytes(raw)
    document = ferry("verify", sums, "--json")
    assert document.returncode == 4
    results = {volume["name"]: volume["result"] for volume in json.loads(document.stdout)["volumes"]}
    assert results[second.name] == "not here" and results[third.name] == "damaged"
    assert list(results.values()).count("good") == len(results) - 2


@pytest.mark.parametrize(
    "text", ["", "hello\n", "a" * 64 + "  ../../etc/passwd\n", "a" * 64 + "  x/y\n", "a" * 64 + "  x.tar.001"]
)
def test_hostile_sums_are_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "x.sha256").write_text(text)
    assert_one_clear_error(ferry("verify", tmp_path / "x.sha256"), 4)


def test_a_cut_volume_is_named_before_anything_is_read(store: StoreBuilder, tmp_path: Path) -> None:
    assert split(store, tmp_path / "x.tar.gz").returncode == 0
    second = volumes_in(tmp_path)[1]
    os.truncate(second, SIZE - 1)
    done = ferry("import", volumes_in(tmp_path)[0], "--models", tmp_path / "t")
    assert_one_clear_error(done, 4)
    assert second.name in done.stderr


def test_a_run_that_was_killed_goes_on_where_it_stopped(store: StoreBuilder, tmp_path: Path) -> None:
    store.model("large:1", [("model", weights(40_000_000, 9))], config={"large": 1})
    archive = tmp_path / "x.tar.gz"
    arguments = ["export", "--models", str(store.root), "--all", str(archive), "--split", "2M", "--compress", "none"]
    broken = 0
    inodes: dict[str, int] = {}
    for attempt in range(8):
        process = subprocess.Popen([*COMMAND, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        deadline = time.monotonic() + 60
        while process.poll() is None and len(volumes_in(tmp_path)) < 2 + 3 * attempt:
            assert time.monotonic() < deadline
            time.sleep(0.002)
        process.kill()
        process.communicate()
        broken += process.returncode != 0
        here = {path.name: path.stat().st_ino for path in volumes_in(tmp_path)}
        # What was whole before was not written again.
        assert inodes.items() <= here.items()
        inodes = here
    assert broken >= 3
    if not (tmp_path / "x.sha256").exists():
        done = ferry(*arguments)
        assert done.returncode == 0, done.stderr
    whole = tmp_path / "whole.tar.gz"
    ferry("export", "--models", store.root, "--all", whole, "--compress", "none")
    assert b"".join(path.read_bytes() for path in volumes_in(tmp_path)) == whole.read_bytes()
    assert not list(tmp_path.glob("*.partial"))


def test_rubbish_in_an_unfinished_volume_is_overwritten(store: StoreBuilder, tmp_path: Path) -> None:
    assert split(store, tmp_path / "y.tar.gz").returncode == 0
    good = (tmp_path / "y.tar.gz.001").read_bytes()
    # As after a power cut: the right length, and zeros where the bytes never arrived.
    (tmp_path / "x.tar.gz.001.partial").write_bytes(good[:300_000] + bytes(400_000))
    assert split(store, tmp_path / "x.tar.gz").returncode == 0
    assert (tmp_path / "x.tar.gz.001").read_bytes() == good


def test_volumes_of_another_archive_are_not_replaced_unasked(store: StoreBuilder, tmp_path: Path) -> None:
    archive = tmp_path / "x.tar.gz"
    assert split(store, archive).returncode == 0
    assert_one_clear_error(split(store, archive), 7)
    (tmp_path / "x.sha256").unlink()
    before = {path.name: path.read_bytes() for path in volumes_in(tmp_path)}
    # The same archive is found whole; another one is refused.
    assert split(store, archive).returncode == 0
    (tmp_path / "x.sha256").unlink()
    assert_one_clear_error(split(store, archive, "--compress", "none"), 7)
    assert_one_clear_error(split(store, archive, size=SIZE * 2), 7)
    assert {path.name: path.read_bytes() for path in volumes_in(tmp_path)} == before
    assert split(store, archive, "--force", size=SIZE * 2).returncode == 0
    # None of the longer series is left, lest `cat x.tar.gz.*` join it.
    assert len(volumes_in(tmp_path)) < len(before)
    assert ferry("import", tmp_path / "x.tar.gz.001", "--models", tmp_path / "t").returncode == 0


def test_an_interrupt_keeps_what_is_whole(store: StoreBuilder, tmp_path: Path) -> None:
    store.model("large:1", [("model", weights(60_000_000, 9))], config={"large": 1})
    command = [*COMMAND, "export", "--models", str(store.root), "--all", str(tmp_path / "x.tar"), "--split", "1M"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 60
    while not volumes_in(tmp_path):
        assert time.monotonic() < deadline
        time.sleep(0.002)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=120)
    assert process.returncode in (0, 130) and "Traceback" not in said
    assert volumes_in(tmp_path)


def test_at_most_999(store: StoreBuilder, tmp_path: Path) -> None:
    store.model("large:1", [("model", bytes(70_000_000))], config={"large": 1})
    done = ferry("export", "--models", store.root, "large:1", tmp_path / "x.tar", "--split", "64K")
    assert_one_clear_error(done, 2)
    assert "999" in done.stderr


@pytest.mark.parametrize(
    ("text", "size"),
    [("4G", 4 * 2**30), ("700M", 700 * 2**20), ("1.5g", 3 * 2**29), ("4GiB", 2**32), ("fat32", FAT32_VOLUME),
     ("FAT32", FAT32_VOLUME), ("65536", 65536), ("64k", 65536), ("2 TB", 2**41)],
)  # fmt: skip
def test_sizes(text: str, size: int) -> None:
    assert volume_size(text) == size


@pytest.mark.parametrize("text", ["", "G", "-4G", "4X", "63K", "0", "1e9", "4G4", "٤G"])
def test_what_is_no_size(text: str) -> None:
    with pytest.raises(UsageError):
        volume_size(text)


@given(st.text(max_size=40))
def test_no_text_breaks_the_reading_of_a_size_or_a_name(text: str) -> None:
    try:
        assert volume_size(text) >= 65536
    except UsageError:
        pass
    Volumes.named(Path("/nowhere") / text.replace("/", "").replace("\0", ""))


def test_split_and_prompt_are_refused_where_they_make_no_sense(store: StoreBuilder, tmp_path: Path) -> None:
    for arguments in (
        ["--all", "-", "--split", "1M"],
        ["--all", str(tmp_path / "x.tar"), "--prompt"],
        ["--all", str(tmp_path / "x.tar"), "--split", "1M", "--prompt"],  # no terminal
    ):
        done = subprocess.run(
            [*COMMAND, "export", "--models", str(store.root), *arguments],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        assert_one_clear_error(done, 2)
    assert not list(tmp_path.glob("x*"))


class Sticks:
    """A folder that stands for a mount point: its content changes when somebody is asked."""

    def __init__(self, folder: Path, sizes: list[int]) -> None:
        self.folder = folder
        self.asked: list[str] = []
        self._sizes = sizes
        self._other: dict[int, Path] = {}
        self._now = 0

    def has(self, number: int, folder: Path) -> None:
        self._other[number] = folder

    def room(self, folder: Path) -> int:
        return self._sizes[self._now] - sum(path.stat().st_size for path in folder.iterdir())

    def ask(self, wanted: str) -> None:
        self.asked.append(wanted)
        assert self._now + 1 < len(self._sizes), self.asked
        self.put_in(self._now + 1)

    def put_in(self, number: int) -> None:
        away = self.folder.with_name(f"stick-{self._now}")
        self.folder.rename(away)
        self._other[self._now] = away
        self._now = number
        there = self._other.pop(number, None)
        if there is not None:
            there.rename(self.folder)
        else:
            self.folder.mkdir()

    def volumes(self) -> list[Path]:
        folders = [*self._other.values(), self.folder]
        return sorted((path for folder in folders for path in volumes_in(folder)), key=lambda path: path.name)


def test_volumes_go_to_one_medium_after_the_other(tmp_path: Path) -> None:
    folder = tmp_path / "stick"
    folder.mkdir()
    content = weights(1_000_000)
    sticks = Sticks(folder, [250_000, 0, 350_000, 10**9])
    with PendingVolumes(Volumes(folder / "x.tar"), 100_000, ask=sticks.ask, room=sticks.room) as out:
        for start in range(0, len(content), 33_333):
            out.write(content[start : start + 33_333])
        out.publish()
    # The second stick had no room at all, and was asked for another.
    assert len(sticks.asked) == 3
    assert b"".join(path.read_bytes() for path in sticks.volumes()) == content
    assert (folder / "x.sha256").read_text().count("x.tar.") == 10


def test_a_broken_off_series_of_media_goes_on_at_the_last_one(tmp_path: Path) -> None:
    folder = tmp_path / "stick"
    folder.mkdir()
    content = weights(1_000_000)
    sticks = Sticks(folder, [250_000, 350_000, 10**9])
    volumes = Volumes(folder / "x.tar")
    with PendingVolumes(volumes, 100_000, ask=sticks.ask, room=sticks.room) as out:
        out.write(content[:440_000])
    before = {path.name: path.stat().st_ino for path in sticks.volumes()}
    assert [name[-1] for name in before] == ["1", "2", "3", "4"]
    with PendingVolumes(volumes, 100_000, ask=sticks.ask, room=sticks.room) as out:
        out.write(content)
        out.publish()
    assert before.items() <= {path.name: path.stat().st_ino for path in sticks.volumes()}.items()
    assert b"".join(path.read_bytes() for path in sticks.volumes()) == content
    sums = (folder / "x.sha256").read_text().split()[::2]
    assert sums == [hashlib.sha256(path.read_bytes()).hexdigest() for path in sticks.volumes()]


def test_two_at_once_do_not_write_the_same_volumes(tmp_path: Path) -> None:
    volumes = Volumes(tmp_path / "x.tar")
    with PendingVolumes(volumes, 100_000) as one:
        one.write(b"1" * 150_000)
        for replace in (False, True):
            with pytest.raises(AlreadyExists, match="by another process"):
                PendingVolumes(volumes, 100_000, replace=replace)
        one.write(b"1" * 1000)
        one.publish()
    assert (tmp_path / "x.tar.001").read_bytes() == b"1" * 100_000


class Terminal:
    """A command at a pseudo-terminal."""

    def __init__(self, *arguments: str | Path) -> None:
        needs.require(needs.terminals)
        import pty

        self.master, slave = pty.openpty()
        self.process = subprocess.Popen([*COMMAND, *map(str, arguments)], stdin=slave, stdout=slave, stderr=slave)
        os.close(slave)
        self.said = ""

    def wait_for(self, text: str) -> None:
        deadline = time.monotonic() + 60
        seen = len(self.said)
        while text not in self.said[seen:]:
            assert time.monotonic() < deadline, self.said
            if select.select([self.master], [], [], 0.5)[0]:
                try:
                    self.said += os.read(self.master, 4096).decode()
                except OSError:
                    break

    def press_enter(self) -> None:
        os.write(self.master, b"\n")

    def end(self) -> int:
        self.wait_for("\0 never said: until it ends")
        code = self.process.wait(30)
        os.close(self.master)
        return code


@pytest.mark.parametrize("kind", [".tar", ".tar.gz", ".tar.zst"])
def test_import_asks_for_one_stick_after_the_other(store: StoreBuilder, tmp_path: Path, kind: str) -> None:
    home = tmp_path / "all"
    home.mkdir()
    assert split(store, home / f"x{kind}", size=1_500_000).returncode == 0
    paths = volumes_in(home)
    assert len(paths) == 2
    stick = tmp_path / "stick"
    stick.mkdir()
    shutil.copy(paths[0], stick)
    target = tmp_path / "target"
    terminal = Terminal("import", stick / paths[0].name, "--prompt", "--models", target)
    terminal.wait_for("press Enter")
    # Somebody presses Enter too early, and is asked again.
    terminal.press_enter()
    terminal.wait_for("press Enter")
    assert paths[1].name in terminal.said
    (stick / paths[0].name).unlink()
    shutil.copy(paths[1], stick)
    terminal.press_enter()
    assert terminal.end() == 0, terminal.said
    assert terminal.said.count("press Enter") == 2
    assert not faults_of(target)
    assert tree(target) == tree(store.root)


def test_ctrl_c_at_the_prompt_ends_it(store: StoreBuilder, tmp_path: Path) -> None:
    assert split(store, tmp_path / "x.tar.gz", size=1_500_000).returncode == 0
    (tmp_path / "x.tar.gz.002").unlink()
    terminal = Terminal("import", tmp_path / "x.tar.gz.001", "--prompt", "--models", tmp_path / "t")
    terminal.wait_for("press Enter")
    terminal.process.send_signal(signal.SIGINT)
    assert terminal.end() == 130
    assert "Traceback" not in terminal.said


def test_the_python_interface_splits_too(store: StoreBuilder, tmp_path: Path) -> None:
    done = ollama_ferry.export("qwen3:8b", tmp_path / "x.tar.gz", store=store.root, split="1M")
    assert [volume.path.name for volume in done.volumes] == ["x.tar.gz.001", "x.tar.gz.002", "x.tar.gz.003"]
    assert done.volumes[0].sha256 == hashlib.sha256(done.volumes[0].path.read_bytes()).hexdigest()
    imported = ollama_ferry.import_archive(tmp_path / "x.tar.gz.001", store=tmp_path / "t")
    assert [str(model.name) for model in imported.models] == ["qwen3:8b"]


def test_a_foreign_set_on_the_next_medium_is_not_touched(tmp_path: Path) -> None:
    folder = tmp_path / "stick"
    folder.mkdir()
    foreign = tmp_path / "stick-1"
    foreign.mkdir()
    (foreign / "x.tar.002").write_bytes(b"of somebody else")
    (foreign / "x.sha256").write_text("a" * 64 + "  x.tar.001\n")
    sticks = Sticks(folder, [150_000, 10**9, 10**9])
    sticks.has(1, foreign)
    content = weights(300_000)
    with PendingVolumes(Volumes(folder / "x.tar"), 100_000, ask=sticks.ask, room=sticks.room) as out:
        out.write(content)
        out.publish()
    assert any("an archive of that name is whole" in asked for asked in sticks.asked)
    assert {path.name for path in foreign.iterdir()} == {"x.tar.002", "x.sha256"}
    assert (foreign / "x.tar.002").read_bytes() == b"of somebody else"


def test_what_has_changed_since_the_other_medium_was_written_is_found(tmp_path: Path) -> None:
    folder = tmp_path / "stick"
    folder.mkdir()
    content = weights(300_000)
    sticks = Sticks(folder, [150_000, 10**9])
    volumes = Volumes(folder / "x.tar")
    with PendingVolumes(volumes, 100_000, ask=sticks.ask, room=sticks.room) as out:
        out.write(content[:150_000])
    # Only the first volume, which is not here any more, would be another one.
    changed = bytes([content[0] ^ 1]) + content[1:]
    with (
        pytest.raises(AlreadyExists, match="another archive"),
        PendingVolumes(volumes, 100_000, ask=sticks.ask, room=sticks.room) as out,
    ):
        out.write(changed)
    # Without the sums nobody can tell.
    (folder / "x.sha256.partial").unlink()
    with (
        pytest.raises(AlreadyExists, match="nothing here tells"),
        PendingVolumes(volumes, 100_000, ask=sticks.ask, room=sticks.room) as out,
    ):
        out.write(content)


def test_a_medium_that_has_the_volume_needs_no_room_for_it(tmp_path: Path) -> None:
    folder = tmp_path / "stick"
    folder.mkdir()
    content = weights(250_000)
    sticks = Sticks(folder, [150_000, 150_000, 10**9])
    volumes = Volumes(folder / "x.tar")
    with PendingVolumes(volumes, 100_000, ask=sticks.ask, room=sticks.room) as out:
        out.write(content[:220_000])
    sticks.put_in(0)
    sticks.asked.clear()
    # The last volume is small: what is left of what was foretold has room.
    with PendingVolumes(volumes, 100_000, expected=250_000, ask=sticks.ask, room=sticks.room) as out:
        out.write(content)
        out.publish()
    assert len(sticks.asked) == 2
    assert b"".join(path.read_bytes() for path in sticks.volumes()) == content


@pytest.mark.parametrize("kind", ["fifo", "folder", "link"])
@pytest.mark.parametrize("name", ["x.tar.gz.002", "x.tar.gz.003.partial", "x.sha256"])
@pytest.mark.parametrize("more", [[], ["--force"]])
def test_what_is_no_file_is_not_replaced(
    store: StoreBuilder, tmp_path: Path, kind: str, name: str, more: list[str]
) -> None:
    path = tmp_path / name
    if kind == "fifo":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    else:
        path.symlink_to("/nonexistent")
    mode = path.lstat().st_mode
    assert_one_clear_error(split(store, tmp_path / "x.tar.gz", *more), 7)
    assert path.lstat().st_mode == mode
    assert not (tmp_path / "x.tar.gz.001").exists()


def test_nothing_is_left_behind_the_end(store: StoreBuilder, tmp_path: Path) -> None:
    (tmp_path / "x.tar.gz.009.partial").write_bytes(b"rubbish")
    assert split(store, tmp_path / "x.tar.gz").returncode == 0
    assert not (tmp_path / "x.tar.gz.009.partial").exists()
    (tmp_path / "y.tar.gz.050").write_bytes(b"rubbish")
    done = split(store, tmp_path / "y.tar.gz")
    assert_one_clear_error(done, 7)
    assert "y.tar.gz.050" in done.stderr


def test_the_sums_of_another_kind_are_kept(store: StoreBuilder, tmp_path: Path) -> None:
    assert split(store, tmp_path / "x.tar.gz").returncode == 0
    before = (tmp_path / "x.sha256").read_bytes()
    for more in ([], ["--force"]):
        done = split(store, tmp_path / "x.tar", *more)
        assert_one_clear_error(done, 7)
        assert "of another archive" in done.stderr
    assert (tmp_path / "x.sha256").read_bytes() == before


def test_force_replaces_the_archive_in_one_piece_too(store: StoreBuilder, tmp_path: Path) -> None:
    archive = tmp_path / "x.tar.gz"
    assert ferry("export", "--models", store.root, "other:1", archive).returncode == 0
    assert_one_clear_error(split(store, archive), 7)
    assert split(store, archive, "--force").returncode == 0
    assert "qwen3:8b" in ferry("list", archive).stdout


@pytest.mark.parametrize("name", ["a\\b", "a\nb", "a\u2028b", "a\x9bb", "a\udcffb"])
def test_names_that_no_file_of_sums_can_hold(store: StoreBuilder, tmp_path: Path, name: str) -> None:
    assert_one_clear_error(split(store, tmp_path / f"{name}.tar.gz"), 2)
    assert not list(tmp_path.glob("a*"))


@pytest.mark.parametrize("size", [-5, 0, 100])
def test_python_refuses_sizes_too(store: StoreBuilder, tmp_path: Path, size: int) -> None:
    with pytest.raises(UsageError):
        ollama_ferry.export("qwen3:8b", tmp_path / "x.tar", store=store.root, split=size)


def test_odd_sums_do_not_keep_good_volumes_from_being_read(store: StoreBuilder, tmp_path: Path) -> None:
    assert split(store, tmp_path / "x.tar.gz").returncode == 0
    sums = tmp_path / "x.sha256"
    good = sums.read_text()
    upper = good.upper().replace("X.TAR.GZ", "x.tar.gz")
    for text in (
        "",
        upper,
        good + "a" * 64 + "  x.tar.gz.sig\n",
        "SHA256 (x) = 1\n",
    ):
        sums.write_text(text)
        done = ferry("list", tmp_path / "x.tar.gz.001")
        assert done.returncode == 0, done.stderr
    sums.write_text(upper)
    assert ferry("verify", sums).returncode == 0


def test_a_fifo_is_not_waited_for(store: StoreBuilder, tmp_path: Path) -> None:
    assert split(store, tmp_path / "x.tar.gz").returncode == 0
    (tmp_path / "x.tar.gz.002").unlink()
    os.mkfifo(tmp_path / "x.tar.gz.002")
    assert_one_clear_error(ferry("import", tmp_path / "x.tar.gz.001", "--models", tmp_path / "t"), 3)
    (tmp_path / "x.sha256").unlink()
    os.mkfifo(tmp_path / "x.sha256")
    assert_one_clear_error(ferry("verify", tmp_path / "x.sha256"), 3)
    terminal = Terminal("import", tmp_path / "x.tar.gz.001", "--prompt", "--models", tmp_path / "t")
    assert terminal.end() == 3
    assert "no regular file" in terminal.said
