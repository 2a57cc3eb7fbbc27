"""Import: models of an archive into a store, verified, atomic and resumable."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from ollama_ferry.archives.unpacking import Input
from ollama_ferry.engine.carried import carried
from ollama_ferry.engine.completed import Completed
from ollama_ferry.engine.copy import Copied, copy_whole, plan
from ollama_ferry.engine.events import Started
from ollama_ferry.engine.inspect import cloud_stub, leaves_out, require_blob, runs_at
from ollama_ferry.engine.pinned import Pinned
from ollama_ferry.engine.plan import NotCarried, Plan, blobs_of, left_out_error
from ollama_ferry.engine.ports import Inspectable
from ollama_ferry.engine.run import Run
from ollama_ferry.engine.stream import copy_stream
from ollama_ferry.errors import CloudStub, Damaged, FerryError, LeftOut, MissingBlob, ModelNotFound, NotAModel
from ollama_ferry.files.disk import Disk, require_space
from ollama_ferry.jobs.import_choices import Choices, ImportedModel, ImportOptions
from ollama_ferry.jobs.select import covers, pick
from ollama_ferry.jobs.sources import contents_of, first_of, no_model_in, whole_folder
from ollama_ferry.jobs.trust import TrustedStream
from ollama_ferry.model.manifests import Descriptor, Digest, Manifest
from ollama_ferry.model.names import ModelName, is_pattern
from ollama_ferry.places.archive.contents import Contents
from ollama_ferry.places.archive.file import ArchiveFile
from ollama_ferry.places.archive.source import ArchiveSource, as_link, missing_hint
from ollama_ferry.places.archive.stream import ArchiveStream
from ollama_ferry.places.store.sink import StoreSink
from ollama_ferry.places.store.store import Store


@dataclass(frozen=True)
class Imported:
    """What an import did, or would do.

    Attributes:
        archive: what the archive is called.
        store: the store's folder.
        models: the models that are in the store now, sorted.
        blobs: the blobs that moved.
        present: the blobs that were here already.
        ignored: how many files in the archive are none of Ollama's.
        ignored_names: the first few of these.
        seconds: how long it took.
        resumed: how many bytes of the blobs that moved an earlier run had moved.
        not_carried: what was asked for by a pattern, or as all, and can't be carried.
    """

    archive: str
    store: Path
    models: tuple[ImportedModel, ...]
    blobs: tuple[Descriptor, ...]
    present: tuple[Descriptor, ...]
    ignored: int
    ignored_names: tuple[str, ...]
    seconds: float
    resumed: int = 0
    not_carried: tuple[NotCarried, ...] = ()

    @property
    def left_out(self) -> tuple[tuple[str, str], ...]:
        """What can't be carried: its name, and why."""
        return tuple((one.name, one.why.message) for one in self.not_carried)

    @property
    def size(self) -> int:
        """The bytes that moved."""
        return sum(blob.size for blob in self.blobs)


def plan_import(
    path: Path, store: Store, options: ImportOptions, *, others: Sequence[Path] = (), run: Run | None = None
) -> Imported:
    """Find out what :func:`import_file` would do, and whether it can; nothing is written.

    Raises:
        FerryError: it can't be done as asked.
    """
    run = run or Run()
    with ExitStack() as stack:
        if path.is_dir():
            source: Inspectable = whole_folder(path)
        else:
            file = stack.enter_context(ArchiveFile(path, on_read=run.advanced, lenient=options.lenient))
            if file.note:
                run.note(file.note)
            source = file.source() or _scanned(file, run)
        return plan_source(_completed(source, others, options, stack, run), store, options, run)


def plan_source(source: Inspectable, store: Store, options: ImportOptions, run: Run | None = None) -> Imported:
    """Find out what :func:`import_source` would do, and whether it can; nothing is written.

    Args:
        source: where the models are.
        store: where they would go.
        options: which models, and how.
        run: since when it has been at work.

    Raises:
        FerryError: it can't be done as asked.
    """
    run = run or Run()
    contents = contents_of(source)
    chosen, pinned = _choose(source, store, options)
    planned = plan(pinned, store, pinned.names())
    _require_blobs(source, planned)
    folder = next(path for path in (store.blobs_folder, *store.blobs_folder.parents) if path.exists())
    require_space(folder, planned.size, f"importing from {source.label}")
    return _result(source.label, chosen, planned, contents, run)


