"""``doctor``: each thing that can be wrong is told, with the lines that mend it, and nothing is changed."""

from __future__ import annotations

import json
import os
import re
import shlex
import struct
import subprocess
import sys
import time
from pathlib import Path

import pytest

from ollama_ferry.doctor.findings import LISTED_AT_MOST, Finding, Severity, quoted, shown
from ollama_ferry.doctor.machine import FREE_AT_LEAST, Diagnosis, diagnose
from ollama_ferry.errors import StoreNotFound
from ollama_ferry.files.permissions import PASS, READ, WRITE, User, impassable, service_of
from ollama_ferry.ollama.locate import System
from ollama_ferry.places.store.staging import staging_folder
from ollama_ferry.places.store.store import Store
from support.command_line import ferry, ferry_as_nobody
from support.stores import StoreBuilder, tree

CONTROL = re.compile(r"[\x00-\x09\x0b-\x1f\x7f]")
PLENTY = 10**15
LIBRARY = "manifests/registry.ollama.ai/library"

root_only = pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to give files away")


def system(tmp_path: Path, answer: str | None = None, **environ: str) -> System:
    return System(
        environ=environ,
        home=tmp_path / "home",
        platform="linux",
        ask=lambda address, models: answer,
        unit_folders=(tmp_path / "units",),
        service_home=tmp_path / "service",
    )


def examined(store: StoreBuilder, tmp_path: Path, *, free: int = PLENTY, answer: str | None = None) -> Diagnosis:
    return diagnose(system(tmp_path, answer), store.root, free=lambda folder: free)


def codes(diagnosis: Diagnosis) -> list[str]:
    return [finding.code for finding in diagnosis.findings]


def only(diagnosis: Diagnosis, code: str) -> Finding:
    """Return the one finding of a kind, and require that there is no other kind."""
    assert codes(diagnosis) == [code]
    return diagnosis.findings[0]


def one(diagnosis: Diagnosis, code: str) -> Finding:
    found = [finding for finding in diagnosis.findings if finding.code == code]
    assert len(found) == 1, codes(diagnosis)
    return found[0]


def run(line: str) -> None:
    """Run a line as an administrator would, without sudo: the tests own what they made, or are root."""
    subprocess.run(["bash", "-c", line.replace("sudo ", "")], check=True)


def unit(tmp_path: Path, *lines: str) -> None:
    folder = tmp_path / "units"
    folder.mkdir(exist_ok=True)
    (folder / "ollama.service").write_text("[Service]\n" + "\n".join(lines) + "\n")


def long_ago(*paths: Path) -> None:
    moment = time.time() - 3 * 86_400
    for path in paths:
        os.utime(path, (moment, moment))


@pytest.fixture
def models(source: StoreBuilder) -> StoreBuilder:
    """A store with nothing wrong."""
    source.model("qwen3:8b", [("model", b"w" * 5000), ("template", b"t")])
    return source


def test_good_store_has_no_finding(models: StoreBuilder, tmp_path: Path) -> None:
    assert codes(examined(models, tmp_path)) == []
    done = ferry("doctor", "--models", models.root)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "0 problems" in done.stdout and f"ollama-ferry verify --models {models.root}" in done.stdout


def test_new_store_without_blobs_is_no_problem(tmp_path: Path) -> None:
    store = StoreBuilder(tmp_path / "new")
    (store.root / "manifests").mkdir(parents=True)
    assert codes(examined(store, tmp_path)) == []


# -- models


def test_missing_config(models: StoreBuilder, tmp_path: Path) -> None:
    manifest = models.model("lost", config={"lost": 1})
    assert manifest.config is not None
    models.blob_path(manifest.config.digest).unlink()
    finding = only(examined(models, tmp_path), "missing-config")
    assert finding.severity is Severity.PROBLEM
    assert "lost:latest" in finding.text and "disappears from `ollama list`" in finding.text
    assert "ollama pull lost:latest" in finding.mend


@pytest.mark.parametrize("content", [b"not json at all!", b"[1, 2, 3, 4, 5] "])
def test_config_that_is_no_config(models: StoreBuilder, tmp_path: Path, content: bytes) -> None:
    manifest = models.model("odd", config={"odd": "12345"})
    assert manifest.config is not None and len(content) == manifest.config.size
    path = models.blob_path(manifest.config.digest)
    path.write_bytes(content)
    finding = only(examined(models, tmp_path), "unreadable-config")
    assert finding.severity is Severity.PROBLEM
    run(finding.mend[0])
    assert not path.exists()


