"""What the operating system says of a process: memory, descriptors, threads, shared memory. Linux."""

from __future__ import annotations

import os
import platform
from pathlib import Path
from typing import Any


def resident_mb(pid: int | None = None) -> float:
    """Resident memory of a process in MB (1e6 bytes), 0 when it is gone."""
    try:
        text = Path(f"/proc/{pid or os.getpid()}/status").read_text()
    except OSError:
        return 0.0
    for line in text.splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024 / 1e6
    return 0.0


def descriptors() -> int:
    """Open files of this process."""
    return len(os.listdir("/proc/self/fd")) - 1


def threads() -> int:
    """Threads of this process, the engine's included."""
    return len(os.listdir("/proc/self/task"))


def shared_memory() -> set[str]:
    """Blocks of shared memory that Python made on this machine."""
    return {name for name in os.listdir("/dev/shm") if name.startswith("psm_")}


def describe() -> dict[str, Any]:
    """The machine, for the record."""
    model = next(
        (
            line.partition(":")[2].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if "model name" in line
        ),
        platform.processor(),
    )
    return {"cpu": model, "cores": os.cpu_count(), "kernel": platform.release(), "python": platform.python_version()}
