"""Send models of a store to other places, several at once: read and hashed here once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from queue import Empty, Full, Queue
from threading import Thread
from typing import ParamSpec, Protocol, runtime_checkable

from ollama_ferry.engine.buffers import keep_freed_buffers
from ollama_ferry.engine.copy import copy, plan
from ollama_ferry.engine.inspect import require_whole
from ollama_ferry.engine.plan import Plan
from ollama_ferry.engine.ports import Prepares, Readable, Sink
from ollama_ferry.engine.run import Run
from ollama_ferry.errors import AlreadyExists, Cancelled, Damaged, FerryError, UsageError, Vanished
from ollama_ferry.model.manifests import Descriptor, Digest, Manifest
from ollama_ferry.model.names import ModelName, Spelling
from ollama_ferry.places.ssh.place import SshPlace
from ollama_ferry.places.store.sink import StoreSink
from ollama_ferry.places.store.store import Store

P = ParamSpec("P")

_CHUNK = 1024 * 1024
_CHUNKS_AHEAD = 4
_ATTEMPTS = 3


@dataclass(frozen=True)
class SendOptions:
    """How models are sent.

    Attributes:
        replace: whether a model of the same name and another content may be replaced.
        checksum: let the target hash what it has already before it counts as there.
    """

    replace: bool = False
    checksum: bool = False


@dataclass
class Sent:
    """What became of one target.

    Attributes:
        target: what it is called.
        root: the store's folder there.
        sent: the models that are there now and were not before.
        were_there: the models that were there, whole and the same.
        blobs: how many blobs were moved, or would be.
        size: their bytes.
        seconds: how long it took.
        error: why it failed, or None.
    """

    target: str
    root: str = ""
    sent: list[ModelName] = field(default_factory=list)
    were_there: list[ModelName] = field(default_factory=list)
    blobs: int = 0
    size: int = 0
    seconds: float = 0.0
    error: FerryError | None = None


class Target(Protocol):
    """Where models are sent to."""

    label: str

    def look_for(self, names: list[ModelName]) -> tuple[str, dict[ModelName, tuple[ModelName, Manifest | None]]]:
        """Return the store's folder, and for each name how it is spelt there and what is there under it."""
        ...

    def doubt(self, blobs: Iterable[Descriptor]) -> None:
        """Hash blobs that are there; those that are damaged count as missing from now on."""
        ...

    def sink(self, stack: ExitStack, run: Run) -> Sink:
        """Begin to write."""
        ...

    def has(self, blob: Descriptor) -> bool:
        """Tell whether a blob is there with its size."""
        ...

    def begun(self, blob: Descriptor) -> int:
        """Return how many bytes of a blob are there of an earlier run, and are not moved again."""
        ...


@runtime_checkable
class Aborts(Protocol):
    """A sink that may hang, and can be told to give up from another thread."""

    def abort(self) -> None:
        """Give up what is under way."""
        ...


class SshTarget:
    """A store on a host."""

    def __init__(self, place: SshPlace) -> None:
        self.label = place.label
        self._place = place

    def look_for(self, names: list[ModelName]) -> tuple[str, dict[ModelName, tuple[ModelName, Manifest | None]]]:
        looked = self._place.look(names)
        spelling = Spelling(looked.names)
        spelt = {name: spelling.of(name) for name in names}
        if any(other in looked.names and other not in looked.manifests for other in spelt.values()):
            looked = self._place.look(spelt.values())
        return looked.root, {name: (other, looked.manifests.get(other)) for name, other in spelt.items()}

    def doubt(self, blobs: Iterable[Descriptor]) -> None:
        there = [blob for blob in blobs if self._place.looked.blobs.get(blob.digest) == blob.size]
        if there:
            for blob, found in self._place.hashes(there):
                if found != blob.digest.hex:
                    del self._place.looked.blobs[blob.digest]

    def sink(self, stack: ExitStack, run: Run) -> Sink:
        return stack.enter_context(self._place)

    def has(self, blob: Descriptor) -> bool:
        return self._place.has(blob)

    def begun(self, blob: Descriptor) -> int:
        return self._place.begun(blob)


