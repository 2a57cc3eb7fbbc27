"""``send`` and ``fetch`` against a real sshd, with the commands of this machine and with BusyBox on the far side."""

from __future__ import annotations

import json
import os
import random
import shutil
import subprocess
import time
from pathlib import Path

import pytest

from ollama_ferry.errors import FerryError, Unreachable
from ollama_ferry.jobs.deliveries import Sent
from ollama_ferry.jobs.send import SendOptions, send
from ollama_ferry.jobs.send_targets import SshTarget
from ollama_ferry.model.names import ModelName
from ollama_ferry.places.ssh.connection import SshConnection, SshOptions
from ollama_ferry.places.ssh.place import SshPlace
from ollama_ferry.places.store.store import Store
from support import needs
from support.command_line import COMMAND, assert_one_clear_error, ferry
from support.sshd import Sshd, serving
from support.stores import StoreBuilder, faults_of, tree, weights


@pytest.fixture(params=["gnu", "busybox"])
def server(request: pytest.FixtureRequest) -> Sshd:
    found: Sshd = request.getfixturevalue("sshd" if request.param == "gnu" else "busybox_sshd")
    shutil.rmtree(found.home / ".ollama", ignore_errors=True)
    return found


@pytest.fixture
def models(source: StoreBuilder) -> StoreBuilder:
    shared = weights(3_000_000)
    source.model("qwen3:8b", [("model", shared), ("template", b"{{ .Prompt }}"), ("license", b"")])
    source.model("qwen3:14b", [("model", shared), ("template", b"User: {{ .Prompt }}")])
    source.model("hf.co/org/repo:Q4_K_M", [("model", weights(100_000, 2))])
    return source


def sent(models: StoreBuilder, server: Sshd, *words: str | Path) -> subprocess.CompletedProcess[str]:
    return ferry("send", "--models", models.root, "--ssh", server.ssh, *words)


def test_into_an_empty_store_and_again(models: StoreBuilder, server: Sshd, tmp_path: Path) -> None:
    target = tmp_path / "far/models"
    done = sent(models, server, "*/*/*:*", f"root@there:{target}")
    assert done.returncode == 0, done.stderr
    assert tree(target) == tree(models.root)
    assert {path.stat().st_mode & 0o777 for path in target.rglob("*") if path.is_file()} == {0o644}
    assert not list(target.glob(".*"))
    told = json.loads(sent(models, server, "*/*/*:*", f"root@there:{target}", "--json").stdout)["targets"][0]
    assert len(told["were_there"]) == 3 and not told["sent"] and told["size"] == 0


def test_into_a_store_that_has_a_part_of_it(models: StoreBuilder, server: Sshd, tmp_path: Path) -> None:
    target = tmp_path / "models"
    assert sent(models, server, "qwen3:14b", f"root@there:{target}").returncode == 0
    StoreBuilder(target).model("neighbour", [("model", b"must stay")])
    before = tree(target)
    plan = json.loads(sent(models, server, "-n", "qwen3:8b", f"root@there:{target}", "--json").stdout)["targets"][0]
    assert plan["size"] == len(b"{{ .Prompt }}") and tree(target) == before
    told = json.loads(sent(models, server, "qwen3:8b", f"root@there:{target}", "--json").stdout)["targets"][0]
    assert told["size"] == plan["size"] and told["sent"] == ["qwen3:8b"]
    assert before.items() <= tree(target).items() and not faults_of(target)


def test_wrong_blobs_there_are_replaced(models: StoreBuilder, server: Sshd, tmp_path: Path) -> None:
    target = tmp_path / "models"
    assert sent(models, server, "*/*/*:*", f"root@there:{target}").returncode == 0
    big = max((target / "blobs").iterdir(), key=lambda path: path.stat().st_size)
    small = next(path for path in (target / "blobs").iterdir() if path.stat().st_size == len(b"{{ .Prompt }}"))
    big.write_bytes(bytes(big.stat().st_size))
    small.write_bytes(b"short")
    verified = ferry("verify", f"root@there:{target}", "--ssh", server.ssh)
    assert_one_clear_error(verified, 4)
    assert verified.stdout.count("  damaged  ") == 2
    # The size tells of one; the other one is found when asked for.
    assert sent(models, server, "qwen3:8b", f"root@there:{target}").returncode == 0
    assert small.read_bytes() == b"{{ .Prompt }}" and not any(big.read_bytes())
    assert sent(models, server, "qwen3:8b", f"root@there:{target}", "--checksum").returncode == 0
    assert tree(target) == tree(models.root)
    assert ferry("verify", f"root@there:{target}", "--ssh", server.ssh).returncode == 0