@pytest.mark.parametrize("how", ["gone", "folder", "dangling"])
def test_missing_layer(models: StoreBuilder, tmp_path: Path, how: str) -> None:
    path = models.blob_path(models.model("lost", [("model", b"lost")]).layers[0].digest)
    path.unlink()
    if how == "folder":
        path.mkdir()
    elif how == "dangling":
        path.symlink_to(tmp_path / "nowhere")
    finding = only(examined(models, tmp_path), "missing-blob")
    assert finding.severity is Severity.PROBLEM
    assert "model blob" in finding.text and path.name[7:19] in finding.text


@pytest.mark.parametrize("content", [b"", b"w" * 4999, b"w" * 5001])
def test_wrong_size(models: StoreBuilder, tmp_path: Path, content: bytes) -> None:
    path = models.blob_path(models.blob(b"w" * 5000))
    path.write_bytes(content)
    finding = only(examined(models, tmp_path), "wrong-size")
    assert finding.severity is Severity.PROBLEM
    assert finding.mend[:2] == (f"rm {path}", "ollama pull qwen3:8b")


def test_same_size_and_other_bytes_is_left_to_verify(models: StoreBuilder, tmp_path: Path) -> None:
    models.blob_path(models.blob(b"w" * 5000)).write_bytes(b"x" * 5000)
    assert codes(examined(models, tmp_path)) == []
    assert "no blob was hashed" in ferry("doctor", "--models", models.root).stdout


def test_repair_line_mends_what_it_says(models: StoreBuilder, tmp_path: Path) -> None:
    archive = tmp_path / "good.tar"
    assert ferry("export", "--all", archive, "--models", models.root).returncode == 0
    models.blob_path(models.blob(b"w" * 5000)).write_bytes(b"short")
    (line,) = (line for line in examined(models, tmp_path).findings[0].mend if "--repair" in line)
    done = ferry(*[str(archive) if word == "ARCHIVE" else word for word in shlex.split(line)[1:]])
    assert done.returncode == 0, done.stderr
    assert codes(examined(models, tmp_path)) == []


@pytest.mark.parametrize("raw", [b"", b"not json", b'{"layers": [{}]}', b"[" * 100_000], ids=len)
def test_damaged_manifest(models: StoreBuilder, tmp_path: Path, raw: bytes) -> None:
    path = models.manifest_path("bad")
    path.parent.mkdir(parents=True)
    path.write_bytes(raw)
    finding = only(examined(models, tmp_path), "damaged-manifest")
    assert finding.severity is Severity.PROBLEM
    run(finding.mend[-1])
    assert codes(examined(models, tmp_path)) == []


def test_no_blobs_folder(models: StoreBuilder, tmp_path: Path) -> None:
    for path in (models.root / "blobs").iterdir():
        path.unlink()
    (models.root / "blobs").rmdir()
    assert only(examined(models, tmp_path), "no-blobs").severity is Severity.PROBLEM


# -- what else lies in the store


def test_unfinished_download(models: StoreBuilder, tmp_path: Path) -> None:
    stem = models.root / "blobs" / f"sha256-{'a' * 64}-partial"
    parts = [stem, *(stem.with_name(f"{stem.name}-{number}") for number in range(3))]
    with stem.open("wb") as file:
        file.write(b"x" * 100_000)
        # Ollama makes the file as large as it will be.
        file.truncate(10**12)
    for part in parts[1:]:
        part.write_bytes(b"{}")
    assert only(examined(models, tmp_path), "unfinished").severity is Severity.NOTE
    long_ago(*parts)
    finding = only(examined(models, tmp_path), "unfinished")
    assert finding.severity is Severity.WARNING
    assert "3 days ago" in finding.text and re.search(r"takes 1\d\d kB", finding.text), finding.text
    run(finding.mend[-1])
    assert codes(examined(models, tmp_path)) == []


def test_orphans(models: StoreBuilder, tmp_path: Path) -> None:
    for number in range(3):
        models.blob(b"orphan %d" % number)
    before = tree(models.root)
    finding = only(examined(models, tmp_path), "orphans")
    assert finding.severity is Severity.WARNING
    assert finding.text.startswith("3 blobs (24 B)") and "OLLAMA_NOPRUNE" in finding.text
    run(finding.mend[-1])
    assert len(before) - len(tree(models.root)) == 3
    assert codes(examined(models, tmp_path)) == []


