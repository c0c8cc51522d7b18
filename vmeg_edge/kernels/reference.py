"""The NumPy twin: slow, obviously right, and what decides where it and the native kernels differ.

Arguments have been checked (`checks`). Each function says in full what the native one does.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from vmeg_edge.frames import Pixels, Region
from vmeg_edge.kernels.checks import Activations, Method

PRECISION_BITS = 22
"""Resize weights are integers, scaled by two to this power."""

FLAT = 2.0**-20
"""Activations vary where a centred value is larger than this part of the largest magnitude (16 float32 roundings)."""

TIE = 1e-6
"""Relative: singular values this close are equal, and a rule of the sign that is this undecided does not decide."""


def resize(frame: Pixels, region: Region, width: int, height: int, method: Method, out: Pixels) -> None:
    """Fill ``out`` with the region of the frame, resized as Pillow's ``Image.resize`` does.

    ``nearest``: the input pixel that holds an output's centre; centres are reached by adding the step up, in double.
    ``bilinear``, ``bicubic``: one axis, then the other, each rounded to uint8; an axis whose size does not change is
    left alone. Weights are taken in double, made to sum to one, and rounded to 22 bits. Rows are resized first, but
    for a frame that loses more than twice as many rows as columns, which is Pillow 13's order. Up to Pillow 12 rows
    always came first; for such frames its result differs by a grey level here and there.
    """
    crop = frame[region.y : region.y + region.height, region.x : region.x + region.width]
    if method == "nearest":
        rows = _nearest_inputs(region.height, height)
        columns = _nearest_inputs(region.width, width)
        resized = crop[rows][:, columns]
    else:
        fewer_rows = region.height - height
        columns_first = fewer_rows > 0 and fewer_rows > 2 * (region.width - width)
        resized = crop
        for axis in (0, 1) if columns_first else (1, 0):
            resized = _filtered(resized, axis, (height, width)[axis], method)
    out[...] = resized[..., np.newaxis] if resized.ndim == 2 else resized


def _nearest_inputs(inputs: int, outputs: int) -> list[int]:
    step = inputs / outputs
    position = step * 0.5
    found = []
    for _ in range(outputs):
        found.append(int(position))
        position += step
    return found


def _filtered(pixels: Pixels, axis: int, outputs: int, method: Method) -> Pixels:
    inputs = pixels.shape[axis]
    if inputs == outputs:
        return pixels
    source = np.moveaxis(pixels, axis, 0).astype(np.int64)
    target = np.empty((outputs, *source.shape[1:]), np.uint8)
    for output, (first, weights) in enumerate(_windows(inputs, outputs, method)):
        total = np.tensordot(weights, source[first : first + len(weights)], axes=1)
        rounded = (total + (1 << (PRECISION_BITS - 1))) >> PRECISION_BITS
        target[output] = np.clip(rounded, 0, 255)
    return np.moveaxis(target, 0, axis)


def _windows(inputs: int, outputs: int, method: Method) -> Iterator[tuple[int, npt.NDArray[np.int64]]]:
    """Yield for each output the first input that it sums, and the weights; the order of operations is Pillow's."""
    kernel, reach = (_triangle, 1.0) if method == "bilinear" else (_cubic, 2.0)
    scale = inputs / outputs
    widening = max(scale, 1.0)
    support = reach * widening
    per_input = 1.0 / widening
    for output in range(outputs):
        centre = (output + 0.5) * scale
        first = max(int(centre - support + 0.5), 0)
        last = min(int(centre + support + 0.5), inputs)
        weights = [kernel((tap + first - centre + 0.5) * per_input) for tap in range(last - first)]
        total = 0.0
        for weight in weights:  # one by one: sum() compensates for rounding since Python 3.12
            total += weight
        if total != 0.0:
            weights = [weight / total for weight in weights]
        scaled = [weight * (1 << PRECISION_BITS) for weight in weights]
        yield first, np.array([int(value - 0.5) if value < 0 else int(value + 0.5) for value in scaled], np.int64)


def _triangle(x: float) -> float:
    x = abs(x)
    return 1.0 - x if x < 1.0 else 0.0


