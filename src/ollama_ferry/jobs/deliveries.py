"""Several targets as one sink: what is put goes to each that lacks it, and one that fails does not stop the others."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from queue import Empty, Full, Queue
from threading import Thread
from typing import ParamSpec, Protocol, runtime_checkable

from ollama_ferry.engine.plan import NotCarried, Plan
from ollama_ferry.engine.ports import Prepares, Readable, Sink
from ollama_ferry.engine.run import Run
from ollama_ferry.errors import Cancelled, Damaged, FerryError, Vanished, exhaustion_of
from ollama_ferry.jobs.claims import Claims, ExistingModel
from ollama_ferry.jobs.send_targets import SendTarget
from ollama_ferry.model.manifests import Descriptor, Digest, Manifest
from ollama_ferry.model.names import ModelName

P = ParamSpec("P")

_CHUNK = 1024 * 1024
_CHUNKS_AHEAD = 4


@dataclass
class Sent:
    """What became of one target.

    Attributes:
        target: what it is called.
        root: the store's folder there.
        sent: the models that are there now and were not before.
        were_there: the models that were there, whole and the same.
        blobs: how many blobs were moved, or would be.
        size: their bytes, but for those that an earlier run had sent.
        resumed: those.
        seconds: how long it took.
        error: why it failed, or None.
        not_carried: what was asked for by a pattern, or as all, and can't be sent to anybody.
    """

    target: str
    root: str = ""
    sent: list[ModelName] = field(default_factory=list)
    were_there: list[ModelName] = field(default_factory=list)
    blobs: int = 0
    size: int = 0
    resumed: int = 0
    seconds: float = 0.0
    error: FerryError | None = None
    not_carried: tuple[NotCarried, ...] = ()


@runtime_checkable
class Aborts(Protocol):
    """A sink that may hang, and can be told to give up from another thread."""

    def abort(self) -> None:
        """Give up what is under way."""
        ...


@dataclass
class Delivery:
    """One target under way.

    Attributes:
        target: where it goes.
        sent: what is told of it.
        names: for each model that it needs, the name that it gets there.
        needs: the blobs of these models.
        sink: where it writes to, once it does.
        arrived: the models that it has got, by the names that they have there.
    """

    target: SendTarget
    sent: Sent
    names: dict[ModelName, ModelName] = field(default_factory=dict)
    needs: set[Digest] = field(default_factory=set)
    sink: Sink | None = None
    arrived: set[ModelName] = field(default_factory=set)

    def attempt(self, what: Callable[P, None], *args: P.args, **kwargs: P.kwargs) -> bool:
        """Do something; a failure is this target's own."""
        try:
            what(*args, **kwargs)
        except Cancelled:
            raise
        except (FerryError, OSError, ValueError) as error:
            # What one target makes of itself is not to stop the others.
            self.fail(error)
            return False
        return True

    def compare(self, wanted: Plan, *, replace: bool, checksum: bool) -> None:
        """Find out what is there, and which models are to be sent."""
        self.sent.root, found = self.target.existing([model.name for model in wanted.models])
        if checksum:
            self.target.doubt(wanted.blobs)
        claims = Claims(self.sent.target, replace=replace, refuses=self.target.refuses)
        for model in wanted.models:
            spelt, manifest = found[model.name]
            existing = ExistingModel.of(manifest, model.manifest)
            if not claims.claim(model.name, spelt, spelt.key, existing):
                continue
            if existing is not None and existing.same and all(self.target.has(blob) for blob in model.manifest.blobs):
                self.sent.were_there.append(spelt)
                continue
            self.names[model.name] = spelt
            self.needs.update(blob.digest for blob in model.manifest.blobs)
        claims.raise_conflicts("nothing was sent")

    def foretell(self, wanted: Plan) -> None:
        """Tell what would be sent, as if it had been."""
        moving = [blob for blob in wanted.blobs if blob.digest in self.needs and not self.target.has(blob)]
        self.sent.blobs = len(moving)
        self.sent.size = sum(blob.size - self.target.begun(blob) for blob in moving)
        self.sent.sent = sorted(self.names.values())

    def fail(self, error: BaseException) -> None:
        """Give this target up; the first failure is the one that is told."""
        if self.sent.error is None:
            failure = exhaustion_of(error) or FerryError(f"{self.sent.target} failed: {error}")
            self.sent.error = error if isinstance(error, FerryError) else failure

    def begin(self, stack: ExitStack, run: Run, wanted: Plan, *, replace: bool, checksum: bool) -> None:
        """Begin to write; who was waited for may have sent the same meanwhile, or another model of that name."""
        self.sink = self.target.sink(stack, run)
        if self.target.waited:
            self.names.clear()
            self.needs.clear()
            self.sent.were_there.clear()
            self.compare(wanted, replace=replace, checksum=checksum)