def test_another_model_of_that_name_stays_without_force(models: StoreBuilder, server: Sshd, tmp_path: Path) -> None:
    target = StoreBuilder(tmp_path / "models")
    target.model("QWEN3:8b", [("model", b"another one")])
    before = tree(target.root)
    assert_one_clear_error(sent(models, server, "qwen3:8b", f"root@there:{target.root}"), 7)
    assert tree(target.root) == before
    assert sent(models, server, "qwen3:8b", f"root@there:{target.root}", "--force").returncode == 0
    manifest = target.root / "manifests/registry.ollama.ai/library/QWEN3/8b"
    assert manifest.read_bytes() == models.manifest_path("qwen3:8b").read_bytes()


def test_store_is_found_there(models: StoreBuilder, server: Sshd) -> None:
    nowhere = sent(models, server, "qwen3:8b", "root@there")
    assert_one_clear_error(nowhere, 3)
    assert "root@there:/path" in nowhere.stderr
    (server.home / ".ollama").mkdir()
    assert sent(models, server, "qwen3:8b", "root@there").returncode == 0
    assert (server.home / ".ollama/models/manifests/registry.ollama.ai/library/qwen3/8b").is_file()
    listed = ferry("list", "root@there", "--ssh", server.ssh)
    assert listed.returncode == 0 and "qwen3:8b" in listed.stdout, listed.stderr
    shown = json.loads(ferry("show", "qwen3:8b", "root@there", "--ssh", server.ssh, "--json").stdout)
    here = json.loads(ferry("show", "qwen3:8b", "--models", models.root, "--json").stdout)
    assert shown["manifest_digest"] == here["manifest_digest"]
    assert [layer["size_on_disk"] for layer in shown["layers"]] == [layer["size"] for layer in here["layers"]]


@pytest.mark.parametrize(
    "name", ["with blank", "it's", 'say "x"', "$(touch x)`touch x`;&|<>", "-rf", "*", "\\n", "~", "ünï", "#end"]
)
def test_paths_made_to_break_a_shell_arrive_unharmed(
    models: StoreBuilder, server: Sshd, tmp_path: Path, name: str
) -> None:
    target = tmp_path / name / "models"
    done = sent(models, server, "hf.co/org/repo:Q4_K_M", f"root@there:{target}")
    assert done.returncode == 0, done.stderr
    assert len(tree(target)) == 3 and not faults_of(target)
    assert not (tmp_path / "x").exists() and not (server.home / "x").exists()
    got = ferry("fetch", f"root@there:{target}", "hf.co/org/repo:Q4_K_M", "--ssh", server.ssh, "--models",
                tmp_path / "got")  # fmt: skip
    assert got.returncode == 0, got.stderr
    assert tree(tmp_path / "got") == tree(target)


@pytest.mark.parametrize("word", ["root@there:/tmp/a\nb", "-oProxyCommand=touch x@", "a b@there", "@", "\x07@there"])
def test_hosts_and_paths_that_are_none_are_refused(models: StoreBuilder, sshd: Sshd, word: str, tmp_path: Path) -> None:
    done = ferry("send", "--models", models.root, "--ssh", sshd.ssh, "--", "qwen3:8b", word)
    assert_one_clear_error(done, done.returncode)
    assert done.returncode in (2, 8)
    assert not Path("x").exists()