def _cubic(x: float) -> float:
    a = -0.5
    x = abs(x)
    if x < 1.0:
        return ((a + 2.0) * x - (a + 3.0)) * x * x + 1
    if x < 2.0:
        return (((x - 5) * x + 8) * x - 4) * a
    return 0.0


def eigencam(
    activations: Activations, direction: Activations | None
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]] | None:
    """Return the map, float32 ``[positions]`` in 0..1, and the signed unit vector, float32 ``[C]``.

    Columns are centred over positions and projected on the first right singular vector v; what is negative becomes
    zero; the rest is stretched from its lowest to its highest value (Muhammad & Yeasin 2020, arXiv 2008.00299).

    The sign of v is fixed by the first of these that decides (each within a relative 1e-6):

    1. ``v . direction`` is positive, where a direction is given: the model's own, so that frames do not flicker.
    2. The third moment of the projections is positive: the hot side is the smaller part of the frame.
    3. The projection of largest magnitude is positive.
    4. The first projection that is not zero is positive.

    Degenerate input: where no centred value exceeds 2**-20 of the largest magnitude, or there is one position, map and
    vector are zeros. Where the leading singular values are equal within 1e-6, v is the projection on their space of
    a fixed start, which is what power iteration converges to: A'u with u hashed from the position. NaN or infinity:
    ``None``. Any finite magnitude is good: everything is scaled by a power of two first.
    """
    if not np.isfinite(activations).all():
        return None
    a = activations.astype(np.float64)
    largest = float(np.abs(a).max())
    centred = a - a.mean(axis=0)
    if len(a) < 2 or float(np.abs(centred).max()) <= FLAT * largest:
        return np.zeros(len(a), np.float32), np.zeros(a.shape[1], np.float32)
    centred = np.ldexp(centred, -math.frexp(largest)[1])

    u, sigma, vt = np.linalg.svd(centred, full_matrices=False)
    leading = sigma >= sigma[0] * (1.0 - TIE)
    v = vt[leading].T @ (sigma[leading] * (u[:, leading].T @ _start(len(a))))
    v /= np.linalg.norm(v)
    scores = centred @ v
    sign = _sign(scores, v, direction)
    hot = np.maximum(sign * scores, 0.0)
    spread = hot.max() - hot.min()
    values = (hot - hot.min()) / spread if spread > 0.0 else np.zeros_like(hot)
    return values.astype(np.float32), (sign * v).astype(np.float32)


def _start(positions: int) -> npt.NDArray[np.float64]:
    """Return a fixed vector in -1..1: MurmurHash3's finaliser of 1, 2, 3 and so on."""
    x = np.arange(1, positions + 1, dtype=np.uint32)
    x = (x ^ (x >> np.uint32(16))) * np.uint32(0x85EBCA6B)
    x = (x ^ (x >> np.uint32(13))) * np.uint32(0xC2B2AE35)
    x ^= x >> np.uint32(16)
    start: npt.NDArray[np.float64] = (x / 2147483648.0 - 1.0).astype(np.float32).astype(np.float64)
    return start


def _sign(scores: npt.NDArray[np.float64], v: npt.NDArray[np.float64], direction: Activations | None) -> float:
    if direction is not None:
        d = direction.astype(np.float64)
        along = float(v @ d)
        if abs(along) > TIE * float(np.linalg.norm(d)):
            return math.copysign(1.0, along)
    cubes = scores**3
    if abs(cubes.sum()) > TIE * np.abs(cubes).sum():
        return math.copysign(1.0, cubes.sum())
    largest = float(np.abs(scores).max())
    unbalanced = float(scores.max() + scores.min())
    if abs(unbalanced) > TIE * largest:
        return math.copysign(1.0, unbalanced)
    first = scores[np.abs(scores) > TIE * largest][0]
    return math.copysign(1.0, float(first))


def project(activations: Activations, axes: Activations, out: Activations) -> float:
    """``out = activations @ axes.T``, and the sum of the activations' squares."""
    np.matmul(activations, axes.T, out=out)
    return float(np.einsum("ij,ij->", activations, activations, dtype=np.float64))