class FolderTarget:
    """A store in a folder of this machine, such as one on a stick."""

    def __init__(self, root: Path) -> None:
        self.label = str(root)
        self._store = Store(root)
        self._doubting = False

    def look_for(self, names: list[ModelName]) -> tuple[str, dict[ModelName, tuple[ModelName, Manifest | None]]]:
        spelling = Spelling(self._store.names())
        found: dict[ModelName, tuple[ModelName, Manifest | None]] = {}
        for name in names:
            spelt = spelling.of(name)
            manifest = None
            if self._store.manifest_path(spelt).is_file():
                try:
                    manifest = self._store.manifest(spelt)
                except Damaged:
                    manifest = None
            found[name] = (spelt, manifest)
        return str(self._store.root), found

    def doubt(self, blobs: Iterable[Descriptor]) -> None:
        self._doubting = True

    def sink(self, stack: ExitStack, run: Run) -> Sink:
        return stack.enter_context(StoreSink(self._store, doubting=self._doubting, run=run))

    def has(self, blob: Descriptor) -> bool:
        return not self._doubting and self._store.has(blob)

    def begun(self, blob: Descriptor) -> int:
        return 0


def send(
    store: Store,
    names: Iterable[ModelName],
    targets: Iterable[Target],
    options: SendOptions,
    *,
    dry_run: bool = False,
    run: Run | None = None,
) -> list[Sent]:
    """Send models to some targets; one that fails does not stop the others.

    Args:
        store: where the models are.
        names: the models, spelt as in the store.
        targets: where they go.
        options: how.
        dry_run: find out what would be sent, and send nothing.
        run: told of every step; a blob that goes to several targets counts once; stops it at the next chunk.

    Returns:
        What became of each target, in the order given.

    Raises:
        ModelNotFound, Damaged: a model can't be sent at all.
        Cancelled: it was given up.
    """
    run = run or Run()
    keep_freed_buffers()
    wanted = plan(store, None, names)
    for model in wanted.models:
        require_whole(store, model.name, model.manifest)
    boats = [_Boat(target, Sent(target.label)) for target in targets]
    twice = [label for label, count in Counter(boat.sent.target for boat in boats).items() if count > 1]
    if twice:
        raise UsageError(f"{twice[0]} was named twice as a target")
    for boat in boats:
        boat.attempt(boat.look, wanted, options)
    under_way = [boat for boat in boats if boat.sent.error is None and boat.names]
    if dry_run:
        for boat in under_way:
            moving = [blob for blob in wanted.blobs if blob.digest in boat.needs and not boat.target.has(blob)]
            boat.sent.blobs, boat.sent.size = len(moving), sum(blob.size - boat.target.begun(blob) for blob in moving)
            boat.sent.sent = sorted(boat.names.values())
    elif under_way:
        _carry(store, under_way, run)
    for boat in boats:
        boat.sent.seconds = run.seconds
    return [boat.sent for boat in boats]


@dataclass
class _Boat:
    """One target under way.

    Attributes:
        target: where it goes.
        sent: what is told of it.
        names: for each model that it needs, the name that it gets there.
        needs: the blobs of these models.
        sink: where it writes to, once it does.
        vanished: how often a blob had gone from there when its model was to be published.
    """

    target: Target
    sent: Sent
    names: dict[ModelName, ModelName] = field(default_factory=dict)
    needs: set[Digest] = field(default_factory=set)
    sink: Sink | None = None
    vanished: int = 0

    def attempt(self, what: Callable[P, None], *args: P.args, **kwargs: P.kwargs) -> bool:
        """Do something; a failure is this target's own."""
        try:
            what(*args, **kwargs)
        except Cancelled:
            raise
        except FerryError as error:
            self.sent.error = error
            return False
        except (OSError, ValueError) as error:
            # What one target makes of itself is not to stop the others.
            self.sent.error = FerryError(f"{self.sent.target} failed: {error}")
            return False
        return True

    def look(self, wanted: Plan, options: SendOptions) -> None:
        """Find out what is there, and which models are to be sent."""
        self.sent.root, found = self.target.look_for([model.name for model in wanted.models])
        if options.checksum:
            self.target.doubt(wanted.blobs)
        conflicts = []
        for model in wanted.models:
            spelt, there = found[model.name]
            if there is not None and there.raw == model.manifest.raw:
                if all(self.target.has(blob) for blob in model.manifest.blobs):
                    self.sent.were_there.append(spelt)
                    continue
            elif there is not None and not options.replace:
                conflicts.append(f"{spelt} is there already, as {there.digest.short}, and is another one")
                continue
            self.names[model.name] = spelt
            self.needs.update(blob.digest for blob in model.manifest.blobs)
        if conflicts:
            raise AlreadyExists(
                f"{self.sent.target}: {'; '.join(conflicts)} (nothing was sent)",
                hint="Replace what is there with --force, or send other models.",
            )

    def begin(self, stack: ExitStack, run: Run) -> None:
        """Begin to write."""
        self.sink = self.target.sink(stack, run)


