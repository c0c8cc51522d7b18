"""Eigen-CAM agrees with a float64 singular value decomposition, and has a defined answer where that has none."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vmeg_edge import kernels
from vmeg_edge.errors import ActivationError
from vmeg_edge.kernels import Implementation, reference

Floats = npt.NDArray[np.float32]


def activations(
    positions: int, channels: int, sigma: npt.ArrayLike, seed: int = 0, mean: float = 0.0, scale: float = 1.0
) -> Floats:
    """Activations whose centred columns have these singular values, between random vectors."""
    values = np.asarray(sigma, np.float64)[: min(positions - 1, channels)]
    a: Floats = _activations(positions, channels, tuple(values), seed, mean, scale).copy()
    return a


@lru_cache(maxsize=64)  # implementations take turns at the same input, and a busy machine is slow at BLAS
def _activations(
    positions: int, channels: int, sigma: tuple[float, ...], seed: int, mean: float, scale: float
) -> Floats:
    rng = np.random.default_rng(seed)
    left = rng.standard_normal((positions, len(sigma)))
    left, _ = np.linalg.qr(left - left.mean(axis=0))
    right, _ = np.linalg.qr(rng.standard_normal((channels, len(sigma))))
    a: Floats = ((left * sigma) @ right.T * scale + mean * rng.standard_normal(channels)).astype(np.float32)
    return a


def svd_map(a: Floats, direction: Floats | None = None) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """The definition: centred in float64, first right singular vector, oriented, cut at zero, stretched to 0..1."""
    centred, v = _first_right_vector(a.tobytes(), a.shape)
    scores = centred @ v
    sign = np.sign((scores**3).sum() if direction is None else v @ direction.astype(np.float64))
    hot = np.maximum(sign * scores, 0.0)
    return (hot - hot.min()) / (hot.max() - hot.min()), sign * v


@lru_cache(maxsize=64)
def _first_right_vector(data: bytes, shape: tuple[int, ...]) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    a = np.frombuffer(data, np.float32).reshape(shape).astype(np.float64)
    centred = a - a.mean(axis=0)
    return centred, np.linalg.svd(centred, full_matrices=False)[2][0]


def check(implementation: Implementation, a: Floats, tolerance: float = 1e-5) -> None:
    found = implementation.eigencam(a, None)
    assert found is not None
    values, vector = found
    expected, direction = svd_map(a)
    assert values.dtype == vector.dtype == np.float32
    assert np.abs(values - expected).max() <= tolerance
    assert np.abs(vector - direction).max() <= tolerance
    assert values.min() == 0.0
    assert values.max() == 1.0


DECAY = 1.0 / np.arange(1, 200)


@pytest.mark.parametrize(("positions", "channels"), [(196, 768), (49, 512), (400, 64), (5, 7), (9, 2)])
def test_equals_the_svd(implementation: Implementation, positions: int, channels: int) -> None:
    check(implementation, activations(positions, channels, DECAY, seed=1))
    check(implementation, activations(positions, channels, DECAY, seed=2, mean=50.0, scale=10.0))
    noise = np.random.default_rng(3).standard_normal((positions, channels)).astype(np.float32)
    check(implementation, noise)
    check(implementation, np.maximum(noise, 0.0))


@pytest.mark.parametrize("ratio", [0.5, 0.9, 0.99, 0.999])
def test_equals_the_svd_where_the_gap_is_small(implementation: Implementation, ratio: float) -> None:
    rest = np.linspace(0.5, 0.01, 100)
    check(implementation, activations(120, 150, [1.0, ratio, *rest], seed=4))
    check(implementation, activations(100, 120, ratio ** np.arange(99), seed=5))


@pytest.mark.parametrize("ratio", [0.9, 0.99, 0.999])
@pytest.mark.parametrize("size", [4, 6, 12])
def test_equals_the_twin_where_all_singular_values_are_close(
    implementation: Implementation, size: int, ratio: float
) -> None:
    for seed in range(25):
        a = activations(size, size, ratio ** np.arange(size), seed=seed)
        expected = reference.eigencam(a, None)
        found = implementation.eigencam(a, None)
        assert expected is not None
        assert found is not None
        assert np.abs(found[0] - expected[0]).max() <= 1e-5


@pytest.mark.parametrize("scale", [1e-37, 1e-30, 1e-10, 1e10, 1e20, 1e38])
def test_equals_the_svd_at_any_magnitude(implementation: Implementation, scale: float) -> None:
    check(implementation, activations(60, 40, DECAY, seed=6, scale=scale))


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    positions=st.integers(3, 80),
    channels=st.integers(1, 70),
    ratio=st.floats(0.05, 0.99),
    mean=st.sampled_from([0.0, 1.0, 100.0]),
    seed=st.integers(0, 2**32 - 1),
)
def test_equals_the_twin(
    implementation: Implementation, positions: int, channels: int, ratio: float, mean: float, seed: int
) -> None:
    a = activations(positions, channels, ratio ** np.arange(20), seed=seed, mean=mean)
    expected = reference.eigencam(a, None)
    found = implementation.eigencam(a, None)
    assert expected is not None
    assert found is not None
    assert np.abs(found[0] - expected[0]).max() <= 1e-5
    assert np.abs(found[1] - expected[1]).max() <= 1e-5


@pytest.mark.parametrize("sigma", [[1, 1, 0.5], [1, 1, 1, 0.3, 0.2], [1, 1], [1, 1, *np.linspace(0.5, 0.01, 40)]])
def test_equal_singular_values_give_the_start_projected(implementation: Implementation, sigma: list[float]) -> None:
    for seed in range(4):
        a = activations(49, 96, sigma, seed=seed)
        expected = reference.eigencam(a, None)
        found = implementation.eigencam(a, None)
        assert expected is not None
        assert found is not None
        assert np.abs(found[0] - expected[0]).max() <= 1e-5
        assert np.linalg.norm(found[1]) == pytest.approx(1.0, abs=1e-6)


def test_rank_one_is_exact(implementation: Implementation) -> None:
    profile = np.array([0.0, 0.0, 0.0, 4.0, 1.0, 0.0], np.float32)
    channel = np.array([0.6, 0.0, -0.8], np.float32)
    found = implementation.eigencam(np.outer(profile, channel).astype(np.float32), None)
    assert found is not None
    centred = profile - profile.mean()
    np.testing.assert_allclose(found[0], np.maximum(centred, 0.0) / centred.max(), atol=1e-6)
    np.testing.assert_allclose(found[1], channel, atol=1e-6)


@pytest.mark.parametrize("value", [0.0, 1.0, -3.7e20, 0.1])
@pytest.mark.parametrize("shape", [(196, 768), (1, 5), (7, 1)])
@pytest.mark.usefixtures("chosen")
def test_constant_activations_have_a_zero_map(value: float, shape: tuple[int, int]) -> None:
    a = np.full(shape, value, np.float32) * np.linspace(1, 2, shape[1], dtype=np.float32)
    assert not kernels.eigencam(a, (shape[0], 1)).any()
    assert not kernels.principal_direction(a).any()


@pytest.mark.usefixtures("chosen")
def test_rounding_noise_has_a_zero_map() -> None:
    a = np.full((49, 8), 1.0, np.float32)
    a[3, 2] = np.nextafter(np.float32(1.0), np.float32(2.0))
    assert not kernels.eigencam(a, (7, 7)).any()
    a[3, 2] = 1.001
    assert kernels.eigencam(a, (7, 7))[0, 3] == 1.0


@pytest.mark.usefixtures("chosen")
def test_the_direction_decides_the_sign() -> None:
    a = activations(49, 32, DECAY, seed=8)
    plain = kernels.principal_direction(a)
    assert np.linalg.norm(plain) == pytest.approx(1.0, abs=1e-6)
    for direction in (plain, -plain, (-3 * plain + 0.1).astype(np.float32)):
        vector = kernels.principal_direction(a, direction)
        assert float(vector @ direction) > 0
        np.testing.assert_allclose(kernels.eigencam(a, (7, 7), direction).ravel(), svd_map(a, direction)[0], atol=1e-5)
    strided = np.repeat(-plain, 2)[::2]
    np.testing.assert_allclose(kernels.principal_direction(a, strided), -plain, atol=1e-6)


def rank_one(*profile: float) -> Floats:
    a: Floats = np.outer(np.array(profile), [1.0, -2.0, 0.5]).astype(np.float32)
    return a


@pytest.mark.parametrize(
    ("profile", "hot"),
    [
        ((0, 0, 0, 0, 9, 0), [4]),  # skewed: the smaller part is hot
        ((0, 0, 0, 0, -9, 0), [4]),
        ((3, -3, 0, 0), [0]),  # symmetric: the first that is not zero
        ((0, -3, 3, 0), [1]),
        ((-1.0, 1.0), [0]),
        ((-5, 4, 4, -1, -1, -1, 0, 0), None),  # whatever it is, the same for both implementations
    ],
)
def test_the_sign_rule(implementation: Implementation, profile: tuple[float, ...], hot: list[int] | None) -> None:
    for flip in (1.0, -1.0):
        a = rank_one(*profile) * np.float32(flip)
        found = implementation.eigencam(a, None)
        expected = reference.eigencam(a, None)
        assert found is not None
        assert expected is not None
        np.testing.assert_allclose(found[0], expected[0], atol=1e-6)
        if hot is not None:
            assert np.flatnonzero(found[0] == 1.0).tolist() == hot


def test_a_direction_at_right_angles_does_not_decide(implementation: Implementation) -> None:
    a = rank_one(0, 0, 0, 0, 9, 0)
    across = np.array([2.0, 1.0, 0.0], np.float32)
    found = implementation.eigencam(a, across)
    assert found is not None
    assert found[0].argmax() == 4


@pytest.mark.parametrize("name", ["transposed", "every second", "reversed", "unaligned", "fortran"])
def test_any_strides_give_the_same_map(implementation: Implementation, name: str) -> None:
    a = activations(36, 50, DECAY, seed=9)
    if name == "transposed":
        view = np.ascontiguousarray(a.T).T
    elif name == "every second":
        view = np.repeat(np.repeat(a, 2, axis=0), 3, axis=1)[::2, ::3]
    elif name == "reversed":
        view = np.ascontiguousarray(a[::-1, ::-1])[::-1, ::-1]
    elif name == "unaligned":
        view = np.frombuffer(b"x" + a.tobytes(), np.uint8)[1:].view(np.float32).reshape(a.shape)
        assert not view.flags.aligned
    else:
        view = np.asfortranarray(a)
    expected = implementation.eigencam(a, None)
    found = implementation.eigencam(view, None)
    assert expected is not None
    assert found is not None
    np.testing.assert_allclose(found[0], expected[0], atol=1e-6)


def test_equal_input_gives_equal_bits(implementation: Implementation) -> None:
    a = activations(196, 768, DECAY, seed=1)
    first = implementation.eigencam(a, None)
    assert first is not None
    implementation.eigencam(activations(30, 900, DECAY, seed=11), None)  # other shapes leave no trace
    again = implementation.eigencam(a.copy(), None)
    assert again is not None
    assert first[0].tobytes() == again[0].tobytes()
    assert first[1].tobytes() == again[1].tobytes()


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("at", [(0, 0), (48, 15), (20, 7)])
@pytest.mark.usefixtures("chosen")
def test_not_finite_is_refused(value: float, at: tuple[int, int]) -> None:
    a = activations(49, 16, DECAY)
    a[at] = value
    with pytest.raises(ActivationError, match=r"NaN or infinite.*check the model"):
        kernels.eigencam(a, (7, 7))
    with pytest.raises(ActivationError, match=r"NaN or infinite.*check the model"):
        kernels.principal_direction(a)


GOOD = activations(12, 5, DECAY)


@pytest.mark.parametrize(
    ("a", "grid", "direction", "message"),
    [
        (GOOD.astype(np.float64), (3, 4), None, "activations: float64; pass a NumPy float32"),
        (GOOD.tolist(), (3, 4), None, "activations: list; pass a NumPy float32"),
        (GOOD[np.newaxis], (3, 4), None, "shape 1x12x5; pass \\[positions, channels\\]"),
        (GOOD[:0], (3, 4), None, "shape 0x5"),
        (GOOD, (3, 5), None, "grid: 3x5 does not hold the 12 positions"),
        (GOOD, (-3, -4), None, "grid: -3x-4"),
        (GOOD, (3, 4), np.ones(4, np.float32), "direction: shape 4; pass one value a channel, \\[5\\]"),
        (GOOD, (3, 4), np.ones(5), "direction: float64"),
        (GOOD, (3, 4), np.zeros(5, np.float32), "orients nothing"),
        (GOOD, (3, 4), np.full(5, np.nan, np.float32), "orients nothing"),
    ],
)
@pytest.mark.usefixtures("chosen")
def test_what_has_no_map_is_refused(a: Floats, grid: tuple[int, int], direction: Floats | None, message: str) -> None:
    with pytest.raises(ActivationError, match=message):
        kernels.eigencam(a, grid, direction)


@pytest.mark.usefixtures("chosen")
def test_the_map_has_the_grid_s_shape() -> None:
    a = activations(12, 5, DECAY)
    values = kernels.eigencam(a, (3, 4))
    assert values.shape == (3, 4)
    np.testing.assert_allclose(values.ravel(), svd_map(a)[0], atol=1e-5)
