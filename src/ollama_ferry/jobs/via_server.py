"""Import through a running server, where nobody may write into its store: it pulls the models from us.

A registry of our own serves the archive to that one server, which pulls each model under a temporary name; it gets its
own name by a copy, and the temporary one is removed. The server hashes what it pulls. What was killed before it could
remove the temporary name leaves it to the next import through that server.

Several may be at work at one server. The end of one prunes folders and blobs that another one counts on, so all that a
server is asked for is tried again, and a pull once more when the model has its name: what was pruned before that comes
back then, and nothing is pruned afterwards.
"""

from __future__ import annotations

import json
import random
import re
import socket
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from ollama_ferry.engine.events import Advanced, ModelDone, Started
from ollama_ferry.engine.rate import sleep_until
from ollama_ferry.engine.run import Run
from ollama_ferry.errors import Cancelled, FerryError, ModelNotFound, Refused, Unreachable
from ollama_ferry.jobs.claims import Claims, ExistingModel, require_distinct, require_one
from ollama_ferry.jobs.import_choices import ImportOptions
from ollama_ferry.jobs.serve import choose_of_archive
from ollama_ferry.jobs.sources import contents_of
from ollama_ferry.model.manifests import Digest, Manifest
from ollama_ferry.model.names import ModelName, Spelling
from ollama_ferry.ollama.api import ServerApi
from ollama_ferry.places.registry.manifest_forms import DOCKER_TYPE
from ollama_ferry.places.store.store import Store
from ollama_ferry.serving.addresses import Address, outward
from ollama_ferry.serving.served_models import ServedModel, ServedModels
from ollama_ferry.serving.server import Server

T = TypeVar("T")

_LOOPBACK = Address("127.0.0.1", 0)
_HTTP = 80
_NAMESPACE = "ollama-ferry"
_TEMPORARY = re.compile(rf"{_NAMESPACE}-[0-9]+")
# Servers read some tags, ``local`` and those that end in ``cloud``, as something else (``internal/modelref`` of 0.33).
_TAG = "ferry"
# How long a server may take to notice that its client has gone, and to write the name that is to be removed; seconds.
_NOTICE = 3.0
# What a server says whose files another one's end has pruned in the middle of a pull or copy, on any system.
_PRUNED = re.compile(r"no such (file|model)|not exist|cannot find|not empty|not found|digest mismatch", re.IGNORECASE)
_ATTEMPTS = 8
_CONFIG = "application/vnd.docker.container.image.v1+json"
_TENSOR = "application/vnd.ollama.image.tensor"
_FIRST_WAIT = 0.1


@dataclass(frozen=True)
class ModelOnServer:
    """A model that a server has now.

    Attributes:
        name: its name there.
        source: its name in the archive.
        manifest: its manifest in the archive.
        id: what the server calls it: the SHA-256 of its own manifest, in hexadecimal.
        was_there: it was there before, the same.
    """

    name: ModelName
    source: ModelName
    manifest: Manifest
    id: str
    was_there: bool

    @property
    def same_id(self) -> bool:
        """Whether the server has kept the manifest's bytes; up to 0.12 it writes them anew, and the ID changes."""
        return self.id in (self.manifest.digest.hex, self.manifest.listed_digest.hex)


@dataclass(frozen=True)
class Given:
    """What an import through a server did.

    Attributes:
        archive: what the archive is called.
        server: the server's address.
        models: the models that it has now.
        size: the bytes that it pulled.
        seconds: how long it took.
    """

    archive: str
    server: str
    models: tuple[ModelOnServer, ...]
    size: int
    seconds: float


def import_via_server(
    path: Path,
    api: ServerApi,
    options: ImportOptions,
    *,
    listen: Address = _LOOPBACK,
    run: Run | None = None,
) -> Given:
    """Let a server pull the models of an archive from us.

    Args:
        path: the archive; a packed one needs an index.
        api: the server.
        options: which models, and under which names; ``verify_existing`` has no meaning here.
        listen: where to serve: an address that the server can reach. Port 80 leaves the port out of the temporary name,
            which a server on Windows needs.
        run: notified of the bytes that arrive there; stops it at the server's next word.

    Raises:
        UsageError: the archive can't be searched, or two models would get one name.
        AlreadyExists: the server has another model of that name.
        Unreachable: the server can't be reached.
        FerryError: it could not pull; nothing temporary stays, and it keeps what it has of a blob for the next time.
    """
    run = run or Run()
    with choose_of_archive(path, options.wanted) as (source, models, left_out):
        taken = {model.name: model.manifest for model in models}
        contents = contents_of(source)
        options.trust.signed(contents.signature).check(taken, contents.models, source.label)
        for one in left_out:
            run.note(f"left out: {one.why}")
        existing = _insist(lambda: _without_leftovers(api), run)
        wanted = _named(models, existing, options)
        missing = [model for model in wanted if existing.get(model.name) not in _ids(model.served.manifest)]
        claims = Claims(f"the server at {api.address}", replace=options.replace)
        for model in missing:
            other = ExistingModel(same=False, id=existing[model.name][:12]) if model.name in existing else None
            claims.claim(model.served.name, model.name, model.name.key, other)
        claims.raise_conflicts("nothing was imported")
        served_models = ServedModels(source, [model.served for model in missing])
        blobs = {blob.digest: blob for model in missing for blob in model.served.manifest.blobs}
        run.notify(Started(len(missing), len(blobs), sum(blob.size for blob in blobs.values())))
        arrived = _Arrived(run)
        if missing:
            _require_tensors_taken(api, missing, listen, run)
            with Server(served_models, listen) as server:
                host = outward(listen, server.host, server.port)
                for model in missing:
                    run.check()
                    _let_pull(api, model, host.removesuffix(f":{_HTTP}"), arrived, run)
                    run.notify(ModelDone(model.name))
    return Given(str(path), str(api.address), _models_on_server(api, wanted, missing, run), arrived.total, run.seconds)


