"""Stores with whatever people, other programs and enemies have done to them, and what of them is whole.

Each oddity is a function that changes a store beside a folder that is not the store's; :data:`ODDITIES` names them.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import stat
from collections.abc import Callable
from pathlib import Path

from support import needs
from support.stores import StoreBuilder

HOST = "registry.ollama.ai"
CHINESE = "\u6a21\u578b"


class OddStore:
    """A store with three whole models, and beside it what is not the store's.

    Args:
        folder: an empty folder, in which everything is made.

    Attributes:
        store: the store.
        outside: a folder of somebody else's, with files, a home and another store.
        other: the store in it.
    """

    def __init__(self, folder: Path) -> None:
        self.store = StoreBuilder(folder / "store")
        self.outside = folder / "outside"
        self.other = StoreBuilder(self.outside / "other")
        self.store.model("good", [("model", b"weights"), ("template", b"t")])
        self.store.model("good:8b", [("model", b"more weights"), ("template", b"t")])
        self.store.model("hf.co/org/repo:Q4", [("model", b"hf")])
        self.other.model("theirs", [("model", b"weights"), ("license", b"free")])
        self.other.model("only-theirs", [("model", b"theirs alone")])
        for name in ("home/.ssh/id", "home/notes.txt", "etc/passwd", "etc/desktop.ini"):
            path = self.outside / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(name)
        (folder / "disk").mkdir()

    @property
    def root(self) -> Path:
        return self.store.root

    @property
    def blobs(self) -> Path:
        return self.root / "blobs"

    @property
    def library(self) -> Path:
        return self.root / "manifests" / HOST / "library"

    def weights(self) -> Path:
        return self.store.blob_path(self.store.blob(b"weights"))


def whole_models(root: Path) -> set[str]:
    """Return the models whose manifest can be read and whose blobs are there and hash right, whatever their name.

    Written against the file system, not with the code under test.
    """
    found: set[str] = set()
    for path in (root / "manifests").glob("*/*/*/*"):
        try:
            document = json.loads(path.read_bytes())
            digests = [layer["digest"] for layer in [document["config"], *document["layers"]]]
            for digest in digests:
                hexdigest = digest[7:]
                blob = root / "blobs" / f"sha256-{hexdigest}"
                if not blob.exists():
                    blob = root / "blobs" / f"sha256:{hexdigest}"
                if hashlib.sha256(blob.read_bytes()).hexdigest() != hexdigest:
                    raise ValueError(digest)
        except (OSError, ValueError, KeyError, TypeError):
            continue
        found.add(hashlib.sha256(path.read_bytes()).hexdigest() + "/".join(path.parts[-4:-2]))
    return found


def everything(folder: Path) -> dict[str, tuple[object, ...]]:
    """Return every entry below a folder with kind, mode, owner, and content or target; no link is followed."""
    found: dict[str, tuple[object, ...]] = {}
    for above, folders, files in os.walk(folder):
        for name in (".", *folders, *files):
            path = os.path.join(above, name)
            status = os.lstat(path)
            content: object = None
            if stat.S_ISLNK(status.st_mode):
                content = os.readlink(path)
            elif stat.S_ISREG(status.st_mode):
                content = Path(path).read_bytes()
            found[path] = (status.st_mode, status.st_uid, status.st_gid, content)
    return found


def _link(path: Path, target: Path) -> None:
    """Put a link in the place of a file or folder."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    elif os.path.lexists(path):
        path.unlink()
    path.parent.mkdir(parents=True, exist_ok=True)
    path.symlink_to(target)


def _blobs_to(name: str) -> Callable[[OddStore], None]:
    def change(odd: OddStore) -> None:
        _link(odd.blobs, odd.outside / name)

    return change


def _manifests_to(name: str) -> Callable[[OddStore], None]:
    def change(odd: OddStore) -> None:
        _link(odd.root / "manifests", odd.outside / name)

    return change


def _host_folder_outside(odd: OddStore) -> None:
    _link(odd.root / "manifests" / HOST, odd.outside / "other/manifests" / HOST)


def _namespace_in_a_home(odd: OddStore) -> None:
    _link(odd.root / "manifests/evil.example/library", odd.outside)


def _blob_is_link_outside(odd: OddStore) -> None:
    path = odd.weights()
    path.unlink()
    path.symlink_to(odd.other.blob_path(odd.other.blob(b"weights")))


def _behind_link(name: str) -> Callable[[OddStore], None]:
    """Keep a blob's bytes elsewhere in the store, with a link in its place."""

    def change(odd: OddStore) -> None:
        path, target = odd.weights(), odd.root / name
        target.parent.mkdir(parents=True, exist_ok=True)
        path.unlink()
        target.write_bytes(b"weights")
        path.symlink_to(os.path.relpath(target, path.parent))

    return change


