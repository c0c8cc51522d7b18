"""A recorded source paced like a camera: by its own time stamps, or at a rate."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from types import TracebackType

from vmeg_edge.errors import SourceError
from vmeg_edge.frames import Disconnected, Frame, LostFrame
from vmeg_edge.sources.base import Source

_MAX_PAUSE_S = 10.0


class ReplaySource:
    """Delivers each frame when it is due, by a schedule from the start, so that delays do not add up.

    A reader that comes late finds what is due at once, as behind a camera with a deep buffer. ``index`` and
    ``captured_s`` go on when ``loop`` starts over. A gap in the time stamps longer than ten seconds is played as ten.
    Raises `SourceError` where frames have no time stamps and no ``fps`` is given.
    """

    live = True

    def __init__(self, source: Source, *, fps: float | None = None, loop: bool = False) -> None:
        """Pace ``source``, which is closed with this one."""
        self._source = source
        self._rate = fps
        self._loop = loop
        self._closing = threading.Event()
        self.name = source.name
        self.kind = f"replayed {source.kind}"
        self.fps = fps if fps is not None else source.fps
        self.frame_count = None if loop else source.frame_count

    def __iter__(self) -> Iterator[Frame | LostFrame | Disconnected]:
        """Deliver at the pace, until the end, or for ever."""
        try:
            yield from self._paced()
        except SourceError:
            if not self._closing.is_set():  # else the source was closed under its reader
                raise

    def close(self) -> None:
        """End a wait, from any thread, and let go of the source."""
        self._closing.set()
        self._source.close()

    def __enter__(self) -> ReplaySource:
        """Return itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close."""
        self.close()

    def _paced(self) -> Iterator[Frame | LostFrame | Disconnected]:
        began_s = time.perf_counter()
        due_s = 0.0
        index = 0
        started = False
        while not self._closing.is_set():
            last_s: float | None = None
            delivered = 0
            for item in self._source:
                if isinstance(item, Disconnected):
                    yield item
                    continue
                if self._rate is not None:
                    due_s = index / self._rate  # a lost frame keeps its place in time, too
                elif isinstance(item, Frame):
                    due_s += self._step(item, last_s) if started else self._start(item)
                if self._closing.wait(max(0.0, began_s + due_s - time.perf_counter())):
                    return
                if isinstance(item, Frame):
                    started = True
                    last_s = item.captured_s
                    delivered += 1
                    yield replace(item, index=index, captured_s=due_s, arrived_ns=time.perf_counter_ns())
                else:
                    yield replace(item, index=index)
                index += 1
            if not self._loop or delivered == 0:
                return

    def _start(self, frame: Frame) -> float:
        """The first frame is due at once; refuses what tells no pace."""
        if frame.captured_s is None:
            raise SourceError(f"{self.name}: its frames carry no time stamps; say how fast to play them with --fps")
        return 0.0

    def _step(self, frame: Frame, last_s: float | None) -> float:
        """Seconds from the frame before to this one, by their time stamps."""
        if frame.captured_s is None or last_s is None:  # a loop's first frame, or one stamp missing
            return 1 / self.fps if self.fps else 0.04
        return min(max(frame.captured_s - last_s, 0.0), _MAX_PAUSE_S)
