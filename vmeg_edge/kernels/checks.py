"""What the kernels ask of their arguments: one set of checks, so that both implementations refuse alike."""

from __future__ import annotations

from typing import Literal, TypeAlias, TypeVar, get_args

import numpy as np
import numpy.typing as npt

from vmeg_edge.errors import ActivationError, FrameError, UsageError
from vmeg_edge.frames import MAX_SIDE, Pixels, Region

Method: TypeAlias = Literal["nearest", "bilinear", "bicubic"]
Activations: TypeAlias = npt.NDArray[np.float32]
Result = TypeVar("Result")

METHODS: tuple[Method, ...] = get_args(Method)


def _shape(array: npt.NDArray[np.generic]) -> str:
    return "x".join(map(str, array.shape)) or "()"


def check_frame(frame: Pixels) -> None:
    """Raise `FrameError` unless uint8 ``[H, W]`` or ``[H, W, 3]`` with at least one pixel."""
    if not isinstance(frame, np.ndarray):
        raise FrameError(f"frame: a {type(frame).__name__}; pass a NumPy uint8 array")
    if frame.dtype != np.uint8:
        raise FrameError(f"frame: pixels are {frame.dtype}; scale them to 8 bits (uint8, 0 to 255) first")
    if frame.ndim not in (2, 3) or (frame.ndim == 3 and frame.shape[2] != 3):
        raise FrameError(f"frame: shape {_shape(frame)}; pass [height, width] or [height, width, 3] RGB")
    if frame.size == 0:
        raise FrameError(f"frame: shape {_shape(frame)} holds no pixel; pass at least one")


def checked_region(frame: Pixels, region: Region | None) -> Region:
    """Return the region, or the whole frame for ``None``; raises `FrameError` where it reaches beyond the frame."""
    height, width = frame.shape[:2]
    if region is None:
        return Region(0, 0, width, height)
    if not region.fits(width, height):
        raise FrameError(f"region: {region} reaches beyond the frame of {width}x{height} pixels; move or shrink it")
    return region


def check_size(width: int, height: int) -> None:
    """Raise `UsageError` unless both sides are whole numbers of 1 to 16,384 pixels."""
    for name, side in (("width", width), ("height", height)):
        if isinstance(side, bool) or not isinstance(side, (int, np.integer)) or not 1 <= side <= MAX_SIDE:
            raise UsageError(f"{name}: {side!r}; ask for a whole number of 1 to {MAX_SIDE} pixels")


def check_method(method: str) -> None:
    """Raise `UsageError` for a resize method that does not exist."""
    if method not in METHODS:
        raise UsageError(f"method: {method!r} is unknown; choose one of {', '.join(METHODS)}")


def check_out(out: Pixels, frame: Pixels, width: int, height: int) -> None:
    """Raise `FrameError` unless ``out`` is a writable, contiguous uint8 ``[height, width, 3]`` of its own memory."""
    if not isinstance(out, np.ndarray) or out.dtype != np.uint8 or out.shape != (height, width, 3):
        found = f"{_shape(out)} {out.dtype}" if isinstance(out, np.ndarray) else type(out).__name__
        raise FrameError(f"out: {found}; pass uint8 [{height}, {width}, 3]")
    if not (out.flags.c_contiguous and out.flags.writeable):
        raise FrameError("out: not contiguous or not writable; pass numpy.empty([height, width, 3], numpy.uint8)")
    if np.may_share_memory(out, frame):
        raise FrameError("out: shares memory with the frame; pass a buffer of its own")


def check_projection(activations: Activations, axes: Activations, out: Activations) -> None:
    """Raise `ActivationError` unless ``[n, C]``, ``[k, C]`` and ``[n, k]`` in float32, the last two contiguous."""
    for name, array in (("activations", activations), ("axes", axes), ("out", out)):
        if not isinstance(array, np.ndarray) or array.dtype != np.float32 or array.ndim != 2 or array.size == 0:
            found = f"{_shape(array)} {array.dtype}" if isinstance(array, np.ndarray) else type(array).__name__
            raise ActivationError(f"{name}: {found}; pass a NumPy float32 array of two dimensions, not empty")
    if axes.shape[1] != activations.shape[1] or out.shape != (activations.shape[0], axes.shape[0]):
        raise ActivationError(
            f"axes: {_shape(axes)} and out: {_shape(out)} do not fit activations of {_shape(activations)}; "
            "pass axes [k, channels] and out [positions, k]"
        )
    if not (axes.flags.c_contiguous and out.flags.c_contiguous and out.flags.writeable):
        raise ActivationError("axes or out: not contiguous, or out not writable; pass numpy.ascontiguousarray of them")


def check_activations(activations: Activations, direction: Activations | None) -> None:
    """Raise `ActivationError` unless float32 ``[positions, channels]`` and a ``direction`` that can orient them."""
    if not isinstance(activations, np.ndarray) or activations.dtype != np.float32:
        found = activations.dtype if isinstance(activations, np.ndarray) else type(activations).__name__
        raise ActivationError(f"activations: {found}; pass a NumPy float32 array")
    if activations.ndim != 2 or activations.size == 0:
        raise ActivationError(f"activations: shape {_shape(activations)}; pass [positions, channels], not empty")
    if direction is None:
        return
    if not isinstance(direction, np.ndarray) or direction.dtype != np.float32:
        found = direction.dtype if isinstance(direction, np.ndarray) else type(direction).__name__
        raise ActivationError(f"direction: {found}; pass a NumPy float32 array")
    channels = activations.shape[1]
    if direction.shape != (channels,):
        raise ActivationError(f"direction: shape {_shape(direction)}; pass one value a channel, [{channels}]")
    if not np.isfinite(direction).all() or not direction.any():
        raise ActivationError("direction: NaN, infinite or all zeros orients nothing; fit it again or pass None")


def check_grid(activations: Activations, grid: tuple[int, int]) -> None:
    """Raise `ActivationError` unless the grid has as many cells as there are positions."""
    rows, columns = grid
    if rows < 1 or columns < 1 or rows * columns != activations.shape[0]:
        raise ActivationError(
            f"grid: {rows}x{columns} does not hold the {activations.shape[0]} positions of the activations; "
            "pass the (rows, columns) of the layer they come from"
        )


def finite(result: Result | None) -> Result:
    """Pass a result through; raises `ActivationError` for the ``None`` that stands for NaN or infinity."""
    if result is None:
        raise ActivationError(
            "activations: NaN or infinite, so there is no heat map; "
            "check the model at this precision (does float16 overflow?)"
        )
    return result
