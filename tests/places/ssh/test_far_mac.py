"""A Mac as the far side: bash 3.2 as sh, zsh as the login's shell, BSD's commands, no /proc."""

from __future__ import annotations

import os
import shlex
import subprocess
from pathlib import Path

import pytest

from ollama_ferry.places.ssh.scripts import BOOTSTRAP
from support import needs
from support.command_line import assert_one_clear_error, ferry
from support.far_side import FarSide
from support.mac_commands import login_shell, mac_side
from support.stores import StoreBuilder, faults_of, tree, weights

pytestmark = needs.shell
NOBODY = 65534


@pytest.fixture
def mac(open_folder: Path) -> FarSide:
    return mac_side(open_folder / "mac")


@pytest.fixture
def models(source: StoreBuilder) -> StoreBuilder:
    shared = weights(600_000)
    source.model("qwen3:8b", [("model", shared), ("template", b"{{ .Prompt }}")])
    source.model("qwen3:14b", [("model", shared), ("license", b"free")])
    for number in range(5):
        source.model(f"small:{number}", [("model", weights(500, number))])
    return source


def ssh_to(far: FarSide, home: Path, folder: Path) -> Path:
    """Make an ssh that logs in over there: the line goes to the login's shell, and all else is as on that machine."""
    path = folder / "ssh-to-mac"
    # What the scripts would find in /proc is not there.
    path.write_text(
        "#!/bin/sh\n"
        'case "$*" in *-G*) exit 1;; esac\n'
        "for last; do :; done\n"
        "LC_ALL=C /usr/bin/sed -u 's:/proc/:/no-proc/:g' | "
        f'exec /usr/bin/env -i HOME={shlex.quote(str(home))} PATH={far.path} {login_shell()} -c "$last"\n'
    )
    path.chmod(0o755)
    return path


def test_the_imitations_know_no_options_of_gnu(mac: FarSide, tmp_path: Path) -> None:
    """Else all below would pass for nothing."""
    (tmp_path / "x").touch()
    for words in (
        "ls --version", "mv -T a b", "readlink -e x", "tail -z x", "df --output", "cat -A x", "dd oflag=direct",
        "sha256sum x", "rm --one-file-system x", "date --rfc-3339=s", "env --help", "shasum --help=1", "setpriv true",
    ):  # fmt: skip
        done = subprocess.run(
            ["/bin/sh", "-c", words], env={"PATH": mac.path}, cwd=tmp_path, capture_output=True, check=False
        )
        assert done.returncode, words
    listed = subprocess.run(
        ["/bin/sh", "-c", "ls -ln; ls -di .; ls x -l"],
        env={"PATH": mac.path},
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert "-rw-r--r--@ " in listed.stdout and "ls: cannot access '-l'" in listed.stderr


@pytest.mark.parametrize("openssl", ["libressl", "0.9.8", ""], ids=["LibreSSL", "OpenSSL 0.9.8", "shasum alone"])
def test_everything_works_with_a_mac(openssl: str, models: StoreBuilder, open_folder: Path, tmp_path: Path) -> None:
    mac = mac_side(open_folder / "mac", openssl=openssl)
    home = open_folder / "home"
    (home / ".ollama/models/manifests").mkdir(parents=True)
    far = home / ".ollama/models"
    ssh: list[str | Path] = ["--ssh", ssh_to(mac, home, tmp_path)]
    done = ferry("send", "--models", models.root, *ssh, "qwen3:8b", "small:*", "me@mac")
    assert done.returncode == 0, done.stderr
    assert faults_of(far) == [] and len(tree(far / "manifests")) == 6
    again = ferry("send", "--models", models.root, *ssh, "qwen3:8b", "qwen3:14b", "me@mac")
    assert again.returncode == 0, again.stderr
    assert "600.0 kB" not in again.stdout
    assert faults_of(far) == [] and len(tree(far / "manifests")) == 7
    listed = ferry("list", *ssh, "me@mac:")
    assert listed.returncode == 0 and "qwen3:14b" in listed.stdout, listed.stderr
    assert ferry("verify", *ssh, "me@mac:").returncode == 0
    fetched = ferry("fetch", *ssh, "me@mac:", "qwen3:*", "--models", tmp_path / "here")
    assert fetched.returncode == 0, fetched.stderr
    assert faults_of(tmp_path / "here") == [] and len(tree(tmp_path / "here/manifests")) == 2
    # And what broke over there is seen.
    blob = max((far / "blobs").iterdir(), key=lambda path: path.stat().st_size)
    blob.write_bytes(b"x" + blob.read_bytes()[1:])
    assert_one_clear_error(ferry("verify", *ssh, "me@mac:"), 4)


def test_a_cut_send_is_resumed(mac: FarSide, models: StoreBuilder, open_folder: Path, tmp_path: Path) -> None:
    home = open_folder / "home"
    far = home / ".ollama/models"
    (far / "manifests").mkdir(parents=True)
    content = max(models.root.joinpath("blobs").iterdir(), key=lambda path: path.stat().st_size)
    staged = far / ".ollama-ferry-ssh"
    staged.mkdir()
    (staged / f"{content.name}.partial").write_bytes(content.read_bytes()[:400_000])
    done = ferry("send", "--models", models.root, "--ssh", ssh_to(mac, home, tmp_path), "qwen3:8b", "me@mac")
    assert done.returncode == 0, done.stderr
    assert faults_of(far) == []


@needs.root("acts as several users")
def test_root_acts_as_the_owner_by_perl(mac: FarSide, models: StoreBuilder, open_folder: Path, tmp_path: Path) -> None:
    """There is neither setpriv nor chroot --userspec, and sudo asks."""
    home = open_folder / "home"
    far = home / ".ollama/models"
    (far / "manifests").mkdir(parents=True)
    (far / "blobs").mkdir()
    for path in (home, home / ".ollama", far, far / "manifests", far / "blobs"):
        os.chown(path, NOBODY, NOBODY)
    done = ferry("send", "--models", models.root, "--ssh", ssh_to(mac, home, tmp_path), "qwen3:8b", "root@mac")
    assert done.returncode == 0, done.stderr
    assert {path.stat().st_uid for path in far.rglob("*")} == {NOBODY}


def test_the_line_is_taken_by_a_mac_login_shell(mac: FarSide) -> None:
    done = subprocess.run(
        [login_shell(), "-c", BOOTSTRAP], input=b"echo it runs\n#end\n", env={"PATH": mac.path}, capture_output=True
    )
    assert done.stdout == b"it runs\n", done.stderr
