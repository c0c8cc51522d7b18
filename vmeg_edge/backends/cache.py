"""Compiled engines kept on this device, and believed only where this device signed them.

An engine is executable code. Each entry carries everything it depends on (digests, backend and version, device,
driver, precision, options) and a keyed digest (HMAC-SHA-256, RFC 2104) under a key that is made on first use and
never leaves the folder. An entry that was damaged, copied from another device or written for anything else is not
opened: it is compiled anew, and the report says so. A folder that cannot be used costs the cache, never the model.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import secrets
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

from vmeg_edge.errors import OutputError
from vmeg_edge.outputs import PendingFile

CACHE_VARIABLE = "VMEG_EDGE_CACHE"

_ENGINE, _NOTE = ".engine", ".note"
_KEY_FILE = "device.key"
_KEY_BYTES = 32
_MAGIC = b"vmeg-edge engine 1\n"
_TAG_BYTES = 32
_MAX_HEADER = 1 << 20


def cache_folder() -> Path:
    """``$VMEG_EDGE_CACHE``, or this user's folder for caches as the system has it."""
    asked = os.environ.get(CACHE_VARIABLE)
    if asked:
        return Path(asked)
    if sys.platform == "win32":
        base = os.environ.get("LOCALAPPDATA") or str(Path.home() / "AppData" / "Local")
    else:
        base = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(base) / "vmeg-edge"


class EngineCache:
    """Engines of one artefact. ``digests`` are those of its files; they are part of every entry's name.

    ``state`` says what came of the last `fetch` or `store`: ``miss``, ``hit``, ``stored``, ``refused: ...`` or
    ``unusable: ...`` with the reason.
    """

    def __init__(self, folder: str | os.PathLike[str], digests: Mapping[str, str]) -> None:
        """Nothing is read or made until the first `fetch`."""
        self.folder = Path(folder)
        self._digests = dict(sorted(digests.items()))
        self.state = "not asked"

    def fetch(self, depends: Mapping[str, str | int]) -> bytes | None:
        """The engine that this device compiled for exactly ``depends``, or ``None``."""
        return self._fetch(self._header(depends), _ENGINE)

    def _fetch(self, header: bytes, suffix: str) -> bytes | None:
        try:
            self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            with self._path(header, suffix).open("rb") as file:
                found = self._opened(file, header)
        except FileNotFoundError:
            self.state = "miss"
            return None
        except (OSError, OutputError) as error:
            self._unusable(error)
            return None
        return found

    def store(self, depends: Mapping[str, str | int], engine: bytes) -> None:
        """Keep an engine, whole or not at all."""
        self._store(self._header(depends), engine, _ENGINE)

    def _store(self, header: bytes, engine: bytes, suffix: str) -> None:
        before = self.state
        try:
            self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            with PendingFile(self._path(header, suffix)) as pending, pending.open("wb") as file:
                for part in (_MAGIC, self._tag(header, engine), header, engine):  # joined, they would be held twice
                    file.write(part)
        except (OSError, OutputError) as error:
            self._unusable(error)
        else:
            self.state = f"{before}, compiled anew" if before.startswith("refused") else "stored"

    def recall(self, about: Mapping[str, str | int]) -> dict[str, Any] | None:
        """What this device noted of exactly ``about``, or ``None``."""
        state = self.state
        found = self._fetch(self._header(about), _NOTE)
        self.state = state  # which speaks of engines
        return None if found is None else dict(json.loads(found))

    def note(self, about: Mapping[str, str | int], content: Mapping[str, Any]) -> None:
        """Keep a few words on ``about``, signed as engines are."""
        state = self.state
        self._store(self._header(about), json.dumps(content).encode(), _NOTE)
        self.state = state

    def _opened(self, file: BinaryIO, header: bytes) -> bytes | None:
        magic, tag = file.read(len(_MAGIC)), file.read(_TAG_BYTES)
        written, engine = file.readline(_MAX_HEADER), file.read()  # apart, so that an engine is held but once
        if magic != _MAGIC:
            self.state = "refused: not an engine of this cache's format"
        elif not hmac.compare_digest(tag, self._tag(written, engine)):
            self.state = "refused: damaged, or not written by this device"
        elif written != header:
            self.state = "refused: compiled for another model, version, device or options"
        else:
            self.state = "hit"
            return engine
        return None

    def _header(self, depends: Mapping[str, str | int]) -> bytes:
        content = {"digests": self._digests, **depends}
        return json.dumps(content, sort_keys=True).encode() + b"\n"

    def _path(self, header: bytes, suffix: str) -> Path:
        return self.folder / f"{hashlib.sha256(header).hexdigest()}{suffix}"

    def _tag(self, header: bytes, engine: bytes) -> bytes:
        """Over both; the header is one line, so nothing of one can pass for the other."""
        made = hmac.new(self._key(), header, "sha256")
        made.update(engine)
        return made.digest()

    def _key(self) -> bytes:
        """This device's key; made on first use, readable by its owner alone."""
        path = self.folder / _KEY_FILE
        try:
            with open(path, "xb", opener=lambda name, flags: os.open(name, flags, 0o600)) as file:
                file.write(secrets.token_bytes(_KEY_BYTES))
        except FileExistsError:
            pass
        key = path.read_bytes()
        if len(key) != _KEY_BYTES:
            raise OutputError(f"{path} is not a key of {_KEY_BYTES} bytes; remove {self.folder} to start afresh")
        return key

    def _unusable(self, error: Exception) -> None:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        self.state = f"unusable: {self.folder}: {reason}"