def test_orphans_may_belong_to_what_is_damaged(models: StoreBuilder, tmp_path: Path) -> None:
    models.model("bad", [("model", b"the bad one's")])
    models.manifest_path("bad").write_bytes(b"{")
    finding = one(examined(models, tmp_path), "orphans")
    assert "delete nothing" in finding.text and finding.mend == ()


def test_orphans_of_the_services_store_go_by_a_restart(tmp_path: Path) -> None:
    store = StoreBuilder(tmp_path / "data")
    store.model("a")
    store.blob(b"orphan")
    unit(tmp_path, "User=root", f"Environment=OLLAMA_MODELS={store.root}")
    assert one(examined(store, tmp_path), "orphans").mend[-1] == "sudo systemctl restart ollama"


def test_stray_file_in_blobs(models: StoreBuilder, tmp_path: Path) -> None:
    (models.root / "blobs" / "my model.gguf").write_bytes(b"precious")
    (models.root / "blobs" / f"sha256-{'A' * 64}").write_bytes(b"capital")
    finding = only(examined(models, tmp_path), "stray-file")
    assert finding.severity is Severity.WARNING and finding.text.startswith("2 files")
    run(finding.mend[-1])
    assert (models.root / "my model.gguf").read_bytes() == b"precious"
    assert codes(examined(models, tmp_path)) == []


@pytest.mark.parametrize("linked", [False, True])
def test_leftovers_of_an_import(models: StoreBuilder, tmp_path: Path, linked: bool) -> None:
    if linked:
        (models.root / "blobs").rename(tmp_path / "elsewhere")
        (models.root / "blobs").symlink_to(tmp_path / "elsewhere")
    staging = staging_folder(Store(models.root))
    staging.mkdir()
    (staging / f"sha256-{'b' * 64}.partial").write_bytes(b"x" * 50_000)
    (models.root / "manifests/.ollama-ferry-manifest").write_bytes(b"{")
    finding = one(examined(models, tmp_path), "leftovers")
    assert finding.severity is Severity.WARNING
    assert "50.0 kB" in finding.text and "goes on from there" in finding.text
    run(finding.mend[-1])
    assert not staging.exists()
    assert codes(examined(models, tmp_path)) == (["link"] if linked else [])


@pytest.mark.parametrize("name", [".DS_Store", "._8b", "8b~", "8b (copy)", "\x1b[31mred", "bad\udcff", "pipe"])
def test_file_that_stops_pruning(models: StoreBuilder, tmp_path: Path, name: str) -> None:
    path = models.root / LIBRARY / "qwen3" / name
    if name == "pipe":
        os.mkfifo(path)
    else:
        path.write_bytes(b"x")
    finding = only(examined(models, tmp_path), "not-a-manifest")
    assert finding.severity is Severity.WARNING
    for text in (finding.text, *finding.concerns, *finding.mend):
        assert text.isprintable()
    run(finding.mend[0])
    assert not os.path.lexists(path)
    assert codes(examined(models, tmp_path)) == []


def test_deletion_at_start_is_not_claimed_where_something_stops_it(models: StoreBuilder, tmp_path: Path) -> None:
    models.blob(b"orphan")
    assert "stops its tidying" not in one(examined(models, tmp_path), "orphans").text
    (models.root / LIBRARY / "qwen3/.DS_Store").write_bytes(b"x")
    assert "stops its tidying" in one(examined(models, tmp_path), "orphans").text


def test_old_names(models: StoreBuilder, tmp_path: Path) -> None:
    for path in list((models.root / "blobs").iterdir()):
        path.rename(path.with_name(path.name.replace("-", ":")))
    finding = only(examined(models, tmp_path), "old-name")
    assert finding.severity is Severity.NOTE and finding.text.startswith("3 blobs")


@pytest.mark.parametrize("part", ["", "blobs", "manifests"])
def test_link_is_told(models: StoreBuilder, tmp_path: Path, part: str) -> None:
    path = models.root / part if part else models.root
    path.rename(tmp_path / "big-disk")
    path.symlink_to(tmp_path / "big-disk")
    finding = only(examined(models, tmp_path), "link")
    assert finding.severity is Severity.NOTE
    assert finding.concerns == (str(path), str(tmp_path / "big-disk"))