def _carry(store: Store, boats: list[_Boat], run: Run) -> None:
    with ExitStack() as stack:
        for boat in boats:
            boat.attempt(boat.begin, stack, run)
        fleet = _Fleet(boats)
        names = {name for boat in boats for name in boat.names}
        while True:
            try:
                copy(plan(store, fleet, names), store, fleet, run)
                return
            except Vanished as error:
                run.note(f"{error}; sending it again")
            except _AllGone:
                return


class _AllGone(FerryError):
    """No target is left."""


class _Fleet:
    """Several sinks as one: what is put goes to each that lacks it."""

    def __init__(self, boats: list[_Boat]) -> None:
        self._boats = boats

    @property
    def _under_way(self) -> list[tuple[_Boat, Sink]]:
        found = [(boat, boat.sink) for boat in self._boats if boat.sent.error is None and boat.sink is not None]
        if not found:
            raise _AllGone("no target is left")
        return found

    def has(self, blob: Descriptor) -> bool:
        return all(blob.digest not in boat.needs or sink.has(blob) for boat, sink in self._under_way)

    def prepare(self, planned: Plan) -> None:
        for boat, sink in self._under_way:
            own = Plan(
                tuple(model for model in planned.models if model.name in boat.names),
                tuple(blob for blob in planned.blobs if blob.digest in boat.needs and not sink.has(blob)),
            )
            if isinstance(sink, Prepares):
                boat.attempt(sink.prepare, own)

    def put(self, blob: Descriptor, data: Readable) -> None:
        lacking = [(boat, sink) for boat, sink in self._under_way if blob.digest in boat.needs and not sink.has(blob)]
        feeds = [_Feed(boat, sink, blob) for boat, sink in lacking]
        try:
            while chunk := data.read(_CHUNK):
                for feed in feeds:
                    feed.give(chunk)
        except BaseException as error:
            for feed in feeds:
                feed.abort(error)
            for feed in feeds:
                feed.wait()
            raise
        for feed in feeds:
            feed.give(b"")
        for feed in feeds:
            feed.wait()
        # Raises where this was the last one.
        _ = self._under_way

    def commit(self, name: ModelName, manifest: Manifest) -> None:
        vanished: Vanished | None = None
        for boat, sink in self._under_way:
            there = boat.names.get(name)
            if there is None or there in boat.sent.sent:
                continue
            if boat.attempt(sink.commit, there, manifest):
                boat.sent.sent.append(there)
            elif isinstance(boat.sent.error, Vanished) and boat.vanished < _ATTEMPTS:
                boat.vanished += 1
                vanished, boat.sent.error = boat.sent.error, None
        if vanished is not None:
            raise vanished


class _Feed:
    """One target's share of a blob, on a thread of its own."""

    def __init__(self, boat: _Boat, sink: Sink, blob: Descriptor) -> None:
        self._boat = boat
        self._sink = sink
        self._blob = blob
        self._chunks: Queue[bytes | BaseException] = Queue(_CHUNKS_AHEAD)
        self._ended = False
        self._failure: BaseException | None = None
        self._begun = boat.target.begun(blob)
        self._thread = Thread(target=self._run, name="send", daemon=True)
        self._thread.start()

    def give(self, chunk: bytes | BaseException) -> None:
        while self._thread.is_alive():
            try:
                self._chunks.put(chunk, timeout=0.2)
                return
            except Full:
                continue

    def abort(self, error: BaseException) -> None:
        """Give up: the source has failed, or the user has had enough."""
        if isinstance(self._sink, Aborts):
            self._sink.abort()
        self.give(error)

    def wait(self) -> None:
        self._thread.join()
        failure = self._failure
        if isinstance(failure, FerryError):
            self._boat.sent.error = self._boat.sent.error or failure
        elif failure is not None and not isinstance(failure, KeyboardInterrupt):
            self._boat.sent.error = self._boat.sent.error or FerryError(f"{self._boat.sent.target} failed: {failure}")
        elif failure is None and self._boat.sent.error is None:
            self._boat.sent.blobs += 1
            self._boat.sent.size += self._blob.size - self._begun

    def read(self, size: int, /) -> bytes:
        if self._ended:
            return b""
        chunk = self._chunks.get()
        if isinstance(chunk, BaseException):
            raise chunk
        self._ended = not chunk
        return chunk

    def _run(self) -> None:
        try:
            self._sink.put(self._blob, self)
        except BaseException as error:  # noqa: BLE001 -- told by wait()
            self._failure = error
            try:
                while True:
                    self._chunks.get_nowait()
            except Empty:
                pass
