"""Heat maps carry their peak in pixels of the whole frame."""

from __future__ import annotations

import numpy as np
import pytest

from vmeg_edge.explain import heat_map, over_region
from vmeg_edge.frames import Region


def _activations(hot: int, grid: tuple[int, int] = (7, 7), channels: int = 8) -> np.ndarray:
    rng = np.random.default_rng(0)
    values = rng.normal(0, 0.01, (grid[0] * grid[1], channels)).astype(np.float32)
    values[hot] += 5
    return values


def test_the_peak_is_the_hot_cells_centre_in_the_whole_frame() -> None:
    heat = heat_map(_activations(hot=2 * 7 + 5), (7, 7), Region(100, 50, 140, 70))
    assert heat.peak_xy == pytest.approx((100 + 5.5 * 20, 50 + 2.5 * 10))
    assert heat.values[2, 5] == 1.0
    assert heat.values.shape == (7, 7)
    assert heat.values.dtype == np.float32


def test_a_flat_map_has_no_peak() -> None:
    heat = heat_map(np.ones((49, 8), np.float32), (7, 7), Region(0, 0, 64, 64))
    assert heat.peak_xy is None
    assert not heat.values.any()


def test_the_models_direction_decides_the_sign() -> None:
    activations = _activations(hot=10)
    away = -np.ones(8, dtype=np.float32)
    assert heat_map(activations, (7, 7), Region(0, 0, 64, 64), -away).values.argmax() == 10
    assert heat_map(activations, (7, 7), Region(0, 0, 64, 64), away).values.flat[10] == 0


def test_stretched_over_the_region_it_stays_between_zero_and_one() -> None:
    heat = heat_map(_activations(hot=24), (7, 7), Region(3, 4, 70, 140))
    stretched = over_region(heat)
    assert stretched.shape == (140, 70)
    assert stretched.min() >= 0
    # an even stretch samples half a step off the cell's centre: 10 columns and 20 rows a cell
    assert stretched.max() == pytest.approx((1 - 1 / 20) * (1 - 1 / 40), abs=1e-3)
    row, column = np.unravel_index(stretched.argmax(), stretched.shape)
    assert (row // 20, column // 10) == (3, 3)
