"""What Ollama's desktop app is set to: it keeps its models' folder in a database of its own.

Source: ``app/store/store.go`` and ``app/store/database.go`` of Ollama.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import quote


def desktop_database(platform: str, home: Path, environ: Mapping[str, str]) -> Path:
    """Return where the app keeps its settings on a system."""
    if platform == "win32":
        local = environ.get("LOCALAPPDATA") or str(home / "AppData/Local")
        return Path(local) / "Ollama/db.sqlite"
    if platform == "darwin":
        return home / "Library/Application Support/Ollama/db.sqlite"
    return home / ".ollama/db.sqlite"


def desktop_models(database: Path) -> Path | None:
    """Return the models' folder that the app is set to use; None where it uses the default, or is not there.

    The database is opened to read only, and is nobody's word but the user's whose home it is in.
    """
    if not os.path.isfile(database):
        return None
    import sqlite3

    try:
        # Immutable: nothing is locked and no file is made beside it, also where a running app has it open.
        connection = sqlite3.connect(f"file:{quote(str(database))}?mode=ro&immutable=1", uri=True, timeout=0.5)
    except sqlite3.Error:
        return None
    try:
        row = connection.execute("SELECT models FROM settings LIMIT 1").fetchone()
    except sqlite3.Error:
        return None
    finally:
        connection.close()
    text = row[0] if row else None
    return Path(text) if isinstance(text, str) and text and Path(text).is_absolute() else None