@pytest.mark.parametrize("part", ["", "blobs", "manifests"])
def test_link_that_leads_nowhere(models: StoreBuilder, tmp_path: Path, part: str) -> None:
    path = models.root / part if part else models.root
    path.rename(tmp_path / "moved")
    path.symlink_to(tmp_path / "not-mounted/x")
    finding = one(examined(models, tmp_path), "dangling-link")
    assert finding.severity is Severity.PROBLEM and "not mounted" in finding.text
    assert ferry("doctor", "--models", models.root).returncode == 4
    run(finding.mend[-1])
    assert (tmp_path / "not-mounted/x").is_dir()


def test_manifest_that_is_a_link_to_nowhere(models: StoreBuilder, tmp_path: Path) -> None:
    path = models.root / LIBRARY / "qwen3/gone"
    path.symlink_to(tmp_path / "nowhere")
    finding = only(examined(models, tmp_path), "dangling-link")
    assert finding.severity is Severity.PROBLEM and "`ollama list` fails" in finding.text
    run(finding.mend[0])
    assert codes(examined(models, tmp_path)) == []


@pytest.mark.parametrize("name", ["localhost:5000/library/x:y", "nul:1", "x:v1.", "com1.x:1", "x:Aux"])
def test_name_that_windows_refuses(source: StoreBuilder, tmp_path: Path, name: str) -> None:
    source.model(name)
    finding = only(examined(source, tmp_path), "windows-name")
    assert finding.severity is Severity.NOTE and finding.concerns == (name,)


@pytest.mark.parametrize("name", ["console:1", "x:v1.0", "com10:1", "hf.co/org/repo:Q4"])
def test_name_that_windows_takes(source: StoreBuilder, tmp_path: Path, name: str) -> None:
    source.model(name)
    assert codes(examined(source, tmp_path)) == []


def test_names_that_differ_in_case(source: StoreBuilder, tmp_path: Path) -> None:
    source.model("x:q6_K")
    source.model("x:q6_k")
    finding = only(examined(source, tmp_path), "case-clash")
    assert finding.severity is Severity.NOTE and set(finding.concerns) == {"x:q6_K", "x:q6_k"}


def test_little_space(models: StoreBuilder, tmp_path: Path) -> None:
    assert codes(examined(models, tmp_path, free=FREE_AT_LEAST)) == []
    finding = only(examined(models, tmp_path, free=FREE_AT_LEAST - 1), "little-space")
    assert finding.severity is Severity.WARNING and "5.0 GB" in finding.text
    size = 9 * 10**9
    digest = "ab" * 32
    with (models.root / "blobs" / f"sha256-{digest}").open("wb") as file:
        file.truncate(size)
    models.manifest("huge", json.dumps({"layers": [{"digest": f"sha256:{digest}", "size": size}]}).encode())
    assert "9.0 GB" in only(examined(models, tmp_path, free=size - 1), "little-space").text
    assert codes(examined(models, tmp_path, free=size)) == []


# -- owners and permissions


@root_only
def test_folder_that_the_stores_owner_may_not_change(models: StoreBuilder, tmp_path: Path) -> None:
    give_away(models.root, 4242)
    assert codes(examined(models, tmp_path)) == []
    folder = models.root / LIBRARY / "qwen3"
    os.chown(folder, 0, 0)
    finding = only(examined(models, tmp_path), "wrong-owner")
    assert finding.severity is Severity.PROBLEM and str(folder) in finding.text and "`ollama rm`" in finding.text
    assert finding.mend == (f"sudo chown -R 4242:4242 {models.root}",)
    run(finding.mend[0])
    assert codes(examined(models, tmp_path)) == []


@root_only
def test_blobs_that_others_own_and_all_may_read(models: StoreBuilder, tmp_path: Path) -> None:
    give_away(models.root, 4242)
    blob = models.blob_path(models.blob(b"t"))
    os.chown(blob, 0, 0)
    finding = only(examined(models, tmp_path), "mixed-owners")
    assert finding.severity is Severity.NOTE and finding.concerns == (str(blob),)
    blob.chmod(0o600)
    assert only(examined(models, tmp_path), "wrong-owner").concerns == (str(blob),)


