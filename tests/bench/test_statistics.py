"""Percentiles by nearest rank, and the samples that each needs."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vmeg_edge.bench.statistics import enough_samples, percentile
from vmeg_edge.errors import UsageError


@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=200), st.floats(0, 100))
def test_it_is_numpys_inverted_cdf(samples: list[float], percent: float) -> None:
    assert percentile(samples, percent) == np.percentile(samples, percent, method="inverted_cdf")


@pytest.mark.parametrize(("percent", "value"), [(0, 1), (10, 1), (10.1, 2), (50, 5), (90, 9), (99, 10), (100, 10)])
def test_known_ranks_of_ten_samples(percent: float, value: float) -> None:
    assert percentile([10, 9, 8, 7, 6, 5, 4, 3, 2, 1], percent) == value


@pytest.mark.parametrize(("percent", "fewest"), [(90.0, 64), (95.0, 130), (99.0, 662), (99.9, 6636)])
def test_too_few_samples_are_known(percent: float, fewest: int) -> None:
    assert enough_samples(fewest, percent)
    assert not enough_samples(fewest - 1, percent)
    assert enough_samples(1, 50.0)


def test_nonsense_is_refused() -> None:
    with pytest.raises(UsageError, match="at least one sample"):
        percentile([], 50)
    with pytest.raises(UsageError, match="not between 0 and 100"):
        percentile([1.0], 101)