def test_several_targets_and_one_that_fails(models: StoreBuilder, server: Sshd, tmp_path: Path) -> None:
    targets = [f"root@there:{tmp_path}/one", f"root@there:{tmp_path}/two", str(tmp_path / "folder")]
    StoreBuilder(tmp_path / "two").model("qwen3:8b", [("model", b"another one")])
    done = sent(models, server, "qwen3:8b", "hf.co/org/repo:Q4_K_M", *targets)
    assert_one_clear_error(done, 7)
    assert "1 of 3 targets failed" in done.stderr and done.stdout.count("failed:") == 1
    for name in ("one", "folder"):
        assert not faults_of(tmp_path / name)
        assert len(list((tmp_path / name / "manifests").glob("*/*/*/*"))) == 2
    unknown = ferry("send", "--models", models.root, "--ssh", f"{server.ssh} -p 9", "qwen3:8b", "root@there",
                    tmp_path / "stick")  # fmt: skip
    assert_one_clear_error(unknown, 8)
    assert not faults_of(tmp_path / "stick") and len(tree(tmp_path / "stick")) == 5


def test_fetch_takes_only_what_is_missing(models: StoreBuilder, server: Sshd, tmp_path: Path) -> None:
    there = f"root@there:{models.root}"
    done = ferry("fetch", there, "qwen3:14b", "--ssh", server.ssh, "--models", tmp_path / "got")
    assert done.returncode == 0, done.stderr
    more = ferry("fetch", there, "QWEN3:8B", "hf.co/*/*:*", "--ssh", server.ssh, "--models", tmp_path / "got", "--json")
    assert more.returncode == 0, more.stderr
    told = json.loads(more.stdout)
    assert len(told["present"]) == 2 and tree(tmp_path / "got") == tree(models.root)
    missing = ferry("fetch", there, "qwen3:9b", "--ssh", server.ssh, "--models", tmp_path / "got")
    assert_one_clear_error(missing, 3)
    assert "qwen3:8b" in missing.stderr
    mine = ferry("fetch", there, "qwen3:8b", "--as", "mine", "--ssh", server.ssh, "--models", tmp_path / "got")
    assert mine.returncode == 0 and (tmp_path / "got/manifests/registry.ollama.ai/library/mine/latest").is_file()
    damaged = max((models.root / "blobs").iterdir(), key=lambda path: path.stat().st_size)
    damaged.write_bytes(bytes(damaged.stat().st_size))
    bad = ferry("fetch", there, "qwen3:8b", "--ssh", server.ssh, "--models", tmp_path / "bad")
    assert_one_clear_error(bad, 4)
    assert not tree(tmp_path / "bad")


def test_folder_on_a_stick_both_ways(models: StoreBuilder, tmp_path: Path) -> None:
    stick = tmp_path / "stick/models"
    done = ferry("send", "--models", models.root, "qwen3:*", stick)
    assert done.returncode == 0, done.stderr
    assert not faults_of(stick) and len(tree(stick)) == 7
    got = ferry("fetch", stick, "qwen3:8b", "--models", tmp_path / "got")
    assert got.returncode == 0, got.stderr
    assert not faults_of(tmp_path / "got") and len(tree(tmp_path / "got")) == 5


class CutLine(SshConnection):
    """A line that is cut when so many bytes have been sent, however long that takes."""

    def __init__(self, server: Sshd, cut_at: int | None = None) -> None:
        self._server, self._cut_at, self._sent = server, cut_at, 0
        super().__init__("root@there", None, SshOptions(tuple(server.ssh.split())))

    @property
    def sent(self) -> int:
        return self._sent

    @sent.setter
    def sent(self, count: int) -> None:
        self._sent = count
        if self._cut_at is not None and count >= self._cut_at:
            self._cut_at = None
            self._server.kill_connections()


def attempt(models: StoreBuilder, server: Sshd, root: Path, cut_at: int | None = None) -> tuple[Sent, int]:
    """Send all models in this process; return what became of it, and the bytes that crossed the line."""
    store = Store(models.root)
    with CutLine(server, cut_at) as line:
        (done,) = send(store, store.names(), [SshTarget(SshPlace(line, str(root)))], SendOptions())
        return done, line.sent


