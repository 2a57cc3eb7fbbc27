"""Locks and signatures hold a job: exactly these models, or none."""

from __future__ import annotations

import io
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

import pytest

from ollama_ferry import api
from ollama_ferry.archives.kinds import Kind
from ollama_ferry.errors import NotAsLocked, NotFound, UsageError
from ollama_ferry.jobs.export import ExportOptions, export_to_file, export_to_stream, plan_export
from ollama_ferry.jobs.import_ import import_file, import_source, import_stream
from ollama_ferry.jobs.import_choices import ImportOptions
from ollama_ferry.jobs.send import SendOptions, send
from ollama_ferry.jobs.send_targets import FolderTarget
from ollama_ferry.jobs.trust import Trust, lock_of, read_lock, signature_beside
from ollama_ferry.model.manifests import Manifest
from ollama_ferry.model.names import ModelName
from ollama_ferry.places.archive.file import ArchiveFile
from ollama_ferry.places.store.store import Store
from support import needs
from support.stores import StoreBuilder, weights

needs_ssh_keygen = pytest.mark.skipif(shutil.which("ssh-keygen") is None, reason="no ssh-keygen")


@pytest.fixture
def filled(source: StoreBuilder) -> Store:
    source.model("qwen3:8b", [("model", weights(300_000, 1))])
    source.model("gemma3:4b", [("model", weights(300_000, 2))])
    return Store(source.root)


@pytest.fixture
def key(tmp_path: Path) -> Path:
    path = tmp_path / "key"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", path], check=True)
    return path


@pytest.fixture
def allowed(key: Path) -> Path:
    path = key.with_name("allowed_signers")
    path.write_text(f'lab@example.org namespaces="ollama-ferry" {key.with_name("key.pub").read_text()}')
    return path


def exported(store: Store, path: Path, *names: str, sign_with: Path | None = None) -> Path:
    planned = plan_export(store, [ModelName.parse(name) for name in names] or store.names())
    export_to_file(store, planned, path, ExportOptions(sign_with=sign_with, replace=True))
    return path


@pytest.mark.parametrize("ending", [".tar", ".tar.gz", ".tar.zst"])
@pytest.mark.parametrize("streamed", [False, True])
def test_import_takes_exactly_what_is_locked(filled: Store, tmp_path: Path, ending: str, streamed: bool) -> None:
    lock = lock_of(filled, filled.names())
    archive = exported(filled, tmp_path / f"both{ending}")
    one = exported(filled, tmp_path / f"one{ending}", "qwen3:8b")
    number = 0

    def take(path: Path, trust: Trust, only: tuple[str, ...] = ()) -> list[str]:
        nonlocal number
        number += 1
        target = Store(tmp_path / f"store{number}")
        options = ImportOptions(only=only, trust=trust)
        try:
            if streamed:
                import_stream(io.BytesIO(path.read_bytes()), "the stream", target, options)
            else:
                import_file(path, target, options)
        finally:
            here = [str(name) for name in target.names()]
        return here

    assert take(archive, Trust(lock)) == ["gemma3:4b", "qwen3:8b"]
    with pytest.raises(NotAsLocked, match=r"gemma3:4b of the lock is not in"):
        take(one, Trust(lock))
    with pytest.raises(NotAsLocked, match=r"gemma3:4b is in .*, and not in the lock"):
        take(archive, Trust(lock_of(filled, [ModelName.parse("qwen3:8b")])))
    assert take(archive, Trust(lock, part=True), ("qwen3:8b",)) == ["qwen3:8b"]
    assert not any(list(Store(tmp_path / f"store{n}").names()) for n in (2, 3))


@needs_ssh_keygen
@pytest.mark.parametrize("ending", [".tar", ".tar.gz", ".tar.zst"])
def test_signature_is_of_the_models_whatever_carries_them(
    filled: Store, tmp_path: Path, key: Path, allowed: Path, ending: str
) -> None:
    archive = exported(filled, tmp_path / f"signed{ending}", sign_with=key)
    beside = signature_beside(archive)
    assert beside is not None
    with ArchiveFile(archive) as file:
        assert (file.index.signature if file.index else beside) == beside
    import_file(archive, Store(tmp_path / "a"), ImportOptions(trust=Trust(signers=allowed, signature=beside)))
    # A part of what was signed is as good; so is the same load in another packing.
    again = exported(filled, tmp_path / "other.tar.gz")
    trust = Trust(signers=allowed, signature=beside, part=True)
    import_file(again, Store(tmp_path / "b"), ImportOptions(only=("qwen3:8b",), trust=trust))
    less = exported(filled, tmp_path / "less.tar.gz", "qwen3:8b")
    with pytest.raises(NotAsLocked, match=r"not the models that lab@example\.org has signed"):
        import_file(less, Store(tmp_path / "c"), ImportOptions(trust=Trust(signers=allowed, signature=beside)))
    with pytest.raises(NotAsLocked, match="is not signed"):
        import_file(less, Store(tmp_path / "c"), ImportOptions(trust=Trust(signers=allowed)))
    assert not (tmp_path / "c").exists()


