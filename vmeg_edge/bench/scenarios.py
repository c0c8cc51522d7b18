"""How frames reach a scorer: back to back, at a camera's pace, or as many at once as there are threads.

After MLPerf Inference (Reddi et al., 2020, arXiv 1911.02549): ``single`` is its SingleStream, one frame in flight;
``offline`` its Offline, throughput alone. ``paced`` is what a cart sees, and runs through the very stream that a cart
runs: frames arrive by the clock, whether or not the last one is done.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from vmeg_edge.errors import UsageError
from vmeg_edge.frames import Frame
from vmeg_edge.results import FrameResult
from vmeg_edge.scorer import Scorer
from vmeg_edge.sources.memory import MemorySource
from vmeg_edge.sources.replay import ReplaySource
from vmeg_edge.streaming import Stream, stream

COLUMNS = ("frame", "at_s", "preprocess_ms", "infer_ms", "explain_ms", "decide_ms", "end_to_end_ms", "late")
LEAST_FRAMES = 2

Score = Callable[[Frame], FrameResult]

_MOST_FRAMES = 1 << 20
_TRIES = 2_000


class Record:
    """Every frame that was scored, in memory that is set aside at once; so that recording leaves nothing behind."""

    def __init__(self, most: int = _MOST_FRAMES) -> None:
        """Room for ``most`` frames; what is not written to is not resident."""
        self._values = np.empty((most, len(COLUMNS)))
        self._count = 0
        self._began_ns = time.perf_counter_ns()

    def __len__(self) -> int:
        """Frames recorded."""
        return self._count

    @property
    def full(self) -> bool:
        """Whether there is no more room."""
        return self._count >= len(self._values)

    def add(self, result: FrameResult, ended_ns: int, end_to_end_ms: float) -> None:
        """One frame."""
        took = result.stages_ms
        self._values[self._count] = (
            result.frame,
            (ended_ns - self._began_ns) * 1e-9,
            took.preprocess,
            took.infer,
            took.explain,
            took.decide,
            end_to_end_ms,
            result.late,
        )
        self._count += 1

    def columns(self) -> dict[str, npt.NDArray[np.float64]]:
        """``[n]`` for each name in `COLUMNS`."""
        return {name: self._values[: self._count, place].copy() for place, name in enumerate(COLUMNS)}


@dataclass(frozen=True)
class Slice:
    """One uninterrupted run of one scenario: its frames by column, how long it took, and what became of the others."""

    columns: dict[str, npt.NDArray[np.float64]]
    wall_s: float
    arrived: int
    dropped: int = 0
    failed: int = 0

    @property
    def scored(self) -> int:
        """Frames with a result."""
        return len(self.columns["frame"])


@dataclass
class Cursor:
    """Where a case stands among its frames, so that the next slice goes on and no frame comes twice in a row."""

    frames: Sequence[Frame]
    place: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def __post_init__(self) -> None:
        """Refuse to time one tensor over and over."""
        if len(self.frames) < LEAST_FRAMES:
            raise UsageError(
                f"{len(self.frames)} frame to bench on: one picture scored again and again tells little; "
                f"give a source of at least {LEAST_FRAMES} frames, a cine or a folder"
            )

    def next(self) -> Frame:
        """The next frame; after the last comes the first. From any thread."""
        with self._lock:
            frame = self.frames[self.place]
            self.place = (self.place + 1) % len(self.frames)
            return frame


def single(
    score: Score, cursor: Cursor, *, duration_s: float, warm_up_frames: int = 0, iterations: int | None = None
) -> Slice:
    """Back to back, one frame in flight, for ``duration_s`` or ``iterations`` frames after the warm-up."""
    for _ in range(warm_up_frames):
        score(cursor.next())
    record = Record() if iterations is None else Record(iterations)
    began_ns = time.perf_counter_ns()
    end_ns = began_ns + int(duration_s * 1e9)
    ended_ns = began_ns
    while not record.full and (iterations is not None or ended_ns < end_ns):
        frame = cursor.next()
        entered_ns = time.perf_counter_ns()
        result = score(frame)
        ended_ns = time.perf_counter_ns()
        record.add(result, ended_ns, (ended_ns - entered_ns) * 1e-6)
    return Slice(record.columns(), (ended_ns - began_ns) * 1e-9, len(record))


def paced(
    scorer: Scorer,
    cursor: Cursor,
    *,
    fps: float,
    duration_s: float,
    deadline_ms: float | None = None,
    warm_up_frames: int = 0,
    iterations: int | None = None,
) -> Slice:
    """At ``fps`` through `vmeg_edge.stream` with policy ``latest``; ``end_to_end_ms`` is a result's age since arrival.

    Waiting for a frame that is still being scored counts into the age of the next, and a frame that is overtaken is
    dropped and counted; so a slow scorer cannot hide behind its own pace (no coordinated omission).
    """
    wanted = max(1, round(duration_s * fps)) if iterations is None else iterations

    def run_of(count: int) -> Stream:
        source = ReplaySource(MemorySource([cursor.next() for _ in range(count)], name="bench"), fps=fps)
        return stream(source, scorer, policy="latest", deadline_ms=deadline_ms)

    if warm_up_frames:  # a stream of its own, so that no frame of it is counted, whatever its end
        for _ in run_of(warm_up_frames):
            pass
    run = run_of(wanted)
    record = Record(wanted)
    for result in run:
        record.add(result, time.perf_counter_ns(), result.age_ms)
    ends = run.summary
    return Slice(record.columns(), wanted / fps, ends.arrived, ends.dropped, ends.failed)


def offline(
    scores: Sequence[Score],
    cursor: Cursor,
    *,
    duration_s: float,
    warm_up_frames: int = 0,
    iterations: int | None = None,
) -> Slice:
    """Each of ``scores`` on a thread of its own, all taking from the same frames: throughput alone.

    Raises what the first of them raised.
    """
    for score in scores:
        for _ in range(warm_up_frames):
            score(cursor.next())
    count = len(scores)
    shares = [
        None if iterations is None else iterations // count + (place < iterations % count) for place in range(count)
    ]
    taken: list[Slice] = []
    broken: list[BaseException] = []
    gate = threading.Barrier(count)

    def drain(score: Score, share: int | None) -> None:
        def unless_broken(frame: Frame) -> FrameResult:
            if broken:  # one has failed, and the run with it
                raise threading.BrokenBarrierError
            return score(frame)

        try:
            gate.wait()
            taken.append(single(unless_broken, cursor, duration_s=duration_s, iterations=share))
        except BaseException as error:
            broken.append(error)
            gate.abort()

    threads = [threading.Thread(target=drain, args=both, daemon=True) for both in zip(scores, shares, strict=True)]
    began = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    wall_s = time.perf_counter() - began
    if broken:
        raise next((e for e in broken if not isinstance(e, threading.BrokenBarrierError)), broken[0])
    together = {name: np.concatenate([part.columns[name] for part in taken]) for name in COLUMNS}
    order = np.argsort(together["at_s"], kind="stable")
    columns = {name: values[order] for name, values in together.items()}
    return Slice(columns, wall_s, len(order))


def own_overhead_ms(result: FrameResult, frames: Sequence[Frame]) -> float:
    """What the clock and the record add to each frame's ``end_to_end``: the median around a frame that does nothing."""
    idle = single(lambda _frame: result, Cursor(frames), duration_s=0.0, iterations=_TRIES)
    return float(np.median(idle.columns["end_to_end_ms"]))
