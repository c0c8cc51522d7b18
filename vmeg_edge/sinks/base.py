"""What a sink is: it takes each frame with its result, and ends in one of two ways."""

from __future__ import annotations

from typing import Protocol

from vmeg_edge.frames import Frame
from vmeg_edge.results import FrameResult, Signal


class Sink(Protocol):
    """Where results go. Files appear under their name only on `close`."""

    def write(self, frame: Frame, result: FrameResult) -> None:
        """Take one result and the frame that it belongs to. Raises `OutputError`."""
        ...

    def signal(self, state: Signal, reason: str) -> None:
        """The signal changed. On ``none`` the last score holds no longer: whatever shows it must clear it."""
        ...

    def close(self) -> None:
        """Finish, and keep what was written. Raises `OutputError`."""
        ...

    def abort(self) -> None:
        """Give up, and leave nothing behind. Safe to call after `close`, and twice."""
        ...
