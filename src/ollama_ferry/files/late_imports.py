"""Imports that come while root works as another user, out of folders that this user may not read.

Python itself may lie in root's home, and imports come at any time, in libraries too. So modules are found and read with
the ids that the process began with; what they do when they are loaded is done as the other user.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ExtensionFileLoader, ModuleSpec
from types import CodeType, ModuleType
from typing import Protocol, cast

AsStarted = Callable[[], AbstractContextManager[None]]


class _ReadsCode(Protocol):
    def get_code(self, name: str, /) -> CodeType | None: ...


class LateImports(MetaPathFinder):
    """Finds modules ahead of the other finders, by asking these with other ids.

    Args:
        as_started: takes back the ids that the process began with for a block.
    """

    def __init__(self, as_started: AsStarted) -> None:
        self._as_started = as_started

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None, /
    ) -> ModuleSpec | None:
        with self._as_started():
            for finder in sys.meta_path:
                spec = None if finder is self else finder.find_spec(name, path, target)
                if spec is not None:
                    if spec.loader is not None and _reads_files(spec.loader):
                        spec.loader = _LateLoader(spec.loader, self._as_started)
                    return spec
        return None


class _LateLoader(Loader):
    """Loads a module as its own loader does, but reads it with other ids."""

    def __init__(self, loader: Loader, as_started: AsStarted) -> None:
        self._loader = loader
        self._as_started = as_started

    def __getattr__(self, name: str) -> object:
        return getattr(self._loader, name)

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        with self._as_started():
            return self._loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        if module.__spec__ is not None:
            module.__spec__.loader = module.__loader__ = self._loader
        if isinstance(self._loader, ExtensionFileLoader):
            self._loader.exec_module(module)
            return
        with self._as_started():
            code = cast(_ReadsCode, self._loader).get_code(module.__name__)
        # Not within: what it imports may wait for another thread, which may wait for its turn.
        if code is not None:
            exec(code, module.__dict__)  # noqa: S102 -- this is what importing is


def _reads_files(loader: Loader) -> bool:
    return isinstance(loader, ExtensionFileLoader) or hasattr(loader, "get_code")
