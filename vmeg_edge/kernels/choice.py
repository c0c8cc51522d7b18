"""Which implementation runs: what the environment asks for, and what this machine has."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from vmeg_edge.errors import KernelError
from vmeg_edge.frames import Pixels, Region
from vmeg_edge.kernels.checks import Activations, Method

KERNELS_VARIABLE = "VMEG_EDGE_KERNELS"
ISA_VARIABLE = "VMEG_EDGE_ISA"
NAMES = ("native", "reference")
ISAS = ("baseline", "avx2", "avx512", "neon", "neon_dotprod", "neon_i8mm")

Vectors: TypeAlias = tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]


@dataclass(frozen=True)
class Implementation:
    """The kernels, whose arguments have been checked, and what there is to say about them.

    ``resize(frame, region, width, height, method, out)`` fills ``out``; ``eigencam(activations, direction)`` returns
    the flat map and the vector, or ``None`` where the activations are not finite; ``project(activations, axes, out)``
    fills ``out`` and gives the sum of all squares.
    """

    name: str
    isa: str
    reason: str
    resize: Callable[[Pixels, Region, int, int, Method, Pixels], None]
    eigencam: Callable[[Activations, Activations | None], Vectors | None]
    project: Callable[[Activations, Activations, Activations], float]
    isa_available: tuple[str, ...] = field(default=())
    cpu_features: tuple[str, ...] = field(default=())


def choose(name: str | None = None, isa: str | None = None) -> Implementation:
    """Return the implementation of that name (``native`` by default) and instruction set (the fastest by default).

    Raises `KernelError` where the name is unknown, or where this build or this machine lacks it.
    """
    if name is not None and name not in NAMES:
        raise KernelError(f"{KERNELS_VARIABLE}={name!r} is unknown; choose one of {', '.join(NAMES)}")
    if isa is not None and isa not in ISAS:
        raise KernelError(f"{ISA_VARIABLE}={isa!r} is unknown; choose one of {', '.join(ISAS)}")
    if name == "reference":
        if isa is not None:
            raise KernelError(
                f"{ISA_VARIABLE}={isa} needs the native kernels; unset it or {KERNELS_VARIABLE}=reference"
            )
        return _reference()
    return _native(isa)


def _reference() -> Implementation:
    from vmeg_edge.kernels import reference

    return Implementation(
        name="reference",
        isa="",
        reason=f"asked for ({KERNELS_VARIABLE}=reference)",
        resize=reference.resize,
        eigencam=reference.eigencam,
        project=reference.project,
    )


def _native(isa: str | None) -> Implementation:
    try:
        from vmeg_edge import _native
    except ImportError as error:
        raise KernelError(
            f"the native kernels cannot be imported ({error}); install the vmeg-edge wheel for this machine, "
            f"or set {KERNELS_VARIABLE}=reference for the slow twin"
        ) from error
    available = _native.isas_available()
    if isa is not None and isa not in available:
        lacks = "machine" if isa in _native.isas_built() else "build"
        raise KernelError(
            f"{ISA_VARIABLE}={isa}: this {lacks} lacks it; unset it, or choose one of {', '.join(available)}"
        )
    chosen = available[-1] if isa is None else isa

    @lru_cache(maxsize=32)
    def resizer(
        in_width: int, in_height: int, channels: int, width: int, height: int, method: Method
    ) -> _native.Resizer:
        return _native.Resizer(in_width, in_height, channels, width, height, method, chosen)

    def resize(frame: Pixels, region: Region, width: int, height: int, method: Method, out: Pixels) -> None:
        channels = 1 if frame.ndim == 2 else 3
        plan = resizer(region.width, region.height, channels, width, height, method)
        plan.run(frame, region.x, region.y, out)

    def eigencam(activations: Activations, direction: Activations | None) -> Vectors | None:
        packed = None if direction is None else np.ascontiguousarray(direction)
        return _native.eigencam(activations, packed, chosen)

    def project(activations: Activations, axes: Activations, out: Activations) -> float:
        return _native.project(np.ascontiguousarray(activations), axes, out, chosen)

    return Implementation(
        name="native",
        isa=chosen,
        reason="the fastest that this machine runs" if isa is None else f"asked for ({ISA_VARIABLE}={isa})",
        resize=resize,
        eigencam=eigencam,
        project=project,
        isa_available=tuple(available),
        cpu_features=tuple(_native.cpu_features()),
    )


_lock = threading.Lock()
_current: Implementation | None = None


def current() -> Implementation:
    """Return what the environment asks for, decided at the first call of the process."""
    global _current
    if _current is None:
        with _lock:
            if _current is None:
                _current = choose(os.environ.get(KERNELS_VARIABLE) or None, os.environ.get(ISA_VARIABLE) or None)
    return _current
