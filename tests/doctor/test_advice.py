"""No advice hurts: the lines are run as they are on odd stores, and what is outside and what is whole stays."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from support import needs
from support.checking import HOURS, checked, codes, one, unit
from support.command_line import ferry
from support.odd_stores import ODDITIES, OddStore, everything, whole_models
from support.stores import StoreBuilder

root_only = needs.root("needs root, to give files away")

# What a server does at its start with what no manifest names; and what its copy does.
_OLLAMA = """
import hashlib, json, os, pathlib, shutil, sys
sys.path[:0] = {path!r}
from ollama_ferry.model.names import ModelName
root = pathlib.Path({root!r})
if "restart" in sys.argv:
    named = set()
    for path in (root / "manifests").glob("*/*/*/*"):
        try:
            ModelName.from_path(path.parts[-4:])
            document = json.loads(path.read_bytes())
            named |= {{x["digest"] for x in [document["config"], *document["layers"]]}}
        except Exception:
            sys.exit(0)
    for path in (root / "blobs").iterdir():
        if path.is_file() and path.name.replace("sha256-", "sha256:") not in named:
            path.unlink()
elif "pull" in sys.argv:
    # A newer version of the model, which makes the blobs of the one before superfluous.
    path = root.joinpath("manifests", *ModelName.parse(sys.argv[-1]).parts)
    try:
        old = json.loads(path.read_bytes())
        before = {{x["digest"] for x in [old["config"], *old["layers"]]}}
    except Exception:
        before = set()
    content = sys.argv[-1].encode()
    digest = "sha256:" + hashlib.sha256(content).hexdigest()
    (root / "blobs").mkdir(exist_ok=True)
    (root / "blobs" / digest.replace(":", "-")).write_bytes(content)
    entry = {{"digest": digest, "size": len(content)}}
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({{"config": entry, "layers": []}}))
    for other in (root / "manifests").glob("*/*/*/*"):
        try:
            document = json.loads(other.read_bytes())
            before -= {{x["digest"] for x in [document["config"], *document["layers"]]}}
        except Exception:
            before = set()
    for digest in before:
        (root / "blobs" / digest.replace(":", "-")).unlink(missing_ok=True)
