"""What a backend is, and the table of those there are: data that `load` and `info` read."""

from __future__ import annotations

import importlib
import importlib.metadata
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, TypeAlias

import numpy as np
import numpy.typing as npt

from vmeg_edge.backends.cache import EngineCache
from vmeg_edge.errors import BackendError, BackendMissingError, UsageError
from vmeg_edge.manifest import Manifest
from vmeg_edge.processors import usable_processors
from vmeg_edge.silence import silence

Hint: TypeAlias = Literal["LATENCY", "THROUGHPUT"]
Progress: TypeAlias = Callable[[str, int, "int | None"], None]


def no_progress(_stage: str, _done: int, _total: int | None) -> None:
    """Progress that nobody watches."""


@dataclass(frozen=True)
class Placement:
    """Where and how a model is opened. ``hint`` is OpenVINO's performance hint; ``cache`` keeps compiled engines."""

    device: str = "CPU"
    threads: int = 1
    hint: Hint = "LATENCY"
    cache: EngineCache | None = None
    progress: Progress = no_progress


@dataclass(frozen=True)
class BackendReport:
    """What was asked for and what was got: this goes into every result's provenance.

    ``precision`` is the artefact's, ``float_precision`` that of everything in it that is not int8, as the engine
    reports it where it can. ``details`` are the backend's own words: hint, cache, layers in int8.
    """

    backend: str
    version: str
    requested_device: str
    device: str
    precision: str
    threads: int
    float_precision: str = "float32"
    details: Mapping[str, Any] = field(default_factory=dict)


class Backend(Protocol):
    """An opened model. It is used from one thread at a time."""

    report: BackendReport

    def infer(
        self, pixels: npt.NDArray[np.uint8], home: npt.NDArray[np.int32] | None = None
    ) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
        """(logits ``[classes]``, activations ``[rows * columns, channels]``) of uint8 ``[1, H, W, 3]``.

        ``home``, int32 ``[1, rows * columns]``, is what a sized model takes beside them (`sector.Sector.home`). Both
        are valid until the next call. Raises `BackendError`.
        """
        ...

    def close(self) -> None:
        """Free the engine. A closed backend is not used again."""
        ...


@dataclass(frozen=True)
class Package:
    """One package that can serve a backend: what is imported, who brings it, and from which version on."""

    module: str
    distribution: str
    minimum: str


@dataclass(frozen=True)
class BackendEntry:
    """One row of the table: where the backend lives, what it needs, and the command that adds it.

    ``module`` holds ``open_model(manifest, files, placement) -> Backend``, where ``files`` maps the artefact's names
    to their verified bytes. ``packages`` are what is imported, the first that is there, each with the distribution
    that brings it and the lowest version that serves. ``default_device`` is where it runs unless told otherwise.
    """

    name: str
    module: str
    packages: tuple[Package, ...]
    install: str
    default_device: str
    devices: tuple[str, ...]


@dataclass(frozen=True)
class Availability:
    """Whether a backend can be used here: its version, or why not."""

    entry: BackendEntry
    version: str | None
    reason: str
    package: Package | None = None

    @property
    def usable(self) -> bool:
        """Whether `load` would open it."""
        return self.version is not None


BACKENDS: Mapping[str, BackendEntry] = {
    "onnxruntime": BackendEntry(
        name="onnxruntime",
        module="vmeg_edge.backends.onnxruntime",
        packages=(Package("onnxruntime", "onnxruntime", "1.20"),),
        install="pip install 'onnxruntime>=1.20'",
        default_device="CPU",
        devices=("CPU",),
    ),
    "openvino": BackendEntry(
        name="openvino",
        module="vmeg_edge.backends.openvino",
        packages=(Package("openvino", "openvino", "2025.4"),),
        install="pip install 'vmeg-edge[openvino]'",
        default_device="CPU",
        devices=("CPU", "GPU", "NPU"),
    ),
    "tensorrt": BackendEntry(
        name="tensorrt",
        module="vmeg_edge.backends.tensorrt",
        packages=(
            Package("tensorrt", "tensorrt", "10.0"),
            Package("tensorrt_rtx", "tensorrt-rtx", "1.7"),
            Package("tensorrt_rtx_bindings", "tensorrt-rtx-cu13-bindings", "1.7"),
        ),
        install="pip install 'vmeg-edge[tensorrt-rtx]' (GeForce and RTX), or "
        "pip install --extra-index-url https://pypi.nvidia.com 'vmeg-edge[tensorrt]'",
        default_device="CUDA:0",
        devices=("CUDA:0",),
    ),
}


