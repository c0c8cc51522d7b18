"""A record run again: the same frames at the same recorded times, and whether the event log comes out the same."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from vmeg_edge.errors import ActivationError, BackendError, FrameError, SourceError
from vmeg_edge.live import Entry, StillDetector, StreamCore
from vmeg_edge.live.summary import StreamSummary
from vmeg_edge.recording.record import Arrive, End, Fail, Gone, Lost, Record, as_line
from vmeg_edge.results import FrameResult, Signal
from vmeg_edge.scorer import Scorer
from vmeg_edge.sinks import Sink


class Replay:
    """Iterate it for the results. Then ``difference`` is ``None``, or the first event that did not come out the same.

    Every decision is taken anew, by the record's own rules: scores, drops, states of signal and exam. Only the clock is
    the record's. ``log`` collects the new event lines when ``keep_log`` is set.
    """

    def __init__(self, record: Record, scorer: Scorer, *, sinks: Sequence[Sink] = (), keep_log: bool = False) -> None:
        """Nothing is read yet."""
        self.record = record
        self.scorer = scorer
        self.summary = StreamSummary(record.header.rules.policy, record.header.rules.deadline_ms)
        self.events = 0
        self.difference: str | None = None
        self.log: list[str] = []
        self._keep_log = keep_log
        self._sinks = tuple(sinks)
        self._new: list[str] = []

    def __iter__(self) -> Iterator[FrameResult]:
        """Replay from the first frame. Raises `SourceError` where the record is damaged or incomplete."""
        try:
            yield from self._replay()
        except (GeneratorExit, KeyboardInterrupt):
            self._close_sinks()
            raise
        except BaseException:
            for sink in self._sinks:
                sink.abort()
            raise
        else:
            self._close_sinks()

    def _close_sinks(self) -> None:
        for sink in self._sinks:
            sink.close()

    def _replay(self) -> Iterator[FrameResult]:
        rules = self.record.header.rules
        core = StreamCore(rules, emit=self._emit, on_signal=self._tell_signal, ends=self.summary)
        still = StillDetector(rules.still_levels)
        recorded = self.record.events()
        taken: Entry | None = None
        ended = False
        for told in self.record.told():
            if isinstance(told, Arrive | Lost | Gone):
                item = self.record.item(told)
                arrived_ns = told.arrived_ns if isinstance(told, Arrive) else None
                core.arrive(told.at_ns, item, arrived_ns, still.likeness(item))
            elif isinstance(told, End):
                core.end(told.at_ns, told.why)
                self.summary.seconds = told.at_ns * 1e-9
                ended = True
            elif isinstance(told, Fail):
                self._fail(core, taken, told)
                taken = None
            elif told.do == "take":
                taken = core.take(told.at_ns)
            elif told.do == "tick":
                core.tick(told.at_ns)
            else:
                if taken is None:
                    raise SourceError(f"{self.record.folder}: a frame is finished that was never taken; copy it again")
                result = self._finish(core, taken, told.at_ns)
                taken = None
                if result is not None:
                    yield result
            self._compare(recorded)
        if ended and self.difference is None and (more := next(recorded, None)) is not None:
            self.difference = f"the record goes on with {more}"

    def _finish(self, core: StreamCore, entry: Entry, at_ns: int) -> FrameResult | None:
        try:
            scored = core.answer(entry) or self.scorer.score(entry.frame)
        except (FrameError, ActivationError, BackendError) as error:
            core.fail(at_ns, entry, str(error))
            return None
        result = core.finish(at_ns, entry, scored)
        for sink in self._sinks:
            sink.write(entry.frame, result)
        return result

    def _fail(self, core: StreamCore, entry: Entry | None, told: Fail) -> None:
        if entry is None:
            raise SourceError(f"{self.record.folder}: a frame failed that was never taken; copy the record again")
        self._finish(core, entry, told.at_ns)

    def _emit(self, event: dict[str, Any]) -> None:
        self._new.append(as_line(event))

    def _tell_signal(self, state: Signal, reason: str) -> None:
        for sink in self._sinks:
            sink.signal(state, reason)

    def _compare(self, recorded: Iterator[str]) -> None:
        for line in self._new:
            self.events += 1
            held = next(recorded, None)
            if self.difference is None and held != line:
                self.difference = f"event {self.events}: recorded {held}, replayed {line}"
        if self._keep_log:
            self.log += self._new
        self._new = []
