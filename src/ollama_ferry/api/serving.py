"""Serving: a read-only registry of models of a store or an archive."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

from ollama_ferry.api.arguments import Names, PathLike, StoreLike, located_store, wanted_of
from ollama_ferry.engine.events import Observer, ignore
from ollama_ferry.engine.run import Run
from ollama_ferry.files.folder import without_tilde

if TYPE_CHECKING:
    from ollama_ferry.jobs.serve import Serving
    from ollama_ferry.serving.server import Served


@contextmanager
def serve(
    models: Names = (),
    *,
    exclude: Names = (),
    archive: PathLike | None = None,
    store: StoreLike = None,
    listen: str = "127.0.0.1:11435",
    token: str = "",
    oci: bool = False,
    log: Callable[[Served], None] | None = None,
    observer: Observer = ignore,
) -> Iterator[Serving]:
    """Serve models as a read-only registry until the block ends; threads of this process do it.

    Args:
        models: names and patterns of the models to serve; none serves all.
        exclude: names and patterns of models that are not served, whatever ``models`` say.
        archive: the path of an archive to serve out of, instead of a store.
        store: the models folder; None finds it as the command does.
        listen: ``ADDRESS:PORT``; port 0 takes a free one.
        token: what requests must carry; empty lets everybody read.
        oci: serve manifests of OCI's type with the models' own within, for tools that take no other (skopeo);
            ``ollama pull`` gets another ID from these.
        log: notified of every answer, from the server's threads.
        observer: notified of which store it is, and why.

    Returns:
        The server: its ``address``, the ``models`` that it serves, and how others pull them.

    Raises:
        FerryError: a model is not there or not whole, the archive can't be searched, or the address is taken.
    """
    from ollama_ferry.jobs.serve import Serving, serve_archive, serve_store
    from ollama_ferry.serving.addresses import Address, outward
    from ollama_ferry.serving.server import Server, log_nothing
    from ollama_ferry.serving.tokens import check_token

    wanted = wanted_of(models, exclude=exclude, all_by_default=True)
    address = Address.parse(listen)
    secret = check_token(token) if token else ""
    with ExitStack() as stack:
        if archive is not None:
            to_serve = stack.enter_context(serve_archive(without_tilde(archive), wanted, oci=oci))
        else:
            located = located_store(store, Run(observer))
            to_serve = serve_store(located, wanted, oci=oci)
        server = stack.enter_context(Server(to_serve.served_models, address, token=secret, log=log or log_nothing))
        host = outward(address, server.host, server.port)
        yield Serving(
            server, to_serve.served_models, to_serve.left_out, to_serve.place, host, token_needed=bool(secret)
        )
