"""Percentiles by nearest rank, and how many samples each needs before it may be quoted."""

from __future__ import annotations

import math
from collections.abc import Sequence

from vmeg_edge.errors import UsageError

ENOUGH_SAMPLES = {90.0: 64, 95.0: 130, 99.0: 662, 99.9: 6_636}
"""Fewest samples behind a percentile at 99 % confidence (MLPerf Inference's early-stopping rule)."""


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