elif "cp" in sys.argv:
    source, target = (root.joinpath("manifests", *ModelName.parse(name).parts) for name in sys.argv[-2:])
    if source.is_file():
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, target)
"""


def follow_all(lines: list[str], folder: Path, root: Path) -> None:
    """Run lines in a shell in which sudo gives no more than there is, and Ollama is what the store needs of it."""
    needs.require(needs.shell)
    programs = folder / "bin"
    programs.mkdir()
    ollama = _OLLAMA.format(path=[str(Path(sys.modules["ollama_ferry"].__file__ or "").parents[1])], root=str(root))
    (programs / "server.py").write_text(ollama)
    server = f'exec "{sys.executable}" "{programs}/server.py" "$@"'
    scripts = {
        "sudo": '[ "$1" != -u ] || shift 2; exec "$@"',
        "ollama": server,
        "systemctl": server,
        "ollama-ferry": "exit 0",
    }
    for name in ("useradd", "setfacl"):
        scripts[name] = "exit 0"
    for name, text in scripts.items():
        (programs / name).write_text(f"#!/bin/sh\n{text}\n")
        (programs / name).chmod(0o755)
    subprocess.run(
        ["bash", "-c", "\n".join(lines)],
        env={**os.environ, "PATH": f"{programs}:{os.environ['PATH']}"},
        cwd=folder,
        check=False,
        capture_output=True,
    )


@settings(max_examples=60)
@given(
    st.sets(st.sampled_from(list(ODDITIES)), min_size=1, max_size=6),
    st.sampled_from(["alone", "served", "service", "another's"]),
)
@example(set(), "service")
@example({"blobs to all", "orphan"}, "service")
@example({"refused name", "planted target"}, "alone")
@example({"dashes", "orphan"}, "service")
@example({"blob behind orphan"}, "service")
def test_advice_hurts_nothing(oddities: set[str], use: str) -> None:
    with TemporaryDirectory() as name:
        folder = Path(name)
        odd = OddStore(folder)
        for oddity, change in ODDITIES.items():
            if oddity in oddities:
                try:
                    change(odd)
                except OSError:
                    # What an earlier one did leaves nothing to do for this one.
                    continue
        if use == "service":
            unit(folder, f"User={'nobody' if needs.IS_ROOT else 'root'}", f"Environment=OLLAMA_MODELS={odd.root}")
        if use == "another's" and needs.IS_ROOT:
            os.chown(odd.root, 4242, 4242)
            if os.path.isdir(odd.blobs):
                for path in odd.blobs.iterdir():
                    os.chown(path, 4243, 4243, follow_symlinks=False)
        outside, mine, theirs = everything(odd.outside), whole_models(odd.root), whole_models(odd.other.root)
        assert len(theirs) == 2
        report = checked(odd.store, folder, later=HOURS, answer=str(odd.root) if use == "served" else None)
        lines = [line for finding in report.findings for line in finding.mend]
        follow_all(lines, folder, odd.root)
        assert everything(odd.outside) == outside, lines
        assert whole_models(odd.other.root) == theirs, lines
        assert len(whole_models(odd.root)) >= len(mine), lines


def test_odd_stores_are_odd_and_advice_is_given(tmp_path: Path) -> None:
    """Each oddity is told by itself, or needs no advice; without this the test above could pass by saying nothing."""
    silent: set[str] = set()
    helped: set[str] = set()
    for number, (name, change) in enumerate(ODDITIES.items()):
        folder = tmp_path / str(number)
        folder.mkdir()
        odd = OddStore(folder)
        change(odd)
        report = checked(odd.store, folder, later=HOURS)
        if not report.findings:
            silent.add(name)
        if any(line.startswith(("rm", "mv")) for finding in report.findings for line in finding.mend):
            helped.add(name)
    assert silent == {"hard links", "list of manifests"}
    assert len(helped) >= 15, helped


# -- the cases that were seen


def changing(lines: list[str] | tuple[str, ...]) -> list[str]:
    return [line for line in lines if not line.startswith(("#", "ollama"))]


@root_only
@pytest.mark.parametrize("whose", ["store", "folder above"])
def test_lines_for_root_are_run_as_the_owner_of_the_way(tmp_path: Path, whose: str) -> None:
    odd = OddStore(tmp_path)
    (odd.blobs / "zz.sh").write_text("theirs")
    owned = odd.root if whose == "store" else odd.root.parent
    os.chown(owned, 65534, 65534)
    report = checked(odd.store, tmp_path, later=HOURS)
    (line,) = changing(next(finding.mend for finding in report.findings if finding.code == "stray-file"))
    assert line.startswith("sudo -u nobody mv -nT ")
    os.chown(owned, 4242, 4242)
    report = checked(odd.store, tmp_path, later=HOURS)
    (line,) = changing(next(finding.mend for finding in report.findings if finding.code == "stray-file"))
    assert line.startswith("sudo -u '#4242' mv -nT ")


@pytest.mark.skipif(sys.platform != "linux", reason="mv knows no -T here")
def test_link_to_a_folder_that_is_planted_later_leads_nothing_there(tmp_path: Path) -> None:
    """As another member of a group store may do it, who knows under which name a file is set aside."""
    odd = OddStore(tmp_path)
    (odd.blobs / "zz.sh").write_text("theirs")
    report = checked(odd.store, tmp_path, later=HOURS)
    lines = [line for finding in report.findings for line in finding.mend]
    planted = tmp_path / "profile.d"
    planted.mkdir()
    (odd.root / "zz.sh").symlink_to(planted)
    follow_all(lines, tmp_path, odd.root)
    assert any("zz.sh" in line for line in lines)
    assert not list(planted.iterdir()) and (odd.blobs / "zz.sh").exists()


@root_only
@pytest.mark.parametrize("target", ["/", "/etc", "/home", "/root", "/usr/share"])
def test_blobs_that_are_the_system(tmp_path: Path, target: str) -> None:
    store = StoreBuilder(tmp_path / "store")
    store.model("a")
    shutil.rmtree(store.root / "blobs")
    (store.root / "blobs").symlink_to(target)
    for path in (store.root, store.root / "manifests"):
        os.chown(path, 4242, 4242)
    unit(tmp_path, "User=nobody", f"Environment=OLLAMA_MODELS={store.root}")
    report = checked(store, tmp_path, later=HOURS)
    assert "wrong-owner" in codes(report)
    for finding in report.findings:
        if finding.store == str(store.root) and finding.code != "impassable":
            assert changing(finding.mend) == [], finding


@root_only
def test_home_that_is_a_store_is_not_given_away(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """OLLAMA_MODELS names a home: its files are not the store's."""
    import pwd

    home = Path(pwd.getpwnam("nobody").pw_dir)
    store = StoreBuilder(tmp_path / "store")
    store.model("a")
    (store.root / "letter").write_text("private")
    unit(tmp_path, "User=nobody", f"Environment=OLLAMA_MODELS={store.root}")
    (line, own) = one(checked(store, tmp_path), "wrong-owner").mend
    assert line.endswith(f" {store.root}/manifests {store.root}/blobs") and " -RhP " in line
    assert own.split()[2] == "-h" and not str(home).startswith(str(store.root))


