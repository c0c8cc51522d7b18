"""Ranges of least error: full where nothing stands out, clipped where a stray value would coarsen all others."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from onnxruntime.quantization.calibrate import load_tensors_data
from vmeg_edge.converters.checkpoint import load
from vmeg_edge.converters.onnx_from_checkpoint import export
from vmeg_edge.converters.qdq_from_onnx import (
    CONVOLUTIONAL,
    CONVOLUTIONAL_UNSIGNED,
    TENSORRT_CONVOLUTIONAL,
    QdqQuantizer,
)
from vmeg_edge.converters.ranges import BETWEEN, BINS, LINEAR, Ranges, least_error

from checkpoints import make_vgg_state_dict

Floats = npt.NDArray[np.float64]


def ranged(values: Floats, *, symmetric: bool = False) -> tuple[float, float]:
    most = float(np.abs(values).max())
    counts, edges = np.histogram(values, BINS, range=(-most, most))
    return least_error(counts.astype(float), edges, float(values.min()), float(values.max()), symmetric=symmetric)


def rounded(values: Floats, low: float, high: float) -> Floats:
    step = (high - low) / 255
    return np.clip(np.round((values - low) / step), 0, 255) * step + low


def test_evenly_spread_values_keep_their_full_range() -> None:
    values = np.linspace(-2.0, 6.0, 40_001)
    low, high = ranged(values)
    assert (low, high) == pytest.approx((-2.0, 6.0), rel=0.02)


def test_a_stray_value_is_clipped_and_the_error_falls() -> None:
    values = np.abs(np.random.default_rng(0).normal(0, 1, 100_000))
    values[7] = 12.0
    low, high = ranged(values)
    assert low == 0.0
    assert 4.0 < high < 11.0
    assert ((rounded(values, low, high) - values) ** 2).sum() < ((rounded(values, 0.0, 12.0) - values) ** 2).sum()


def test_a_symmetric_range_is_symmetric() -> None:
    values = np.random.default_rng(1).normal(0.5, 1, 10_000)
    low, high = ranged(values, symmetric=True)
    assert low == -high
    assert 2.5 < high <= float(np.abs(values).max())


@given(st.lists(st.floats(-100, 100), min_size=2, max_size=60), st.booleans())
@settings(deadline=None, max_examples=60)
def test_a_range_holds_zero_and_lies_within_the_full_one(values: list[float], symmetric: bool) -> None:
    array = np.array([*values, 1.0])
    low, high = ranged(array, symmetric=symmetric)
    most = float(np.abs(array).max())
    assert low <= 0 <= high
    assert -most <= low
    assert high <= most
    assert high - low >= (max(high, 0) - min(low, 0)) * 0.25


def test_the_cache_has_a_range_for_every_tensor_of_the_convolutions(tmp_path: Path) -> None:
    torch.save(make_vgg_state_dict(), tmp_path / "v.pt")
    model = load(tmp_path / "v.pt").model()
    export(model, tmp_path / "v.onnx", mean=(0.5,) * 3, std=(0.5,) * 3)
    frames = np.random.default_rng(0).integers(0, 256, (6, 32, 32, 3), dtype=np.uint8)
    measured = Ranges(tmp_path / "v.onnx", frames, tmp_path)
    nodes = onnx.load(tmp_path / "v.onnx").graph.node
    for path, kinds in ((measured.least_error(symmetric=False), (*LINEAR, *BETWEEN)), (measured.full(), LINEAR)):
        ranges = load_tensors_data(path).data
        taken = [node for node in nodes if node.op_type in kinds]
        constants = {tensor.name for tensor in onnx.load(tmp_path / "v.onnx").graph.initializer}
        wanted = {name for node in taken for name in (*node.input, *node.output)} - constants
        assert set(ranges) >= {
            name for node in taken if node.op_type != "Add" for name in (node.input[0], node.output[0])
        }
        assert set(ranges) <= wanted
        bounds = [entry.range_value for entry in ranges.values()]
        assert all(high > low for low, high in bounds)


def test_ranges_are_measured_once_and_every_recipe_reads_them(tmp_path: Path) -> None:
    torch.save(make_vgg_state_dict(), tmp_path / "v.pt")
    export(load(tmp_path / "v.pt").model(), tmp_path / "v.onnx", mean=(0.5,) * 3, std=(0.5,) * 3)
    frames = np.random.default_rng(0).integers(0, 256, (6, 32, 32, 3), dtype=np.uint8)
    shown: list[int] = []

    def feed(tensor: np.ndarray) -> dict[str, np.ndarray]:
        shown.append(1)
        return {"pixels": tensor[None]}

    measured = Ranges(tmp_path / "v.onnx", frames, tmp_path, feed)
    for recipe in (CONVOLUTIONAL, CONVOLUTIONAL_UNSIGNED, TENSORRT_CONVOLUTIONAL):
        quantizer = QdqQuantizer(measured, recipe)
        quantizer.quantize()
        quantizer.quantize([quantizer.layers[0].node])
    assert len(shown) == len(frames)
