"""Percentiles by nearest rank, how many samples each needs before it may be quoted, and ratios with their intervals."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from vmeg_edge.errors import UsageError

ENOUGH_SAMPLES = {90.0: 64, 95.0: 130, 99.0: 662, 99.9: 6_636}
"""Fewest samples behind a percentile at 99 % confidence (MLPerf Inference's early-stopping rule)."""

PERCENTILES = (50.0, 90.0, 95.0, 99.0, 99.9)

_RESAMPLES = 2_000
_CONFIDENCE = 0.99


def percentile(samples: Sequence[float], percent: float) -> float:
    """The smallest sample that at least ``percent`` of all samples do not exceed (nearest rank).

    Raises `UsageError` without samples, or with a percentage outside 0..100.
    """
    if not samples:
        raise UsageError("a percentile needs at least one sample")
    if not 0 <= percent <= 100:
        raise UsageError(f"percentile {percent:g} is not between 0 and 100")
    rank = max(1, math.ceil(percent / 100 * len(samples)))
    return sorted(samples)[rank - 1]


def enough_samples(count: int, percent: float) -> bool:
    """Whether ``count`` samples carry this percentile; those without a rule, such as the median, always."""
    return count >= ENOUGH_SAMPLES.get(percent, 1)


@dataclass(frozen=True)
class Ratio:
    """New over old of one statistic, with a bootstrap interval at 99 % confidence (``low`` to ``high``)."""

    value: float
    low: float
    high: float


def ratio_of_percentiles(
    new: npt.NDArray[np.float64], old: npt.NDArray[np.float64], percent: float = 50.0, *, seed: int = 0
) -> Ratio:
    """How a percentile of ``new`` stands to that of ``old``, both ``[n]`` in the order in which they were taken.

    Frames that follow one another share the machine's mood, so what is drawn again is blocks of neighbours, not single
    frames: the circular block bootstrap (Politis and Romano, 1992), with blocks of ``n ** (1/2)`` frames.
    The same samples give the same interval. Raises `UsageError` without samples, or where the old ones are zero.
    """
    after, before = percentile(new.tolist(), percent), percentile(old.tolist(), percent)
    if before <= 0:
        raise UsageError("a ratio needs old samples above zero")
    random = np.random.default_rng(seed)
    drawn_new = _resampled(new, percent, random)
    drawn_old = _resampled(old, percent, random)
    ratios = drawn_new / np.maximum(drawn_old, np.finfo(np.float64).tiny)
    low, high = np.quantile(ratios, [(1 - _CONFIDENCE) / 2, (1 + _CONFIDENCE) / 2])
    return Ratio(after / before, float(low), float(high))


def _resampled(
    samples: npt.NDArray[np.float64], percent: float, random: np.random.Generator
) -> npt.NDArray[np.float64]:
    """The percentile of each resample, ``[_RESAMPLES]``."""
    count = len(samples)
    length = max(1, math.isqrt(count))
    blocks = math.ceil(count / length)
    rank = max(1, math.ceil(percent / 100 * count)) - 1
    from_each = np.lib.stride_tricks.sliding_window_view(np.concatenate([samples, samples[: length - 1]]), length)
    drawn = np.empty(_RESAMPLES)
    for place in range(_RESAMPLES):
        taken = from_each[random.integers(0, count, blocks)].ravel()[:count]
        drawn[place] = np.partition(taken, rank)[rank]
    return drawn
