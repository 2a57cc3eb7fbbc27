"""What people have: a store somewhere in an archive, files side by side, an image, a model in parts here and there."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
import shutil
import subprocess
import tarfile
import zipfile
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from pathlib import Path

import pytest

from ollama_ferry.engine.run import Run
from ollama_ferry.errors import UsageError
from ollama_ferry.jobs.sources import open_searchable
from support import needs
from support.command_line import assert_one_clear_error, ferry
from support.hostile import made_model
from support.stores import StoreBuilder, faults_of, tree, weights
from support.tools import require_tool

Files = Mapping[str, bytes]


@pytest.fixture
def models(source: StoreBuilder) -> StoreBuilder:
    source.model("qwen3:8b", [("model", weights(20_000)), ("template", b"{{ .Prompt }}")])
    return source


def tar_of(files: Files) -> bytes:
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w", format=tarfile.GNU_FORMAT) as tar:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return made.getvalue()


def zip_of(files: Files) -> bytes:
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as zipped:
        for name, content in files.items():
            # On Windows Python itself makes slashes of backslashes.
            info = zipfile.ZipInfo("x")
            info.filename = name
            zipped.writestr(info, content)
    return made.getvalue()


def as_folder(files: Files, path: Path) -> Path:
    for name, content in files.items():
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_bytes(content)
    return path


WAYS: dict[str, Callable[[Files, Path], Path]] = {
    "folder": as_folder,
    "tar": lambda files, path: _written(path, tar_of(files)),
    "tar.gz": lambda files, path: _written(path, gzip.compress(tar_of(files))),
    "zip": lambda files, path: _written(path, zip_of(files)),
}
in_every_way = pytest.mark.parametrize("way", WAYS)


def _written(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


def flat(store: StoreBuilder, name: str = "qwen3:8b", *, manifest: str = "manifest") -> dict[str, bytes]:
    """Return a model's files as a script downloads them."""
    raw = store.manifest_path(name).read_bytes()
    found = {f"d/{manifest}": raw}
    for number, digest in enumerate(digests(raw)):
        content = (store.root / "blobs" / digest.replace(":", "-")).read_bytes()
        found[f"d/{NAMES[number % len(NAMES)](digest[7:])}"] = content
    return found


# What people's tools call a blob.
NAMES: list[Callable[[str], str]] = [
    lambda digest: f"sha256:{digest}",
    lambda digest: f"sha256-{digest}",
    lambda digest: f"SHA256-{digest.upper()}",
    lambda digest: digest,
    lambda digest: f"sha256-{digest}.bin",
    lambda digest: f"sha256-{digest} (1)",
    lambda digest: f"sha256-{digest}(2).gguf",
    lambda digest: f"sha256_{digest}",
    lambda digest: f"sha256%3A{digest}",
    lambda digest: f"sha256-:{digest}",
    lambda digest: f"sha256\uf03a{digest}",
]


def digests(raw: bytes) -> list[str]:
    document = json.loads(raw)
    return [str(part["digest"]) for part in (*document["layers"], document["config"])]


def brought(path: Path, target: Path, *words: str) -> None:
    done = ferry("import", path, "--models", target, *words)
    assert done.returncode == 0, done.stderr
    assert not faults_of(target)


@in_every_way
def test_files_side_by_side_get_their_name_by_as(models: StoreBuilder, tmp_path: Path, way: str) -> None:
    for name in ("manifest", "manifest.json", "qwen3-8b.manifest", "manifest (1).json"):
        path = WAYS[way](flat(models, manifest=name), tmp_path / f"flat {name}")
        refused = ferry("import", path, "--models", tmp_path / "none")
        assert_one_clear_error(refused, 2)
        assert "no name for its model" in refused.stderr and "--as" in refused.stderr
        brought(path, tmp_path / name, "--as", "me/q:1")
        made = tmp_path / name / "manifests/registry.ollama.ai/me/q/1"
        # The bytes are those of the download: the model has the ID that it had.
        assert made.read_bytes() == models.manifest_path("qwen3:8b").read_bytes()
        assert "unnamed:latest" in ferry("list", path).stdout
    assert not (tmp_path / "none").exists() or not list((tmp_path / "none").glob("manifests/*/*/*/*"))