@root_only
def test_store_behind_links_is_given_back_where_it_is(models: StoreBuilder, tmp_path: Path) -> None:
    (models.root / "blobs").rename(tmp_path / "big disk")
    (models.root / "blobs").symlink_to(tmp_path / "big disk")
    give_away(models.root, 4242)
    give_away(tmp_path / "big disk", 4242)
    os.chown(tmp_path / "big disk" / models.blob(b"t").file_name, 0, 0)
    (tmp_path / "big disk" / models.blob(b"t").file_name).chmod(0o600)
    finding = one(examined(models, tmp_path), "wrong-owner")
    assert finding.mend == (f"sudo chown -R 4242:4242 {models.root} '{tmp_path}/big disk'",)


@root_only
def test_services_store_belongs_to_the_service(tmp_path: Path) -> None:
    store = StoreBuilder(tmp_path / "data")
    store.model("a")
    unit(tmp_path, "User=nobody", f"Environment=OLLAMA_MODELS={store.root}")
    finding = one(examined(store, tmp_path), "wrong-owner")
    assert "nobody" in finding.text and finding.mend[0].startswith("sudo chown -R nobody:")
    run(finding.mend[0])
    assert "wrong-owner" not in codes(examined(store, tmp_path))


def give_away(folder: Path, uid: int) -> None:
    os.chown(folder, uid, uid)
    for above, folders, files in os.walk(folder):
        for name in (*folders, *files):
            os.chown(os.path.join(above, name), uid, uid, follow_symlinks=False)


def test_parent_that_the_service_may_not_pass(tmp_path: Path) -> None:
    private = tmp_path / "private dir"
    store = StoreBuilder(private / "models")
    store.model("a")
    for folder in (tmp_path, *tmp_path.parents):
        if folder.stat().st_uid == os.geteuid() and folder != Path("/"):
            folder.chmod(folder.stat().st_mode | 0o001)
    unit(
        tmp_path,
        "User=nobody",
        f"Environment=OLLAMA_MODELS='{store.root}'",
        f'Environment="OLLAMA_MODELS={store.root}"',
    )
    private.chmod(0o755)
    assert "impassable" not in codes(examined(store, tmp_path))
    private.chmod(0o750)
    finding = one(examined(store, tmp_path), "impassable")
    assert finding.severity is Severity.PROBLEM
    assert finding.concerns == (str(private),)
    assert f"sudo setfacl -m u:nobody:x '{private}'" in finding.mend
    # A store that the running server uses, it reaches.
    assert "impassable" not in codes(examined(store, tmp_path, answer=str(store.root)))
    run(finding.mend[-1])
    assert "impassable" not in codes(examined(store, tmp_path))


def test_parent_of_a_store_that_is_not_the_services(tmp_path: Path) -> None:
    private = tmp_path / "private"
    store = StoreBuilder(private / "models")
    store.model("a")
    private.chmod(0o700)
    unit(tmp_path, "User=nobody")
    finding = next(f for f in examined(store, tmp_path).findings if f.concerns == (str(private),))
    assert (finding.code, finding.severity) == ("impassable", Severity.NOTE)


def test_service_user_that_is_not_there(models: StoreBuilder, tmp_path: Path) -> None:
    unit(tmp_path, "User=no-such-user-here")
    finding = only(examined(models, tmp_path), "no-service-user")
    assert finding.severity is Severity.PROBLEM and "useradd" in finding.mend[0]


def test_service_is_read_from_unit_and_drop_ins(tmp_path: Path) -> None:
    unit(tmp_path, "User=root", "#User=daemon")
    service = service_of(system(tmp_path))
    assert service is not None and service.user is not None and service.user.uid == 0
    (tmp_path / "units/ollama.service.d").mkdir()
    (tmp_path / "units/ollama.service.d/user.conf").write_text("[Service]\nUser = nobody \n")
    service = service_of(system(tmp_path))
    assert service is not None and service.user is not None and service.user.name == "nobody"


