"""What a run has finished, on disk: each piece whole or not there, and under the settings that made it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from vmeg_edge.outputs import PendingFile


class Store:
    """A folder for one set of settings, ``about``; other settings have another folder beside it."""

    def __init__(self, root: Path, about: str) -> None:
        self.folder = root / hashlib.sha256(about.encode()).hexdigest()[:12]
        self.folder.mkdir(parents=True, exist_ok=True)
        if not self.path("settings.txt").exists():
            with PendingFile(self.path("settings.txt")) as pending:
                pending.write_text(about + "\n", encoding="utf-8")

    def path(self, name: str) -> Path:
        """Where a piece of this name lies, or would."""
        return self.folder / name

    def kept(self, name: str, make: Callable[[], Any]) -> Any:
        """The piece ``name``, from the disk where it was finished before; plain data, as JSON holds it."""
        path = self.path(f"{name}.json")
        if not path.exists():
            content = json.dumps(make(), allow_nan=False)
            with PendingFile(path) as pending:
                pending.write_text(content + "\n", encoding="utf-8")
        return json.loads(path.read_bytes())

    def forget(self, name: str) -> None:
        """Have the piece made anew the next time."""
        self.path(f"{name}.json").unlink(missing_ok=True)