@pytest.mark.parametrize("number", range(len(NAMES)))
def test_content_decides_whatever_a_blob_is_called(models: StoreBuilder, tmp_path: Path, number: int) -> None:
    raw = models.manifest_path("qwen3:8b").read_bytes()
    files = {"x/manifests/registry.ollama.ai/library/qwen3/8b": raw}
    for digest in digests(raw):
        content = (models.root / "blobs" / digest.replace(":", "-")).read_bytes()
        files[f"x/blobs/{NAMES[number](digest[7:])}"] = content
        # The same name in small letters, as an unfinished download and as a link to something else, is not it.
        files[f"x/blobs/sha256-{digest[7:]}-partial"] = content[:1]
    for way in WAYS:
        brought(WAYS[way](files, tmp_path / way), tmp_path / f"t {way}", "--lenient")


def test_repair_takes_what_hashes_right(models: StoreBuilder, tmp_path: Path) -> None:
    files = flat(models)
    for way in WAYS:
        shutil.copytree(models.root, target := tmp_path / f"t {way}")
        for number, blob in enumerate(sorted((target / "blobs").iterdir())):
            blob.write_bytes(b"damaged" if number else b"x" * blob.stat().st_size)
        path = WAYS[way](files, tmp_path / way)
        done = ferry("verify", "--models", target, "--repair", path)
        assert done.returncode == 0, done.stderr
        assert not faults_of(target)


def test_of_two_files_of_one_digest_the_right_one_is_taken(models: StoreBuilder, tmp_path: Path) -> None:
    """A download was cut, and begun again beside the first."""
    files = flat(models)
    cut = {name: content for name, content in files.items() if len(content) > 1000}
    for way in WAYS:
        for first in (True, False):
            names = {f"d/{name[-70:]}": content[:1000] for name, content in cut.items() if "manifest" not in name}
            other = {f"e/sha256-{digests(files['d/manifest'])[0][7:]}": next(iter(names.values()))}
            made = {**other, **files} if first else {**files, **{f"z{name}": c for name, c in other.items()}}
            path = WAYS[way](made, tmp_path / f"{way} {first}")
            brought(path, tmp_path / f"t {way} {first}", "--as", "q:1")


def image_of(layers: list[bytes], *, oci: bool, packed: bool = False) -> bytes:
    """Return what ``docker save`` writes: the layers as archives within."""
    files = {"manifest.json": json.dumps([{"Config": "c.json", "Layers": []}]).encode(), "c.json": b"{}"}
    for number, layer in enumerate(layers):
        data = gzip.compress(layer) if packed else layer
        name = f"blobs/sha256/{hashlib.sha256(data).hexdigest()}" if oci else f"{number:064d}/layer.tar"
        files[name] = data
    return tar_of(files)


@pytest.mark.parametrize("oci", [False, True], ids=["layer.tar", "OCI"])
@pytest.mark.parametrize("packed", [False, True], ids=["plain", "packed layers"])
@pytest.mark.parametrize("saved", [lambda data: data, gzip.compress], ids=["image.tar", "image.tar.gz"])
def test_models_within_an_image(
    models: StoreBuilder, tmp_path: Path, oci: bool, packed: bool, saved: Callable[[bytes], bytes]
) -> None:
    """An image with models in a layer, and a layer below with what systems have: links, devices, a name in Latin-1."""
    system = tar_of({"etc/passwd": b"root"})[:-10240] + _odd_members() + bytes(1024)
    store = tar_of({f"root/.ollama/models/{name}": content for name, content in tree(models.root).items()})
    (path := tmp_path / "image").write_bytes(saved(image_of([system, store], oci=oci, packed=packed)))
    assert "qwen3:8b" in ferry("list", path).stdout
    brought(path, tmp_path / "t")
    refused = ferry("verify", path)
    assert_one_clear_error(refused, 4)
    assert "layer of an image" in refused.stderr and "ollama-ferry import" in refused.stderr
    # A file in a layer that says it is a blob is hashed as any other.
    wrong = {f"models/{name}": b"x" * len(c) if "blobs/" in name else c for name, c in tree(models.root).items()}
    path.write_bytes(saved(image_of([tar_of(wrong)], oci=oci, packed=packed)))
    assert_one_clear_error(ferry("import", path, "--models", tmp_path / "none"), 4)
    assert not list((tmp_path / "none").glob("blobs/sha256-*"))


