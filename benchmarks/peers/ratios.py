"""Samples to figures: percentiles, ratios of a round's medians and their spread over rounds, targets."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain

import numpy as np

Rounds = Sequence[Sequence[float]]


@dataclass(frozen=True)
class Ratio:
    """Of two peers: the median over rounds, and between which values nine rounds in ten lie."""

    median: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.median:.2f} ({self.low:.2f} to {self.high:.2f})"


@dataclass(frozen=True)
class Latency:
    """Milliseconds over all samples."""

    samples: int
    min_ms: float
    p50_ms: float
    p90_ms: float


@dataclass(frozen=True)
class Target:
    """``times`` at most, or at least where ``at_least``, of the other's time."""

    words: str
    ratio: Ratio
    limit: float
    at_least: bool = False

    @property
    def met(self) -> bool:
        return self.ratio.median >= self.limit if self.at_least else self.ratio.median <= self.limit

    def __str__(self) -> str:
        sign = ">=" if self.at_least else "<="
        return f"{'met' if self.met else 'NOT met'}: {self.words} {sign} {self.limit:g}: {self.ratio}"


def latency(rounds: Rounds) -> Latency:
    samples = list(chain(*rounds))
    return Latency(len(samples), min(samples), statistics.median(samples), float(np.percentile(samples, 90)))


def ratio(peer: Rounds, to: Rounds) -> Ratio:
    """Round by round, so that a machine's slow minute is in both."""
    each = [statistics.median(one) / statistics.median(other) for one, other in zip(peer, to, strict=True)]
    low, high = np.percentile(each, [5, 95])
    return Ratio(statistics.median(each), float(low), float(high))


def targets(ours: Rounds, raw: Rounds, grad_cam: Rounds, tuned_grad_cam: Rounds, rest: str) -> list[Target]:
    """What the product promises; ``rest`` says what is not int8 in ``ours`` and ``raw``."""
    mine = f"vmeg-edge OpenVINO int8, the rest {rest}"
    return [
        Target(f"{mine}, whole frame / raw OpenVINO int8, the rest {rest}", ratio(ours, raw), 1.05),
        Target(f"torch float32 + grad-cam as installed / {mine}", ratio(grad_cam, ours), 5, at_least=True),
        Target(
            f"torch float32 + grad-cam with one BLAS thread / {mine}", ratio(tuned_grad_cam, ours), 5, at_least=True
        ),
    ]
