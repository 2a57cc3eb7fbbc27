"""Other hosts over ssh, and folders: send to them, fetch from them."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ollama_ferry.api.arguments import (
    Names,
    PathLike,
    Renaming,
    StoreLike,
    dry_run_of,
    located_store,
    located_target,
    rate_of,
    texts_of,
    texts_or_locked,
    trust_of,
    wanted_of,
)
from ollama_ferry.api.words import is_path
from ollama_ferry.engine.events import Cancel, Observer, ignore
from ollama_ferry.engine.run import Run
from ollama_ferry.errors import UsageError
from ollama_ferry.files.folder import without_tilde
from ollama_ferry.shell_lines import split_line

if TYPE_CHECKING:
    from ollama_ferry.engine.carried import Chosen
    from ollama_ferry.jobs.deliveries import Sent
    from ollama_ferry.jobs.import_ import Imported
    from ollama_ferry.jobs.select import Wanted
    from ollama_ferry.jobs.send import SendOptions
    from ollama_ferry.jobs.trust import Trust
    from ollama_ferry.places.ssh.place import SshPlace


@dataclass(frozen=True)
class Ssh:
    """How hosts are called.

    Attributes:
        command: the ssh to use, with its options.
        compress: let ssh compress; weights hardly shrink.
        sudo: work as root over there, where sudo asks for no password.
        rate: bytes a second at the most, also as a text such as ``20M``; 0 is no limit.
    """

    command: str = "ssh"
    compress: bool = False
    sudo: bool = False
    rate: int | str = 0


@dataclass(frozen=True)
class Host:
    """Where a text points.

    Attributes:
        name: the host as ssh takes it; empty for a folder of this machine.
        path: the store's folder; empty to find it.
        port: the port, or None.
    """

    name: str
    path: str
    port: int | None = None

    @classmethod
    def parse(cls, text: str) -> Host:
        """Read ``user@host``, ``host:/path``, ``ssh://user@host:port/path``, or a folder.

        Raises:
            UsageError: it is none of these.
        """
        if is_path(text):
            return cls("", text)
        if text.startswith("ssh://"):
            found = re.fullmatch(
                r"ssh://((?:[^@/]*@)?)(\[[0-9A-Za-z:.%]+\]|[^/\[\]@:]+)(?::([0-9]{1,5}))?(/.*)?", text, re.DOTALL
            )
            if not found:
                raise UsageError(f"{text[:200]!r} is no place", hint="ssh://user@host:22/path/to/models")
            return cls(found[1] + found[2].strip("[]"), found[4] or "", int(found[3]) if found[3] else None)
        bracketed = re.fullmatch(r"((?:[^@]*@)?)\[([0-9A-Fa-f:.%a-z]+)\](?::(.*))?", text, re.DOTALL)
        if bracketed:
            return cls(bracketed[1] + bracketed[2], bracketed[3] or "")
        name, _, path = text.partition(":")
        return cls(name, path)


def send(
    models: Names,
    targets: str | Iterable[str],
    *,
    everything: bool = False,
    exclude: Names = (),
    link: bool = False,
    store: StoreLike = None,
    archive: PathLike | None = None,
    ssh: Ssh | None = None,
    replace: bool = False,
    verify_existing: bool = False,
    lock: PathLike | None = None,
    signers: PathLike | None = None,
    dry_run: bool = False,
    observer: Observer = ignore,
    cancel: Cancel | None = None,
) -> list[Sent]:
    """Send models of a store to other machines or folders, all at once: only what is missing there.

    Args:
        models: one name or several; patterns are taken too.
        targets: one or several: ``user@host``, ``host:/path/to/models``, ``ssh://user@host:port/path``, or a folder as
            ``/media/stick/models``.
        everything: send every model of the store; ``models`` stays empty.
        exclude: names and patterns of models that are not meant, whatever ``models`` or ``everything`` say.
        link: let a folder on the same file system share the blobs' blocks with the store, where it can: no copies.
        store: the models folder; None finds it as the command does.
        archive: the path of an archive that can be searched, or of a folder, to send out of instead; ``models`` may be
            empty then, which sends all.
        ssh: how hosts are called.
        replace: whether a model of the same name and another content may be replaced.
        verify_existing: let the target hash what it has already before that counts as there.
        lock: a file that :func:`lock` wrote: exactly these models are sent, or none; without ``models``, all of them.
        signers: a file of allowed signers, one of whom must have signed the lock, or the archive; None takes that of
            ``OLLAMA_FERRY_SIGNERS`` in the environment for folders of this machine.
        dry_run: find out what would be done, and whether it can; nothing is written.
        observer: called with the events of :mod:`ollama_ferry.engine.events`.
        cancel: stops it from another thread; what has arrived is kept for the next send.

    Returns:
        What became of each target, in the order given; of one that failed its ``error`` says why.

    Raises:
        FerryError: nothing could be sent to anybody: a model is not there or not whole, or a target is none.
    """
    from ollama_ferry.jobs.send import SendOptions

    run = Run(observer, cancel)
    trust = _trust_of_sent(models, targets, archive, lock, signers)
    wanted = _wanted(models, everything, exclude, trust, all_by_default=archive is not None)
    options = SendOptions(replace, verify_existing, trust, link=link)
    return _send(wanted, targets, store, archive, ssh, options, dry_run=dry_run, run=run)


plan_send = dry_run_of(send, "plan_send")


def fetch(
    source: str,
    models: Names = (),
    *,
    everything: bool = False,
    exclude: Names = (),
    store: StoreLike = None,
    ssh: Ssh | None = None,
    rename: Renaming = None,
    replace: bool = False,
    verify_existing: bool = False,
    lock: PathLike | None = None,
    signers: PathLike | None = None,
    dry_run: bool = False,
    observer: Observer = ignore,
    cancel: Cancel | None = None,
) -> Imported:
    """Fetch models from another machine, or from a folder, into a store here: only what is missing.

    Args:
        source: ``user@host``, ``host:/path/to/models``, ``ssh://user@host:port/path``, or a folder.
        models: one name or several; patterns are taken too.
        everything: fetch every model that is there; ``models`` stays empty.
        exclude: names and patterns of models that are not meant, whatever ``models`` or ``everything`` say.
        store: the models folder, which need not exist; None finds it as the command does.
        ssh: how the host is called.
        rename: the name that the one model gets here.
        replace: whether a model of the same name and another content may be replaced.
        verify_existing: hash blobs that are here already before they count as here.
        lock: a file that :func:`lock` wrote: exactly these models are taken, or none; without ``models``, all of them.
        signers: a file of allowed signers, one of whom must have signed the lock; None takes that of
            ``OLLAMA_FERRY_SIGNERS`` in the environment, if any.
        dry_run: find out what would be done, and whether it can; nothing is written.
        observer: called with the events of :mod:`ollama_ferry.engine.events`.
        cancel: stops it from another thread; what has arrived is kept for the next fetch.

    Returns:
        What is in the store now, as :func:`import_archive`.

    Raises:
        FerryError: one of the tree in :mod:`ollama_ferry.errors`; nothing wrong is published.
    """
    trust = trust_of(lock, signers, part=bool(texts_of(models)))
    return _fetch(
        source,
        _wanted(models, everything, exclude, trust),
        store,
        ssh,
        rename,
        replace,
        verify_existing,
        trust,
        dry_run=dry_run,
        run=Run(observer, cancel),
    )


plan_fetch = dry_run_of(fetch, "plan_fetch")


def open_host(stack: ExitStack, host: Host, ssh: Ssh | None) -> SshPlace:
    """Return the store of a host, whose line ends with the stack.

    Raises:
        UsageError: ssh's command can't be split into words, the rate is none, or the host is none.
    """
    from ollama_ferry.places.ssh.connection import SshConnection, SshOptions
    from ollama_ferry.places.ssh.place import SshPlace

    ssh = ssh or Ssh()
    try:
        command = tuple(split_line(ssh.command)) or ("ssh",)
    except ValueError as error:
        raise UsageError(f"the command of ssh, {ssh.command!r}, can't be split into words: {error}") from None
    options = SshOptions(command, ssh.compress, ssh.sudo, rate_of(ssh.rate))
    return SshPlace(stack.enter_context(SshConnection(host.name, host.port, options)), host.path)


def _fetch(
    source: str,
    wanted: Wanted,
    store: StoreLike,
    ssh: Ssh | None,
    rename: Renaming,
    replace: bool,
    verify_existing: bool,
    trust: Trust,
    *,
    dry_run: bool,
    run: Run,
) -> Imported:
    from ollama_ferry.api.imports import import_options
    from ollama_ferry.engine.ports import Inspectable
    from ollama_ferry.jobs.import_ import import_source, plan_source
    from ollama_ferry.jobs.sources import whole_folder
    from ollama_ferry.places.store.store import Store

    options = import_options(wanted.texts, rename, replace, verify_existing, trust=trust, exclude=wanted.exclude)
    target = Store(located_target(store, run).root)
    host = Host.parse(source)
    with ExitStack() as stack:
        here: Inspectable
        if host.name:
            here = there = open_host(stack, host, ssh)
            run.phase(f"connecting to {there.label}")
            _survey_for(there, options.only)
            run.phase()
        else:
            folder = without_tilde(host.path)
            if not folder.is_dir():
                raise UsageError(
                    f"{host.path} is no folder", hint="Out of an archive: ollama-ferry import ARCHIVE MODEL"
                )
            here = whole_folder(folder)
        return (plan_source if dry_run else import_source)(here, target, options, run=run)


def _trust_of_sent(
    models: Names,
    targets: str | Iterable[str],
    archive: PathLike | None,
    lock: PathLike | None,
    signers: PathLike | None,
) -> Trust:
    """Read what models have to be; a store in a folder of this machine is filled here, as by an import."""
    here = any(not Host.parse(target).name for target in texts_of(targets))
    beside = without_tilde(archive) if archive is not None else None
    return trust_of(lock, signers, archive=beside, part=bool(texts_of(models)), always=here)


def _send(
    wanted: Wanted,
    targets: str | Iterable[str],
    store: StoreLike,
    archive: PathLike | None,
    ssh: Ssh | None,
    options: SendOptions,
    *,
    dry_run: bool = False,
    run: Run,
) -> list[Sent]:
    from ollama_ferry.engine.ports import Inspectable
    from ollama_ferry.jobs.damaged import keeping_going
    from ollama_ferry.jobs.select import pick, select
    from ollama_ferry.jobs.send import send
    from ollama_ferry.jobs.send_targets import FolderTarget, SendTarget, SshTarget
    from ollama_ferry.jobs.sources import open_searchable
    from ollama_ferry.places.store.store import Store

    hosts = [Host.parse(target) for target in texts_of(targets)]
    with ExitStack() as opened:
        source: Inspectable
        if archive is not None:
            if store is not None:
                raise UsageError("a store and an archive were named to send out of: one of them is too many")
            path = without_tilde(archive)
            source = opened.enter_context(open_searchable(path, run, what_for="send"))
            chosen = pick(source, wanted)
        else:
            located = located_store(store, run)
            source, chosen = Store(located.root), select(located, wanted)

        def attempt(some: Chosen) -> list[Sent]:
            # A line that was broken off for a damaged blob is of no more use.
            with ExitStack() as stack:
                places: list[SendTarget] = []
                for host in hosts:
                    if host.name:
                        places.append(SshTarget(open_host(stack, host, ssh), wait=len(hosts) == 1))
                    else:
                        link_from = source if options.link and isinstance(source, Store) else None
                        places.append(FolderTarget(without_tilde(host.path), link_from=link_from))
                return send(source, some, places, options, dry_run=dry_run, run=run)

        return keeping_going(source, chosen, run, attempt)


def _wanted(models: Names, everything: bool, exclude: Names, trust: Trust, *, all_by_default: bool = False) -> Wanted:
    texts = texts_or_locked(models, trust)
    return wanted_of(texts, everything=everything, exclude=exclude, all_by_default=all_by_default)


def _survey_for(place: SshPlace, texts: Collection[str]) -> None:
    """Find out what is there of some models in as few calls as can be."""
    from ollama_ferry.engine.inspect import resolve
    from ollama_ferry.model.names import ModelName, is_id, is_pattern

    if not texts or any(is_pattern(text) or is_id(text) for text in texts):
        place.take_survey()
        return
    names = [ModelName.parse(text) for text in texts]
    place.take_survey(names)
    spelt = [resolve(place, name) for name in names]
    if any(name not in place.survey.manifests for name in spelt):
        place.take_survey(spelt)
