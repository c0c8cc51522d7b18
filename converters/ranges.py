"""Ranges of activations whose int8 has the least squared error: what is clipped against how coarse the steps are.

Full ranges serve a transformer, whose rare extremes carry meaning. A convolutional network's do not: on a ResNet-50
that was trained on phantoms (128 pixels, 200 unseen ones), ranges of least error took the mean |Δp| from 0.0039 to
0.0032 on ONNX Runtime and from 0.0039 to 0.0022 on OpenVINO, whose NNCF searches them by itself.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from vmeg_edge.silence import silence

from .feeds import Feed, pixels_alone

with silence():
    from onnxruntime.quantization import CalibrationDataReader, CalibrationMethod, create_calibrator
    from onnxruntime.quantization.calibrate import TensorsData, save_tensors_data

Tensors = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float64]

LINEAR = ("MatMul", "Gemm", "Conv")
BETWEEN = ("Relu", "Add", "MaxPool")
BINS = 2048
LEVELS = 255
_AT_ONCE = 4  # frames whose activations are held at once: half a gigabyte for a VGG-19
_SHARES = np.linspace(1.0, 0.25, 76)


class Frames(CalibrationDataReader):  # type: ignore[misc]
    """Hands out calibration frames one by one."""

    def __init__(self, tensors: Tensors, feed: Feed = pixels_alone) -> None:
        """``tensors`` is uint8 ``[n, H, W, 3]``."""
        self._frames: Iterator[Any] = iter(tensors)
        self._feed = feed

    def get_next(self) -> dict[str, Any] | None:
        """The next frame as the model's inputs, ``None`` behind the last."""
        frame = next(self._frames, None)
        return None if frame is None else self._feed(frame)


class Ranges:
    """The ranges of one model's activations over the calibration frames, measured once for every recipe."""

    def __init__(self, model: Path, calibration: Tensors, scratch: Path, feed: Feed = pixels_alone) -> None:
        """Measure nothing yet.

        Args:
            model: the float32 ONNX file.
            calibration: frames, uint8 ``[n, H, W, 3]``.
            scratch: a folder for files that serve this object.
            feed: makes the model's inputs of a frame.
        """
        self.model = model
        self.calibration = calibration
        self.scratch = scratch
        self.feed = feed

    def full(self) -> Path:
        """Return ONNX Runtime's calibration cache with the extremes of what linear layers take and give."""
        out = self.scratch / "ranges.json"
        if not out.exists():
            collector = self._collector(CalibrationMethod.MinMax, LINEAR, {})
            collector.collect_data(Frames(self.calibration, self.feed))
            save_tensors_data(collector.compute_data(), out)
        return out

    def least_error(self, *, symmetric: bool) -> Path:
        """Return the same cache with ranges of least error (`least_error`), of `BETWEEN`'s tensors too."""
        out = self.scratch / f"ranges-{'symmetric' if symmetric else 'free'}.json"
        if not out.exists():
            ranges = {}
            for name, (counts, edges, lowest, highest, _) in self._histograms.items():
                low, high = least_error(
                    np.asarray(counts, float), np.asarray(edges, float), float(lowest), float(highest),
                    symmetric=symmetric,
                )  # fmt: skip
                ranges[name] = (np.float32(low), np.float32(high))
            save_tensors_data(TensorsData(CalibrationMethod.MinMax, ranges), out)
        return out

    @cached_property
    def _histograms(self) -> dict[str, Any]:
        options = {"num_bins": BINS, "symmetric": False}
        collector = self._collector(CalibrationMethod.Percentile, (*LINEAR, *BETWEEN), options)
        for first in range(0, len(self.calibration), _AT_ONCE):
            collector.collect_data(Frames(self.calibration[first : first + _AT_ONCE], self.feed))
        return dict(collector.collector.histogram_dict)

    def _collector(self, method: CalibrationMethod, operators: Sequence[str], options: dict[str, Any]) -> Any:
        augmented = str(self.scratch / "ranges.augmented.onnx")
        return create_calibrator(
            self.model, list(operators), augmented_model_path=augmented, calibrate_method=method, extra_options=options
        )


def least_error(
    counts: Floats, edges: Floats, lowest: float, highest: float, *, symmetric: bool
) -> tuple[float, float]:
    """The range (low <= 0 <= high) whose 255 steps and clipped ends have the least squared error together.

    ``counts`` ``[n]`` lie between ``edges`` ``[n + 1]``. What lies in the bin of zero is taken as zero, which every
    range holds exactly. The ends are shrunk in turn, as far as to a quarter of the full range.
    """
    centres = (edges[:-1] + edges[1:]) / 2
    weights = np.where((edges[:-1] <= 0) & (edges[1:] >= 0), 0.0, counts)
    low, high = min(lowest, 0.0), max(highest, 0.0)
    if symmetric:
        most = max(-low, high)
        best = min(_SHARES, key=lambda share: _error(centres, weights, -most * share, most * share))
        return -most * float(best), most * float(best)
    left = right = 1.0
    for _ in range(2):
        right = float(min(_SHARES, key=lambda share: _error(centres, weights, low * left, high * share)))
        left = float(min(_SHARES, key=lambda share: _error(centres, weights, low * share, high * right)))
    return low * left, high * right


def _error(centres: Floats, weights: Floats, low: float, high: float) -> float:
    """Squared error of uniform rounding inside the range (a twelfth of a step squared), and of clipping outside."""
    step = (high - low) / LEVELS
    beyond = np.maximum(centres - high, 0.0) + np.maximum(low - centres, 0.0)
    return float((weights * np.where(beyond > 0, beyond**2, step**2 / 12)).sum())