def import_file(
    path: Path,
    store: Store,
    options: ImportOptions,
    *,
    others: Sequence[Path] = (),
    disk: Disk | None = None,
    run: Run | None = None,
) -> Imported:
    """Import models of an archive's file, or of a folder, into a store.

    Args:
        path: the archive: any tar of Ollama's layout, packed or not, or a zip; or a folder with models in it.
        store: where to; it need not exist.
        options: which models, and how.
        others: archives and folders that blobs are taken from which this one lacks.
        disk: the calls to write with.
        run: notified of every step; stops the import at the next chunk.

    Raises:
        FerryError: it could not be done, or not wholly. Models that were complete before stay; what has arrived of
            the others is kept for the next import.
    """
    run = run or Run()
    with ExitStack() as stack:
        if path.is_dir():
            place = _completed(whole_folder(path), others, options, stack, run)
            return import_source(place, store, options, disk=disk, run=run)
        file = stack.enter_context(ArchiveFile(path, on_read=run.advanced, lenient=options.lenient))
        if file.note:
            run.note(file.note)
        source = file.source()
        if source is not None:
            place = _completed(source, others, options, stack, run)
            return import_source(place, store, options, disk=disk, run=run)
        wanted: Collection[Digest] | None = None
        if options.only or options.rename or others:
            # Which blobs a part needs is known at the end: worth a look ahead, for it is written nowhere.
            scanned = _scanned(file, run)
            chosen, pinned = _choose(scanned, store, options)
            if not any(pinned.names()):
                return _nothing_to_do(file.label, chosen, scanned.contents, disk, run)
            planned = plan(pinned, store, pinned.names())
            if others and any(scanned.blob_size(blob.digest) != blob.size for blob in planned.blobs):
                place = _completed(scanned, others, options, stack, run)
                return import_source(place, store, options, disk=disk, run=run)
            wanted = planned.needed_by.keys()
        run.notify(Started(0, 0, file.size))
        return _import_stream(file.stream(), store, options, wanted, disk, run)


def import_stream(
    data: Input,
    label: str,
    store: Store,
    options: ImportOptions,
    *,
    disk: Disk | None = None,
    run: Run | None = None,
) -> Imported:
    """Import models of an archive that passes by once, such as standard input; see :func:`import_file`."""
    run = run or Run()

    run.notify(Started(0, 0, 0))
    stream = ArchiveStream(data, label, on_read=run.advanced, lenient=options.lenient)
    return _import_stream(stream, store, options, None, disk, run)


def import_source(
    source: Inspectable,
    store: Store,
    options: ImportOptions,
    *,
    disk: Disk | None = None,
    run: Run | None = None,
) -> Imported:
    """Import models of a place that can be searched; see :func:`import_file`."""
    run = run or Run()
    contents = contents_of(source)
    chosen, pinned = _choose(source, store, options)
    if not any(pinned.names()):
        return _nothing_to_do(source.label, chosen, contents, disk, run)
    # Before anything is touched: is all of it there?
    _require_blobs(source, plan(pinned, store, pinned.names()))
    if isinstance(first := first_of(source), ArchiveSource):
        first.check_repeated(run.cancel)
    verify = options.verify_existing
    with StoreSink(store, disk=disk, verify_existing=verify, pulling=options.pulling, run=run) as sink:
        # Once more, now that nobody else writes: another import may have brought another model of that name.
        chosen, pinned = _choose(source, store, options)

        def make_plan() -> Plan:
            planned = chosen.without_unchanged(plan(pinned, sink, pinned.names()))
            planned = replace(planned, required=frozenset(chosen.required))
            _require_blobs(source, planned)
            return planned

        planned = copy_whole(make_plan, pinned, sink, run, leave_out=not chosen.all_required)
    chosen.leave_out(planned)
    return _result(source.label, chosen, planned, contents, run)


