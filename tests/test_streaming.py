"""Every frame has one end, the counts add up, and sinks end well or leave nothing."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import vmeg_edge
from vmeg_edge.errors import OutputError, SourceError
from vmeg_edge.frames import Frame, LostFrame, Region
from vmeg_edge.phantom import PhantomCine
from vmeg_edge.results import FrameResult
from vmeg_edge.sources.memory import MemorySource

GOOD = np.full((64, 64), 90, np.uint8)


class Recorder:
    """A sink that remembers how it ended."""

    def __init__(self, fail_at: int | None = None) -> None:
        self.seen: list[int] = []
        self.end = "open"
        self.fail_at = fail_at

    def write(self, frame: Frame, result: FrameResult) -> None:
        if len(self.seen) == self.fail_at:
            raise OutputError("disk full")
        assert frame.index == result.frame
        self.seen.append(result.frame)

    def close(self) -> None:
        self.end = "closed"

    def abort(self) -> None:
        self.end = "aborted"


@pytest.fixture(scope="module")
def scorer(demo_bundle: Path) -> Iterator[vmeg_edge.Scorer]:
    with vmeg_edge.load(demo_bundle, self_test=False) as opened:
        yield opened


def test_a_cine_gives_one_result_a_frame_in_order(scorer: vmeg_edge.Scorer) -> None:
    sink = Recorder()
    run = vmeg_edge.stream(PhantomCine(frames=6, width=320, height=240), scorer, sinks=[sink])
    results = list(run)
    assert [result.frame for result in results] == sink.seen == list(range(6))
    assert [result.captured_s for result in results] == pytest.approx([i / 20 for i in range(6)])
    assert (run.summary.frames, run.summary.scored, run.summary.lost, run.summary.failed) == (6, 6, 0, 0)
    assert sink.end == "closed"


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.sampled_from(["good", "lost", "failed"]), min_size=1, max_size=12))
def test_the_counts_add_up_and_gaps_are_told(scorer: vmeg_edge.Scorer, kinds: list[str]) -> None:
    bad_region = Region(0, 0, 64, 64)
    items: list[Frame | LostFrame] = []
    for index, kind in enumerate(kinds):
        if kind == "lost":
            items.append(LostFrame(index, "torn"))
        else:
            frame = Frame(GOOD, index=index, region=bad_region)
            if kind == "failed":  # what a buffer reused by a careless caller does
                object.__setattr__(frame, "pixels", GOOD[:20, :20])
            items.append(frame)
    run = vmeg_edge.stream(MemorySource(items), scorer)
    if "good" in kinds:
        results = list(run)
        assert [r.frame for r in results] == [i for i, kind in enumerate(kinds) if kind == "good"]
        tail = kinds[::-1].index("good")
        assert sum(r.dropped_before for r in results) == len(kinds) - kinds.count("good") - tail
    else:
        with pytest.raises(SourceError, match="no frame could be scored"):
            list(run)
    summary = run.summary
    assert summary.frames == summary.scored + summary.lost + summary.failed == len(kinds)
    assert (summary.scored, summary.lost, summary.failed) == tuple(map(kinds.count, ("good", "lost", "failed")))
    assert sum(summary.reasons.values()) == summary.lost + summary.failed


def test_leaving_the_loop_early_keeps_what_was_written(scorer: vmeg_edge.Scorer) -> None:
    sink = Recorder()
    results = iter(vmeg_edge.stream(MemorySource([Frame(GOOD, index=i) for i in range(9)]), scorer, sinks=[sink]))
    next(results)
    results.close()
    assert (sink.seen, sink.end) == ([0], "closed")


def test_a_sink_that_fails_ends_the_run_and_all_sinks_leave_nothing(scorer: vmeg_edge.Scorer) -> None:
    sinks = [Recorder(), Recorder(fail_at=2)]
    with pytest.raises(OutputError, match="disk full"):
        list(vmeg_edge.stream(MemorySource([Frame(GOOD, index=i) for i in range(9)]), scorer, sinks=sinks))
    assert [sink.end for sink in sinks] == ["aborted", "aborted"]


def test_a_source_that_breaks_off_leaves_nothing_behind(scorer: vmeg_edge.Scorer) -> None:
    class Broken(MemorySource):
        def __iter__(self) -> Iterator[Frame]:
            yield Frame(GOOD)
            raise SourceError("unplugged")

    sink = Recorder()
    with pytest.raises(SourceError, match="unplugged"):
        list(vmeg_edge.stream(Broken([]), scorer, sinks=[sink]))
    assert sink.end == "aborted"


def test_an_empty_source_is_an_error(scorer: vmeg_edge.Scorer) -> None:
    with pytest.raises(SourceError, match="delivered no frame"):
        list(vmeg_edge.stream(MemorySource([]), scorer))
