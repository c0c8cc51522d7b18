"""Write the cases of ``kernels_test``, inputs and the NumPy twin's answers: ``python csrc/tests/cases.py CASES``."""

from __future__ import annotations

import struct
import sys
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from vmeg_edge import kernels
from vmeg_edge.frames import Region
from vmeg_edge.kernels import reference

METHODS = ("nearest", "bilinear", "bicubic")  # in the order of vmeg::Method
OK, FLAT, NOT_FINITE = range(3)  # vmeg::CamStatus


def _array(values: npt.NDArray[Any]) -> bytes:
    data = np.ascontiguousarray(values).tobytes()
    return struct.pack("<i", len(data)) + data


def _text(text: str) -> bytes:
    return struct.pack("<i", len(text)) + text.encode("ascii")


def _resize(frame: npt.NDArray[np.uint8], region: Region, out: tuple[int, int], method: int) -> bytes:
    """``frame`` of any strides, its whole memory with it."""
    answer = np.empty((out[1], out[0], 3), np.uint8)
    reference.resize(frame, region, out[0], out[1], METHODS[method], answer)
    memory = frame
    while isinstance(memory.base, np.ndarray):
        memory = memory.base
    crop = frame[region.y :, region.x :]
    offset = crop.__array_interface__["data"][0] - memory.__array_interface__["data"][0]
    strides = (*frame.strides, 0)[:3]
    channels = 1 if frame.ndim == 2 else 3
    head = struct.pack("<10i", region.width, region.height, channels, offset, *strides, *out, method)
    return head + _array(memory) + _array(answer)


def resizes(rng: np.random.Generator) -> list[bytes]:
    """Reduced, enlarged and equal sizes; grey and RGB; a crop; rows backwards; every second pixel; one pixel."""
    cases = []
    for method in range(len(METHODS)):
        for shape in ((37, 53, 3), (37, 53), (480, 640, 3), (1, 1, 3), (5, 200)):
            frame = rng.integers(0, 256, shape, np.uint8)
            whole = Region(0, 0, shape[1], shape[0])
            cases += [_resize(frame, whole, out, method) for out in ((56, 56), (112, 24), (shape[1], 17))]
        frame = rng.integers(0, 256, (120, 160, 3), np.uint8)
        cases.append(_resize(frame, Region(11, 7, 101, 90), (64, 48), method))
        cases.append(_resize(frame[::-1], Region(3, 5, 100, 100), (33, 44), method))
        cases.append(_resize(frame[:, ::2], Region(0, 0, 80, 120), (56, 56), method))
        cases.append(_resize(frame[..., ::-1], Region(0, 0, 160, 120), (56, 56), method))
        cases.append(_resize(np.tile(frame[:, :1] // 255 * 255, (1, 300, 1)), Region(0, 0, 300, 120), (40, 40), method))
    return cases


def _cam(activations: npt.NDArray[np.float32], direction: npt.NDArray[np.float32] | None) -> bytes:
    found = reference.eigencam(activations, direction)
    nothing = np.empty(0, np.float32)
    values, vector = (nothing, nothing) if found is None else found
    status = NOT_FINITE if found is None else OK if vector.any() else FLAT
    head = struct.pack("<3i", *activations.shape, status)
    return head + b"".join(map(_array, (activations, nothing if direction is None else direction, values, vector)))


def cams(rng: np.random.Generator) -> list[bytes]:
    """Spectra with a clear leader, at the grids of real models; huge, tiny, flat and not finite."""
    cases = []
    for rows, columns in ((196, 768), (196, 192), (49, 512), (16, 17), (4, 3)):
        count = min(rows - 1, columns)
        left = rng.standard_normal((rows, count))
        left, _ = np.linalg.qr(left - left.mean(axis=0))
        right, _ = np.linalg.qr(rng.standard_normal((columns, count)))
        centred = (left * 0.8 ** np.arange(count)) @ right.T
        direction = rng.standard_normal(columns).astype(np.float32)
        for scale, mean in ((1.0, 0.0), (40.0, 1.0), (1e30, 0.0), (1e-30, 0.0)):
            activations = (scale * (centred + mean * rng.standard_normal(columns))).astype(np.float32)
            cases += [_cam(activations, None), _cam(activations, direction)]
    cases.append(_cam(np.full((9, 5), 3.25, np.float32), None))
    for bad in (np.nan, np.inf):
        activations = np.ones((9, 5), np.float32)
        activations[4, 2] = bad
        cases.append(_cam(activations, None))
    return cases


def projections(rng: np.random.Generator) -> list[bytes]:
    """The sizes of real gates, and the edges of a vector's width."""
    cases = []
    for rows, columns, count in ((196, 768, 17), (196, 192, 33), (1, 1, 1), (3, 5, 2), (4, 16, 1), (7, 17, 3)):
        activations = rng.standard_normal((rows, columns)).astype(np.float32)
        axes = rng.standard_normal((count, columns)).astype(np.float32)
        out = (activations.astype(np.float64) @ axes.T.astype(np.float64)).astype(np.float32)
        squares = np.array([(activations.astype(np.float64) ** 2).sum()])
        cases.append(
            struct.pack("<3i", rows, columns, count) + b"".join(map(_array, (activations, axes, out, squares)))
        )
    return cases


def main() -> None:
    """Write them all. The seed is fixed: the same NumPy writes the same bytes."""
    if sys.byteorder != "little":
        raise SystemExit("cases are little-endian, and this machine is not")
    rng = np.random.default_rng(20)
    parts = [_text("vmeg kernels 1"), _text(",".join(kernels.describe()["cpu_features"]))]
    for kind in (resizes, cams, projections):
        cases = kind(rng)
        parts += [struct.pack("<i", len(cases)), *cases]
    Path(sys.argv[1]).write_bytes(b"".join(parts))


if __name__ == "__main__":
    main()
