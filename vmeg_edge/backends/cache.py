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

from vmeg_edge.errors import OutputError
from vmeg_edge.outputs import PendingFile

CACHE_VARIABLE = "VMEG_EDGE_CACHE"

_KEY_FILE = "device.key"
_KEY_BYTES = 32
_MAGIC = b"vmeg-edge engine 1\n"
_TAG_BYTES = 32


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
        header = self._header(depends)
        try:
            self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            data = self._path(header).read_bytes()
            found = self._opened(data, header)
        except FileNotFoundError:
            self.state = "miss"
            return None
        except (OSError, OutputError) as error:
            self._unusable(error)
            return None
        return found

    def store(self, depends: Mapping[str, str | int], engine: bytes) -> None:
        """Keep an engine, whole or not at all."""
        header = self._header(depends)
        rest = header + engine
        before = self.state
        try:
            self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            with PendingFile(self._path(header)) as pending:
                pending.write_bytes(_MAGIC + self._tag(rest) + rest)
        except (OSError, OutputError) as error:
            self._unusable(error)
        else:
            self.state = f"{before}, compiled anew" if before.startswith("refused") else "stored"

    def _opened(self, data: bytes, header: bytes) -> bytes | None:
        start = len(_MAGIC) + _TAG_BYTES
        tag, rest = data[len(_MAGIC) : start], data[start:]
        if not data.startswith(_MAGIC):
            self.state = "refused: not an engine of this cache's format"
        elif not hmac.compare_digest(tag, self._tag(rest)):
            self.state = "refused: damaged, or not written by this device"
        elif not rest.startswith(header):
            self.state = "refused: compiled for another model, version, device or options"
        else:
            self.state = "hit"
            return rest[len(header) :]
        return None

    def _header(self, depends: Mapping[str, str | int]) -> bytes:
        content = {"digests": self._digests, **depends}
        return json.dumps(content, sort_keys=True).encode() + b"\n"

    def _path(self, header: bytes) -> Path:
        return self.folder / f"{hashlib.sha256(header).hexdigest()}.engine"

    def _tag(self, rest: bytes) -> bytes:
        return hmac.digest(self._key(), rest, "sha256")

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