@pytest.mark.parametrize(
    ("mode", "uid", "gid", "wanted", "allowed"),
    [
        (0o700, 7, 1, PASS, True),
        (0o077, 7, 1, PASS, False),
        (0o010, 1, 8, PASS, True),
        (0o707, 1, 8, PASS, False),
        (0o001, 1, 1, PASS, True),
        (0o750, 1, 1, PASS, False),
        (0o755, 1, 1, READ | PASS, True),
        (0o755, 1, 1, READ | WRITE, False),
    ],
)
def test_mode_bits(mode: int, uid: int, gid: int, wanted: int, allowed: bool) -> None:
    user = User("x", 7, frozenset({8, 9}), "x")
    assert user.may(state(mode, uid, gid), wanted) is allowed
    assert User("root", 0, frozenset(), "root").may(state(mode, uid, gid), wanted)


@pytest.mark.parametrize(
    ("entries", "allowed"),
    [
        ([(2, 1, 7)], True),
        ([(2, 0, 7), (32, 1, 0)], False),
        ([(2, 1, 7), (16, 4, 0)], False),
        ([(8, 1, 9)], True),
        ([(8, 4, 9), (32, 1, 0)], False),
        ([(2, 1, 6), (32, 0, 0)], False),
        ([(2, 0, 6), (32, 1, 0)], True),
    ],
)
def test_access_list(entries: list[tuple[int, int, int]], allowed: bool) -> None:
    acl = struct.pack("<I", 2) + b"".join(struct.pack("<HHI", *entry) for entry in entries)
    user = User("x", 7, frozenset({8, 9}), "x")
    assert user.may(state(0o750, 1, 1), PASS, acl) is allowed
    # What can't be read counts as not there.
    assert not user.may(state(0o750, 1, 1), PASS, b"\x02")


def state(mode: int, uid: int, gid: int) -> os.stat_result:
    return os.stat_result((0o040000 | mode, 0, 0, 1, uid, gid, 0, 0, 0, 0))


def test_parents_behind_a_link_count(tmp_path: Path) -> None:
    closed = tmp_path / "closed"
    (closed / "models").mkdir(parents=True)
    closed.chmod(0o700)
    (tmp_path / "link").symlink_to(closed / "models")
    assert closed in impassable(tmp_path / "link", User("x", 54321, frozenset(), "x"))


