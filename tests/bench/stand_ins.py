"""A backend that takes known times and keeps its own record of them, behind a real scorer of the demo bundle."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from vmeg_edge.backends.base import BackendReport
from vmeg_edge.bundle import open_bundle
from vmeg_edge.frames import Frame, Pixels
from vmeg_edge.scorer import Scorer

Delay = Callable[[int], float]


class Clock:
    """Time that goes on where a test says so, in place of ``time.perf_counter_ns``."""

    def __init__(self) -> None:
        self.now_ns = 1_000_000_000

    def __call__(self) -> int:
        return self.now_ns

    def wait(self, duration_ms: float) -> None:
        self.now_ns += round(duration_ms * 1e6)


class Metronome:
    """Call number ``n`` takes ``delay_ms(n)``; ``took_ms`` is what each really took, by this backend's own clock.

    It sleeps, except for the last millisecond of a ``precise`` one, which it spins away; a ``clock`` is moved instead.
    """

    report = BackendReport("metronome", "1", "CPU", "CPU", "float32", 1)

    def __init__(
        self, delay_ms: Delay, *, precise: bool = True, fail_at: int | None = None, clock: Clock | None = None
    ) -> None:
        self.took_ms: list[float] = []
        self._delay_ms = delay_ms
        self._spin_s = 1e-3 if precise else 0.0
        self._fail_at = fail_at
        self._clock = clock
        self._activations = np.random.default_rng(0).normal(size=(196, 192)).astype(np.float32)

    def infer(self, _pixels: Pixels) -> tuple[np.ndarray, np.ndarray]:
        began = time.perf_counter_ns()
        number = len(self.took_ms)
        due_s = self._delay_ms(number) * 1e-3
        if self._clock is not None:
            self._clock.wait(due_s * 1e3)
        else:
            time.sleep(max(0.0, due_s - self._spin_s))
            while (time.perf_counter_ns() - began) * 1e-9 < due_s:
                pass
        self.took_ms.append((time.perf_counter_ns() - began) * 1e-6)
        if number == self._fail_at:
            from vmeg_edge.errors import BackendError

            raise BackendError("the metronome is broken; wind it up")
        return np.zeros(2, np.float32), self._activations

    def close(self) -> None:
        """Nothing is held open."""


def scorer_on(backend: Metronome, bundle: Path) -> Scorer:
    """A real scorer whose engine is ``backend``."""
    return Scorer(open_bundle(bundle), backend)


def pictures(count: int = 5) -> list[Frame]:
    """Small frames that differ."""
    random = np.random.default_rng(1)
    return [Frame(random.integers(0, 256, (48, 64), np.uint8), index=index) for index in range(count)]


def mixture(*milliseconds: float, seed: int = 3) -> Delay:
    """Delays drawn from ``milliseconds``, the same ones for the same seed."""
    drawn = np.random.default_rng(seed).choice(milliseconds, 4096)
    return lambda number: float(drawn[number])
