"""Durations counted into a histogram's buckets, so that memory stays flat however long a stream runs."""

from __future__ import annotations

from bisect import bisect_left

BOUNDS_S = (0.0025, 0.005, 0.01, 0.02, 0.033, 0.05, 0.067, 0.1, 0.15, 0.25, 0.5, 1.0, 2.5, 5.0)


class Tally:
    """How many durations fell at or below each of ``BOUNDS_S``, and their sum."""

    def __init__(self) -> None:
        """Nothing was counted."""
        self._counts = [0] * (len(BOUNDS_S) + 1)
        self.sum_s = 0.0

    def add(self, duration_s: float) -> None:
        """Count one."""
        self._counts[bisect_left(BOUNDS_S, duration_s)] += 1
        self.sum_s += duration_s

    def buckets(self) -> list[tuple[str, float]]:
        """(upper bound, how many at or below it), the last bound ``+Inf``."""
        running, out = 0, []
        for bound, count in zip((*map(str, BOUNDS_S), "+Inf"), self._counts, strict=True):
            running += count
            out.append((bound, float(running)))
        return out