@root_only
def test_hard_linked_files_are_not_given_away(tmp_path: Path) -> None:
    odd = OddStore(tmp_path)
    ODDITIES["hard links"](odd)
    unit(tmp_path, "User=nobody", f"Environment=OLLAMA_MODELS={odd.root}")
    finding = one(checked(odd.store, tmp_path), "wrong-owner")
    assert finding.mend == () and "hard links" in finding.text


@root_only
def test_service_user_does_not_get_the_store_that_his_link_leads_to(tmp_path: Path) -> None:
    odd = OddStore(tmp_path)
    for folder in (odd.other.root, *odd.other.root.rglob("*")):
        os.chown(folder, 4243, 4243)
    link = tmp_path / "models"
    link.symlink_to(odd.other.root)
    os.chown(link, 65534, -1, follow_symlinks=False)
    odd.other.blob(b"orphan")
    (odd.other.root / "blobs/stray").write_bytes(b"x")
    unit(tmp_path, "User=nobody", f"Environment=OLLAMA_MODELS={link}")
    report = checked(StoreBuilder(link), tmp_path, later=HOURS)
    assert {"wrong-owner", "orphans", "stray-file"} < set(codes(report))
    assert [changing(f.mend) for f in report.findings if f.code in ("wrong-owner", "orphans", "stray-file")] == [[]] * 3
    # Root's own link is as good as the folder.
    os.chown(link, 0, 0, follow_symlinks=False)
    assert one(checked(StoreBuilder(link), tmp_path, later=HOURS), "wrong-owner").mend


@root_only
def test_folder_behind_a_link_is_not_opened(tmp_path: Path) -> None:
    closed = tmp_path / "ssl/private"
    store = StoreBuilder(closed / "models")
    store.model("a")
    closed.chmod(0o700)
    for folder in (tmp_path, *tmp_path.parents):
        if folder != Path("/"):
            folder.chmod(folder.stat().st_mode | 0o055)
    (tmp_path / "home").mkdir(exist_ok=True)
    (tmp_path / "home/models").symlink_to(store.root)
    unit(tmp_path, "User=nobody", f"Environment=OLLAMA_MODELS={tmp_path}/home/models")
    finding = one(checked(StoreBuilder(tmp_path / "home/models"), tmp_path), "impassable")
    assert finding.concerns == (str(closed),) and finding.mend == ()


@root_only
def test_folder_is_not_made_where_a_link_leads(tmp_path: Path) -> None:
    odd = OddStore(tmp_path)
    (tmp_path / "link").symlink_to(odd.outside / "etc")
    unit(tmp_path, "User=nobody", f"Environment=OLLAMA_MODELS={tmp_path}/link/models")
    assert one(checked(odd.store, tmp_path), "no-service-store").mend == ()