def _manifest_behind_link(name: str) -> Callable[[OddStore], None]:
    def change(odd: OddStore) -> None:
        path, target = odd.library / "good/8b", odd.library / name
        target.parent.mkdir(parents=True, exist_ok=True)
        path.rename(target)
        path.symlink_to(os.path.relpath(target, path.parent))

    return change


def _file(name: str, content: bytes) -> Callable[[OddStore], None]:
    def change(odd: OddStore) -> None:
        path = odd.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if not os.path.lexists(path):
            path.write_bytes(content)

    return change


def _two_sizes(odd: OddStore) -> None:
    """Two manifests give one whole blob different sizes: one of them is wrong, and the blob is not."""
    raw = (odd.library / "good/latest").read_bytes().replace(b'"size": 7}', b'"size": 8}')
    _file("manifests/registry.ollama.ai/library/liar/latest", raw)(odd)


def _config_is_a_layer(odd: OddStore) -> None:
    """A manifest names a whole layer of another model as its config, which is no JSON."""
    layer = {"digest": str(odd.store.blob(b"weights")), "size": 7}
    odd.store.manifest("confused", json.dumps({"config": layer, "layers": []}).encode())


def _damaged_blob(odd: OddStore) -> None:
    odd.store.blob_path(odd.store.blob(b"hf")).write_bytes(b"h")


def _refused_name(odd: OddStore) -> None:
    for tag in ("latest", "8b"):
        odd.store.model("x", [("model", b"chinese" + tag.encode())])
        path = odd.library / CHINESE / tag
        path.parent.mkdir(exist_ok=True)
        (odd.library / "x/latest").rename(path)


def _dashes(odd: OddStore) -> None:
    raw = json.dumps(
        {
            "config": {"digest": f"sha256-{odd.store.blob(b'{}').hex}", "size": 2},
            "layers": [{"digest": f"sha256-{odd.store.blob(b'dashed').hex}", "size": 6}],
        }
    )
    odd.store.manifest("dashed", raw.encode())


def _list_of_manifests(odd: OddStore) -> None:
    inner = odd.store.model("inner", [("model", b"inner")])
    (odd.library / "inner/latest").unlink()
    entry = {"digest": str(odd.store.blob(inner.raw)), "size": len(inner.raw)}
    kind = "application/vnd.ollama.manifest.list.v2+json"
    odd.store.manifest("listed", json.dumps({"mediaType": kind, "manifests": [entry]}).encode())


def _newer_layout(odd: OddStore) -> None:
    model = odd.store.model("new", [("model", b"new")])
    (odd.library / "new/latest").unlink()
    path = odd.root / "manifests-v2/ollama.com/library/new/latest"
    path.parent.mkdir(parents=True)
    if needs.ON_WINDOWS:
        path.write_bytes(model.raw)
    else:
        path.symlink_to(odd.store.blob_path(odd.store.blob(model.raw)))


def _port_and_plain(odd: OddStore) -> None:
    odd.store.model("localhost:5000/library/two:1", [("model", b"with a port")])
    odd.store.model("two:1", [("model", b"another of that name")])


def _leftovers_are_a_link(odd: OddStore) -> None:
    for name in (".ollama-ferry", ".ollama-ferry-ssh"):
        if not os.path.lexists(odd.root / name):
            (odd.root / name).symlink_to(odd.outside / "home")


def _leftovers_lead_out(odd: OddStore) -> None:
    folder = odd.root / ".ollama-ferry-ssh/batch-1"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "out").symlink_to(odd.outside)
    (folder / f"sha256-{'a' * 64}").write_bytes(b"cut")


def _old_names(odd: OddStore) -> None:
    for path in list(odd.blobs.glob("sha256-*")):
        path.rename(path.with_name(path.name.replace("sha256-", "sha256:")))


def _hard_links(odd: OddStore) -> None:
    path = odd.weights()
    path.unlink()
    os.link(odd.other.blob_path(odd.other.blob(b"weights")), path)


def _planted_target(odd: OddStore) -> None:
    """A link waits where a renamed model could go."""
    for part in (CHINESE,):
        new = f"renamed-{hashlib.sha256(part.encode()).hexdigest()[:8]}"
        (odd.library / new).symlink_to(odd.outside / "etc")


