"""Frames that are in memory already, as a source."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from types import TracebackType

from vmeg_edge.frames import Frame, LostFrame


class MemorySource:
    """Delivers ``frames`` in order, as often as it is iterated."""

    kind = "memory"
    live = False

    def __init__(self, frames: Sequence[Frame | LostFrame], *, name: str = "memory", fps: float | None = None) -> None:
        """Hold the frames; nothing is copied."""
        self.name = name
        self.fps = fps
        self.frame_count: int | None = len(frames)
        self._frames = frames

    def __iter__(self) -> Iterator[Frame | LostFrame]:
        """The frames, one by one."""
        return iter(self._frames)

    def close(self) -> None:
        """Nothing is held open."""

    def __enter__(self) -> MemorySource:
        """Return itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close."""