def _models_on_server(
    api: ServerApi, wanted: Sequence[_Wanted], missing: Sequence[_Wanted], run: Run
) -> tuple[ModelOnServer, ...]:
    """Ask the server what it has now."""
    now = _insist(api.models, run)
    listed = []
    for model in wanted:
        found = now.get(model.name)
        if found is None:
            raise FerryError(f"the server at {api.address} does not list {model.name} after all")
        listed.append(ModelOnServer(model.name, model.served.name, model.served.manifest, found, model not in missing))
        if not listed[-1].same_id:
            said = (
                f"{model.name} has the ID {found[:12]} there: this server writes manifests anew; its blobs are the same"
            )
            run.note(said)
    return tuple(listed)


@dataclass(frozen=True)
class _Wanted:
    name: ModelName
    served: ServedModel


def _named(models: Sequence[ServedModel], existing: dict[ModelName, str], options: ImportOptions) -> list[_Wanted]:
    """Decide under which name each model goes there, and under which path it is served."""
    if options.rename.only is not None:
        require_one(models, "the archive")
    spelling = Spelling(existing)
    found: list[_Wanted] = []
    for number, model in enumerate(models):
        name = spelling.of(options.rename.of(model.name) or model.name)
        # A namespace of its own for each: two hosts may have models of the same name.
        served = ServedModel(model.name, model.manifest, f"{_NAMESPACE}-{number}/{model.name.model}", _TAG)
        found.append(_Wanted(name, served))
    require_distinct((wanted.served.name, wanted.name.key) for wanted in found)
    return found


def _require_tensors_taken(api: ServerApi, missing: Sequence[_Wanted], listen: Address, run: Run) -> None:
    """Give the server the smallest model of tensors, where such models are to come, and see what becomes of it.

    Raises:
        FerryError: it takes none, or drops the names of tensors; no byte of the models has moved.
    """
    model = next((model for model in missing if _has_tensors(model.served.manifest)), None)
    if model is None:
        return
    whose = f"{model.name} is a model of tensors, and the server at {api.address}"
    hint = (
        "An Ollama from 0.32 on that has MLX takes it, and so does any store that may be written by the import itself."
    )
    with tempfile.TemporaryDirectory(prefix="ollama-ferry-") as folder:
        probe = _probe(Store(Path(folder)))
        with Server(ServedModels(Store(Path(folder)), [probe]), listen) as server:
            temporary = f"{outward(listen, server.host, server.port).removesuffix(f':{_HTTP}')}/{probe.path}"
            with _removed_afterwards(api, temporary, run):
                try:
                    _pull(api, temporary, _Arrived(Run(cancel=run.cancel)), run)
                except Refused as error:
                    raise Refused(f"{whose} takes none: {error.message}; nothing was imported", hint=hint) from error
                name = ModelName.parse(temporary)
                if _insist(api.models, run).get(name, probe.manifest.digest.hex) != probe.manifest.digest.hex:
                    raise Refused(f"{whose} drops the names of tensors from manifests; nothing was imported", hint=hint)


def _probe(store: Store) -> ServedModel:
    """Write a model of one tensor, of no use, into an empty store."""
    store.blobs_folder.mkdir()
    described = []
    for kind, content in ((_CONFIG, b'{"model_format":"safetensors"}'), (_TENSOR, b"no weights")):
        digest = Digest.of(content)
        store.blob_path(digest).write_bytes(content)
        described.append({"mediaType": kind, "digest": str(digest), "size": len(content)})
    config, tensor = described
    document = {
        "schemaVersion": 2,
        "mediaType": DOCKER_TYPE,
        "config": config,
        "layers": [{**tensor, "name": "ferry.weight"}],
    }
    manifest = Manifest.parse(json.dumps(document, separators=(",", ":")).encode())
    return ServedModel(ModelName.parse("ferry-probe"), manifest, f"{_NAMESPACE}-0/ferry-probe", _TAG)


def _has_tensors(manifest: Manifest) -> bool:
    return any(layer.media_type == _TENSOR for layer in manifest.layers)


def _let_pull(api: ServerApi, model: _Wanted, host: str, arrived: _Arrived, run: Run) -> None:
    temporary = f"{host}/{model.served.path}"
    with _removed_afterwards(api, temporary, run):

        def give() -> None:
            _pull(api, temporary, arrived, run)
            api.copy(temporary, str(model.name))
            # What is there is not asked for again.
            _pull(api, temporary, arrived, run)

        _insist(give, run)


