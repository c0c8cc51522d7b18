"""The stream as a state machine: told what happened and when, it decides what becomes of each frame.

It has no thread, no clock and no file. All that it is told goes to ``journal`` and all that it decides to ``emit``, so
telling it the same again gives the same log, byte for byte: that is how a recording is replayed. All times are
nanoseconds since the stream's start.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

from vmeg_edge.errors import UsageError
from vmeg_edge.exam import Exam, ExamRule
from vmeg_edge.frames import Disconnected, Frame, LostFrame
from vmeg_edge.live.buffer import FrameBuffer, Policy
from vmeg_edge.live.ends import Ends
from vmeg_edge.live.signal import SignalMonitor, SignalRules
from vmeg_edge.live.still import NEW, Likeness
from vmeg_edge.results import FrameResult, Signal, StreamStatus

NEWER = "a newer frame came before it could be scored"
FULL = "the queue was full"
EXPIRED = "past its deadline before it could be scored"
SIGNAL_GONE = "the signal went before it could be scored"
ENDED = "the stream ended before it could be scored"

Log = Callable[[dict[str, Any]], None]

_RATE_OVER = 32  # arrivals that a rate is taken over


def _nobody(_state: Signal, _reason: str) -> None:
    """No one is told."""


@dataclass(frozen=True)
class StreamRules:
    """What decides a frame's end. ``signal`` is ``None`` where the source is a file: it can be neither frozen nor gone.

    ``depth`` frames may wait; without it, 1 under ``latest`` and ``block`` and 8 under ``queue``. Past ``deadline_ms``
    (capture to result) a waiting frame is dropped and a result is late. Raises `UsageError`.
    """

    policy: Policy = "latest"
    depth: int | None = None
    deadline_ms: float | None = None
    signal: SignalRules | None = field(default_factory=SignalRules)
    exam: ExamRule = field(default_factory=ExamRule)

    @property
    def still_levels(self) -> float | None:
        """`SignalRules.still_levels`, ``None`` where no signal is watched."""
        return None if self.signal is None else self.signal.still_levels

    def __post_init__(self) -> None:
        """Refuse a deadline that nothing can meet, and what the buffer refuses."""
        if self.deadline_ms is not None and not 0 < self.deadline_ms <= 3_600_000:
            raise UsageError(f"a deadline of {self.deadline_ms:g} ms; it must be above 0 and at most an hour")
        FrameBuffer[None](self.policy, self.depth)


@dataclass(frozen=True, eq=False)
class Entry:
    """A frame that waits or is being scored. Entries with one ``content`` hold identical pixels."""

    frame: Frame
    arrived_ns: int
    content: int
    signal: Signal


class StreamCore:
    """Call it under one lock. Each frame that arrives has exactly one end in ``ends``."""

    def __init__(
        self,
        rules: StreamRules,
        *,
        journal: Log | None = None,
        emit: Log | None = None,
        on_signal: Callable[[Signal, str], None] = _nobody,
        ends: Ends | None = None,
    ) -> None:
        """Begin without a signal, or live for good where ``rules.signal`` is ``None``."""
        self.rules = rules
        self.ends = Ends() if ends is None else ends
        self.buffer: FrameBuffer[Entry] = FrameBuffer(rules.policy, rules.depth)
        self.exam = Exam(rules.exam)
        self.reconnects = 0
        self.result: FrameResult | None = None
        self._monitor = None if rules.signal is None else SignalMonitor(rules.signal)
        self._journal = journal
        self._emit = emit
        self._on_signal = on_signal
        self._content = 0
        self._answer: tuple[int, FrameResult] | None = None
        self._taken_ns = 0
        self._exam_s = 0.0
        self._was_gone = False
        self._arrivals: deque[int] = deque(maxlen=_RATE_OVER)
        self._scores: deque[int] = deque(maxlen=_RATE_OVER)

    @property
    def signal(self) -> Signal:
        """The state of the signal now."""
        return "live" if self._monitor is None else self._monitor.state

    @property
    def signal_reason(self) -> str:
        """One line, empty while live."""
        return "" if self._monitor is None else self._monitor.reason

    def due_ns(self) -> int | None:
        """When `tick` has to be called next unless a frame comes first; ``None`` for no need."""
        return None if self._monitor is None else self._monitor.due_ns()

    def arrive(
        self,
        at_ns: int,
        item: Frame | LostFrame | Disconnected,
        arrived_ns: int | None = None,
        likeness: Likeness = NEW,
    ) -> None:
        """The source delivered ``item`` at ``at_ns``; its picture had entered the machine at ``arrived_ns``."""
        if isinstance(item, Disconnected):
            self._note({"do": "gone", "at_ns": at_ns, "item": item})
            self._disconnect(at_ns, item.reason)
            return
        self.ends.arrived += 1
        if isinstance(item, LostFrame):
            self._note({"do": "lost", "at_ns": at_ns, "item": item})
            self.ends.lose(item.reason)
            self._log({"event": "lost", "at_ns": at_ns, "frame": item.index, "reason": item.reason})
            return
        entered_ns = at_ns if arrived_ns is None else min(arrived_ns, at_ns)
        self._note({"do": "arrive", "at_ns": at_ns, "arrived_ns": entered_ns, "item": item})
        if not likeness.identical:
            self._content += 1
        self._arrivals.append(at_ns)
        self._log({"event": "frame", "at_ns": at_ns, "frame": item.index, "identical": likeness.identical})
        if self._was_gone:
            self._was_gone = False
            self.reconnects += 1
        if self._monitor is not None and self._monitor.frame(at_ns, likeness.change):
            self._tell_signal(at_ns)
        displaced = self.buffer.offer(Entry(item, entered_ns, self._content, self.signal))
        if displaced is not None:
            self._drop(at_ns, displaced, NEWER if self.rules.policy == "latest" else FULL)

    def take(self, at_ns: int) -> Entry | None:
        """The frame to be scored now; frames that are past their deadline are dropped on the way to it."""
        if not len(self.buffer):
            return None
        self._note({"do": "take", "at_ns": at_ns})
        deadline_ms = self.rules.deadline_ms
        while (entry := self.buffer.pop()) is not None:
            if deadline_ms is None or at_ns - entry.arrived_ns <= deadline_ms * 1e6:
                self._taken_ns = at_ns
                return entry
            self._drop(at_ns, entry, EXPIRED)
        return None

    def answer(self, entry: Entry) -> FrameResult | None:
        """The last result, if it was of the very same pixels: it need not be computed again."""
        if self._monitor is None or self._answer is None or self._answer[0] != entry.content:
            return None
        return replace(self._answer[1], frame=entry.frame.index, captured_s=entry.frame.captured_s, reused=True)

    def finish(self, at_ns: int, entry: Entry, scored: FrameResult) -> FrameResult:
        """A frame was scored: its result, with age, signal and gaps filled in."""
        self._note({"do": "finish", "at_ns": at_ns})
        age_ms = (at_ns - entry.arrived_ns) * 1e-6
        late = self.rules.deadline_ms is not None and age_ms > self.rules.deadline_ms
        signal: Signal = "none" if self.signal == "none" else entry.signal
        before = self.ends.score(reused=scored.reused, late=late)
        result = replace(scored, age_ms=age_ms, late=late, signal=signal, dropped_before=before)
        self._answer = (entry.content, result)
        self._scores.append(at_ns)
        if self._emit is not None:
            self._emit(_result_event(at_ns, self._taken_ns, entry, result))
        if signal != "none":
            self.result = result
        if self.exam.add(self._exam_time_s(at_ns, result.captured_s), result):
            self._tell_exam(at_ns)
        return result

    def fail(self, at_ns: int, entry: Entry, reason: str) -> None:
        """A frame could not be scored."""
        self._note({"do": "fail", "at_ns": at_ns, "reason": reason})
        self.ends.fail(reason)
        self._log({"event": "failed", "at_ns": at_ns, "frame": entry.frame.index, "reason": reason})

    def tick(self, at_ns: int) -> bool:
        """Time passed; whether the signal or the exam changed by that."""
        gone = self._monitor is not None and not self.buffer.must_wait and self._monitor.passed(at_ns)
        changed = self._monitor is not None and self.exam.pass_to(self._exam_time_s(at_ns, None))
        if gone or changed:
            self._note({"do": "tick", "at_ns": at_ns})
        if gone:
            self._clear(at_ns)
        if changed:
            self._tell_exam(at_ns)
        return gone or changed

    def end(self, at_ns: int, why: str) -> None:
        """The stream is over: what still waits is dropped."""
        self._note({"do": "end", "at_ns": at_ns, "why": why})
        for entry in self.buffer.clear():
            self._drop(at_ns, entry, ENDED)
        ends = self.ends
        self._log(
            {
                "event": "end",
                "at_ns": at_ns,
                "why": why,
                "arrived": ends.arrived,
                "scored": ends.scored,
                "reused": ends.reused,
                "late": ends.late,
                "lost": ends.lost,
                "failed": ends.failed,
                "dropped": dict(sorted(ends.drops.items())),
            }
        )

    def status(self, at_ns: int) -> StreamStatus:
        """Where the stream stands, for those who look on."""
        ends = self.ends
        return StreamStatus(
            signal=self.signal,
            signal_reason=self.signal_reason,
            signal_since_s=0.0 if self._monitor is None else self._monitor.since_ns * 1e-9,
            exam=self.exam.state.verdict,
            exam_reason=self.exam.state.reason,
            uptime_s=at_ns * 1e-9,
            arrived=ends.arrived,
            scored=ends.scored,
            reused=ends.reused,
            lost=ends.lost,
            failed=ends.failed,
            dropped=dict(ends.drops),
            late=ends.late,
            waiting=len(self.buffer),
            arrival_fps=_rate(self._arrivals, at_ns),
            scored_fps=_rate(self._scores, at_ns),
            reconnects=self.reconnects,
            result=self.result,
        )

    def _exam_time_s(self, at_ns: int, captured_s: float | None) -> float:
        """The exam's clock: real time for a live source, the recording's own for a file, which may run faster."""
        from_file = self._monitor is None and captured_s is not None
        self._exam_s = max(self._exam_s, captured_s if from_file and captured_s is not None else at_ns * 1e-9)
        return self._exam_s

    def _disconnect(self, at_ns: int, reason: str) -> None:
        self._was_gone = True
        if self._monitor is not None and self._monitor.gone(at_ns, reason):
            self._clear(at_ns)

    def _clear(self, at_ns: int) -> None:
        """No score outlives its signal, and no frame from before may pass for one from after."""
        self.result = self._answer = None
        for entry in self.buffer.clear():
            self._drop(at_ns, entry, SIGNAL_GONE)
        self._tell_signal(at_ns)

    def _note(self, told: dict[str, Any]) -> None:
        if self._journal is not None:
            self._journal(told)

    def _log(self, event: dict[str, Any]) -> None:
        if self._emit is not None:
            self._emit(event)

    def _drop(self, at_ns: int, entry: Entry, reason: str) -> None:
        self.ends.drop(reason)
        self._log({"event": "drop", "at_ns": at_ns, "frame": entry.frame.index, "reason": reason})

    def _tell_signal(self, at_ns: int) -> None:
        self._log({"event": "signal", "at_ns": at_ns, "signal": self.signal, "reason": self.signal_reason})
        self._on_signal(self.signal, self.signal_reason)

    def _tell_exam(self, at_ns: int) -> None:
        state = self.exam.state
        self._log(
            {
                "event": "exam",
                "at_ns": at_ns,
                "verdict": state.verdict,
                "reason": state.reason,
                "evidence": state.evidence,
                "share": state.share,
            }
        )


def _result_event(at_ns: int, taken_ns: int, entry: Entry, result: FrameResult) -> dict[str, Any]:
    """What a log says of a result: everything but the times that stages took, which no replay can repeat."""
    said = result.to_json(with_provenance=False)
    for measured in ("stages_ms", "age_ms", "provenance", "notices"):
        del said[measured]
    return {"event": "result", "at_ns": at_ns, "taken_ns": taken_ns, "age_ns": at_ns - entry.arrived_ns, **said}


def _rate(times: deque[int], at_ns: int) -> float:
    """Events a second over the last ones; it falls towards zero when none follow."""
    if len(times) < 2:
        return 0.0
    interval_ns = (times[-1] - times[0]) / (len(times) - 1)
    silent_ns = at_ns - times[-1]
    return 1e9 / max(interval_ns, silent_ns, 1.0) if silent_ns > 2 * interval_ns else 1e9 / max(interval_ns, 1.0)