def cut_at_random(models: StoreBuilder, server: Sshd, folder: Path, rounds: int, seed: int) -> None:
    rng = random.Random(seed)
    whole = tree(models.root)
    size = sum(len(content) for path, content in whole.items() if path.startswith("blobs/"))
    done, sent_bytes = attempt(models, server, folder / "whole")
    usual, overhead = sent_bytes, sent_bytes - size
    assert done.error is None and 0 < overhead < 150_000
    cut = 0
    for number in range(rounds):
        root = folder / f"target-{number}"
        done, _ = attempt(models, server, root, rng.randrange(usual))
        assert done.error is None or isinstance(done.error, Unreachable | FerryError)
        cut += done.error is not None
        assert not faults_of(root)
        begun = sum(path.stat().st_size for path in root.glob(".ollama-ferry-ssh/sha256-*"))
        begun += sum(path.stat().st_size for path in root.glob("blobs/sha256-*"))
        done, sent_bytes = attempt(models, server, root)
        assert done.error is None, done.error
        # What is there is not sent again; a batch of small blobs that was cut is.
        assert sent_bytes <= size - begun + overhead + 200_000, number
        assert {path: content for path, content in tree(root).items() if not path.startswith(".")} == whole
    assert cut > rounds // 2


def test_line_that_is_cut_at_random_moments(
    models: StoreBuilder, server: Sshd, tmp_path: Path, seed: int, long: bool
) -> None:
    models.model("big:1", [("model", weights(20_000_000 if long else 5_000_000, 7))])
    cut_at_random(models, server, tmp_path, 25 if long else 3, seed)


def test_present_model_costs_one_call(models: StoreBuilder, sshd: Sshd, tmp_path: Path) -> None:
    assert attempt(models, sshd, tmp_path / "there")[0].error is None
    store = Store(models.root)
    with SshConnection("root@there", None, SshOptions(tuple(sshd.ssh.split()))) as line:
        place = SshPlace(line, str(tmp_path / "there"))
        (done,) = send(store, [ModelName.parse("qwen3:8b")], [SshTarget(place)], SendOptions())
        assert done.error is None and done.were_there == [ModelName.parse("qwen3:8b")]
        assert line.calls == 1


def test_many_small_blobs_travel_in_few_calls(source: StoreBuilder, sshd: Sshd, tmp_path: Path) -> None:
    source.model("tensors", [("tensor", f"{number}".encode() * 50) for number in range(1200)])
    store = Store(source.root)
    with SshConnection("root@there", None, SshOptions(tuple(sshd.ssh.split()))) as line:
        (done,) = send(store, store.names(), [SshTarget(SshPlace(line, str(tmp_path / "far")))], SendOptions())
        assert done.error is None, done.error
        assert line.calls < 8
    assert tree(tmp_path / "far") == tree(source.root)
    got = ferry("fetch", f"root@there:{tmp_path}/far", "tensors", "--ssh", sshd.ssh, "--models", tmp_path / "got")
    assert got.returncode == 0, got.stderr
    assert tree(tmp_path / "got") == tree(source.root)


def test_without_tar_there_it_is_slower_and_works(models: StoreBuilder, sshd: Sshd, tmp_path: Path) -> None:
    class Tarless(SshPlace):
        def take_survey(self, names=None):  # type: ignore[no-untyped-def]
            survey = super().take_survey(names)
            survey.has_tar = False
            return survey

    store = Store(models.root)
    with SshConnection("root@there", None, SshOptions(tuple(sshd.ssh.split()))) as line:
        (done,) = send(store, store.names(), [SshTarget(Tarless(line, str(tmp_path / "far")))], SendOptions())
    assert done.error is None, done.error
    assert tree(tmp_path / "far") == tree(models.root)


def test_limit_of_the_bandwidth_is_kept(models: StoreBuilder, sshd: Sshd, tmp_path: Path) -> None:
    started = time.monotonic()
    done = sent(models, sshd, "qwen3:8b", f"root@there:{tmp_path}/far", "--bwlimit", "2M")
    assert done.returncode == 0, done.stderr
    # 3 MB at 2 MB/s: no faster than that (a quarter of a second may be made up for), however fast the machine.
    assert time.monotonic() - started > 1.2
    assert_one_clear_error(sent(models, sshd, "qwen3:8b", "root@there", "--bwlimit", "fast"), 2)
    started = time.monotonic()
    got = ferry("fetch", f"root@there:{tmp_path}/far", "qwen3:8b", "--ssh", sshd.ssh, "--models", tmp_path / "got",
                "--bwlimit", "2M", "-C")  # fmt: skip
    assert got.returncode == 0, got.stderr
    assert time.monotonic() - started > 1.2