BLOB = "blobs/sha256-"
ODDITIES: dict[str, Callable[[OddStore], None]] = {
    "two sizes": _two_sizes,
    "config is a layer": _config_is_a_layer,
    "damaged blob": _damaged_blob,
    "refused name": _refused_name,
    "planted target": _planted_target,
    "dashes": _dashes,
    "list of manifests": _list_of_manifests,
    "newer layout": _newer_layout,
    "port and plain": _port_and_plain,
    "orphan": _file(f"{BLOB}{'1' * 64}", b"orphan"),
    "partial": _file(f"{BLOB}{'2' * 64}-partial", b"begun"),
    "partial's parts": _file(f"{BLOB}{'2' * 64}-partial-0", b"{}"),
    "tensor": _file(f"{BLOB}{'3' * 64}.tmp", b"begun"),
    "stray": _file("blobs/my model.gguf", b"stray"),
    "odd stray": _file("blobs/-rf \x1b\n$(touch x) '\"", b"stray"),
    "stray called manifests": _file("blobs/manifests", b"stray"),
    "finder": _file("manifests/registry.ollama.ai/library/good/.DS_Store", b"x"),
    "desktop.ini": _file("manifests/registry.ollama.ai/library/good/desktop.ini", b"[x]"),
    "notes": _file("manifests/registry.ollama.ai/library/good/my notes", b"precious"),
    "sidecar": _file("manifests/registry.ollama.ai/library/good/latest.meta", b"x"),
    "byte order mark": _file("manifests/registry.ollama.ai/library/bom/latest", b"\xef\xbb\xbf{}"),
    "empty manifest": _file("manifests/registry.ollama.ai/library/empty/latest", b""),
    "import's leftovers": _file(".ollama-ferry/sha256-x.partial", b"begun"),
    "send's leftovers": _file(f".ollama-ferry-ssh/sha256-{'4' * 64}", b"begun"),
    "manifest in work": _file("manifests/.ollama-ferry-manifest", b"{"),
    "leftovers lead out": _leftovers_lead_out,
    "leftovers are a link": _leftovers_are_a_link,
    "blob behind stray": _behind_link("blobs/stray.gguf"),
    "blob behind orphan": _behind_link(f"{BLOB}{'5' * 64}"),
    "blob behind partial": _behind_link(f"{BLOB}{'6' * 64}-partial"),
    "blob behind leftovers": _behind_link(".ollama-ferry/kept"),
    "blob behind send's leftovers": _behind_link(".ollama-ferry-ssh/batch-1/kept"),
    "blob outside": _blob_is_link_outside,
    "hard links": _hard_links,
    "manifest behind junk": _manifest_behind_link("good/.DS_Store"),
    "manifest behind refused name": _manifest_behind_link(f"{CHINESE}/8b"),
    "old names": _old_names,
    "host folder outside": _host_folder_outside,
    "namespace in a home": _namespace_in_a_home,
    "blobs to another store's": _blobs_to("other/blobs"),
    "blobs to a home": _blobs_to("home"),
    "blobs to all": _blobs_to("."),
    "blobs to another disk": _blobs_to("../disk"),
    "blobs nowhere": _blobs_to("nowhere"),
    "manifests to another store's": _manifests_to("other/manifests"),
    "manifests to a home": _manifests_to("home"),
}
"""What can be done to a store, in an order in which each still finds what it changes."""


def every_oddity(folder: Path) -> OddStore:
    """Return a store with what real ones have, all at once; its manifests and blobs are files and folders of its own.

    Three models are whole as :class:`OddStore` makes them; the others are what the rest of this module does to a store.
    """
    odd = OddStore(folder)
    for name in (
        "refused name", "dashes", "list of manifests", "newer layout", "port and plain", "orphan", "partial",
        "partial's parts", "tensor", "stray", "finder", "desktop.ini", "notes", "sidecar", "empty manifest",
        "config is a layer",
    ):  # fmt: skip
        ODDITIES[name](odd)
    os.utime(odd.library / "empty/latest", (1_700_000_000, 1_700_000_000))
    odd.store.model("stub", [], config={"remote_host": "https://ollama.com:443", "remote_model": "x"})
    odd.store.model("lost", [("model", b"lost"), ("template", b"t")])
    odd.store.blob_path(odd.store.blob(b"lost")).unlink()
    odd.store.model("flipped", [("model", b"flipped")])
    odd.store.blob_path(odd.store.blob(b"flipped")).write_bytes(b"FLIPPED")
    layer = {"mediaType": "application/vnd.cncf.model.weight.v1.raw", "digest": str(odd.store.blob(b"pack")), "size": 4}
    odd.store.manifest("packed", json.dumps({"config": {}, "layers": [layer]}).encode())
    return odd


CARRIED = {"good:latest", "good:8b", "hf.co/org/repo:Q4", "localhost:5000/library/two:1", "two:1", "new:latest",
           "listed:latest", "dashed:latest", "confused:latest"}  # fmt: skip
"""The models of :func:`every_oddity` that can be carried."""
