"""Ratios of percentiles: the interval holds what it promises, and widens where neighbours resemble one another."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from vmeg_edge.bench import statistics
from vmeg_edge.bench.statistics import ratio_of_percentiles
from vmeg_edge.errors import UsageError


def _independent(seed: int, count: int = 400) -> npt.NDArray[np.float64]:
    return np.random.default_rng(seed).lognormal(3.0, 0.2, count)


def _correlated(seed: int, count: int = 400, memory: float = 0.9) -> npt.NDArray[np.float64]:
    """The same spread as `_independent`, but each frame resembles the one before."""
    random = np.random.default_rng(seed)
    value, values = random.normal(), np.empty(count)
    for place in range(count):
        value = memory * value + np.sqrt(1 - memory**2) * random.normal()
        values[place] = value
    return np.exp(3.0 + 0.2 * values)


@pytest.mark.parametrize("percent", [50.0, 90.0])
def test_the_interval_covers_the_true_ratio_99_times_in_100(monkeypatch: pytest.MonkeyPatch, percent: float) -> None:
    """200 pairs whose ratio is 1.25. At 99 % four misses are as good as none; eight are beyond one in a thousand."""
    monkeypatch.setattr(statistics, "_RESAMPLES", 500)
    missed = 0
    for seed in range(200):
        ratio = ratio_of_percentiles(1.25 * _independent(seed), _independent(seed + 10_000), percent)
        assert ratio.low <= ratio.value <= ratio.high
        missed += not ratio.low <= 1.25 <= ratio.high
    assert missed <= 8


def test_the_interval_is_no_wider_than_it_must_be() -> None:
    """The median's standard error is 1.2533 sd / sqrt(n); two sides and 2.576 of them each way make the interval."""
    widths = []
    for seed in range(20):
        ratio = ratio_of_percentiles(_independent(seed), _independent(seed + 500))
        widths.append(ratio.high - ratio.low)
    expected = 2 * 2.576 * np.sqrt(2) * 1.2533 * 0.2 / np.sqrt(400)
    assert float(np.median(widths)) == pytest.approx(expected, rel=0.2)


def test_neighbours_that_resemble_one_another_widen_it() -> None:
    for seed in range(10):
        alike = ratio_of_percentiles(_correlated(seed), _correlated(seed + 500))
        apart = ratio_of_percentiles(_independent(seed), _independent(seed + 500))
        assert alike.high - alike.low > 1.5 * (apart.high - apart.low)


def test_identical_samples_have_the_ratio_one_and_constants_no_width() -> None:
    ratio = ratio_of_percentiles(_independent(0), _independent(0))
    assert ratio.value == 1.0
    assert ratio.low < 1 < ratio.high
    constant = np.full(100, 7.0)
    assert ratio_of_percentiles(2 * constant, constant) == statistics.Ratio(2.0, 2.0, 2.0)
    assert ratio_of_percentiles(np.array([3.0]), np.array([2.0])) == statistics.Ratio(1.5, 1.5, 1.5)


def test_the_same_samples_give_the_same_interval_and_another_seed_another() -> None:
    new, old = _independent(1), _independent(2)
    assert ratio_of_percentiles(new, old) == ratio_of_percentiles(new, old)
    assert ratio_of_percentiles(new, old) != ratio_of_percentiles(new, old, seed=1)


def test_what_has_no_ratio_is_refused() -> None:
    some, none = np.array([1.0]), np.array([])
    for new, old in ((some, none), (none, some), (none, none)):
        with pytest.raises(UsageError):
            ratio_of_percentiles(new, old)
    with pytest.raises(UsageError, match="above zero"):
        ratio_of_percentiles(some, np.zeros(5))