@needs_ssh_keygen
def test_keys_of_others_and_for_other_things_do_not_count(
    filled: Store, tmp_path: Path, key: Path, allowed: Path
) -> None:
    archive = exported(filled, tmp_path / "signed.tar.gz", sign_with=key)
    signature = signature_beside(archive)
    other = tmp_path / "other_signers"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", tmp_path / "stranger"], check=True)
    other.write_text(f"stranger@example.org {(tmp_path / 'stranger.pub').read_text()}")
    for signers, said in ((other, "nobody whom"), (tmp_path / "wrong_use", "not the models|nobody whom")):
        if signers.name == "wrong_use":
            signers.write_text(allowed.read_text().replace('"ollama-ferry"', '"git"'))
        with pytest.raises(NotAsLocked, match=said):
            import_file(
                archive, Store(tmp_path / "s"), ImportOptions(trust=Trust(signers=signers, signature=signature))
            )
    with pytest.raises(NotFound):
        import_file(
            archive, Store(tmp_path / "s"), ImportOptions(trust=Trust(signers=tmp_path / "none", signature=signature))
        )
    with pytest.raises((UsageError, NotFound)):
        exported(filled, tmp_path / "x.tar", sign_with=tmp_path / "no-key")
    assert not (tmp_path / "x.tar").exists() and not (tmp_path / "s").exists()


@needs_ssh_keygen
def test_signed_lock_vouches_for_a_store_a_stream_or_a_host(
    filled: Store, tmp_path: Path, key: Path, allowed: Path
) -> None:
    from ollama_ferry.jobs.signing import sign

    path = tmp_path / "models.lock"
    lock = lock_of(filled, filled.names())
    path.write_text(lock.text)
    with pytest.raises(NotAsLocked, match="is not signed"):
        read_lock(path, allowed)
    path.with_name("models.lock.sig").write_text(sign(lock.text, key))
    assert read_lock(path, allowed) == lock
    path.write_text(lock.text.replace("qwen3:8b", "qwen3:9b"))
    with pytest.raises(NotAsLocked, match=r"not the models that lab@example\.org has signed"):
        read_lock(path, allowed)


@needs_ssh_keygen
@needs.root("acts as root, and as another user")
def test_signers_that_only_root_may_read_are_asked_for_another_users_store(
    filled: Store, tmp_path: Path, key: Path, allowed: Path
) -> None:
    archive = exported(filled, tmp_path / "signed.tar", sign_with=key)
    allowed.chmod(0o600)
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        os.chown(folder, 65534, 65534)
        taken = api.import_archive(archive, store=Path(folder), signers=allowed)
        assert len(taken.models) == 2
        assert {path.stat().st_uid for path in Path(folder).rglob("*")} == {65534}


@needs_ssh_keygen
def test_store_in_a_folder_here_takes_what_the_environment_asks_for(
    filled: Store, tmp_path: Path, key: Path, allowed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    signed, unsigned = (
        exported(filled, tmp_path / name, sign_with=by) for name, by in (("s.tar", key), ("u.tar", None))
    )
    monkeypatch.setenv("OLLAMA_FERRY_SIGNERS", str(allowed))
    target = tmp_path / "stick/models"
    for source in ({"store": filled.root}, {"archive": unsigned}):
        for job in (api.plan_send, api.send):
            with pytest.raises(NotAsLocked, match="is not signed"):
                job("*", str(target), **source)  # type: ignore[arg-type]
    assert not target.exists()
    assert not api.send("*", str(target), archive=signed)[0].error
    assert (target / "manifests").is_dir()


@needs_ssh_keygen
def test_stream_is_signed_in_its_index(filled: Store, tmp_path: Path, key: Path) -> None:
    out = io.BytesIO()
    planned = plan_export(filled, filled.names())
    export_to_stream(filled, planned, out, Kind.TAR_GZ, ExportOptions(sign_with=key))
    path = tmp_path / "saved.tar.gz"
    path.write_bytes(out.getvalue())
    with ArchiveFile(path) as file:
        assert file.index is not None and file.index.signature.startswith("-----BEGIN SSH SIGNATURE-----")


class Changing(Store):
    """A store whose owner exchanges a manifest when it has been read so many times."""

    def __init__(self, root: Path, reads: int, other: Manifest) -> None:
        super().__init__(root)
        self._left = reads
        self._other = other

    def manifest(self, name: ModelName) -> Manifest:
        self._left -= 1
        return super().manifest(name) if self._left >= 0 else self._other


@pytest.mark.parametrize("reads", range(8))
@pytest.mark.parametrize("job", ["fetch", "send"])
def test_what_was_looked_at_is_what_is_carried(filled: Store, tmp_path: Path, job: str, reads: int) -> None:
    name, other = ModelName.parse("qwen3:8b"), ModelName.parse("gemma3:4b")
    lock = lock_of(filled, [name])
    source = Changing(filled.root, reads, filled.manifest(other))
    target = Store(tmp_path / "target")
    trust = Trust(lock, part=True)
    try:
        if job == "fetch":
            import_source(source, target, ImportOptions(only=(str(name),), trust=trust))
        else:
            (sent,) = send(source, [name], [FolderTarget(target.root)], SendOptions(trust=trust))
            assert sent.error is None
    except NotAsLocked:
        assert not list(target.names())
    else:
        assert target.manifest(name).digest == lock.models[name]