def backend_entry(name: str) -> BackendEntry:
    """The row of ``name``. Raises `UsageError` that lists the rows there are."""
    if name not in BACKENDS:
        raise UsageError(f"backend {name!r} is unknown; choose one of: {', '.join(BACKENDS)}")
    return BACKENDS[name]


def availability(name: str) -> Availability:
    """Try to import a backend's engine, and say what was looked for and what was found."""
    entry = backend_entry(name)
    looked = []
    for package in entry.packages:
        try:
            with silence():
                imported = importlib.import_module(package.module)
        except (ImportError, OSError) as error:
            looked.append(f"import {package.module} failed ({' '.join(str(error).split())})")
            continue
        try:
            version = importlib.metadata.version(package.distribution)
        except importlib.metadata.PackageNotFoundError:
            version = str(getattr(imported, "__version__", "unknown"))
        if _release(version) >= _release(package.minimum):
            return Availability(entry, version, "usable", package)
        looked.append(f"{package.module} {version} is older than {package.minimum}")
    return Availability(entry, None, f"{'; '.join(looked)}; add it with: {entry.install}")


def devices_of(name: str) -> tuple[tuple[str, ...], str]:
    """The devices that a usable backend finds on this machine, and a line on those it does not (or nothing)."""
    entry = backend_entry(name)
    probe = getattr(importlib.import_module(entry.module), "find_devices", None)
    if probe is None:
        return entry.devices, ""
    devices: tuple[tuple[str, ...], str] = probe()
    return devices


def why_unusable(name: str) -> str | None:
    """Why a backend cannot run on this machine, or ``None`` where it can."""
    found = availability(name)
    if not found.usable:
        return found.reason
    devices, why = devices_of(name)
    return None if devices else why


def open_backend(name: str, manifest: Manifest, files: Mapping[str, bytes], placement: Placement) -> Backend:
    """Open ``manifest``'s artefact for backend ``name``.

    ``placement.threads`` is the budget of the whole process for inference. Raises `UsageError`,
    `BackendMissingError` or `BackendError`.
    """
    found = availability(name)
    if not found.usable:
        raise BackendMissingError(f"backend {name}: {found.reason}")
    if not 1 <= placement.threads <= 1024:
        raise UsageError(f"threads is {placement.threads}; give a number from 1 to 1024")
    module = importlib.import_module(found.entry.module)
    backend: Backend = module.open_model(manifest, files, placement)
    return backend


def place(
    name: str,
    *,
    device: str | None = None,
    threads: int | None = None,
    hint: Hint = "LATENCY",
    cache: EngineCache | None = None,
    progress: Progress = no_progress,
) -> Placement:
    """A placement with what was left open filled in: the backend's own device, and `usable_processors` threads."""
    if hint not in ("LATENCY", "THROUGHPUT"):
        raise UsageError(f"hint is {hint!r}; choose LATENCY or THROUGHPUT")
    chosen = backend_entry(name).default_device if device is None else device
    return Placement(chosen, usable_processors() if threads is None else threads, hint, cache, progress)


def check_tensors(manifest: Manifest, found: Mapping[str, tuple[str, list[int]]], engine: str) -> None:
    """Hold an engine's tensors (name to dtype and shape) against the manifest. Raises `BackendError`."""
    rows, columns = manifest.explanation.grid
    expected = {
        "pixels": ("uint8", [1, manifest.input.height, manifest.input.width, 3]),
        "logits": ("float32", [1, len(manifest.labels)]),
        "activations": ("float32", [1, rows * columns, manifest.explanation.channels]),
    }
    for name, (dtype, shape) in expected.items():
        if found.get(name) != (dtype, shape):
            have = "has no such tensor" if name not in found else f"has {found[name][0]} {found[name][1]}"
            raise BackendError(
                f"the manifest promises {name} as {dtype} {shape}, and the model in {engine} {have}; "
                "convert the checkpoint again"
            )


def inputs_of(pixels: npt.NDArray[np.uint8], home: npt.NDArray[np.int32] | None) -> dict[str, npt.NDArray[Any]]:
    """The model's inputs by name."""
    return {"pixels": pixels} if home is None else {"pixels": pixels, "home": home}


def _release(version: str) -> tuple[int, ...]:
    """The leading numbers of a version, for comparison: ``"1.20.1rc2"`` gives ``(1, 20, 1)``."""
    numbers: list[int] = []
    for part in version.split("."):
        digits = "".join(c for c in part if c.isdigit()) if part[:1].isdigit() else ""
        if not digits:
            break
        numbers.append(int(digits))
    return tuple(numbers)
