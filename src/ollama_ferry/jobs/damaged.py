"""Blobs that turn out damaged when they are read: the models that need them are left out, and the rest is carried."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TypeVar

from ollama_ferry.engine.carried import Chosen, carried
from ollama_ferry.engine.copy import plan
from ollama_ferry.engine.pinned import Pinned
from ollama_ferry.engine.plan import Plan
from ollama_ferry.engine.ports import Inspectable
from ollama_ferry.engine.run import Run
from ollama_ferry.errors import Damaged, FerryError
from ollama_ferry.jobs.hash_blobs import hash_all
from ollama_ferry.model.manifests import Digest
from ollama_ferry.model.names import ModelName
from ollama_ferry.places.store.store import Store, mending

T = TypeVar("T")


def without_damaged(
    place: Inspectable, planned: Plan, run: Run, *, threads: int = 0, error: Damaged | None = None
) -> Plan:
    """Hash all blobs of a plan, and leave out the models that need damaged ones.

    Args:
        place: where the blobs are.
        planned: what was to be carried.
        run: told of the bytes that are hashed.
        threads: how many hash at once; 0 is one a core.
        error: what was found before; None looks whether there is anything to be found.

    Raises:
        FerryError: a required model needs one, no model is left, or the error is about something else.
    """
    needed_by = planned.needed_by
    owners = {str(digest): {model.name for model in models} for digest, models in needed_by.items()}
    if error is not None and (not owners.get(error.digest) or owners[error.digest] & planned.required):
        raise error
    damaged: dict[Digest, FerryError] = {}
    for digest, problem in hash_all(place, planned.blobs, threads, run).items():
        model = needed_by[digest][0].name
        why = Damaged(f"{model}: its blob {digest} is {problem.fault.value}: {problem.text}", digest=str(digest))
        why.hint = how_to_mend(place, model, digest)
        damaged[digest] = why
    if error is not None and Digest.parse(error.digest) not in damaged:
        # It was made whole meanwhile, or the disk gives this one time and that the other.
        raise error
    return planned.without(damaged)


def how_to_mend(place: object, name: ModelName, digest: Digest) -> str:
    """Say how a damaged blob is got rid of; nothing where that is not in a store."""
    return mending(name, place.blob_path(digest)) if isinstance(place, Store) else ""


def keeping_going(place: Inspectable, chosen: Chosen, run: Run, attempt: Callable[[Chosen], T]) -> T:
    """Do something with models; once more without those whose blobs turn out damaged, if none of them was named.

    Args:
        place: where the models are.
        chosen: which.
        run: told of what is left out.
        attempt: what to do.
    """
    try:
        return attempt(chosen)
    except Damaged as error:
        found = carried(place, chosen)
        pinned = Pinned(place, found.manifests)
        planned = replace(plan(pinned, None, found.manifests), required=chosen.in_full, not_carried=found.left_out)
        left = without_damaged(place, planned, run, error=error)
        run.note(f"{error}; going on without the models that need damaged blobs")
    return attempt(Chosen(tuple(model.name for model in left.models), chosen.in_full, left.not_carried))