def _import_stream(
    stream: ArchiveStream,
    store: Store,
    options: ImportOptions,
    wanted: Collection[Digest] | None,
    disk: Disk | None,
    run: Run,
) -> Imported:
    taken: dict[ModelName, Manifest] = {}

    def host_of(manifest: Manifest) -> str | None:
        # Its config has passed by.
        return stream.contents.remotes.get(manifest.config.digest) if manifest.config is not None else None

    def choose(name: ModelName, manifest: Manifest) -> ModelName | None:
        if not chosen.wants(name, manifest):
            return None
        chosen.nameless = stream.contents.nameless
        by_name = any(not is_pattern(text) and covers(text, name, manifest) for text in options.only)
        try:
            blobs_of(name, manifest)
            _require_weights(name, manifest, host_of)
        except (NotAModel, CloudStub) as error:
            if by_name:
                raise
            chosen.not_carried.append(NotCarried(str(name), error))
            return None
        options.trust.require(name, manifest, stream.label)
        taken[name] = manifest
        return chosen.take(name, manifest, by_name=by_name)

    held = TrustedStream(stream, options.trust.signed(stream.contents.signature), taken, stream.label)
    with StoreSink(store, disk=disk, verify_existing=options.verify_existing, run=run) as sink:
        chosen = Choices(store, options, stream.label)
        try:
            copied = copy_stream(held, sink, choose, run, wanted=wanted, everything=not options.only)
        except MissingBlob as lacking:
            if not isinstance(lacking, LeftOut):
                target = stream.contents.links.get(Digest.parse(lacking.digest))
                lacking.message += as_link(target)
                lacking.hint = missing_hint(linked=target is not None)
            raise
    if not chosen.models and not chosen.conflicts:
        if chosen.not_carried:
            raise chosen.not_carried[0].why
        raise _nothing_found(stream.label, stream.contents, options.only)
    done = f"imported: {', '.join(map(str, copied.models))}" if copied.models else ""
    chosen.refuse_conflicts(done=done)
    missing = [text for text in options.only if not any(covers(text, *model) for model in taken.items())]
    if missing:
        error = _nothing_found(stream.label, stream.contents, missing)
        error.message += f" ({done})" if done else ""
        raise error
    chosen.not_carried += [
        NotCarried(str(name), error) for name, error in sorted(stream.contents.broken.items()) if chosen.wants(name)
    ]
    return _result(stream.label, chosen, copied, stream.contents, run)


def _choose(source: Inspectable, store: Store, options: ImportOptions) -> tuple[Choices, Pinned]:
    """Decide on the models of an archive whose contents are known.

    Returns:
        The decisions, and the models that are to be copied, under their names in the store and by the manifests that
        were decided on.
    """
    contents = contents_of(source)
    if not any(name not in contents.broken for name in source.names()):
        raise _nothing_found(source.label, contents, options.only)
    asked = pick(source, options.wanted)
    found = carried(source, asked, check=partial(_require_carried, source, store))
    manifests = dict(found.manifests)
    whole = manifests
    if options.trust.signers:
        whole = {name: source.manifest(name) for name in source.names() if name not in contents.broken}
    options.trust.signed(contents.signature).check(manifests, whole, source.label)
    chosen = Choices(store, options, source.label, contents.nameless, not_carried=list(found.left_out))
    chosen.all_required = not (manifests.keys() - asked.in_full) or _is_archive(source)
    taken: dict[ModelName, Manifest] = {}
    for name in manifests:
        target = chosen.take(name, manifests[name], by_name=name in asked.in_full)
        if target is not None:
            taken[target] = manifests[name]
            if name in asked.in_full:
                chosen.required.add(target)
    chosen.refuse_conflicts(done="nothing was imported")
    if not chosen.models and manifests and chosen.not_carried:
        raise chosen.not_carried[-1].why
    return chosen, Pinned(source, taken)


