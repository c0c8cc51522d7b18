"""What a backend is, and the table of those there are: data that `load` and `info` read."""

from __future__ import annotations

import importlib
import importlib.metadata
import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from vmeg_edge.errors import BackendMissingError, UsageError
from vmeg_edge.manifest import Manifest


@dataclass(frozen=True)
class BackendReport:
    """What was asked for and what was got: this goes into every result's provenance."""

    backend: str
    version: str
    requested_device: str
    device: str
    precision: str
    threads: int


class Backend(Protocol):
    """An opened model. It is used from one thread at a time."""

    report: BackendReport

    def infer(self, pixels: npt.NDArray[np.uint8]) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
        """(logits ``[classes]``, activations ``[rows * columns, channels]``) of uint8 ``[1, H, W, 3]``.

        Both are valid until the next call. Raises `BackendError`.
        """
        ...

    def close(self) -> None:
        """Free the engine. A closed backend is not used again."""
        ...


@dataclass(frozen=True)
class BackendEntry:
    """One row of the table: where the backend lives, what it needs, and the command that adds it.

    ``module`` holds ``open(manifest, files, *, device, threads) -> Backend``, where ``files`` maps the
    artefact's names to their verified bytes. ``package`` is what is imported, ``distribution`` who brings it.
    """

    name: str
    module: str
    package: str
    distribution: str
    minimum: str
    install: str
    devices: tuple[str, ...]


@dataclass(frozen=True)
class Availability:
    """Whether a backend can be used here: its version, or why not."""

    entry: BackendEntry
    version: str | None
    reason: str

    @property
    def usable(self) -> bool:
        """Whether `load` would open it."""
        return self.version is not None


BACKENDS: Mapping[str, BackendEntry] = {
    "onnxruntime": BackendEntry(
        name="onnxruntime",
        module="vmeg_edge.backends.onnxruntime",
        package="onnxruntime",
        distribution="onnxruntime",
        minimum="1.20",
        install="pip install 'onnxruntime>=1.20'",
        devices=("CPU",),
    ),
}


def backend_entry(name: str) -> BackendEntry:
    """The row of ``name``. Raises `UsageError` that lists the rows there are."""
    if name not in BACKENDS:
        raise UsageError(f"backend {name!r} is unknown; choose one of: {', '.join(BACKENDS)}")
    return BACKENDS[name]


def availability(name: str) -> Availability:
    """Try to import a backend's engine, and say what was found."""
    entry = backend_entry(name)
    try:
        importlib.import_module(entry.package)
    except ImportError as error:
        reason = " ".join(str(error).split())
        return Availability(entry, None, f"import {entry.package} failed ({reason}); add it with: {entry.install}")
    try:
        version = importlib.metadata.version(entry.distribution)
    except importlib.metadata.PackageNotFoundError:
        version = str(getattr(importlib.import_module(entry.package), "__version__", "unknown"))
    if _release(version) < _release(entry.minimum):
        return Availability(
            entry,
            None,
            f"{entry.package} {version} is older than {entry.minimum}; upgrade it with: {entry.install}",
        )
    return Availability(entry, version, "usable")


def open_backend(
    name: str,
    manifest: Manifest,
    files: Mapping[str, bytes],
    *,
    device: str = "CPU",
    threads: int | None = None,
) -> Backend:
    """Open ``manifest``'s artefact for backend ``name``.

    ``threads`` is the budget of the whole process for inference; by default, the processors that this process
    may use. Raises `UsageError`, `BackendMissingError` or `BackendError`.
    """
    found = availability(name)
    if not found.usable:
        raise BackendMissingError(f"backend {name}: {found.reason}")
    if threads is None:
        threads = usable_processors()
    if not 1 <= threads <= 1024:
        raise UsageError(f"threads is {threads}; give a number from 1 to 1024")
    module = importlib.import_module(found.entry.module)
    backend: Backend = module.open_model(manifest, files, device=device, threads=threads)
    return backend


def usable_processors() -> int:
    """Processors that this process may run on: its affinity where the system has one."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _release(version: str) -> tuple[int, ...]:
    """The leading numbers of a version, for comparison: ``"1.20.1rc2"`` gives ``(1, 20, 1)``."""
    numbers: list[int] = []
    for part in version.split("."):
        digits = "".join(c for c in part if c.isdigit()) if part[:1].isdigit() else ""
        if not digits:
            break
        numbers.append(int(digits))
    return tuple(numbers)