@needs.root("gives files to somebody else")
def test_files_there_belong_to_the_owner_of_the_store(models: StoreBuilder, server: Sshd, tmp_path: Path) -> None:
    service = tmp_path / "service"
    service.mkdir()
    os.chown(service, 12345, 23456)
    assert sent(models, server, "*/*/*:*", f"root@there:{service}/models").returncode == 0
    for path in [service / "models", *(service / "models").rglob("*")]:
        assert (path.stat().st_uid, path.stat().st_gid) == (12345, 23456), path
        assert path.stat().st_mode & 0o777 == (0o755 if path.is_dir() else 0o644), path


@needs.shell
def test_sudo_is_asked_over_there(models: StoreBuilder, tmp_path: Path) -> None:
    programs = tmp_path / "programs"
    programs.mkdir()
    sudo = programs / "sudo"
    # As much of sudo as is called: -n, then a command.
    sudo.write_text(f'#!/bin/sh\necho "$*" >> {tmp_path}/calls\n[ "$1" = -n ] || exit 1\nshift\nexec "$@"\n')
    sudo.chmod(0o755)
    with serving(tmp_path / "sshd", path=f"{programs}:/usr/bin:/bin") as server:
        done = sent(models, server, "qwen3:8b", f"root@there:{tmp_path}/far", "--sudo")
        assert done.returncode == 0, done.stderr
        assert (tmp_path / "calls").read_text().count("-n sh -c") >= 3
        sudo.write_text("#!/bin/sh\necho 'sudo: a password is required' >&2\nexit 1\n")
        refused = sent(models, server, "qwen3:14b", f"root@there:{tmp_path}/far", "--sudo")
        assert_one_clear_error(refused, 5)
        assert "password" in refused.stderr


@pytest.mark.parametrize("words", [[], ["qwen3:8b"], ["root@there"], ["qwen3:8b", "qwen3:14b"], ["nothing:1", "a@b"]])
def test_wrong_calls_get_one_clear_error(models: StoreBuilder, words: list[str]) -> None:
    done = ferry("send", "--models", models.root, *words)
    assert done.returncode in (2, 3)
    assert_one_clear_error(done, done.returncode)


# What cmd and PowerShell say of `exec`, in a few of their languages, and what they end with.
SHELLS_OF_WINDOWS = {
    "cmd": ("'exec' is not recognized as an internal or external command,", 1),
    "cmd, in German": ('Der Befehl "exec" ist entweder falsch geschrieben oder konnte nicht gefunden werden.', 1),
    "cmd, in code page 936": ("'exec' \\262\\273\\312\\307\\304\\332\\262\\277", 1),
    "PowerShell": ("exec : The term 'exec' is not recognized as the name of a cmdlet", 1),
    "PowerShell 7, in French": ("exec: Le terme «exec» n'est pas reconnu comme nom d'applet de commande", 1),
}


@needs.shell
@pytest.mark.parametrize("which", SHELLS_OF_WINDOWS)
@pytest.mark.parametrize("command", ["send", "fetch", "list", "verify"])
def test_windows_as_the_far_side_gets_the_other_ways(
    models: StoreBuilder, tmp_path: Path, which: str, command: str
) -> None:
    said, code = SHELLS_OF_WINDOWS[which]
    (tmp_path / "said").write_text(said)
    fake = fake_ssh(
        tmp_path,
        "case \"$*\" in *'-- me@windows cmd /c ver') echo 'Microsoft Windows [Version 10.0.26100.1]'; exit 0;; esac\n"
        f'wc -c >>{tmp_path}/sent\nprintf "$(cat {tmp_path}/said)\\r\\n" >&2\nexit {code}\n',
    )
    words: dict[str, list[str | Path]] = {
        "send": ["--models", models.root, "qwen3:8b", "me@windows"],
        "fetch": ["me@windows", "qwen3:8b", "--models", tmp_path / "here"],
        "list": ["me@windows:"],
        "verify": ["me@windows:"],
    }
    done = ferry(command, "--ssh", fake, *words[command])
    assert_one_clear_error(done, 2)
    assert "me@windows runs Windows" in done.stderr
    assert "ollama-ferry serve" in done.stderr and "ollama pull" in done.stderr and "tar -xf" in done.stderr
    # Nothing of a model: the first script alone was.
    assert [int(line) < 20_000 for line in (tmp_path / "sent").read_text().split()] == [True]


