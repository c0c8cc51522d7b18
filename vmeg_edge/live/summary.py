"""What became of a run's frames, its sinks and its recording."""

from __future__ import annotations

from dataclasses import dataclass

from vmeg_edge.live.buffer import Policy
from vmeg_edge.live.ends import Ends


@dataclass(frozen=True)
class SinkReport:
    """How one sink fared. ``policy`` is ``every result`` or ``drop oldest``; ``problem`` why it gave up, if it did."""

    name: str
    policy: str
    written: int
    dropped: int
    problem: str | None = None


class StreamSummary(Ends):
    """`Ends` with the run's length and what else a reader of the counts has to know.

    ``frames == scored + lost + failed + dropped`` at the end of every run; ``reused`` and ``late`` are among
    ``scored``.
    """

    def __init__(self, policy: Policy = "block", deadline_ms: float | None = None) -> None:
        """Nothing has come."""
        super().__init__()
        self.policy: Policy = policy
        self.deadline_ms = deadline_ms
        self.seconds = 0.0
        self.reconnects = 0
        self.sinks: tuple[SinkReport, ...] = ()
        self.record_problem: str | None = None

    @property
    def frames(self) -> int:
        """Frames that the source delivered or announced."""
        return self.arrived

    @property
    def throughput_fps(self) -> float:
        """Scored frames a second of wall-clock time, decoding and sinks included."""
        return self.scored / self.seconds if self.seconds > 0 else 0.0

    def __repr__(self) -> str:
        """The counts, on one line."""
        parts = {
            "frames": self.frames,
            "scored": self.scored,
            "reused": self.reused,
            "late": self.late,
            "lost": self.lost,
            "failed": self.failed,
            "dropped": self.dropped,
        }
        counts = ", ".join(f"{name}={value}" for name, value in parts.items() if value or name in ("frames", "scored"))
        return f"StreamSummary(policy={self.policy}, {counts}, seconds={self.seconds:.2f})"
