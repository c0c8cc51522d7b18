"""Resize, Eigen-CAM and projection: native code, or its NumPy twin; which of the two, and why.

The native kernels are compiled once per instruction set and the fastest one that the machine runs is taken.
Two environment variables, read at the first use, ask for something else:

- ``VMEG_EDGE_KERNELS``: ``native`` (the default) or ``reference``, the slow twin in `reference`.
- ``VMEG_EDGE_ISA``: ``baseline``, ``avx2``, ``avx512``, ``neon``, ``neon_dotprod`` or ``neon_i8mm``.

A choice that cannot be honoured raises `vmeg_edge.errors.KernelError` at the first use; nothing falls back in
silence. Arguments are checked here, once for both implementations.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from vmeg_edge.frames import Pixels, Region
from vmeg_edge.kernels import checks
from vmeg_edge.kernels.checks import Activations, Method
from vmeg_edge.kernels.choice import ISAS, Implementation, choose, current

__all__ = [
    "ISAS",
    "Implementation",
    "Method",
    "choose",
    "cpu_features",
    "describe",
    "eigencam",
    "principal_direction",
    "project",
    "resize",
]


def resize(
    frame: Pixels,
    region: Region | None,
    width: int,
    height: int,
    method: Method,
    out: Pixels | None = None,
) -> Pixels:
    """Crop and resize a frame, bit for bit as Pillow does.

    ``frame`` is uint8 ``[H, W]`` or ``[H, W, 3]`` of any strides; ``region`` is the part to take (``None``: all of
    it). Returns uint8 ``[height, width, 3]``, contiguous; grey is repeated to three channels. With ``out`` the
    result is written there and ``out`` is returned: writable, contiguous, and no part of the frame's memory.

    ``nearest`` takes the pixel under each output's centre; ``bilinear`` and ``bicubic`` (a = -0.5) widen with the
    reduction, so they do not alias. Equal to ``Image.fromarray(crop).resize((width, height), method)``.

    Raises `FrameError` for a frame, region or ``out`` that does not fit, `UsageError` for a method or size that
    does not exist, `KernelError` where no implementation can be used.
    """
    checks.check_frame(frame)
    box = checks.checked_region(frame, region)
    checks.check_size(width, height)
    checks.check_method(method)
    if out is None:
        out = np.empty((height, width, 3), np.uint8)
    else:
        checks.check_out(out, frame, width, height)
    current().resize(frame, box, width, height, method, out)
    return out


def eigencam(
    activations: Activations, grid: tuple[int, int], direction: Activations | None = None
) -> npt.NDArray[np.float32]:
    """Eigen-CAM (Muhammad & Yeasin 2020, arXiv 2008.00299): a saliency map of activations.

    ``activations`` is float32 ``[h*w, C]`` of any strides, ``grid`` is ``(h, w)``, ``direction`` float32 ``[C]``
    orients the map. Returns float32 ``[h, w]`` in 0..1: all zeros where nothing varies over positions. What fixes
    the sign, and what happens in degenerate cases, is in `reference.eigencam`.

    Raises `ActivationError` for a wrong dtype or shape, and for NaN or infinity.
    """
    checks.check_activations(activations, direction)
    checks.check_grid(activations, grid)
    values, _ = checks.finite(current().eigencam(activations, direction))
    return values.reshape(grid)


def principal_direction(activations: Activations, direction: Activations | None = None) -> npt.NDArray[np.float32]:
    """Return the vector that `eigencam` projects on: float32 ``[C]``, of unit length, signed by the same rules.

    All zeros where nothing varies over positions. Raises `ActivationError` as `eigencam` does.
    """
    checks.check_activations(activations, direction)
    _, vector = checks.finite(current().eigencam(activations, direction))
    return vector


def project(activations: Activations, axes: Activations, out: Activations) -> float:
    """Put every token on every axis: ``out = activations @ axes.T``; returns the sum of the activations' squares.

    ``activations`` is float32 ``[positions, C]`` of any strides, ``axes`` float32 ``[k, C]`` and ``out`` float32
    ``[positions, k]``, both contiguous, ``out`` writable. It stays on the caller's thread, so that it cannot disturb
    inference. What is not finite comes out not finite. Raises `ActivationError` for what does not fit.
    """
    checks.check_projection(activations, axes, out)
    return current().project(activations, axes, out)


def cpu_features() -> tuple[str, ...]:
    """Return the vector extensions of this processor, whichever kernels run; empty where the extension is not built."""
    try:
        from vmeg_edge import _native
    except ImportError:
        return ()
    return tuple(_native.cpu_features())


def describe() -> dict[str, Any]:
    """What runs, and why, as plain data.

    ``implementation`` (``native`` or ``reference``), ``isa`` in use (empty for the twin), ``isa_available`` on this
    machine in this build, ``cpu_features``, and ``reason``. Raises `KernelError` where the choice cannot be honoured.
    """
    chosen = current()
    return {
        "implementation": chosen.name,
        "isa": chosen.isa,
        "isa_available": list(chosen.isa_available),
        "cpu_features": list(chosen.cpu_features),
        "reason": chosen.reason,
    }
