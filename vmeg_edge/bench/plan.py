"""What to measure, as data: the plan of a run, its cases, and how a case travels to its own process."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from vmeg_edge.bench.report import Scenario
from vmeg_edge.errors import UsageError

MOST_FPS = 1_000.0
MOST_S = 86_400.0
MOST_MS = 3_600_000.0


@dataclass(frozen=True)
class CaseSpec:
    """One bundle on one backend. ``threads`` is the whole budget; ``streams`` share it, each on a scorer of its own.

    ``pinned_to`` are processors to stay on, none for the system's choice.
    """

    bundle: Path
    backend: str
    device: str | None = None
    threads: int = 1
    streams: int = 1
    pinned_to: tuple[int, ...] = ()
    hint: str = "LATENCY"

    def __post_init__(self) -> None:
        """Refuse streams that would have no thread, and none at all."""
        if self.streams < 1:
            raise UsageError(f"{self.streams} streams; give 1 or more")
        if self.streams > self.threads:
            raise UsageError(
                f"{self.streams} streams cannot share {self.threads} threads; give --threads {self.streams} or more"
            )

    @property
    def name(self) -> str:
        """As a report of one bundle names it."""
        parts = [self.backend, *([self.device] if self.device else [])]
        parts.append(f"{self.threads} thread{'s' if self.threads > 1 else ''}")
        if self.streams > 1:
            parts.append(f"{self.streams} streams")
        return ", ".join(parts)

    def to_json(self) -> dict[str, Any]:
        """For another process."""
        return {**asdict(self), "bundle": str(self.bundle)}


@dataclass(frozen=True)
class Plan:
    """How to measure. ``duration_s`` is each case's own, over all ``rounds``; ``iterations`` frames replace it."""

    scenario: Scenario = "single"
    duration_s: float = 10.0
    iterations: int | None = None
    rounds: int = 5
    warm_up_frames: int = 3
    fps: float = 10.0
    deadline_ms: float | None = None
    cache: bool = True
    self_test: bool = True

    def __post_init__(self) -> None:
        """Refuse what cannot be measured."""
        if not 0 < self.fps <= MOST_FPS:
            raise UsageError(f"--fps {self.fps:g}: give a rate above 0 and up to {MOST_FPS:g} frames a second")
        if not 0 < self.duration_s <= MOST_S:
            raise UsageError(f"--duration {self.duration_s:g}: give seconds above 0 and up to a day")
        if self.deadline_ms is not None and not 0 < self.deadline_ms <= MOST_MS:
            raise UsageError(f"--deadline-ms {self.deadline_ms:g}: give milliseconds above 0 and up to an hour")
        if self.rounds < 1 or self.warm_up_frames < 0:
            raise UsageError(f"{self.rounds} rounds after {self.warm_up_frames} frames of warm-up cannot be run")
        if self.iterations is not None and self.iterations < self.rounds:
            raise UsageError(f"--iterations {self.iterations} over {self.rounds} rounds leaves a round without a frame")

    def iterations_of(self, turn: int) -> int | None:
        """Frames of one round, so that all rounds together make ``iterations``."""
        if self.iterations is None:
            return None
        each, over = divmod(self.iterations, self.rounds)
        return each + (turn < over)
