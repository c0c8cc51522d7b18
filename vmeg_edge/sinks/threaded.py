"""A sink on a thread of its own, so that a slow or broken one can never hold up scoring."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable

from vmeg_edge.errors import VmegError
from vmeg_edge.frames import Frame
from vmeg_edge.results import FrameResult, Signal
from vmeg_edge.sinks.base import Sink

STALLED = "did not finish in time"

_Job = tuple[bool, Callable[[], None]]  # whether it is a result, and what hands it over


class SinkThread:
    """Hands results to ``sink`` through a queue of ``depth``; when that is full, the oldest result in it is dropped.

    ``written`` and ``dropped`` add up to what was given. ``problem`` is the one line with which the sink gave up:
    nothing is written after it, the file is taken back, and what comes later counts as dropped. Changes of the signal
    are never dropped.
    """

    policy = "drop oldest"

    def __init__(self, sink: Sink, *, depth: int = 8, name: str = "") -> None:
        """Start the thread."""
        self.sink = sink
        self.name = name or type(sink).__name__
        self.depth = depth
        self.written = 0
        self.dropped = 0
        self.problem: str | None = None
        self._jobs: deque[_Job] = deque()
        self._results = 0
        self._ending: Callable[[], None] | None = None
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._run, name=f"sink {self.name}", daemon=True)
        self._thread.start()

    def write(self, frame: Frame, result: FrameResult) -> None:
        """Queue one result; never waits."""
        with self._changed:
            if self.problem is not None or self._ending is not None:
                self.dropped += 1
                return
            if self._results >= self.depth:
                self._drop_oldest()
            self._jobs.append((True, lambda: self.sink.write(frame, result)))
            self._results += 1
            self._changed.notify()

    def signal(self, state: Signal, reason: str) -> None:
        """Queue a change of the signal; never waits."""
        with self._changed:
            if self.problem is None and self._ending is None:
                self._jobs.append((False, lambda: self.sink.signal(state, reason)))
                self._changed.notify()

    def close(self, timeout_s: float = 5.0) -> None:
        """Write what waits and finish; past ``timeout_s`` the sink is left alone and ``problem`` says so."""
        self._end(self.sink.close, timeout_s)

    def abort(self, timeout_s: float = 5.0) -> None:
        """Forget what waits and leave nothing behind."""
        with self._changed:
            self._forget()
        self._end(self.sink.abort, timeout_s)

    def _end(self, ending: Callable[[], None], timeout_s: float) -> None:
        with self._changed:
            if self._ending is None:
                self._ending = ending
            self._changed.notify()
        self._thread.join(timeout_s)
        if self._thread.is_alive():
            with self._changed:
                self._forget()
                self.problem = self.problem or STALLED

    def _run(self) -> None:
        try:
            while (job := self._next()) is not None:
                self._hand_over(job)
                del job
            if self._ending is not None:
                self._ending()
        except Exception as error:  # whatever a user's sink raises stays here
            with self._changed:
                self.problem = str(error) if isinstance(error, VmegError) else f"{type(error).__name__}: {error}"
                self._forget()
            try:
                self.sink.abort()
            except Exception as second:  # its own clean-up failed as well
                self.problem += f"; and it could not be taken back ({type(second).__name__})"

    def _next(self) -> _Job | None:
        with self._changed:
            while not self._jobs:
                if self._ending is not None:
                    return None
                self._changed.wait()
            job = self._jobs.popleft()
            self._results -= job[0]
            return job

    def _hand_over(self, job: _Job) -> None:
        is_result, hand_over = job
        try:
            hand_over()
        except BaseException:
            self.dropped += is_result
            raise
        self.written += is_result

    def _drop_oldest(self) -> None:
        for place, (is_result, _) in enumerate(self._jobs):
            if is_result:
                del self._jobs[place]
                self._results -= 1
                self.dropped += 1
                return

    def _forget(self) -> None:
        self.dropped += self._results
        self._jobs.clear()
        self._results = 0
