"""ollama-ferry: move chosen Ollama models between machines.

The names below are the public interface; they are loaded when they are first used, so that importing the
package costs nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ollama_ferry._version import __version__

if TYPE_CHECKING:
    from ollama_ferry.api import export as export
    from ollama_ferry.api import import_archive as import_archive
    from ollama_ferry.api import inventory as inventory
    from ollama_ferry.api import open_store as open_store
    from ollama_ferry.api import pull as pull
    from ollama_ferry.api import push as push
    from ollama_ferry.api import serve as serve
    from ollama_ferry.api import verify as verify
    from ollama_ferry.engine.events import Cancel as Cancel
    from ollama_ferry.errors import FerryError as FerryError
    from ollama_ferry.jobs.export import Exported as Exported
    from ollama_ferry.jobs.import_ import Imported as Imported
    from ollama_ferry.jobs.push import Pushed as Pushed
    from ollama_ferry.jobs.report import Report as Report
    from ollama_ferry.model.manifests import Descriptor as Descriptor
    from ollama_ferry.model.manifests import Digest as Digest
    from ollama_ferry.model.manifests import Manifest as Manifest
    from ollama_ferry.model.names import ModelName as ModelName
    from ollama_ferry.places.store.store import Store as Store

_DEFINED_IN = {
    "export": "api",
    "import_archive": "api",
    "inventory": "api",
    "open_store": "api",
    "pull": "api",
    "push": "api",
    "serve": "api",
    "verify": "api",
    "FerryError": "errors",
    "Cancel": "engine.events",
    "Exported": "jobs.export",
    "Imported": "jobs.import_",
    "Descriptor": "model.manifests",
    "Digest": "model.manifests",
    "Manifest": "model.manifests",
    "ModelName": "model.names",
    "Pushed": "jobs.push",
    "Store": "places.store.store",
    "Report": "jobs.report",
}

__all__ = ["__version__", *sorted(_DEFINED_IN)]


def __getattr__(name: str) -> Any:
    if name not in _DEFINED_IN:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"{__name__}.{_DEFINED_IN[name]}"), name)


def __dir__() -> list[str]:
    return __all__
