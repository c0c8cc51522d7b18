"""How many processors this process may keep busy: its affinity, and the CPU quota of its control groups.

A quota (``docker run --cpus=1.5``, systemd's ``CPUQuota=150%``) is processor time a period, mostly of 100 ms. A group
that has used it up is stopped until the next period begins: see "CFS Bandwidth Control"
(docs.kernel.org/scheduler/sched-bwc.html), and "Control Group v2" for ``cpu.max``.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath


@dataclass(frozen=True)
class Processors:
    """What the system grants. ``affinity``: processors that this process may run on.

    ``quota``: seconds of processor time a second, the smallest of all control groups that hold this process; ``None``
    where none of them has a quota, or the system has no control groups.
    """

    affinity: int
    quota: float | None = None

    @property
    def usable(self) -> int:
        """Threads that can run all the time: the affinity, or the quota rounded down where that is less; 1 at least.

        Rounded up, the threads of one inference alone could use up the quota, and would be stopped in the middle of a
        frame: two threads under a quota of 1.5 run for 75 ms and stand still for 25. What rounding down leaves is for
        the capture process and the decoder, which the same quota holds.
        """
        return self.affinity if self.quota is None else max(1, min(self.affinity, math.floor(self.quota)))

    def to_json(self) -> dict[str, int | float | None]:
        """All three, in processors."""
        return {
            "usable_processors": self.usable,
            "affinity_processors": self.affinity,
            "quota_processors": self.quota,
        }


def processors(root: str | os.PathLike[str] = "/") -> Processors:
    """What this process may use now. ``root`` is the folder that holds ``proc`` and the mounts that it names."""
    affinity = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return Processors(affinity, cpu_quota(root))


def usable_processors() -> int:
    """Threads that this process may keep busy, by its affinity and its quota: `Processors.usable`."""
    return processors().usable


def cpu_quota(root: str | os.PathLike[str] = "/") -> float | None:
    """The smallest CPU quota of the control groups from this process's own up to the topmost that can be seen.

    Processor seconds a second, ``None`` for no limit. Both versions of control groups are read, and both at once
    (hybrid mounts). What lies above a container's own view cannot be read. ``root`` is as for `processors`.
    """
    base = Path(root)
    quotas = [quota for folder in _groups(base) if (quota := _quota(folder)) is not None]
    return min(quotas, default=None)


def keep_opencv_within() -> None:
    """Lower OpenCV's number of threads to `usable_processors`, where it is higher.

    OpenCV reads a quota too, but only that of the topmost group. A lower number that was set stays.
    """
    import cv2

    usable = usable_processors()
    if cv2.getNumThreads() > usable:
        cv2.setNumThreads(usable)


def _groups(base: Path) -> Iterator[Path]:
    """Every folder of a control group that holds this process and can limit its processor time."""
    paths = _own_paths(_text(base / "proc/self/cgroup"))
    for version, path in paths.items():
        mounts = [(top, point) for kind, top, point in _mounts(_text(base / "proc/self/mountinfo")) if kind == version]
        inside = [(point, path.relative_to(top)) for top, point in mounts if path.is_relative_to(top)]
        # In another namespace than the mount's, names do not go together; the mount's top then stands for an ancestor.
        for point, below in inside or [(point, PurePosixPath()) for _, point in mounts]:
            folder = base / point.relative_to("/")
            yield folder
            for part in below.parts:
                if part == "..":
                    break
                folder /= part
                yield folder


def _own_paths(cgroup: str) -> dict[int, PurePosixPath]:
    """Version (1 or 2) to the path of this process's group, from ``/proc/self/cgroup``: ``4:cpu,cpuacct:/a/b``."""
    paths = {}
    for line in cgroup.splitlines():
        number, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if number == "0" and not controllers:
            paths[2] = PurePosixPath(path)
        elif "cpu" in controllers.split(","):
            paths[1] = PurePosixPath(path)
    return paths


def _mounts(mountinfo: str) -> Iterator[tuple[int, PurePosixPath, PurePosixPath]]:
    """(version, the group that is its top, where it is mounted) of each mount that can hold quotas.

    A line of ``/proc/self/mountinfo`` (proc(5)): ``36 35 98:0 /top /point rw,noatime shared:1 - cgroup name rw,cpu``.
    """
    for line in mountinfo.splitlines():
        before, _, after = line.partition(" - ")
        fields, kind = before.split(" "), after.split(" ")
        if len(fields) < 5 or len(kind) < 3:
            continue
        top, point = (PurePosixPath(_unescaped(field)) for field in fields[3:5])
        if not point.is_absolute():
            continue
        if kind[0] == "cgroup2":
            yield 2, top, point
        elif kind[0] == "cgroup" and "cpu" in kind[2].split(","):
            yield 1, top, point


def _unescaped(field: str) -> str:
    """Space, tab, newline and backslash stand as octal numbers there."""
    return re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), field)


def _quota(folder: Path) -> float | None:
    """A group's own quota: ``cpu.max`` (``50000 100000``, ``max 100000``), or the two files of version 1 (-1: none)."""
    words = _text(folder / "cpu.max").split() or [
        *_text(folder / "cpu.cfs_quota_us").split(),
        *_text(folder / "cpu.cfs_period_us").split(),
    ]
    try:
        quota_us, period_us = (int(word) for word in words)
    except ValueError:  # "max", or no such files
        return None
    return quota_us / period_us if quota_us > 0 and period_us > 0 else None


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="surrogateescape")
    except OSError:
        return ""