@needs.shell
@pytest.mark.parametrize("which", ["cmd", "PowerShell"])
def test_windows_that_wants_a_password_again_is_known_by_what_it_says(
    models: StoreBuilder, tmp_path: Path, which: str
) -> None:
    said, code = SHELLS_OF_WINDOWS[which]
    (tmp_path / "said").write_text(said)
    body = f'case "$*" in *" cmd /c ver") exit 255;; esac; cat >/dev/null; cat {tmp_path}/said >&2; exit {code}'
    done = ferry("send", "--models", models.root, "--ssh", fake_ssh(tmp_path, body), "qwen3:8b", "me@windows")
    assert_one_clear_error(done, 2)
    assert "me@windows runs Windows" in done.stderr


@needs.shell
def test_a_host_that_fails_and_is_no_windows_is_reported_as_it_is(models: StoreBuilder, tmp_path: Path) -> None:
    fake = fake_ssh(tmp_path, "cat >/dev/null; echo 'sh: cannot fork' >&2; exit 2\n")
    done = ferry("send", "--models", models.root, "--ssh", fake, "qwen3:8b", "me@there")
    assert_one_clear_error(done, 8)
    assert "cannot fork" in done.stderr and "Windows" not in done.stderr


@needs.shell
def test_host_that_says_more_than_was_asked_is_told_so(models: StoreBuilder, tmp_path: Path) -> None:
    chatty = tmp_path / "chatty"
    chatty.write_text("#!/bin/sh\necho Welcome to my machine\ncat >/dev/null\n")
    chatty.chmod(0o755)
    done = ferry("send", "--models", models.root, "--ssh", chatty, "qwen3:8b", "me@there")
    assert_one_clear_error(done, 1)
    assert "start-up file" in done.stderr


def fake_ssh(folder: Path, body: str) -> Path:
    """Make an ssh that answers as a far side would that is broken, or means harm."""
    path = folder / "fake-ssh"
    path.write_text(f'#!/bin/sh\ncase "$*" in *-G*) exit 1;; esac\n{body}\n')
    path.chmod(0o755)
    return path


@pytest.mark.parametrize(
    "answer",
    [
        "root /x\\nstaging .ollama-ferry-ssh\\nfree ²\\nblobs\\n-rw-r--r-- 1 0 0 ² x sha256-$h\\n.\\nmanifest ² a/b/c/d"
        "\\nend",
        "root /x\\nstaging ../../x\\nend",
        "root /x\\033]0;title\\007\\nstaging .ollama-ferry-ssh\\nend",
        "root /x/\\342\\200\\256y\\nstaging .ollama-ferry-ssh\\nend",
        "root relative\\nstaging .ollama-ferry-ssh\\nend",
        "root /x\\nstaging .ollama-ferry-ssh\\nmanifest 99999999999999999999999 a/b/c/d\\nend",
        "root /x\\nstaging .ollama-ferry-ssh\\nmanifest 50 ../../../../x\\nend",
        "end",
        "error closed \\033[2J",
        "",
    ],
)
def test_far_side_that_lies_gets_one_clear_error(models: StoreBuilder, tmp_path: Path, answer: str) -> None:
    ssh = fake_ssh(tmp_path, f"cat >/dev/null; printf 'ferry 1\\n{answer}\\n'")
    for words in (["send", "--models", models.root, "qwen3:8b", "me@there"], ["list", "me@there"],
                  ["fetch", "me@there", "qwen3:8b", "--models", tmp_path / "got"]):  # fmt: skip
        done = ferry(*words, "--ssh", ssh)
        assert not {"\x1b", "\u202e"} & set(done.stdout + done.stderr) and "internal error" not in done.stderr
        if done.returncode:
            assert_one_clear_error(done, done.returncode)
    assert not (tmp_path / "got").exists() or not tree(tmp_path / "got")


