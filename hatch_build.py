"""What a wheel has beside the package: manual pages and completions, made from the commands."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class SharedFiles(BuildHookInterface):  # type: ignore[type-arg]
    """Makes the shared files of a wheel."""

    PLUGIN_NAME = "custom"

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Write them into a folder that goes when the wheel is built; an editable installation has none."""
        if self.target_name != "wheel" or version != "standard":
            return
        sys.path.insert(0, str(Path(self.root) / "src"))
        from ollama_ferry.cli.manual import write_shared_files

        self._folder = tempfile.TemporaryDirectory(prefix="ollama-ferry-build-")
        build_data["shared_data"].update(write_shared_files(Path(self._folder.name)))

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:
        """Remove the folder."""
        if hasattr(self, "_folder"):
            self._folder.cleanup()
