"""Choose what is served of what a user named: models of a store, or of one archive."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from ollama_ferry.engine.plan import NotCarried
from ollama_ferry.engine.ports import Inspectable
from ollama_ferry.engine.run import Run
from ollama_ferry.errors import ModelNotFound
from ollama_ferry.jobs.select import Wanted, pick, select
from ollama_ferry.jobs.sources import open_searchable
from ollama_ferry.ollama.locate import Located
from ollama_ferry.places.store.store import Store
from ollama_ferry.serving.addresses import is_loopback
from ollama_ferry.serving.page import pull_line, rename_line
from ollama_ferry.serving.served_models import ServedModel, ServedModels, choose
from ollama_ferry.serving.server import Server


@dataclass(frozen=True)
class ToServe:
    """A served_models, and what did not get onto it.

    Attributes:
        served_models: what can be served.
        left_out: models that a pattern or all of the place meant, and that can't be served.
        place: what the models come from, for people.
    """

    served_models: ServedModels
    left_out: tuple[NotCarried, ...]
    place: str


@dataclass(frozen=True)
class Serving:
    """A registry that is served.

    Attributes:
        server: the server itself.
        served_models: what is served.
        left_out: models that a pattern or all of the place meant, and that can't be served.
        place: what the models come from, for people.
        host: where others reach it, as ``host:port``, as far as this machine knows.
        token_needed: whether requests must carry a token, which ``ollama pull`` can't send.
    """

    server: Server
    served_models: ServedModels
    left_out: tuple[NotCarried, ...]
    place: str
    host: str
    token_needed: bool

    @property
    def address(self) -> str:
        """Where it is bound, as ``host:port``."""
        return self.server.address

    @property
    def port(self) -> int:
        """The port that it got."""
        return int(self.server.port)

    @property
    def only_here(self) -> bool:
        """Whether it is reached from this machine only."""
        return is_loopback(self.server.host)

    @property
    def models(self) -> Sequence[ServedModel]:
        """The models that are served."""
        return self.served_models.models

    def pull_line(self, model: ServedModel) -> str:
        """Return the command that pulls a model elsewhere."""
        return pull_line(model, self.host)

    def rename_line(self, model: ServedModel) -> str:
        """Return the command that gives a model that was pulled from here its own name."""
        return rename_line(model, self.host)

    def wait(self) -> None:
        """Wait until another thread closes it."""
        self.server.wait()


def serve_store(located: Located, wanted: Wanted, *, oci: bool = False) -> ToServe:
    """Choose models of a store to serve.

    Args:
        located: the store.
        wanted: which; a model that is named in full must be whole.
        oci: serve manifests of OCI's type, with the model's own within.

    Raises:
        FerryError: a named model is not there or not whole, or nothing can be served.
    """
    store = Store(located.root)
    models, left_out = choose(store, select(located, wanted), oci=oci)
    return ToServe(ServedModels(store, models), tuple(left_out), store.label)


@contextmanager
def serve_archive(path: Path, only: Wanted, *, oci: bool = False) -> Iterator[ToServe]:
    """Choose models of an archive to serve, which is open until the block ends; see :func:`choose_of_archive`."""
    with choose_of_archive(path, only, oci=oci) as (source, models, left_out):
        yield ToServe(ServedModels(source, models), tuple(left_out), source.label)


@contextmanager
def choose_of_archive(
    path: Path, only: Wanted, *, oci: bool = False
) -> Iterator[tuple[Inspectable, list[ServedModel], list[NotCarried]]]:
    """Find the models of an archive that can be served; it is open until the block ends.

    Args:
        path: the archive's file.
        only: which of them.
        oci: serve manifests of OCI's type, with the model's own within.

    Raises:
        UsageError: it is packed and has no index: nothing in it can be found.
        FerryError: it can't be read, or a named model is not there or not whole, or nothing can be served.
    """
    with open_searchable(path, Run(), what_for="serve", shared=True) as source:
        if not any(source.names()):
            raise ModelNotFound(f"{path} holds no model")
        yield source, *choose(source, pick(source, only), oci=oci)
