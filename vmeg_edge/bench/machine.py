"""What the operating system says: the machine for the record, memory of this process, and who else used the processors.

Linux tells all of it. Elsewhere a figure that the system does not tell is ``None``, and never guessed.
"""

from __future__ import annotations

import contextlib
import hashlib
import math
import os
import platform
import sys
import time
from collections.abc import Iterable
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from vmeg_edge import processor_class
from vmeg_edge.bench.report import Environment
from vmeg_edge.errors import UsageError
from vmeg_edge.processors import Processors

_MB = 1e6
_CPU = Path("/sys/devices/system/cpu")
_PACKAGES = ("numpy", "opencv-python-headless", "onnxruntime", "openvino", "tensorrt", "tensorrt-rtx-cu13-bindings")
_PROBE = b"\x5a" * (1 << 18)
_PROBES = 5


def environment(processors: Processors) -> Environment:
    """The machine and the software that figures belong to. Raises `UsageError` where its class cannot be told."""
    return Environment(
        cpu=_cpu_name(),
        processor_class=processor_class.current().name,
        cpu_features=processor_class.features_here(),
        cores=os.cpu_count() or 1,
        usable_processors=processors.usable,
        affinity_processors=processors.affinity,
        quota_processors=processors.quota,
        governor=_text(_CPU / "cpu0/cpufreq/scaling_governor") or "unknown",
        memory_mb=_memory_mb(),
        os=_os_name(),
        kernel=f"{platform.system()} {platform.release()}",
        container=_container(),
        python=f"{platform.python_implementation()} {platform.python_version()}",
        versions={name: found for name in _PACKAGES if (found := _version(name)) is not None},
    )


def resident_mb() -> float | None:
    """Resident memory of this process."""
    return _status_mb("VmRSS:")


def peak_resident_mb() -> float | None:
    """The most that was resident since the process began."""
    return _status_mb("VmHWM:")


def pin(processors: Iterable[int]) -> None:
    """Keep this process, and the threads that it starts from now on, on ``processors``.

    Raises `UsageError` where the system has no affinity, or no such processor.
    """
    wanted = set(processors)
    if sys.platform != "win32" and hasattr(os, "sched_setaffinity"):
        allowed = os.sched_getaffinity(0)
        if not wanted <= allowed:
            absent = ", ".join(map(str, sorted(wanted - allowed)))
            have = ", ".join(map(str, sorted(allowed)))
            raise UsageError(f"--pin: no processor {absent} for this process; it may use {have}")
        os.sched_setaffinity(0, wanted)
    else:
        raise UsageError("--pin: this system keeps no process on chosen processors; leave it out")


def probe_ms() -> float:
    """A fixed piece of work on one thread (SHA-256 of 256 KiB), the fastest of five: how fast the processor is now."""
    took = []
    for _ in range(_PROBES):
        began = time.perf_counter_ns()
        hashlib.sha256(_PROBE).digest()
        took.append((time.perf_counter_ns() - began) * 1e-6)
    return min(took)


@dataclass(frozen=True)
class Usage:
    """Processor seconds since start: of the whole machine, what its host took away, and of this process alone."""

    at_s: float
    busy_s: float | None
    stolen_s: float | None
    own_s: float
    throttled: int

    def others_since(self, before: Usage) -> float | None:
        """Share of all processors, 0 to 1, that certainly went to others, the host's share included.

        The machine's counters go by ticks, mostly of 10 ms, so one tick a processor proves nothing and is taken off.
        """
        if self.busy_s is None or before.busy_s is None or self.stolen_s is None or before.stolen_s is None:
            return None
        processors = os.cpu_count() or 1
        span = (self.at_s - before.at_s) * processors
        others = (self.busy_s - before.busy_s) + (self.stolen_s - before.stolen_s) - (self.own_s - before.own_s)
        return max(0.0, others - processors * _tick_s()) / span if span > 0 else 0.0


def usage() -> Usage:
    """The counters now."""
    busy, stolen = _machine_seconds()
    return Usage(time.perf_counter(), busy, stolen, time.process_time(), _throttle_count())


def _machine_seconds() -> tuple[float | None, float | None]:
    line = (_text(Path("/proc/stat")) or "").partition("\n")[0].split()
    if len(line) < 9 or line[0] != "cpu":
        return None, None
    user, nice, system, _idle, _wait, irq, softirq, steal = (int(value) * _tick_s() for value in line[1:9])
    return user + nice + system + irq + softirq, steal


def _tick_s() -> float:
    """The unit of ``/proc/stat``, which Windows has not."""
    tick_s = math.nan
    if sys.platform != "win32":
        tick_s = 1 / os.sysconf("SC_CLK_TCK")
    return tick_s


def _throttle_count() -> int:
    counts = 0
    for path in _CPU.glob("cpu[0-9]*/thermal_throttle/core_throttle_count"):
        with contextlib.suppress(ValueError):
            counts += int(_text(path) or 0)
    return counts


def _status_mb(key: str) -> float | None:
    for line in (_text(Path("/proc/self/status")) or "").splitlines():
        if line.startswith(key):
            return int(line.split()[1]) * 1024 / _MB
    return None


def _cpu_name() -> str:
    for line in (_text(Path("/proc/cpuinfo")) or "").splitlines():
        if line.startswith(("model name", "Model")):
            return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _memory_mb() -> int | None:
    for line in (_text(Path("/proc/meminfo")) or "").splitlines():
        if line.startswith("MemTotal:"):
            return round(int(line.split()[1]) * 1024 / _MB)
    return None


def _os_name() -> str:
    with contextlib.suppress(OSError):
        return platform.freedesktop_os_release()["PRETTY_NAME"]
    return platform.platform()


def _container() -> str:
    """What kind of container this runs in, by the marks that runtimes leave; ``none seen`` where there are none."""
    if Path("/.dockerenv").exists():
        return "docker"
    if Path("/run/.containerenv").exists():
        return "podman"
    group = _text(Path("/proc/1/cgroup")) or ""
    return next((word for word in ("kubepods", "docker", "lxc") if word in group), "none seen")


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _text(path: Path) -> str | None:
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return None
