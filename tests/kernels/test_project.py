"""Tokens on axes: every implementation agrees with a float64 product, and refuses what does not fit."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vmeg_edge import kernels
from vmeg_edge.errors import ActivationError
from vmeg_edge.kernels import Implementation

Floats = npt.NDArray[np.float32]


def drawn(positions: int, channels: int, count: int, seed: int = 0) -> tuple[Floats, Floats, Floats]:
    rng = np.random.default_rng(seed)
    activations = rng.standard_normal((positions, channels)).astype(np.float32)
    axes = rng.standard_normal((count, channels)).astype(np.float32)
    return activations, axes, np.full((positions, count), np.nan, np.float32)


@pytest.mark.parametrize("size", [(196, 768, 17), (196, 192, 33), (1, 1, 1), (3, 5, 2), (4, 16, 1), (7, 17, 3)])
def test_products_and_energy_are_those_of_float64(implementation: Implementation, size: tuple[int, int, int]) -> None:
    activations, axes, out = drawn(*size)
    squares = implementation.project(activations, axes, out)
    wide = activations.astype(np.float64)
    np.testing.assert_allclose(out, wide @ axes.T.astype(np.float64), rtol=0, atol=1e-5 * np.sqrt(size[1]))
    assert squares == pytest.approx((wide**2).sum(), rel=1e-5)


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 40), st.integers(1, 70), st.integers(1, 9), st.integers(0, 5))
def test_every_size_is_filled_to_its_last_cell(
    implementation: Implementation, positions: int, channels: int, count: int, seed: int
) -> None:
    activations, axes, out = drawn(positions, channels, count, seed)
    implementation.project(activations, axes, out)
    np.testing.assert_allclose(out, activations.astype(np.float64) @ axes.T, rtol=0, atol=1e-4)


def test_strided_activations_give_what_their_copy_gives(implementation: Implementation) -> None:
    activations, axes, out = drawn(12, 20, 3)
    implementation.project(np.asfortranarray(activations)[::2], axes, out[:6])
    expected = activations[::2].astype(np.float64) @ axes.T
    np.testing.assert_allclose(out[:6], expected, rtol=0, atol=1e-5)


def test_what_is_not_finite_comes_out_not_finite(implementation: Implementation) -> None:
    activations, axes, out = drawn(8, 16, 3)
    activations[5, 3] = np.nan
    squares = implementation.project(activations, axes, out)
    assert np.isnan(squares)
    assert np.isnan(out[5]).all()
    assert np.isfinite(np.delete(out, 5, axis=0)).all()


def test_what_does_not_fit_is_refused_before_memory_is_touched() -> None:
    activations, axes, out = drawn(8, 16, 3)
    for wrong in (
        (activations.astype(np.float64), axes, out),
        (activations[0], axes, out),
        (activations, axes[:, :15], out),
        (activations, axes, out[:7]),
        (activations, np.asfortranarray(axes), out),
        (activations, axes, np.asfortranarray(out)),
        (activations[:0], axes, out[:0]),
        ([1.0], axes, out),
    ):
        with pytest.raises(ActivationError):
            kernels.project(*wrong)  # type: ignore[arg-type]
    out.flags.writeable = False
    with pytest.raises(ActivationError, match="not writable"):
        kernels.project(activations, axes, out)
