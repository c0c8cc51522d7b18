"""How this package's own processes are started, where Windows differs."""

from __future__ import annotations

import subprocess
import sys

NO_WINDOW: int = subprocess.CREATE_NO_WINDOW if sys.platform == "win32" else 0
"""``creationflags`` of a process that opens no console: a cart's program has none of its own to lend it."""

MOST_WORKERS: int = 61 if sys.platform == "win32" else 1 << 30
"""The most that `concurrent.futures.ProcessPoolExecutor` takes, since Windows waits for no more handles at once."""