def _completed(
    source: Inspectable, others: Sequence[Path], options: ImportOptions, stack: ExitStack, run: Run
) -> Inspectable:
    """Return a source that takes from other archives and folders what it lacks; they are open as long as the stack."""
    if not others:
        return source

    def open_others() -> list[Inspectable]:
        opened: list[Inspectable] = []
        for path in others:
            if path.is_dir():
                opened.append(whole_folder(path))
                continue
            file = stack.enter_context(ArchiveFile(path, lenient=options.lenient))
            opened.append(file.source() or file.slow_source())
        run.explain(f"{source.label} is not whole: blobs may come from {', '.join(map(str, others))}")
        return opened

    return Completed(source, open_others)


def _require_carried(source: Inspectable, store: Store, name: ModelName, manifest: Manifest) -> None:
    """Check that a model has weights, and in a store or a host what this store lacks of it.

    What an archive lacks is told of the archive: it is damaged, or counts on its target.

    Raises:
        CloudStub: it runs elsewhere.
        MissingBlob, Damaged: a blob is not there as it should be.
    """
    if not _is_archive(source):
        for blob in manifest.blobs:
            if not store.has(blob):
                require_blob(source, blob, name)
    _require_weights(name, manifest, partial(runs_at, source))


def _require_weights(name: ModelName, manifest: Manifest, host_of: Callable[[Manifest], str | None]) -> None:
    """Refuse a cloud stub, by the host that its config names."""
    # A model that has weights runs here; its config would cost a registry a request.
    if manifest.lacks_weights and (host := host_of(manifest)):
        raise cloud_stub(name, host)


def _is_archive(source: Inspectable) -> bool:
    """Return whether what a source lacks is told of an archive, with where it may come from."""
    return isinstance(first_of(source), ArchiveSource)


def _require_blobs(source: Inspectable, planned: Plan) -> None:
    """Check that the archive has what is to be moved out of it.

    Raises:
        MissingBlob, Damaged: it has not, or in another size.
    """
    if lacking := [blob for blob in planned.blobs if leaves_out(source, blob)]:
        raise left_out_error(source.label, lacking)
    moving = {blob.digest for blob in planned.blobs}
    for model in planned.models:
        for blob in blobs_of(model.name, model.manifest):
            if blob.digest in moving:
                require_blob(source, blob, model.name)


def _scanned(file: ArchiveFile, run: Run) -> ArchiveSource:
    """Read a packed archive to its end, to learn what it holds."""
    run.note(f"{file.label} has no index: reading it to its end to see what it holds")
    run.notify(Started(0, 0, file.size, f"looking through {file.label}"))
    return file.slow_source()


def _nothing_found(label: str, contents: Contents, wanted: Sequence[str]) -> FerryError:
    if contents.models:
        return ModelNotFound(
            f"no model in {label} is called {', '.join(wanted)}",
            hint=f"It holds: {', '.join(map(str, sorted(contents.models)))}",
        )
    for error in contents.broken.values():
        return Damaged(f"{label}: {error}", hint=error.hint)
    return no_model_in(label, contents)


def _nothing_to_do(label: str, chosen: Choices, contents: Contents, disk: Disk | None, run: Run) -> Imported:
    """All is here; what an import that was broken off at its very end has left is put away."""
    StoreSink.tidy_up(chosen.store, disk=disk, run=run)
    found = {blob.digest: blob for model in chosen.models.values() for blob in model.manifest.blobs}
    return _result(label, chosen, Plan((), (), tuple(found.values())), contents, run)


def _result(label: str, chosen: Choices, done: Plan | Copied, contents: Contents, run: Run) -> Imported:
    for model in chosen.models.values():
        if model.manifest.loses_blobs:
            run.note(
                f"{model.name}: its manifest writes digests as sha256-<hex>, as somebody has changed it: a server that "
                "starts deletes its blobs"
            )
    return Imported(
        archive=label,
        store=chosen.store.root,
        models=tuple(sorted(chosen.models.values(), key=lambda model: model.name)),
        blobs=done.blobs,
        present=done.present,
        ignored=contents.ignored,
        ignored_names=tuple(contents.ignored_names),
        seconds=run.seconds,
        resumed=run.resumed,
        not_carried=tuple(chosen.not_carried),
    )