def _odd_members() -> bytes:
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w", format=tarfile.GNU_FORMAT) as tar:
        for name, kind, target in [
            ("bin", tarfile.SYMTYPE, "/usr/bin"),
            ("etc/mtab", tarfile.LNKTYPE, "etc/passwd"),
            ("dev/null", tarfile.CHRTYPE, ""),
            ("etc/\udce9", tarfile.REGTYPE, ""),
        ]:
            info = tarfile.TarInfo(name)
            info.type, info.linkname = kind, target
            tar.addfile(info)
    return made.getvalue().rstrip(b"\0")[: -(-len(made.getvalue().rstrip(b"\0")) // 512) * 512].ljust(2048, b"\0")


PREFIXES = ["root/.ollama/models", "usr/share/ollama/.ollama/models", "var/lib/docker/volumes/ollama/_data/models", "m"]


@pytest.mark.parametrize("prefix", PREFIXES)
@in_every_way
def test_a_store_is_found_wherever_it_lies(models: StoreBuilder, tmp_path: Path, prefix: str, way: str) -> None:
    files = {f"{prefix}/{name}": content for name, content in tree(models.root).items()}
    path = WAYS[way]({**files, "root/.ollama/history": b"", "root/.ollama/id_ed25519": b"key"}, tmp_path / "backup")
    brought(path, tmp_path / "t")
    assert ferry("verify", path).returncode == 0


@in_every_way
def test_links_beside_the_models_do_not_refuse_them(models: StoreBuilder, tmp_path: Path, way: str) -> None:
    """systemd's DynamicUser makes /var/lib/ollama a link to private/ollama."""
    shutil.copytree(models.root, tmp_path / "var/lib/private/ollama/models")
    (tmp_path / "var/lib/ollama").symlink_to("private/ollama")
    path = tmp_path / "var"
    if way.startswith("tar"):
        path = tmp_path / f"var.{way}"
        subprocess.run([require_tool("tar"), "-caf", path, "-C", tmp_path, "var"], check=True)
    elif way == "zip":
        path = tmp_path / "var.zip"
        subprocess.run([require_tool("zip"), "-qry", path, "var"], cwd=tmp_path, check=True)
    brought(path, tmp_path / "t", *(["--lenient"] if way == "zip" else []))
    if way.startswith("tar"):
        assert ferry("verify", path).returncode == 0


@in_every_way
def test_a_blob_that_is_a_link_is_named_with_what_helps(models: StoreBuilder, tmp_path: Path, way: str) -> None:
    blob = max((models.root / "blobs").iterdir(), key=lambda path: path.stat().st_size)
    blob.rename(tmp_path / "elsewhere")
    shutil.copytree(models.root, copy := tmp_path / "copy")
    (copy / "blobs" / blob.name).symlink_to("../../elsewhere")
    path = copy
    if way.startswith("tar"):
        subprocess.run([require_tool("tar"), "-caf", path := tmp_path / f"x.{way}", "-C", copy, "."], check=True)
    elif way == "zip":
        subprocess.run([require_tool("zip"), "-qry", path := tmp_path / "x.zip", "."], cwd=copy, check=True)
    else:
        (tmp_path / "elsewhere").unlink()
    done = ferry("import", path, "--models", tmp_path / "t", *([] if way == "folder" else ["--lenient"]))
    assert_one_clear_error(done, 4)
    assert blob.name[7:19] in done.stderr
    if way.startswith("tar"):
        assert "link to '../../elsewhere'" in done.stderr and "tar -h" in done.stderr


def stores_in_one(models: StoreBuilder, other: StoreBuilder) -> dict[str, bytes]:
    files = {f"a/models/{name}": content for name, content in tree(models.root).items()}
    return {**files, **{f"b/models/{name}": content for name, content in tree(other.root).items()}}


@in_every_way
def test_two_stores_in_one(models: StoreBuilder, tmp_path: Path, way: str) -> None:
    """What both have under one name as two models is named and left out; the rest is taken."""
    other = StoreBuilder(tmp_path / "other")
    models.model("shared:1")
    other.model("shared:1")
    other.model("qwen3:8b", [("model", b"another one")])
    other.model("only:here")
    path = WAYS[way](stores_in_one(models, other), tmp_path / "two")
    done = ferry("import", path, "--models", tmp_path / "t")
    if way == "folder":
        assert_one_clear_error(done, 2)
        assert "2 stores" in done.stderr and str(path / "b/models") in done.stderr
        brought(path / "b", tmp_path / "t")
        return
    assert done.returncode == 4 and "imported only:here" in done.stdout and "imported shared:1" in done.stdout
    assert done.stderr.count("qwen3:8b is in it twice") == 1 and "'a/models/' and 'b/models/'" in done.stderr
    assert not faults_of(tmp_path / "t") and not (tmp_path / "t/manifests/registry.ollama.ai/library/qwen3").exists()
    listed = ferry("list", path)
    assert listed.returncode == 0 and listed.stdout.count("damaged") == 1
    brought(path, tmp_path / "some", "--model", "shared:1", "--model", "only:here")
    for name in ("qwen3:8b", "qwen3*"):
        assert_one_clear_error(ferry("import", path, "--models", tmp_path / "none", "--model", name), 4)
    told = json.loads(ferry("import", path, "--models", tmp_path / "json", "--json").stdout)
    assert [one["name"] for one in told["archives"][0]["left_out"]] == ["qwen3:8b"]


@pytest.mark.parametrize("way", ["tar", "tar.gz", "zip"])
def test_a_damaged_manifest_spoils_none_but_its_model(models: StoreBuilder, tmp_path: Path, way: str) -> None:
    library = "manifests/registry.ollama.ai/library/qwen3"
    for what, (tag, raw, code) in {
        "empty": ("14b", b"", 4),
        "zeros": ("14b", bytes(400), 4),
        "of Windows": ("desktop.ini", b"[.ShellClassInfo]", 0),
        "of a photo program": ("Thumbs.db", b"\xd0\xcf", 0),
        "of Finder": (".DS_Store", b"Bud1", 0),
        "of Unity": ("8b.meta", b"guid: 1", 0),
        "huge": ("14b", b" " * (4 * 1024 * 1024 + 1), 4),
    }.items():
        files = {**tree(models.root), f"{library}/{tag}": raw}
        path = WAYS[way](files, tmp_path / f"{what}.{way}")
        done = ferry("import", path, "--models", tmp_path / what)
        assert done.returncode == code and "imported qwen3:8b" in done.stdout, done.stderr
        assert done.stderr.count("qwen3:14b") == (1 if code else 0)
        assert ferry("list", path).returncode == 0
        brought(path, tmp_path / f"{what} named", "--model", "qwen3:8b")
        assert ferry("verify", path).returncode == code


def parted(models: StoreBuilder) -> tuple[dict[str, bytes], dict[str, bytes], str]:
    """Return a model without its config, as ollama-tool-cli packs it; the config; its digest."""
    raw = models.manifest_path("qwen3:8b").read_bytes()
    config = json.loads(raw)["config"]["digest"]
    files = tree(models.root)
    name = f"blobs/{config.replace(':', '-')}"
    return {path: content for path, content in files.items() if path != name}, {name: files[name]}, config


@in_every_way
def test_several_complete_each_other(models: StoreBuilder, tmp_path: Path, way: str) -> None:
    lacking, config, digest = parted(models)
    first = WAYS[way](lacking, tmp_path / f"a {way}")
    alone = ferry("import", first, "--models", tmp_path / "none")
    assert_one_clear_error(alone, 4)
    assert digest in alone.stderr and "bytes" in alone.stderr
    for other in WAYS:
        second = WAYS[other](config, tmp_path / f"b {other}")
        for number, words in enumerate(([first, second], [second, first])):
            done = ferry("import", *words, "--models", target := tmp_path / f"t {other} {number}", "-q")
            assert done.returncode == 0 and "qwen3:8b" in done.stdout, done.stderr
            assert not faults_of(target)
    # A config of another content under that digest is none.
    second = WAYS[way]({name: b"x" * len(content) for name, content in config.items()}, tmp_path / "wrong")
    assert_one_clear_error(ferry("import", first, second, "--models", tmp_path / "wrong t"), 4)
    assert not list((tmp_path / "wrong t").glob("manifests/*/*/*/*"))


def test_send_out_of_an_archive_or_a_folder(models: StoreBuilder, tmp_path: Path) -> None:
    for way in ("folder", "tar", "zip"):
        path = WAYS[way](tree(models.root), tmp_path / way)
        done = ferry("send", "--from", path, tmp_path / f"t {way}")
        assert done.returncode == 0, done.stderr
        assert not faults_of(tmp_path / f"t {way}") and "qwen3:8b" in done.stdout
        assert_one_clear_error(ferry("send", "--from", path, "none:1", tmp_path / "none"), 3)
    path = WAYS["tar.gz"](tree(models.root), tmp_path / "x.tar.gz")
    refused = ferry("send", "--from", path, tmp_path / "none")
    assert_one_clear_error(refused, 2)
    assert "no index" in refused.stderr and f"ollama-ferry import {path}" in refused.stderr


def test_a_link_never_leads_a_member_astray(models: StoreBuilder, tmp_path: Path) -> None:
    """A link and then something below it, in its place or in other letters: not passed, and nothing goes there."""
    (outside := tmp_path / "outside").mkdir()
    for link, target in [("m", "../outside"), ("m", str(outside)), ("m", "x"), ("m/blobs", "x"), ("blobs", "x")]:
        made = io.BytesIO()
        with tarfile.open(fileobj=made, mode="w", format=tarfile.GNU_FORMAT) as tar:
            info = tarfile.TarInfo(link)
            info.type, info.linkname = tarfile.SYMTYPE, target
            tar.addfile(info)
        prefix = "M/" if link == "m" and target == "x" else "m/"
        files = {prefix + name: content for name, content in tree(models.root).items()}
        data = made.getvalue()[:512] + tar_of(files)
        (path := tmp_path / "x.tar").write_bytes(data)
        assert_one_clear_error(ferry("verify", path), 4)
        done = ferry("import", path, "--models", tmp_path / "t", "--lenient", "-q")
        assert done.returncode == 0 and not list(outside.iterdir())
        assert not any(os.path.islink(one) for one in (tmp_path / "t").rglob("*"))


@pytest.mark.parametrize(
    ("method", "size"), [(zipfile.ZIP_DEFLATED, 40), (zipfile.ZIP_STORED, 40), (zipfile.ZIP_DEFLATED, 4)]
)
def test_large_blob_packed_as_a_whole_is_not_served(tmp_path: Path, method: int, size: int) -> None:
    made = made_model(bytes(size * 2**20))
    with zipfile.ZipFile(tmp_path / "x.zip", "w", method, compresslevel=1) as zipped:
        for name, content in made.files.items():
            zipped.writestr(name, content)
    with open_searchable(tmp_path / "x.zip", Run(), what_for="push"):
        pass
    refused = method == zipfile.ZIP_DEFLATED and size == 40
    with (
        pytest.raises(UsageError, match="unpacked from their start") if refused else nullcontext(),
        open_searchable(tmp_path / "x.zip", Run(), what_for="serve", shared=True),
    ):
        pass


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-be"])
@in_every_way
def test_a_manifest_that_powershell_wrote_is_told_with_the_line_that_mends_it(
    models: StoreBuilder, tmp_path: Path, way: str, encoding: str
) -> None:
    raw = models.manifest_path("qwen3:8b").read_bytes()
    wrong = raw.decode().encode(encoding)
    files = {**flat(models), "d/manifest": wrong if encoding != "utf-16-be" else b"\xfe\xff" + wrong}
    done = ferry("import", WAYS[way](files, tmp_path / "flat"), "--models", tmp_path / "t", "--as", "q:1")
    assert_one_clear_error(done, 4)
    assert "PowerShell" in done.stderr and 'cp "$f" FILE' in done.stderr
    assert "damaged" in ferry("list", tmp_path / "flat").stdout
    # In a store the line is one to copy, and gives the very manifest back.
    models.manifest_path("qwen3:8b").write_bytes(files["d/manifest"])
    done = ferry("export", "qwen3:8b", tmp_path / "x.tar", "--models", models.root)
    assert_one_clear_error(done, 4)
    line = next(line for line in done.stderr.splitlines() if "mktemp" in line).partition(": ")[2]
    subprocess.run(["sh", "-c", line], check=True)
    assert models.manifest_path("qwen3:8b").read_bytes() == raw


def test_names_print_as_they_are_written(models: StoreBuilder, tmp_path: Path) -> None:
    done = ferry("export", "模型:1", tmp_path / "x.tar", "--models", models.root)
    assert_one_clear_error(done, 2)
    assert "模型:1" in done.stderr and "\\u6a21" not in done.stderr
    files = {**tree(models.root), "備份/說明.txt": b"x"}
    for way in ("tar", "zip", "tar.gz"):
        done = ferry("import", WAYS[way](files, tmp_path / way), "--models", tmp_path / f"into {way}")
        assert done.returncode == 0 and "備份/說明.txt" in done.stderr


# -- reports of public trackers, recreated


def test_a_browser_called_the_files_data(models: StoreBuilder, tmp_path: Path) -> None:
    """``data``, ``data(1)`` …, as a browser saves blobs, beside the manifest: their sizes tell which they may be."""
    raw = models.manifest_path("qwen3:8b").read_bytes()
    contents = [(models.root / "blobs" / digest.replace(":", "-")).read_bytes() for digest in digests(raw)]
    files = {"manifest": raw, "notes.txt": b"x" * 77}
    files.update({f"data({number})" if number else "data": content for number, content in enumerate(contents)})
    for way in ("folder", "tar", "zip"):
        brought(WAYS[way](files, tmp_path / way), tmp_path / f"t {way}", "--as", "q:1")
    # A file of the right size and another content is not taken.
    files["data"] = b"x" * len(contents[0])
    assert_one_clear_error(
        ferry("import", WAYS["folder"](files, tmp_path / "f"), "--models", tmp_path / "none", "--as", "q:1"), 4
    )
    assert not list((tmp_path / "none").glob("manifests/*/*/*/*"))


def test_a_script_that_tars_manifest_and_layers(models: StoreBuilder, tmp_path: Path) -> None:
    """``tar cvzf model.tgz $model_file $layers_files`` with absolute paths, and without the config."""
    raw = models.manifest_path("qwen3:8b").read_bytes()
    layers = [models.root / "blobs" / part["digest"].replace(":", "-") for part in json.loads(raw)["layers"]]
    archive = tmp_path / "qwen3_8b.tgz"
    line = [require_tool("tar"), "czf", archive, models.manifest_path("qwen3:8b"), *layers]
    subprocess.run(line, check=True, capture_output=True)
    alone = ferry("import", archive, "--models", tmp_path / "none")
    assert_one_clear_error(alone, 4)
    assert "its config blob" in alone.stderr and "ollama-ferry import THIS OTHER" in alone.stderr
    done = ferry("import", archive, models.root / "blobs", "--models", tmp_path / "t")
    assert done.returncode == 0, done.stderr
    assert not faults_of(tmp_path / "t")


def test_a_volume_that_busybox_backed_up(models: StoreBuilder, tmp_path: Path) -> None:
    """``docker run -v ollama:/data alpine tar czf /backup/ollama.tar.gz /data``."""
    shutil.copytree(models.root, tmp_path / "data" / "models")
    (tmp_path / "data" / "id_ed25519").write_bytes(b"key")
    archive = tmp_path / "ollama.tar.gz"
    subprocess.run([require_tool("busybox"), "tar", "czf", archive, "data"], cwd=tmp_path, check=True)
    brought(archive, tmp_path / "t")
    assert ferry("verify", archive).returncode == 0


def test_a_zip_of_powershell_has_backslashes(models: StoreBuilder, tmp_path: Path) -> None:
    path = tmp_path / "models.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as zipped:
        for name, content in tree(models.root).items():
            told = zipfile.ZipInfo(f"models\\{name}".replace("/", "\\"))
            told.create_system, told.external_attr = 0, 0x20
            zipped.writestr(told, content)
    brought(path, tmp_path / "t")


def test_a_manifest_whose_digests_somebody_changed_is_told(models: StoreBuilder, tmp_path: Path) -> None:
    """Copied from Linux to Windows by hand: ``sha256-`` in the manifest, and the server then prunes its blobs."""
    raw = models.manifest_path("qwen3:8b").read_bytes().replace(b"sha256:", b"sha256-")
    for way in WAYS:
        files = {**tree(models.root), "manifests/registry.ollama.ai/library/qwen3/8b": raw}
        done = ferry("import", WAYS[way](files, tmp_path / way), "--models", tmp_path / f"t {way}")
        assert done.returncode == 0 and "a server that starts deletes its blobs" in done.stderr


def test_readable_files_without_a_manifest_are_told(models: StoreBuilder, tmp_path: Path) -> None:
    """What `ollama export` of a proposal writes: weights, template and licence under names for people."""
    files = {"llama3.1_8b_F16.gguf": b"GGUF" + bytes(100), "template.txt": b"{{ .Prompt }}"}
    for way in WAYS:
        done = ferry("import", WAYS[way](files, tmp_path / way), "--models", tmp_path / "t")
        assert_one_clear_error(done, 3)
        assert "ollama create" in done.stderr


def test_a_folder_with_links_to_a_bigger_disk(models: StoreBuilder, tmp_path: Path) -> None:
    """``~/.ollama`` is a link, or its models, or their blobs."""
    home = tmp_path / "home dir"
    for number, link in enumerate((".ollama", ".ollama/models", ".ollama/models/blobs")):
        (place := home / str(number) / link).parent.mkdir(parents=True)
        target = {".ollama": tmp_path / "disk", ".ollama/models": models.root}.get(link, models.root / "blobs")
        if link == ".ollama":
            target.mkdir()
            (target / "models").symlink_to(models.root)
        if link.endswith("blobs"):
            shutil.copytree(models.root / "manifests", place.parent / "manifests")
        place.symlink_to(target)
        brought(home / str(number), tmp_path / f"t{number}")


@needs.any_names
def test_names_with_two_colons(models: StoreBuilder, tmp_path: Path) -> None:
    raw = models.manifest_path("qwen3:8b").read_bytes()
    for mark in ("::", "-:"):
        files = {"manifests/registry.ollama.ai/library/qwen3/8b": raw}
        for digest in digests(raw):
            content = (models.root / "blobs" / digest.replace(":", "-")).read_bytes()
            files[f"blobs/sha256{mark}{digest[7:]}"] = content
        brought(WAYS["folder"](files, tmp_path / f"f{mark}"), tmp_path / f"t{mark}")
