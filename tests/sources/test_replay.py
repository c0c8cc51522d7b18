"""A replay keeps to its schedule, goes on over loops, and ends at once when it is closed."""

from __future__ import annotations

import threading
import time
from itertools import islice
from pathlib import Path

import cv2
import numpy as np
import pytest

from vmeg_edge.errors import SourceError
from vmeg_edge.frames import Frame, LostFrame
from vmeg_edge.sources.memory import MemorySource
from vmeg_edge.sources.replay import ReplaySource
from vmeg_edge.sources.spec import open_spec, parse_source

PICTURE = np.zeros((32, 32), np.uint8)


def stamped(*times: float | None) -> MemorySource:
    return MemorySource([Frame(PICTURE, i, t) for i, t in enumerate(times)], fps=None)


def test_it_paces_by_time_stamps_or_by_the_rate_that_was_asked_for() -> None:
    for source, due in [
        (ReplaySource(stamped(0.5, 0.52, 0.6)), [0.0, 0.02, 0.1]),
        (ReplaySource(stamped(0.5, 0.52, 0.6), fps=50.0), [0.0, 0.02, 0.04]),
        (ReplaySource(stamped(None, None, None), fps=50.0), [0.0, 0.02, 0.04]),
    ]:
        frames = [item for item in source if isinstance(item, Frame)]
        assert [frame.captured_s for frame in frames] == pytest.approx(due)
        arrived = [frame.arrived_ns or 0 for frame in frames]
        assert [(ns - arrived[0]) * 1e-9 >= s - 0.005 for ns, s in zip(arrived, due, strict=True)] == [True] * 3


def test_a_late_reader_finds_what_is_due_and_the_schedule_does_not_move() -> None:
    items = iter(ReplaySource(stamped(*(i * 0.03 for i in range(10)))))
    first = next(items)
    time.sleep(0.2)
    rest = [next(items) for _ in range(6)]
    assert isinstance(first, Frame)
    stamps = [item.arrived_ns for item in rest if isinstance(item, Frame) and item.arrived_ns is not None]
    assert max(stamps) - min(stamps) < 0.12e9  # six frames that took 0.15 s to record came together


def test_loops_go_on_in_index_and_time_and_lost_frames_keep_their_place() -> None:
    torn = [Frame(PICTURE, 0, 0.0), LostFrame(1, "torn"), Frame(PICTURE, 2, 0.01)]
    source = ReplaySource(MemorySource(torn, fps=100.0), loop=True)
    items = list(islice(source, 9))
    assert [item.index for item in items if isinstance(item, Frame | LostFrame)] == list(range(9))
    times = [item.captured_s for item in items if isinstance(item, Frame)]
    assert times == pytest.approx([0.0, 0.01, 0.02, 0.03, 0.04, 0.05])
    assert source.frame_count is None


def test_at_a_rate_a_lost_frame_keeps_its_place_in_time() -> None:
    torn = [LostFrame(0, "torn"), Frame(PICTURE, 1), LostFrame(2, "torn"), Frame(PICTURE, 3)]
    items = list(ReplaySource(MemorySource(torn), fps=100.0))
    assert [type(item) for item in items] == [LostFrame, Frame, LostFrame, Frame]
    assert [item.captured_s for item in items if isinstance(item, Frame)] == pytest.approx([0.01, 0.03])
    with pytest.raises(SourceError, match="--fps"):  # a lost frame in front tells no pace either
        list(ReplaySource(MemorySource(torn, fps=30.0)))


def test_a_rate_does_not_drift_over_many_loops() -> None:
    source = ReplaySource(stamped(0.0, 0.5, 0.7), fps=240.0, loop=True)
    last = list(islice(source, 100))[-1]
    assert isinstance(last, Frame)
    assert last.captured_s == 99 / 240


def test_a_source_that_is_closed_under_the_replay_ends_it_without_an_error(tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "a.png"), np.zeros((32, 32), np.uint8))
    with open_spec(parse_source(f"replay:{tmp_path}", fps=100.0, loop=True)) as source:
        for item in source:
            if isinstance(item, Frame) and item.index == 3:
                source.close()
        assert list(source) == []


def test_close_from_another_thread_ends_a_wait() -> None:
    source = ReplaySource(stamped(0.0, 9.0))
    threading.Timer(0.1, source.close).start()
    began = time.monotonic()
    assert len(list(source)) == 1
    assert time.monotonic() - began < 5


def test_frames_without_stamps_need_a_rate() -> None:
    with pytest.raises(SourceError, match="--fps"):
        list(ReplaySource(stamped(None, None)))
    assert list(ReplaySource(MemorySource([]), loop=True)) == []


def test_phantoms_are_a_live_source_that_never_ends() -> None:
    with open_spec(parse_source("phantom:", fps=240.0)) as source:
        frames = [item for item in islice(source, 125) if isinstance(item, Frame)]
    assert source.live
    assert [frame.index for frame in frames] == list(range(125))
    assert np.array_equal(frames[120].pixels, frames[0].pixels)
    assert not np.array_equal(frames[1].pixels, frames[0].pixels)