@needs.shell
def test_answer_without_end_is_given_up(models: StoreBuilder, tmp_path: Path) -> None:
    # As long as names may be: the end is come to in fewer lines.
    name = "/".join(letter * length for letter, length in (("h", 350), ("n", 80), ("m", 80), ("t", 80)))
    body = f"printf 'ferry 1\\nroot /x\\nnames\\n'; yes {name}"
    assert_one_clear_error(ferry("list", "me@there", "--ssh", fake_ssh(tmp_path, body)), 1)


@needs.shell
def test_stalled_host_does_not_keep_us(models: StoreBuilder, tmp_path: Path) -> None:
    # The first call answers; the second one never reads.
    body = (
        f"if [ -e {tmp_path}/second ]; then exec sleep 600; fi; touch {tmp_path}/second; cat >/dev/null\n"
        "printf 'ferry 1\\nroot /x\\nstaging .ollama-ferry-ssh\\nend\\n'"
    )
    ssh = fake_ssh(tmp_path, body)
    models.model("big", [("model", weights(20_000_000, 9))])
    command = [*COMMAND, "send", "--models", str(models.root), "--ssh", str(ssh), "big", "me@there"]
    sending = subprocess.Popen(command, stderr=subprocess.PIPE)
    deadline = time.monotonic() + 60
    while not (tmp_path / "second").exists() and time.monotonic() < deadline:
        time.sleep(0.1)
    time.sleep(2)
    sending.terminate()
    _, said = sending.communicate(timeout=120)
    assert sending.returncode == 130 and b"interrupted" in said


def test_leftovers_of_a_batch_that_was_cut_are_no_hindrance(models: StoreBuilder, server: Sshd, tmp_path: Path) -> None:
    target = tmp_path / "far"
    (target / ".ollama-ferry-ssh/batch-1").mkdir(parents=True)
    (target / f".ollama-ferry-ssh/batch-1/sha256-{'a' * 64}").write_bytes(b"cut")
    done = sent(models, server, "qwen3:8b", f"root@there:{target}")
    assert done.returncode == 0, done.stderr
    assert not faults_of(target)


def test_model_without_blobs_and_a_folder_in_the_tags_place(source: StoreBuilder, server: Sshd, tmp_path: Path) -> None:
    source.manifest("nothing:1", b'{"schemaVersion": 2, "layers": []}')
    done = sent(source, server, "nothing:1", f"root@there:{tmp_path}/far")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "far/manifests/registry.ollama.ai/library/nothing/1").is_file()
    (tmp_path / "other/manifests/registry.ollama.ai/library/nothing/1").mkdir(parents=True)
    refused = sent(source, server, "nothing:1", f"root@there:{tmp_path}/other")
    assert_one_clear_error(refused, refused.returncode)
    assert refused.returncode


@needs.shell
def test_hashing_that_fails_over_there_publishes_nothing(models: StoreBuilder, tmp_path: Path) -> None:
    programs = tmp_path / "programs"
    programs.mkdir()
    openssl = programs / "openssl"
    real = shutil.which("openssl") or "/usr/bin/openssl"
    openssl.write_text(f'#!/bin/sh\n[ $# -le 3 ] || exit 137\nexec {real} "$@"\n')
    openssl.chmod(0o755)
    with serving(tmp_path / "sshd", path=f"{programs}:/usr/bin:/bin") as server:
        done = sent(models, server, "qwen3:8b", f"root@there:{tmp_path}/far")
    assert_one_clear_error(done, 6)
    assert not list((tmp_path / "far").glob("blobs/*")) and not list((tmp_path / "far").glob("manifests/*"))


@pytest.mark.parametrize(
    "words", [["qwen3:8b", "a@b", "a@b"], ["qwen3:8b", "ssh://[x/"], ["qwen3:8b", "a@b", "--ssh", "ssh 'x"],
              ["qwen3:8b", "a@b", "--bwlimit", "0.5"], ["qwen3:8b", "ssh://h:99999999/x"]]
)  # fmt: skip
def test_more_wrong_calls(models: StoreBuilder, words: list[str]) -> None:
    assert_one_clear_error(ferry("send", "--models", models.root, *words), 2)
