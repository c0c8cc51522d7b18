"""A function of the user's own as a sink."""

from __future__ import annotations

from collections.abc import Callable

from vmeg_edge.frames import Frame
from vmeg_edge.results import FrameResult, Signal


class Callback:
    """Calls ``on_result`` with each frame and its result, and ``on_signal`` with each change of the signal."""

    def __init__(
        self,
        on_result: Callable[[Frame, FrameResult], object],
        on_signal: Callable[[Signal, str], object] | None = None,
    ) -> None:
        """Hold the functions."""
        self._on_result = on_result
        self._on_signal = on_signal

    def write(self, frame: Frame, result: FrameResult) -> None:
        """Call ``on_result``."""
        self._on_result(frame, result)

    def signal(self, state: Signal, reason: str) -> None:
        """Call ``on_signal``, if there is one."""
        if self._on_signal is not None:
            self._on_signal(state, reason)

    def close(self) -> None:
        """Nothing is held."""

    def abort(self) -> None:
        """Nothing is held."""
