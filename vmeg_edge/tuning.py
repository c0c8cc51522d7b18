"""How many threads are fastest on this machine: tried once, among settings that pass parity, and remembered."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from vmeg_edge.bench.statistics import percentile
from vmeg_edge.errors import ParityError

FRAMES = 12
TURNS = 2
_WARM_UP = 2
_WORTH = 0.97  # fewer threads win a tie: they leave processors to the capture and to others


@dataclass(frozen=True)
class Tried:
    """One setting: its median on golden frames, or why it may not be chosen."""

    threads: int
    p50_ms: float
    refused: str = ""


@dataclass(frozen=True)
class Choice:
    """The thread count that was chosen, and all that were tried."""

    threads: int
    tried: tuple[Tried, ...]

    @property
    def p50_ms(self) -> float:
        """The median of the number that was chosen, in milliseconds a frame."""
        return next(one.p50_ms for one in self.tried if one.threads == self.threads)

    def __str__(self) -> str:
        """One line for the provenance."""
        said = ", ".join(f"{one.threads}: {one.refused or f'{one.p50_ms:.1f} ms'}" for one in self.tried)
        return f"{self.threads} threads, the fastest here that pass parity ({said})"


def thread_counts(processors: int) -> tuple[int, ...]:
    """What is worth trying: all, half of them (one a core, where cores run two threads each), and a quarter."""
    return tuple(dict.fromkeys(max(1, processors // part) for part in (1, 2, 4)))


def tune(counts: Sequence[int], measure: Callable[[int], list[float]]) -> Choice:
    """Choose among ``counts``. ``measure(threads)`` gives milliseconds a frame of an engine that it opened and proved.

    Each is measured in two turns, so that a moment's disturbance does not decide. Raises `ParityError` where none
    passes.
    """
    samples: dict[int, list[float]] = {count: [] for count in counts}
    refused: dict[int, str] = {}
    for turn in range(TURNS):
        for count in counts if turn % 2 == 0 else reversed(counts):
            if count not in refused:
                try:
                    samples[count] += measure(count)
                except ParityError as error:
                    refused[count] = f"refused, {error}"
    medians = {count: percentile(samples[count], 50) for count in counts if count not in refused}
    if not medians:
        raise ParityError(next(iter(refused.values())).removeprefix("refused, "))
    fastest = min(medians.values())
    chosen = min(count for count, median in medians.items() if median * _WORTH <= fastest)
    return Choice(chosen, tuple(Tried(count, medians.get(count, 0.0), refused.get(count, "")) for count in counts))


def timed(score: Callable[[int], object], frames: int) -> list[float]:
    """Milliseconds of ``FRAMES`` calls of ``score(index)``, with indices below ``frames``, after two of warm-up."""
    took = []
    for index in range(_WARM_UP + FRAMES):
        began = time.perf_counter_ns()
        score(index % frames)
        took.append((time.perf_counter_ns() - began) * 1e-6)
    return took[_WARM_UP:]
