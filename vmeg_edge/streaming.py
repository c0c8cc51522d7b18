"""Source to scorer to sinks, one frame after the other: every frame has one end, and the counts add up."""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace

from vmeg_edge.errors import ActivationError, BackendError, FrameError, SourceError
from vmeg_edge.frames import Frame, LostFrame
from vmeg_edge.results import FrameResult
from vmeg_edge.scorer import Scorer
from vmeg_edge.sinks.base import Sink
from vmeg_edge.sources import Source, open_source


@dataclass
class StreamSummary:
    """What became of the frames. ``frames == scored + lost + failed`` at the end of every run.

    ``lost`` frames were announced by the source and could not be delivered; ``failed`` ones were delivered and
    could not be scored. ``reasons`` counts both by their one-line reason.
    """

    frames: int = 0
    scored: int = 0
    lost: int = 0
    failed: int = 0
    seconds: float = 0.0
    reasons: Counter[str] = field(default_factory=Counter)

    @property
    def throughput_fps(self) -> float:
        """Scored frames a second of wall-clock time, decoding and sinks included."""
        return self.scored / self.seconds if self.seconds > 0 else 0.0


class Stream:
    """Iterate it for one `FrameResult` a scored frame. ``summary`` counts as it goes.

    Sinks are closed (their files moved into place) when the source ends or the loop is left; when an error ends
    the run, they are aborted and leave nothing behind.
    """

    def __init__(
        self,
        source: Source | str | os.PathLike[str],
        scorer: Scorer,
        sinks: Sequence[Sink] = (),
        on_frame: Callable[[StreamSummary], None] | None = None,
    ) -> None:
        """Join a source (or the path of one) to a scorer. ``on_frame`` is called after each frame's end."""
        self.source: Source = open_source(source) if isinstance(source, (str, os.PathLike)) else source
        self.scorer = scorer
        self.sinks = tuple(sinks)
        self.summary = StreamSummary()
        self._on_frame = on_frame

    def __iter__(self) -> Iterator[FrameResult]:
        """Score every frame in order. Raises `SourceError` when not one frame could be scored."""
        self.summary = StreamSummary()
        started = time.perf_counter()
        try:
            for result in self._results():
                self.summary.seconds = time.perf_counter() - started
                yield result
            if self.summary.scored == 0:
                reason = next(iter(self.summary.reasons), "the source delivered no frame")
                raise SourceError(f"{self.source.name}: no frame could be scored: {reason}")
        except (GeneratorExit, KeyboardInterrupt):
            self._finish()
            raise
        except BaseException:
            for sink in self.sinks:
                sink.abort()
            raise
        else:
            self._finish()
        finally:
            self.summary.seconds = time.perf_counter() - started
            self.source.close()

    def _results(self) -> Iterator[FrameResult]:
        summary = self.summary
        skipped = 0
        frames = iter(self.source)
        while True:
            entered = time.perf_counter_ns()
            item = next(frames, None)
            if item is None:
                return
            decode_ms = (time.perf_counter_ns() - entered) * 1e-6
            summary.frames += 1
            scored = self._score(item, decode_ms, entered)
            if isinstance(scored, FrameResult) and isinstance(item, Frame):
                result = replace(scored, dropped_before=skipped)
                skipped = 0
                summary.scored += 1
                for sink in self.sinks:
                    sink.write(item, result)
                self._tell()
                yield result
            else:
                skipped += 1
                summary.reasons[str(scored)] += 1
                self._tell()

    def _score(self, item: Frame | LostFrame, decode_ms: float, entered: int) -> FrameResult | str:
        """The result, or the reason why there is none."""
        if isinstance(item, LostFrame):
            self.summary.lost += 1
            return item.reason
        try:
            return self.scorer.score(item, decode_ms=decode_ms, entered_ns=entered)
        except (FrameError, ActivationError, BackendError) as error:
            self.summary.failed += 1
            return str(error)

    def _tell(self) -> None:
        if self._on_frame is not None:
            self._on_frame(self.summary)

    def _finish(self) -> None:
        for place, sink in enumerate(self.sinks):
            try:
                sink.close()
            except BaseException:
                for later in self.sinks[place:]:
                    later.abort()
                raise


def stream(
    source: Source | str | os.PathLike[str],
    scorer: Scorer,
    *,
    sinks: Sequence[Sink] = (),
    on_frame: Callable[[StreamSummary], None] | None = None,
) -> Stream:
    """Score a source (or the path of one) frame by frame::

        with vmeg_edge.load("model.vmeg") as scorer:
            for result in vmeg_edge.stream("cine.dcm", scorer):
                print(result.prediction.probability)

    Frames that cannot be decoded or scored are counted in ``Stream.summary`` and in the next result's
    ``dropped_before``. Raises `SourceError` when the source cannot be opened or no frame could be scored.
    """
    return Stream(source, scorer, sinks, on_frame)
