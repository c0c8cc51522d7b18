"""Whether a case's figures can be relied on: enough samples, no drift, no throttling, no other load, parity held."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from vmeg_edge.bench.report import Distribution, Verdict
from vmeg_edge.bench.statistics import ENOUGH_SAMPLES, percentile

LEAST_SAMPLES = ENOUGH_SAMPLES[90.0]
MOST_DRIFT = 0.10
MOST_SPEED_CHANGE = 0.15
MOST_OTHERS = 0.10
MOST_CV = 0.30
MOST_ROUND_SPREAD = 0.15
_FRAMES_A_ROUND = 16  # fewer make a median of chance


@dataclass(frozen=True)
class Evidence:
    """What a verdict is given on. ``end_to_end_ms`` is in the order of time, over all slices; ``rounds`` says of which.

    ``others`` is the share of all processors that went to other processes, slice by slice; ``throttled`` how often the
    processor slowed itself down for heat; ``probes_ms`` a fixed piece of work before and after each slice; ``failed``
    the frames that could not be scored.
    """

    end_to_end_ms: Sequence[float]
    others: Sequence[float]
    throttled: int
    probes_ms: Sequence[float]
    parity_failures: Sequence[str] = ()
    failed: int = 0
    rounds: Sequence[int] = ()


def judge(evidence: Evidence) -> Verdict:
    """VALID, or INVALID with every reason in words a reader can act on."""
    samples = evidence.end_to_end_ms
    reasons = [f"parity failed: {failure}" for failure in evidence.parity_failures]
    if evidence.failed:
        reasons.append(f"{evidence.failed} frames failed")
    if len(samples) < LEAST_SAMPLES:
        reasons.append(
            f"too few samples: {len(samples)}, and a p90 needs {LEAST_SAMPLES}; "
            f"give --iterations {LEAST_SAMPLES} or more"
        )
    else:
        third = len(samples) // 3
        first, last = percentile(samples[:third], 50), percentile(samples[-third:], 50)
        if first > 0 and abs(last / first - 1) > MOST_DRIFT:
            reasons.append(f"drift: the median of the last third is {last / first:.2f} times that of the first")
        medians = _round_medians(evidence)
        if medians and max(medians) > min(medians) * (1 + MOST_ROUND_SPREAD):
            reasons.append(
                f"the rounds disagree: their medians go from {min(medians):.2f} to {max(medians):.2f} ms "
                "(a neighbour, or changing clocks)"
            )
        spread = Distribution.of(samples).cv
        if spread > MOST_CV:
            reasons.append(f"unsteady: the coefficient of variation is {spread:.2f}, above {MOST_CV:g}")
    if evidence.throttled:
        reasons.append(f"throttling: the processor slowed itself down for heat {evidence.throttled} times")
    probes = evidence.probes_ms
    if probes and max(probes) > min(probes) * (1 + MOST_SPEED_CHANGE):
        reasons.append(
            f"the processor's speed changed: a fixed piece of work took {min(probes):.3f} to {max(probes):.3f} ms "
            "(throttling, changing clocks, or a neighbour)"
        )
    busiest = max(evidence.others, default=0.0)
    if busiest > MOST_OTHERS:
        reasons.append(f"other load: up to {busiest:.0%} of the processors went to other work")
    return Verdict(valid=not reasons, reasons=tuple(reasons))


def _round_medians(evidence: Evidence) -> list[float]:
    held: dict[int, list[float]] = {}
    for sample, turn in zip(evidence.end_to_end_ms, evidence.rounds, strict=False):
        held.setdefault(turn, []).append(sample)
    return [percentile(samples, 50) for samples in held.values() if len(samples) >= _FRAMES_A_ROUND]