@root_only
def test_what_is_mounted_in_a_store_is_not_changed(tmp_path: Path) -> None:
    """A home is mounted below blobs/, another in the staging folder."""
    odd = OddStore(tmp_path)
    for folder in (odd.blobs / "home", odd.root / ".ollama-ferry/home"):
        folder.mkdir(parents=True)
    for path in (odd.outside, *odd.outside.rglob("*")):
        os.chown(path, 4243, 4243)
    unit(tmp_path, "User=nobody", f"Environment=OLLAMA_MODELS={odd.root}")
    code = (
        "import sys, json; from pathlib import Path; sys.path[:0] = json.loads(sys.argv[1])\n"
        "from support.checking import checked, HOURS; from support.stores import StoreBuilder\n"
        "report = checked(StoreBuilder(Path(sys.argv[2])), Path(sys.argv[3]), later=HOURS)\n"
        "print(json.dumps([[f.code, f.mend] for f in report.findings]))"
    )
    places = (odd.blobs / "home", odd.root / ".ollama-ferry/home")
    mounting = " && ".join(f"mount --bind {odd.outside}/home {place}" for place in places)
    done = subprocess.run(
        ["unshare", "-m", "sh", "-c", f'{mounting} && exec "$@"', "sh", sys.executable, "-c", code,
         json.dumps(sys.path), odd.root, tmp_path],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    if "mount" in done.stderr or "unshare" in done.stderr:
        pytest.skip("may not mount")
    told = dict(json.loads(done.stdout))
    assert told["wrong-owner"] == [] and told["leftovers"] == [], done.stderr


def test_orphans_behind_a_link_may_be_anothers(tmp_path: Path) -> None:
    odd = OddStore(tmp_path)
    ODDITIES["blobs to another store's"](odd)
    finding = one(checked(odd.store, tmp_path, later=HOURS), "orphans")
    assert finding.mend == () and "another store" in finding.text


def test_blob_that_another_model_needs_as_it_is_stays(tmp_path: Path) -> None:
    odd = OddStore(tmp_path)
    ODDITIES["two sizes"](odd)
    finding = one(checked(odd.store, tmp_path), "wrong-size")
    assert "liar" in finding.text and "may be wrong" in finding.text
    assert changing(finding.mend) == []


def test_config_that_is_as_its_digest_says_stays(tmp_path: Path) -> None:
    odd = OddStore(tmp_path)
    ODDITIES["config is a layer"](odd)
    assert changing(one(checked(odd.store, tmp_path), "unreadable-config").mend) == []


def test_copy_does_not_replace_a_model(tmp_path: Path) -> None:
    odd = OddStore(tmp_path)
    ODDITIES["port and plain"](odd)
    assert one(checked(odd.store, tmp_path), "windows-name").mend == ()
    (odd.library / "two/1").unlink()
    assert one(checked(odd.store, tmp_path), "windows-name").mend[-1].startswith("ollama cp ")


def test_folder_of_the_unit_that_is_there_is_not_given_away(tmp_path: Path) -> None:
    odd = OddStore(tmp_path)
    unit(tmp_path, "User=root", f"Environment=OLLAMA_MODELS={odd.outside}/home")
    assert one(checked(odd.store, tmp_path), "no-service-store").mend == ()


@root_only
def test_homes_above_a_store_are_not_opened(tmp_path: Path) -> None:
    import pwd

    root = Path(pwd.getpwuid(0).pw_dir)
    with TemporaryDirectory(dir=root) as name:
        store = StoreBuilder(Path(name) / "models")
        store.model("a")
        unit(tmp_path, "User=nobody")
        mode = root.stat().st_mode
        try:
            root.chmod(0o700)
            found = [f for f in checked(store, tmp_path).findings if f.code == "impassable"]
        finally:
            root.chmod(mode)
    assert [finding.mend for finding in found if finding.concerns == (str(root),)] == [()]
    assert not any("chmod" in line for finding in found for line in finding.mend)


# -- what imports and sends leave


@pytest.mark.skipif(not Path("/proc/locks").exists(), reason="needs Linux's tables")
@needs.not_windows("list of locks")
def test_leftovers_of_an_import_at_work_stay(tmp_path: Path) -> None:
    import fcntl

    odd = OddStore(tmp_path)
    folder = odd.root / ".ollama-ferry"
    folder.mkdir()
    with (folder / "lock").open("wb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert one(checked(odd.store, tmp_path, later=HOURS), "leftovers").mend == ()
    assert one(checked(odd.store, tmp_path, later=HOURS), "leftovers").mend[-1] == f"rm -rf {folder}"


@pytest.mark.parametrize("name", [".ollama-ferry-ssh", ".ollama-ferry-ssh-1000"])
@pytest.mark.parametrize("linked", [False, True])
def test_leftovers_of_a_send(tmp_path: Path, linked: bool, name: str) -> None:
    odd = OddStore(tmp_path)
    if linked:
        needs.require(needs.links)
        odd.blobs.rename(tmp_path / "disk")
        odd.blobs.symlink_to(tmp_path / "disk")
    staging = (odd.blobs if linked else odd.root) / name
    (staging / "batch-1").mkdir(parents=True)
    (staging / f"sha256-{'b' * 64}").write_bytes(b"x" * 40_000)
    (staging / f"batch-1/sha256-{'c' * 64}").write_bytes(b"x" * 10_000)
    finding = one(checked(odd.store, tmp_path), "leftovers")
    assert str(staging) in finding.concerns and finding.mend == ()
    assert "50.0 kB" in finding.text and "less than a minute ago" in finding.text
    assert "same send" in finding.text and "resumes" in finding.text
    finding = one(checked(odd.store, tmp_path, later=HOURS), "leftovers")
    follow_all(list(finding.mend), tmp_path, odd.root)
    assert not staging.exists() and len(whole_models(odd.root)) == 3
    done = ferry("doctor", "--models", odd.root)
    assert done.returncode == 0, done.stdout
