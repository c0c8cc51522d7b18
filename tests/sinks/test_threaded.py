"""A sink on a thread: the oldest result is dropped, a change of the signal never, and a stuck sink is left behind."""

from __future__ import annotations

import threading
from typing import Any

from vmeg_edge.sinks import SinkThread
from vmeg_edge.sinks.threaded import STALLED


class Held:
    """A sink that waits at its first result until it is let go, and remembers what it was given."""

    def __init__(self) -> None:
        self.go = threading.Event()
        self.reached = threading.Event()
        self.seen: list[Any] = []
        self.end = "open"

    def write(self, frame: Any, result: Any) -> None:
        self.reached.set()
        self.go.wait(30)
        self.seen.append((frame, result))

    def signal(self, state: str, reason: str) -> None:
        self.seen.append((state, reason))

    def close(self) -> None:
        self.end = "closed"

    def abort(self) -> None:
        self.end = "aborted"


def held_up(depth: int) -> tuple[Held, Any]:
    """A thread whose sink is busy with result 0."""
    sink = Held()
    thread: Any = SinkThread(sink, depth=depth)
    thread.write(0, 0)
    assert sink.reached.wait(10)
    return sink, thread


def test_the_oldest_results_are_dropped_and_changes_of_the_signal_are_kept_in_their_place() -> None:
    sink, thread = held_up(depth=2)
    thread.write(1, 1)
    thread.signal("none", "unplugged")
    for number in (2, 3, 4):
        thread.write(number, number)
    assert (thread.written, thread.dropped) == (0, 2)
    sink.go.set()
    thread.close()
    assert sink.seen == [(0, 0), ("none", "unplugged"), (3, 3), (4, 4)]
    assert (thread.written, thread.dropped, thread.problem, sink.end) == (3, 2, None, "closed")


def test_a_sink_that_is_stuck_is_left_behind_and_said() -> None:
    sink, thread = held_up(depth=8)
    thread.write(1, 1)
    thread.close(timeout_s=0.2)
    assert (thread.problem, thread.dropped, sink.end) == (STALLED, 1, "open")
    thread.write(2, 2)
    assert thread.dropped == 2
    sink.go.set()


def test_abort_forgets_what_waits() -> None:
    sink, thread = held_up(depth=8)
    thread.write(1, 1)
    sink.go.set()
    thread.abort()
    assert sink.end == "aborted"
    assert thread.written + thread.dropped == 2