class AllFailed(FerryError):
    """No target is left."""


class Deliveries:
    """Several sinks as one: what is put goes to each that lacks it."""

    def __init__(self, deliveries: list[Delivery]) -> None:
        self._deliveries = deliveries

    @property
    def _active(self) -> list[tuple[Delivery, Sink]]:
        found = [(one, one.sink) for one in self._deliveries if one.sent.error is None and one.sink is not None]
        if not found:
            raise AllFailed("no target is left")
        return found

    def has(self, blob: Descriptor) -> bool:
        return all(blob.digest not in delivery.needs or sink.has(blob) for delivery, sink in self._active)

    def prepare(self, planned: Plan) -> None:
        for delivery, sink in self._active:
            own = Plan(
                tuple(model for model in planned.models if model.name in delivery.names),
                tuple(blob for blob in planned.blobs if blob.digest in delivery.needs and not sink.has(blob)),
            )
            if isinstance(sink, Prepares):
                delivery.attempt(sink.prepare, own)

    def put(self, blob: Descriptor, data: Readable) -> None:
        lacking = [
            (delivery, sink) for delivery, sink in self._active if blob.digest in delivery.needs and not sink.has(blob)
        ]
        if len(lacking) == 1 and not isinstance(lacking[0][1], Aborts):
            self._put_here(*lacking[0], blob, data)
            return
        shares = [_Share(delivery, sink, blob) for delivery, sink in lacking]
        try:
            while chunk := data.read(_CHUNK):
                for share in shares:
                    share.feed(chunk)
        except BaseException as error:
            for share in shares:
                share.abort(error)
            for share in shares:
                share.wait()
            raise
        for share in shares:
            share.feed(b"")
        for share in shares:
            share.wait()
        # Raises where this was the last one.
        _ = self._active

    def _put_here(self, delivery: Delivery, sink: Sink, blob: Descriptor, data: Readable) -> None:
        """Put a blob into the one target that lacks it, which can't hang: a folder may have the system copy it."""
        begun = delivery.target.begun(blob)
        try:
            sink.put(blob, data)
        except Damaged:
            # It is the source that is at fault.
            raise
        except (FerryError, OSError, ValueError) as error:
            if isinstance(error, Cancelled):
                raise
            delivery.fail(error)
            # Raises where this was the last one.
            _ = self._active
            while data.read(_CHUNK):
                pass
        else:
            delivery.sent.blobs += 1
            delivery.sent.size += blob.size - begun

    def publish_model(self, name: ModelName, manifest: Manifest) -> None:
        vanished: Vanished | None = None
        for delivery, sink in self._active:
            spelt = delivery.names.get(name)
            if spelt is None or spelt in delivery.arrived:
                continue
            if delivery.attempt(sink.publish_model, spelt, manifest):
                delivery.sent.sent.append(spelt)
                delivery.arrived.add(spelt)
            elif isinstance(delivery.sent.error, Vanished):
                # Whoever copies plans anew, and gives up in the end.
                vanished, delivery.sent.error = delivery.sent.error, None
        if vanished is not None:
            raise vanished


class _Share:
    """One target's share of a blob, on a thread of its own."""

    def __init__(self, delivery: Delivery, sink: Sink, blob: Descriptor) -> None:
        self._delivery = delivery
        self._sink = sink
        self._blob = blob
        self._chunks: Queue[bytes | BaseException] = Queue(_CHUNKS_AHEAD)
        self._ended = False
        self._failure: BaseException | None = None
        self._begun = delivery.target.begun(blob)
        self._thread = Thread(target=self._run, name="send", daemon=True)
        self._thread.start()

    def feed(self, chunk: bytes | BaseException) -> None:
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
        self.feed(error)

    def wait(self) -> None:
        self._thread.join()
        if self._failure is None and self._delivery.sent.error is None:
            self._delivery.sent.blobs += 1
            self._delivery.sent.size += self._blob.size - self._begun
            self._delivery.sent.resumed += self._begun
        elif self._failure is not None and not isinstance(self._failure, KeyboardInterrupt):
            self._delivery.fail(self._failure)

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
        except BaseException as error:  # noqa: BLE001 -- raised by wait()
            self._failure = error
            try:
                while True:
                    self._chunks.get_nowait()
            except Empty:
                pass