def _insist(ask: Callable[[], T], run: Run) -> T:
    """Ask a server for something until it is not disturbed by what it prunes for another one.

    Raises:
        FerryError: it fails in another way, or again and again.
    """
    for attempt in range(1, _ATTEMPTS):
        try:
            return ask()
        except (Refused, ModelNotFound) as error:
            if not _PRUNED.search(error.message):
                raise
            run.explain(f"{error.message}; trying again, for another import may have ended there meanwhile")
        wait = _FIRST_WAIT * attempt * random.uniform(0.5, 1.5)  # noqa: S311 -- no secret
        sleep_until(time.monotonic() + wait, run.cancel)
    return ask()


def _pull(api: ServerApi, temporary: str, arrived: _Arrived, run: Run) -> None:
    with api.pulling(f"http://{temporary}") as pulling:
        try:
            for said in pulling:
                run.check()
                arrived.note(said.digest, said.completed)
        except (Cancelled, KeyboardInterrupt):
            # It would give the model its name after we have looked for that in vain.
            why = f"the server is hashing, which can't be stopped: waiting for its end, to remove {temporary}"
            try:
                pulling.outlast_hashing(lambda: run.note(why))
            except KeyboardInterrupt:
                run.note(f"{temporary} will be there; the next import through the server removes it")
            raise


@contextmanager
def _removed_afterwards(api: ServerApi, name: str, run: Run) -> Iterator[None]:
    try:
        yield
    except FerryError as error:
        # What failed before is the news.
        with suppress(FerryError):
            _remove(api, name, Run(), patience=_NOTICE if isinstance(error, Cancelled | Unreachable) else 0.0)
        raise
    except BaseException:
        with suppress(FerryError):
            _remove(api, name, Run(), patience=_NOTICE)
        raise
    _remove(api, name, run)


def _remove(api: ServerApi, name: str, run: Run, *, patience: float = 0.0) -> None:
    """Remove a temporary name; a pull that was broken off may write it a little later."""
    end, trouble = time.monotonic() + patience, 0
    while True:
        try:
            api.delete(name)
            return
        except ModelNotFound:
            # Said as well of a name that is there, while another one's folders are pruned.
            if time.monotonic() >= end and ModelName.parse(name) not in _insist(api.models, run):
                return
        except Refused as error:
            trouble += 1
            if trouble == _ATTEMPTS or not _PRUNED.search(error.message):
                raise
        sleep_until(time.monotonic() + _FIRST_WAIT, run.cancel)


def _without_leftovers(api: ServerApi) -> dict[ModelName, str]:
    """List the server's models, and remove what a killed import has left there: nobody serves it any more."""
    found = api.models()
    for name in [name for name in found if _TEMPORARY.fullmatch(name.namespace)]:
        host, _, port = name.host.partition(":")
        try:
            socket.create_connection((host, int(port or _HTTP)), timeout=1.0).close()
        except (OSError, ValueError):
            with suppress(FerryError):
                api.delete(str(name))
            del found[name]
    return found


def _ids(manifest: Manifest) -> tuple[str, ...]:
    """Return what a server may call a model: the SHA-256 of its manifest as it is, and as servers up to 0.12 write it.

    Of the one as it is, a server may read not quite all; see :attr:`Manifest.listed_digest`.

    Source: ``PullModel`` in ``server/images.go`` and ``Manifest`` in ``server/manifest.go`` of Ollama 0.12: a manifest
    is read into a struct and written by Go's ``json.Marshal``, which leaves out the names of tensors: then it is
    another model.
    """
    if _has_tensors(manifest):
        return manifest.digest.hex, manifest.digest.hex
    read = json.loads(manifest.raw)

    def layer(entry: dict[str, object]) -> dict[str, object]:
        kept = {key: entry.get(key, 0 if key == "size" else "") for key in ("mediaType", "digest", "size")}
        return {**kept, "from": entry["from"]} if entry.get("from") else kept

    try:
        config, layers = layer(read["config"]), [layer(entry) for entry in read["layers"]]
    except (KeyError, TypeError, AttributeError):
        return manifest.digest.hex, manifest.listed_digest.hex
    document = {
        "schemaVersion": read.get("schemaVersion", 0),
        "mediaType": read.get("mediaType", ""),
        "config": config,
        "layers": layers,
    }
    text = json.dumps(document, separators=(",", ":"), ensure_ascii=False)
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return manifest.digest.hex, manifest.listed_digest.hex, Digest.of(text.encode("utf-8", "surrogatepass")).hex


class _Arrived:
    """Adds up what a server says of each blob."""

    def __init__(self, run: Run) -> None:
        self._run = run
        self._blobs: dict[str, int] = {}
        self.total = 0

    def note(self, digest: str, completed: int) -> None:
        more = completed - self._blobs.get(digest, 0) if digest else 0
        if more > 0:
            self._blobs[digest] = completed
            self.total += more
            self._run.notify(Advanced(more))
