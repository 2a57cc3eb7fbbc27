"""Send models of a store to other places, several at once: read and hashed here once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from contextlib import ExitStack
from dataclasses import dataclass

from ollama_ferry.engine.buffers import keep_freed_buffers
from ollama_ferry.engine.carried import Chosen, carried
from ollama_ferry.engine.copy import copy_whole, plan
from ollama_ferry.engine.inspect import manifests_of
from ollama_ferry.engine.pinned import Pinned
from ollama_ferry.engine.plan import Plan
from ollama_ferry.engine.ports import Inspectable
from ollama_ferry.engine.run import Run
from ollama_ferry.errors import UsageError, Vanished
from ollama_ferry.jobs.deliveries import AllFailed, Deliveries, Delivery, Sent
from ollama_ferry.jobs.send_targets import SendTarget
from ollama_ferry.jobs.trust import NO_TRUST, Trust
from ollama_ferry.model.names import ModelName


@dataclass(frozen=True)
class SendOptions:
    """How models are sent.

    Attributes:
        replace: whether a model of the same name and another content may be replaced.
        checksum: let the target hash what it has already before it counts as there.
        trust: what the models have to be.
        link: let folders on the same file system share the blobs' blocks with the store, where they can.
    """

    replace: bool = False
    checksum: bool = False
    trust: Trust = NO_TRUST
    link: bool = False


def send(
    source: Inspectable,
    chosen: Chosen | Iterable[ModelName],
    targets: Iterable[SendTarget],
    options: SendOptions,
    *,
    dry_run: bool = False,
    run: Run | None = None,
) -> list[Sent]:
    """Send models to some targets; one that fails does not stop the others.

    Args:
        source: where the models are: a store, an archive that can be searched, a folder.
        chosen: the models, spelt as there; of names alone, each has to be sent.
        targets: where they go.
        options: how.
        dry_run: find out what would be sent, and send nothing.
        run: notified of every step; a blob that goes to several targets counts once; stops it at the next chunk.

    Returns:
        What became of each target, in the order given.

    Raises:
        ModelNotFound, CloudStub, Damaged: a model can't be sent at all that was named, or none can.
        Cancelled: it was given up.
    """
    run = run or Run()
    keep_freed_buffers()
    found = carried(source, Chosen.of(chosen))
    wanted = plan(Pinned(source, found.manifests), None, found.manifests)
    # An archive's signature is of all that is in it.
    whole = found.manifests if options.trust.signature is None else manifests_of(source, source.names())[0]
    options.trust.check(found.manifests, whole, source.label)
    deliveries = [Delivery(target, Sent(target.label, not_carried=found.left_out)) for target in targets]
    twice = [label for label, count in Counter(delivery.sent.target for delivery in deliveries).items() if count > 1]
    if twice:
        raise UsageError(f"{twice[0]} was named twice as a target")
    for delivery in deliveries:
        run.phase(f"connecting to {delivery.sent.target}" if delivery.target.far else "")
        delivery.attempt(delivery.compare, wanted, replace=options.replace, checksum=options.checksum)
    run.phase()
    active = [delivery for delivery in deliveries if delivery.sent.error is None and delivery.names]
    if dry_run:
        for delivery in active:
            delivery.foretell(wanted)
    else:
        for delivery in deliveries:
            if delivery.sent.error is None and not delivery.names:
                delivery.attempt(delivery.target.tidy_up, run)
        if active:
            _send_all(source, active, run, wanted, options)
    for delivery in deliveries:
        delivery.sent.seconds = run.seconds
    return [delivery.sent for delivery in deliveries]


def _send_all(source: Inspectable, deliveries: list[Delivery], run: Run, wanted: Plan, options: SendOptions) -> None:
    with ExitStack() as stack:
        for delivery in deliveries:
            delivery.attempt(delivery.begin, stack, run, wanted, replace=options.replace, checksum=options.checksum)
        sink = Deliveries(deliveries)
        pinned = Pinned(source, {model.name: model.manifest for model in wanted.models})
        names = {name for delivery in deliveries for name in delivery.names if delivery.sent.error is None}
        try:
            copy_whole(lambda: plan(pinned, sink, names), pinned, sink, run)
        except AllFailed:
            return
        except Vanished as error:
            for delivery in deliveries:
                if set(delivery.names.values()) - set(delivery.sent.sent):
                    delivery.fail(error)