def test_closed_store_is_a_finding_with_the_sudo_line(models: StoreBuilder, tmp_path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("needs root, to become another user")
    for folder in (tmp_path, *tmp_path.parents):
        if folder != Path("/"):
            folder.chmod(folder.stat().st_mode | 0o055)
    models.root.chmod(0o700)
    done = ferry_as_nobody("doctor", "--models", models.root)
    assert done.returncode == 4, done.stderr
    assert "PROBLEM: closed" in done.stdout and "Traceback" not in done.stderr
    assert f"sudo /usr/local/bin/ollama-ferry doctor --models {models.root}" in done.stdout
    models.root.chmod(0o755)
    models.manifest_path("qwen3:8b").chmod(0o600)
    done = ferry_as_nobody("doctor", "--models", models.root, "--json")
    told = json.loads(done.stdout)["findings"]
    assert "closed" in [finding["code"] for finding in told]
    # What nobody could read may name these blobs.
    assert next(finding for finding in told if finding["code"] == "orphans")["mend"] == []
    models.manifest_path("qwen3:8b").chmod(0o644)
    (models.root / LIBRARY).chmod(0o700)
    done = ferry_as_nobody("doctor", "--models", models.root)
    assert done.returncode == 4 and f"look into {models.root / LIBRARY}" in done.stdout.replace("\n  ", " ")


# -- which stores, and which server


def test_all_stores_are_told_and_which_one_the_server_uses(tmp_path: Path) -> None:
    user = StoreBuilder(tmp_path / "home/.ollama/models")
    user.model("mine:1")
    service = StoreBuilder(tmp_path / "service/.ollama/models")
    service.model("theirs:1")
    service.model("theirs:2")
    diagnosis = diagnose(system(tmp_path, str(service.root)), free=lambda folder: PLENTY)
    assert [(s.path, s.chosen, s.served, s.held and s.held.models) for s in diagnosis.stores] == [
        (service.root, True, True, 2),
        (user.root, False, False, 1),
    ]
    finding = only(diagnosis, "several-stores")
    assert finding.severity is Severity.WARNING and "invisible" in finding.text
    run(finding.mend[-1].replace("ollama-ferry", f"{shlex.quote(sys.executable)} -m ollama_ferry"))
    assert service.manifest_path("mine:1").is_file()


def test_several_stores_and_no_server(tmp_path: Path) -> None:
    StoreBuilder(tmp_path / "home/.ollama/models").model("mine:1")
    StoreBuilder(tmp_path / "service/.ollama/models").model("theirs:1")
    finding = only(diagnose(system(tmp_path), free=lambda folder: PLENTY), "several-stores")
    assert finding.severity is Severity.WARNING and len(finding.concerns) == 2


def test_one_store_under_two_names_is_one(tmp_path: Path) -> None:
    store = StoreBuilder(tmp_path / "service/.ollama/models")
    store.model("a")
    (tmp_path / "home/.ollama").mkdir(parents=True)
    (tmp_path / "home/.ollama/models").symlink_to(store.root)
    diagnosis = diagnose(system(tmp_path, str(store.root)), free=lambda folder: PLENTY)
    assert len(diagnosis.stores) == 1 and "several-stores" not in codes(diagnosis)


def test_variable_names_another_store_than_the_servers(models: StoreBuilder, tmp_path: Path) -> None:
    served = StoreBuilder(tmp_path / "served")
    served.model("a")
    machine = system(tmp_path, str(served.root), OLLAMA_MODELS=str(models.root))
    diagnosis = diagnose(machine, free=lambda folder: PLENTY)
    finding = only(diagnosis, "not-the-servers")
    assert finding.severity is Severity.WARNING
    assert finding.mend[0] == f"export OLLAMA_MODELS={served.root}"
    # A pull would go elsewhere: it is not proposed for this store.
    models.blob_path(models.blob(b"t")).unlink()
    finding = one(diagnose(machine, free=lambda folder: PLENTY), "missing-blob")
    assert not any("ollama pull" in line for line in finding.mend) and any("--repair" in line for line in finding.mend)


def test_option_names_another_store_than_the_servers(models: StoreBuilder, tmp_path: Path) -> None:
    served = StoreBuilder(tmp_path / "served")
    served.model("a")
    diagnosis = examined(models, tmp_path, answer=str(served.root))
    assert only(diagnosis, "not-the-servers").concerns == (str(models.root), str(served.root))
    assert [store.held is None for store in diagnosis.stores] == [False, True]
    assert codes(examined(models, tmp_path, answer=str(models.root))) == []


def test_variable_names_no_store(tmp_path: Path) -> None:
    StoreBuilder(tmp_path / "home/.ollama/models").model("a")
    machine = system(tmp_path, OLLAMA_MODELS=str(tmp_path / "typo"))
    finding = only(diagnose(machine, free=lambda folder: PLENTY), "no-such-store")
    assert finding.severity is Severity.PROBLEM and finding.mend == ("unset OLLAMA_MODELS",)


@pytest.mark.parametrize("answer", ["/root/in/a/container/models", "C:\\Users\\x\\.ollama\\models"])
def test_server_elsewhere(models: StoreBuilder, tmp_path: Path, answer: str) -> None:
    finding = only(examined(models, tmp_path, answer=answer), "server-elsewhere")
    assert finding.severity is Severity.NOTE and answer in finding.text


def test_folder_that_the_unit_sets_is_not_there(models: StoreBuilder, tmp_path: Path) -> None:
    unit(tmp_path, "User=root", f"Environment=OLLAMA_MODELS={tmp_path}/not-mounted")
    finding = only(examined(models, tmp_path), "no-service-store")
    assert finding.severity is Severity.WARNING and "not mounted" in finding.text
    assert finding.mend[-1] == f"sudo install -d -o root -g root {tmp_path}/not-mounted"


def test_setting_that_is_not_in_effect(models: StoreBuilder, tmp_path: Path) -> None:
    store = StoreBuilder(tmp_path / "data")
    (store.root / "manifests").mkdir(parents=True)
    unit(tmp_path, "User=root", f"Environment=OLLAMA_MODELS={store.root}")
    finding = only(examined(models, tmp_path, answer=str(models.root)), "not-in-effect")
    assert finding.severity is Severity.WARNING and "systemctl daemon-reload" in finding.mend[0]


def test_no_store_at_all(tmp_path: Path) -> None:
    with pytest.raises(StoreNotFound):
        diagnose(system(tmp_path))
    done = ferry("doctor", "--json", "--models", tmp_path / "none")
    assert done.returncode == 3 and "Traceback" not in done.stderr and not done.stdout


# -- the command


@pytest.fixture
def broken(models: StoreBuilder) -> StoreBuilder:
    """A store with much wrong, and names that would colour a terminal."""
    models.blob_path(models.blob(b"t")).unlink()
    models.blob(b"orphan")
    folder = models.root / LIBRARY
    (folder / "qwen3/\x1b[31m\nred").write_bytes(b"x")
    (folder / "bad").mkdir()
    (folder / "bad/latest").write_bytes(b'{"layers": [{"digest": "\\u001b[31m"}]}')
    (models.root / "blobs/\x9b31m; rm -rf ~").write_bytes(b"x")
    (models.root / "blobs/.ollama-ferry").mkdir()
    return models


def test_nothing_is_changed(broken: StoreBuilder) -> None:
    def states() -> dict[str, tuple[int, int, int]]:
        found = {}
        for folder, folders, files in os.walk(broken.root):
            for name in ("", *folders, *files):
                status = os.lstat(os.path.join(folder, name))
                found[os.path.join(folder, name)] = (status.st_mtime_ns, status.st_ctime_ns, status.st_size)
        return found

    before = states()
    assert ferry("doctor", "--models", broken.root).returncode == 4
    assert ferry("doctor", "--models", broken.root, "--json").returncode == 4
    assert states() == before


def test_output_is_plain_and_complete(broken: StoreBuilder) -> None:
    done = ferry("doctor", "--models", broken.root)
    assert done.returncode == 4
    assert not CONTROL.search(done.stdout + done.stderr) and "\x9b" not in done.stdout
    for code in ("missing-blob", "damaged-manifest", "not-a-manifest", "orphans", "stray-file", "leftovers"):
        assert f": {code}\n" in done.stdout
    assert done.stdout.index("PROBLEM") < done.stdout.index("WARNING") < done.stdout.index("NOTE")
    assert done.stderr.startswith("error: 2 problems found")
    quiet = ferry("doctor", "--models", broken.root, "-q")
    assert "PROBLEM" in quiet.stdout and "NOTE" not in quiet.stdout and "STORE" not in quiet.stdout


def test_json(broken: StoreBuilder) -> None:
    done = ferry("doctor", "--models", broken.root, "--json")
    assert done.returncode == 4
    told = json.loads(done.stdout)
    assert told["problems"] == 2
    assert told["stores"][0]["path"] == str(broken.root) and told["stores"][0]["chosen"]
    assert told["server"]["folder"] is None
    assert {"severity", "code", "text", "store", "concerns", "mend"} == set(told["findings"][0])


def test_warnings_alone_exit_with_0(models: StoreBuilder) -> None:
    models.blob(b"orphan")
    done = ferry("doctor", "--models", models.root)
    assert done.returncode == 0 and "WARNING: orphans" in done.stdout


def test_findings_are_bounded(source: StoreBuilder, tmp_path: Path) -> None:
    for number in range(40):
        source.manifest(f"m:{number}", json.dumps({"layers": [{"digest": f"sha256:{number:064x}"}]}).encode())
    for number in range(20_000):
        (source.root / "blobs" / f"stray {number}").touch()
    diagnosis = examined(source, tmp_path)
    assert codes(diagnosis).count("missing-blob") == LISTED_AT_MOST
    assert [(more.code, more.count) for more in diagnosis.omitted] == [("missing-blob", 40 - LISTED_AT_MOST)]
    assert diagnosis.count(Severity.PROBLEM) == 40
    stray = one(diagnosis, "stray-file")
    assert stray.text.startswith("20000 files") and len(stray.concerns) == LISTED_AT_MOST
    done = ferry("doctor", "--models", source.root)
    assert f"... and {40 - LISTED_AT_MOST} more like this" in done.stdout
    assert len(done.stdout) < 30_000


@pytest.mark.parametrize("name", ["a b", "it's", "$(x)", "\x1b[31m", "\udcff\\", "\n", "日本"])
def test_quoted_words_mean_the_same_file(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.touch()
    assert quoted(path).isprintable() and shown(path).isprintable()
    run(f"rm {quoted(path)}")
    assert not path.exists()


def test_lines_are_commands(broken: StoreBuilder, tmp_path: Path) -> None:
    lines = [line for finding in examined(broken, tmp_path).findings for line in finding.mend]
    assert {line.split()[0] for line in lines} == {"ollama", "rm", "mv", "ollama-ferry", "#"}
