"""The state of the signal: live, frozen (one picture for too long), none (no picture for too long)."""

from __future__ import annotations

from dataclasses import dataclass

from vmeg_edge.errors import UsageError
from vmeg_edge.results import Signal

NO_FRAME_YET = "no frame has come yet"


@dataclass(frozen=True)
class SignalRules:
    """When a signal counts as gone or frozen.

    ``none_after_s``: no frame for so long. ``frozen_after_s``: for so long, every frame within ``still_levels`` (mean
    grey levels of 255) of the first. Raises `UsageError` for figures that are not positive.
    """

    none_after_s: float = 0.4
    frozen_after_s: float = 1.0
    still_levels: float = 0.25

    @staticmethod
    def at_rate(fps: float | None, frozen_after_s: float = 1.0) -> SignalRules:
        """The usual rules; a source that states a slow rate has three frame periods before its signal is gone."""
        slowest_s = 3 / fps if fps else 0.0
        return SignalRules(min(3600.0, max(0.4, slowest_s)), frozen_after_s)

    def __post_init__(self) -> None:
        """Refuse what could never be or always be."""
        if not (0 < self.none_after_s <= 3600 and 0 < self.frozen_after_s <= 3600):
            raise UsageError(
                "the times after which a signal is none or frozen must be above 0 and at most 3600 seconds"
            )
        if not 0 <= self.still_levels <= 255:
            raise UsageError(f"still_levels {self.still_levels:g} must be 0 to 255 grey levels")


class SignalMonitor:
    """Told of each frame and of time passing, it says what the signal is and since when. Times are nanoseconds."""

    def __init__(self, rules: SignalRules) -> None:
        """No signal until the first frame."""
        self.rules = rules
        self.state: Signal = "none"
        self.reason = NO_FRAME_YET
        self.since_ns = 0
        self._last_ns: int | None = None
        self._still_since_ns = 0

    def frame(self, at_ns: int, change: float) -> bool:
        """A frame came that differs by ``change`` from the still's first one; whether the state changed."""
        if change > self.rules.still_levels:
            self._still_since_ns = at_ns
        self._last_ns = at_ns
        if at_ns - self._still_since_ns >= self.rules.frozen_after_s * 1e9:
            return self._become("frozen", at_ns, f"the picture has not changed for {self.rules.frozen_after_s:g} s")
        return self._become("live", at_ns, "")

    def passed(self, at_ns: int) -> bool:
        """Time passed without a frame; whether the state changed."""
        due_ns = self.due_ns()
        if due_ns is None or at_ns < due_ns:
            return False
        return self.gone(at_ns, f"no frame for {self.rules.none_after_s:g} s")

    def gone(self, at_ns: int, reason: str) -> bool:
        """The source says that its signal is gone; whether the state changed."""
        self._last_ns = None
        return self._become("none", at_ns, reason)

    def due_ns(self) -> int | None:
        """When the signal will count as gone unless a frame comes; ``None`` when it is gone already."""
        return None if self._last_ns is None else self._last_ns + int(self.rules.none_after_s * 1e9)

    def _become(self, state: Signal, at_ns: int, reason: str) -> bool:
        if state == self.state:
            return False
        self.state, self.reason, self.since_ns = state, reason, at_ns
        return True
