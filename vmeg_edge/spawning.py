"""How this package's own processes are started, where Windows differs."""

from __future__ import annotations

import subprocess
import sys

if sys.platform == "win32":
    _NO_WINDOW, _MOST_WORKERS = subprocess.CREATE_NO_WINDOW, 61
else:
    _NO_WINDOW, _MOST_WORKERS = 0, 1 << 30

NO_WINDOW: int = _NO_WINDOW
"""``creationflags`` of a process that opens no console: a cart's program has none of its own to lend it."""

MOST_WORKERS: int = _MOST_WORKERS
"""The most that `concurrent.futures.ProcessPoolExecutor` takes, since Windows waits for no more handles at once."""
