"""Source to scorer to sinks: frame after frame for a file, on threads and by the clock for a live source."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import ExitStack

from vmeg_edge.errors import ActivationError, BackendError, FrameError, SourceError, UsageError, VmegError
from vmeg_edge.exam import ExamRule
from vmeg_edge.frames import Disconnected, Frame, LostFrame
from vmeg_edge.live import Entry, Likeness, Policy, SignalRules, StillDetector, StreamCore, StreamRules
from vmeg_edge.live.summary import SinkReport, StreamSummary
from vmeg_edge.recording import Recorder
from vmeg_edge.results import FrameResult, Signal, StreamStatus
from vmeg_edge.scorer import Scorer
from vmeg_edge.sinks import Sink, SinkThread
from vmeg_edge.sources import Source, open_source
from vmeg_edge.sources.isolated import open_where_due
from vmeg_edge.sources.spec import parse_source

OnFrame = Callable[[StreamSummary], None]

SOURCE_ENDED = "the source ended"
_LEAVE_AFTER_S = 2.0  # a read that blocks for ever is left behind, on its daemon thread


class Stream:
    """Iterate it, once, for one `FrameResult` a scored frame. ``summary`` counts as it goes; `status` may be asked
    from any thread; `close` ends the run from any thread.

    A file under ``block`` runs in the caller's thread, and a sink that fails ends the run. Otherwise the source has a
    thread of its own, so has each sink, and none of them can hold up scoring.
    """

    def __init__(
        self,
        source: Source,
        scorer: Scorer,
        rules: StreamRules,
        *,
        sinks: Sequence[Sink] = (),
        recorder: Recorder | None = None,
        duration_s: float | None = None,
        on_frame: OnFrame | None = None,
    ) -> None:
        """Join a source to a scorer. `stream` is the usual way in."""
        self.source = source
        self.scorer = scorer
        self.rules = rules
        self.summary = StreamSummary(rules.policy, rules.deadline_ms)
        self._own_pace = source.live or rules.policy != "block"
        self._threads = tuple(map(SinkThread, sinks)) if self._own_pace else ()
        self._sinks: tuple[Sink, ...] = self._threads or tuple(sinks)
        self._recorder = recorder
        self._duration_s = duration_s
        self._on_frame = on_frame
        self._started_ns = time.perf_counter_ns()
        self._written = 0
        self._core = StreamCore(
            rules,
            journal=None if recorder is None else recorder.journal,
            emit=None if recorder is None else recorder.event,
            on_signal=self._tell_signal,
            ends=self.summary,
        )
        self._changed = threading.Condition(threading.RLock())
        self._begun = False
        self._over: str | None = None
        self._ended = threading.Event()
        self._broken: BaseException | None = None

    def status(self) -> StreamStatus:
        """Where the stream stands at this moment. Never a score whose signal is gone."""
        with self._changed:
            now_ns = self._now_ns()
            if self._over is None:
                self._core.tick(now_ns)
            return self._core.status(now_ns)

    def close(self) -> None:
        """Ask the run to end; the loop over it ends after the frame that is being scored."""
        self._stop("stopped")

    def __iter__(self) -> Generator[FrameResult, None, None]:
        """Score until the source ends, ``duration_s`` is over or `close` is called.

        Raises `SourceError` when not one frame was scored, `UsageError` the second time.
        """
        if self._begun:
            raise UsageError("a stream runs once; make another for another run")
        self._begun = True
        self._started_ns = time.perf_counter_ns()
        keep = self._own_pace
        try:
            if self._recorder is not None:
                self._recorder.begin(self.rules, self.source.name, self.scorer.provenance, self.scorer.notices)
            for result in self._at_own_pace() if self._own_pace else self._in_step():
                self.summary.seconds = self._now_ns() * 1e-9
                yield result
            if self.summary.scored == 0:
                reason = next(iter(self.summary.reasons + self.summary.drops), "the source delivered no frame")
                raise SourceError(f"{self.source.name}: no frame could be scored: {reason}")
            keep = True
        except (GeneratorExit, KeyboardInterrupt):
            keep = True
            raise
        finally:
            with ExitStack() as last:
                last.callback(self.source.close)
                last.callback(self._finish, keep)
                self.summary.seconds = self._now_ns() * 1e-9
                self.summary.reconnects = self._core.reconnects
                self._stop("left")
                with self._changed:
                    self._core.end(self._now_ns(), self._over or "left")

    def _in_step(self) -> Iterator[FrameResult]:
        """The next frame is fetched when the last is done."""
        frames = iter(self.source)
        while self._over is None:
            entered_ns = time.perf_counter_ns()
            item = next(frames, None)
            if item is None:
                self._stop(SOURCE_ENDED)
                return
            fetched_ns = time.perf_counter_ns()
            with self._changed:
                self._core.arrive(self._now_ns(), item, entered_ns - self._started_ns)
                entry = self._core.take(self._now_ns())
            result = None if entry is None else self._score(entry, (fetched_ns - entered_ns) * 1e-6)
            self._tell()
            if result is not None:
                yield result
            self._check_duration()

    def _at_own_pace(self) -> Iterator[FrameResult]:
        """The source delivers on its own thread, whether or not the last frame is done."""
        threads = [
            threading.Thread(target=self._capture, name=f"capture {self.source.name}", daemon=True),
            threading.Thread(target=self._watch, name="signal watch", daemon=True),
        ]
        for thread in threads:
            thread.start()
        try:
            while (entry := self._next_entry()) is not None:
                result = self._score(entry, 0.0)
                del entry
                self._tell()
                if result is not None:
                    yield result
            if self._broken is not None:
                raise self._broken
        finally:
            self._stop("stopped")
            self.source.close()
            for thread in threads:
                thread.join(_LEAVE_AFTER_S)

    def _next_entry(self) -> Entry | None:
        """The frame to score, waited for; ``None`` when the run is over. What an ended source left is still scored."""
        with self._changed:
            while True:
                self._check_duration()
                if self._over not in (None, SOURCE_ENDED):
                    return None
                entry = self._core.take(self._now_ns())
                if entry is not None:
                    self._changed.notify_all()  # there is room again
                    return entry
                if self._over is not None:
                    return None
                left_s = None if self._duration_s is None else self._duration_s - self._now_ns() * 1e-9
                self._changed.wait(left_s)

    def _capture(self) -> None:
        over = SOURCE_ENDED
        still = StillDetector(self.rules.still_levels)
        try:
            for item in self.source:
                if not self._arrive(item, still.likeness(item)):
                    return
        except VmegError as error:
            self._broken, over = error, "the source failed"
        except Exception as error:  # a defect of a source ends the stream, it does not vanish with its thread
            self._broken = SourceError(f"{self.source.name}: reading failed ({type(error).__name__}: {error})")
            over = "the source failed"
        finally:
            self._stop(over)

    def _arrive(self, item: Frame | LostFrame | Disconnected, likeness: Likeness) -> bool:
        """Hand one item to the core; false when the stream is over."""
        with self._changed:
            while self._core.buffer.must_wait and self._over is None:
                self._changed.wait()
            if self._over is not None:
                return False
            stamp_ns = item.arrived_ns if isinstance(item, Frame) else None
            self._core.arrive(
                self._now_ns(), item, None if stamp_ns is None else max(0, stamp_ns - self._started_ns), likeness
            )
            self._changed.notify_all()
            return True

    def _watch(self) -> None:
        """Notice that no frame came, also while one is being scored. It wakes by the clock, not for every frame."""
        signal = self.rules.signal
        turn_s = 0.1 if signal is None else min(0.1, signal.none_after_s / 2)
        wait_s = turn_s
        while not self._ended.wait(wait_s):
            with self._changed:
                now_ns = self._now_ns()
                self._core.tick(now_ns)
                due_ns = self._core.due_ns()
            wait_s = turn_s if due_ns is None else min(turn_s, max(0.001, (due_ns - now_ns) * 1e-9))

    def _score(self, entry: Entry, decode_ms: float) -> FrameResult | None:
        """The result, also given to the sinks; ``None`` where the frame could not be scored."""
        try:
            with self._changed:
                scored = self._core.answer(entry)
            if scored is None:
                scored = self.scorer.score(entry.frame, decode_ms=decode_ms)
        except (FrameError, ActivationError, BackendError) as error:
            with self._changed:
                self._core.fail(self._now_ns(), entry, str(error))
            return None
        with self._changed:
            result = self._core.finish(self._now_ns(), entry, scored)
            for sink in self._sinks:  # under the lock, so that no sink can show it after the signal went
                sink.write(entry.frame, result)
            self._written += 1
        return result

    def _check_duration(self) -> None:
        if self._duration_s is not None and self._over is None and self._now_ns() * 1e-9 >= self._duration_s:
            self._stop(f"{self._duration_s:g} s were over")

    def _stop(self, why: str) -> None:
        with self._changed:
            if self._over is None:
                self._over = why
            self._ended.set()
            self._changed.notify_all()

    def _now_ns(self) -> int:
        return time.perf_counter_ns() - self._started_ns

    def _tell_signal(self, state: Signal, reason: str) -> None:
        for sink in self._sinks:
            sink.signal(state, reason)

    def _tell(self) -> None:
        if self._on_frame is not None:
            self._on_frame(self.summary)

    def _finish(self, keep: bool) -> None:
        """Close the sinks, or abort them; in step, one that fails to close takes the later ones with it."""
        if self._recorder is not None:
            self._recorder.close()
            self.summary.record_problem = self._recorder.problem
        for place, sink in enumerate(self._sinks):
            try:
                sink.close() if keep else sink.abort()
            except BaseException:
                for later in self._sinks[place:]:
                    later.abort()
                raise
        self.summary.sinks = tuple(
            [SinkReport(sink.name, sink.policy, sink.written, sink.dropped, sink.problem) for sink in self._threads]
            or [SinkReport(type(sink).__name__, "every result", self._written, 0) for sink in self._sinks]
        )


def _opened(source: Source | str | os.PathLike[str]) -> Source:
    if isinstance(source, str):
        return open_where_due(parse_source(source))
    return open_source(source) if isinstance(source, os.PathLike) else source


def stream(
    source: Source | str | os.PathLike[str],
    scorer: Scorer,
    *,
    policy: Policy | None = None,
    depth: int | None = None,
    deadline_ms: float | None = None,
    signal: SignalRules | None = None,
    exam: ExamRule | None = None,
    sinks: Sequence[Sink] = (),
    record: str | os.PathLike[str] | None = None,
    duration_s: float | None = None,
    on_frame: OnFrame | None = None,
) -> Stream:
    """Score a source frame by frame: an object, a path, or the words that ``vmeg-edge stream`` takes (``camera:0``)::

        with vmeg_edge.load("model.vmeg") as scorer:
            for result in vmeg_edge.stream("cine.dcm", scorer, policy="latest", deadline_ms=33):
                print(result.prediction.probability, result.age_ms, result.signal)

    ``policy``: ``latest`` drops the oldest frame for the newest (a live source's default), ``block`` scores every frame
    (a file's default), ``queue`` holds up to ``depth`` and refuses more. ``deadline_ms`` runs from capture to result: a
    frame already past it is dropped unscored, a result past it is ``late``. ``signal`` and ``exam`` are the rules for
    frozen and missing pictures (without them a signal is gone after 0.4 s, or three frames of a slower source) and for
    the exam; a file under ``block`` has no signal to watch, and its exam counts by the recording's time. Sinks of a
    live stream run on threads of their own. ``record`` is a folder to keep frames, arrivals and decisions in.

    Every frame has one end, counted in ``Stream.summary`` and told in the next result's ``dropped_before``. Raises
    `SourceError` when the source cannot be opened or no frame could be scored, `UsageError` for rules that contradict
    one another, `OutputError` where the recording cannot be begun.
    """
    opened = _opened(source)
    chosen: Policy = policy or ("latest" if opened.live else "block")
    watched = opened.live or chosen != "block"
    rules = StreamRules(
        policy=chosen,
        depth=depth,
        deadline_ms=deadline_ms,
        signal=(signal or SignalRules.at_rate(opened.fps)) if watched else None,
        exam=exam or ExamRule(),
    )
    recorder = None if record is None else Recorder(record)
    return Stream(opened, scorer, rules, sinks=sinks, recorder=recorder, duration_s=duration_s, on_frame=on_frame)
