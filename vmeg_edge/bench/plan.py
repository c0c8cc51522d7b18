"""What to measure, as data: the plan of a run, its cases, and how both travel to a case's own process."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from vmeg_edge.bench.report import Scenario
from vmeg_edge.errors import UsageError

MOST_FPS = 1_000.0


@dataclass(frozen=True)
class CaseSpec:
    """One thing to measure. ``threads`` is the whole budget; ``streams`` share it, each on a scorer of its own.

    ``pinned_to`` are processors to stay on, none for the system's choice.
    """

    backend: str
    device: str | None = None
    threads: int = 1
    streams: int = 1
    pinned_to: tuple[int, ...] = ()
    hint: str = "LATENCY"

    def __post_init__(self) -> None:
        """Refuse streams that would have no thread."""
        if self.streams > self.threads:
            raise UsageError(
                f"{self.streams} streams cannot share {self.threads} threads; give --threads {self.streams} or more"
            )

    @property
    def name(self) -> str:
        """As a report names it."""
        parts = [self.backend, *([self.device] if self.device else [])]
        parts.append(f"{self.threads} thread{'s' if self.threads > 1 else ''}")
        if self.streams > 1:
            parts.append(f"{self.streams} streams")
        return ", ".join(parts)


@dataclass(frozen=True)
class Plan:
    """How to measure. ``duration_s`` is each case's own, over all ``rounds``; ``iterations`` frames replace it."""

    bundle: Path
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
        if self.iterations is not None and self.iterations < self.rounds:
            raise UsageError(f"--iterations {self.iterations} over {self.rounds} rounds leaves a round without a frame")

    def to_json(self) -> dict[str, Any]:
        """For another process."""
        return {**asdict(self), "bundle": str(self.bundle)}

    @staticmethod
    def from_json(raw: dict[str, Any]) -> Plan:
        """What `to_json` gave."""
        return Plan(**{**raw, "bundle": Path(raw["bundle"])})
