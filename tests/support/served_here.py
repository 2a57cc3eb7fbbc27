"""A server of models in a thread of the tests."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Iterator

from ollama_ferry.model.manifests import Descriptor
from ollama_ferry.model.names import ModelName
from ollama_ferry.places.store.store import Store
from ollama_ferry.serving.connection_slots import Limits
from ollama_ferry.serving.served_models import ServedModel, ServedModels
from ollama_ferry.serving.server import Served, Server
from support.stores import StoreBuilder, weights

BIG = 3_000_000
WEIGHTS = weights(BIG)
PATH = "/v2/library/tiny"


def blob_of(builder: StoreBuilder, name: str, kind: str = "model") -> Descriptor:
    manifest = Store(builder.root).manifest(ModelName.parse(name))
    return next(blob for blob in manifest.blobs if blob.kind == kind)


@contextlib.contextmanager
def served(
    builder: StoreBuilder, *names: str, source: Store | None = None, limits: Limits | None = None, token: str = ""
) -> Iterator[tuple[Server, list[Served]]]:
    """Serve models in a thread; give the server and its log."""
    store = source or Store(builder.root)
    parsed = [ModelName.parse(name) for name in names or ("tiny:4m", "hf.co/Org/Repo-GGUF:Q4_K_M")]
    served = ServedModels(store, [ServedModel.of(name, store.manifest(name)) for name in parsed])
    log: list[Served] = []
    with Server(served, token=token, log=log.append, limits=limits) as server:
        yield server, log


def error_code(body: bytes) -> str:
    (error,) = json.loads(body)["errors"]
    assert error["message"]
    return str(error["code"])


def until_logged(log: list[Served], count: int = 1) -> Served:
    deadline = time.monotonic() + 120
    while len(log) < count and time.monotonic() < deadline:
        time.sleep(0.01)
    return log[count - 1]


def fill(source: StoreBuilder) -> StoreBuilder:
    """Make three models: two to serve, one of another host, and one that is nobody's business."""
    source.model("tiny:4m", [("model", WEIGHTS), ("template", b"{{ .Prompt }}")])
    source.model("hf.co/Org/Repo-GGUF:Q4_K_M", [("model", b"other weights")])
    source.model("secret:1", [("model", b"not to be served")])
    return source
