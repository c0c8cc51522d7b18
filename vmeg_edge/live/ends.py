"""The one end of each frame, counted: scored, lost, failed or dropped, and why."""

from __future__ import annotations

from collections import Counter

OTHER = "other reasons"
_MAX_REASONS = 64


class Ends:
    """``arrived == scored + lost + failed + dropped + open`` at every moment; ``open`` frames wait or are being scored.

    ``reasons`` counts lost and failed frames and ``drops`` dropped ones by their one-line reason; beyond 64 different
    reasons the rest share one, so that memory stays flat however long a stream runs.
    """

    def __init__(self) -> None:
        """Nothing has come."""
        self.arrived = 0
        self.scored = 0
        self.reused = 0
        self.late = 0
        self.lost = 0
        self.failed = 0
        self.reasons: Counter[str] = Counter()
        self.drops: Counter[str] = Counter()
        self.unanswered = 0

    @property
    def dropped(self) -> int:
        """Frames that were delivered and, by policy, not scored."""
        return self.drops.total()

    @property
    def open(self) -> int:
        """Frames without an end as yet."""
        return self.arrived - self.scored - self.lost - self.failed - self.dropped

    def score(self, *, reused: bool, late: bool) -> int:
        """A frame was scored; returns how many before it, since the last score, were not."""
        self.scored += 1
        self.reused += reused
        self.late += late
        unanswered, self.unanswered = self.unanswered, 0
        return unanswered

    def lose(self, reason: str) -> None:
        """A frame was announced and not delivered."""
        self.lost += 1
        self._count(self.reasons, reason)

    def fail(self, reason: str) -> None:
        """A frame was delivered and could not be scored."""
        self.failed += 1
        self._count(self.reasons, reason)

    def drop(self, reason: str) -> None:
        """A frame was delivered and, by policy, not scored."""
        self._count(self.drops, reason)

    def _count(self, counter: Counter[str], reason: str) -> None:
        self.unanswered += 1
        counter[reason if reason in counter or len(counter) < _MAX_REASONS else OTHER] += 1
