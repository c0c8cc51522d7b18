"""The bench held against a backend whose times are known: what it reports is what took place."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import numpy as np
import pytest

from bench.stand_ins import Metronome, mixture, pictures, scorer_on
from vmeg_edge.bench.scenarios import COLUMNS, Cursor, Record, Slice, offline, own_overhead_ms, paced, single
from vmeg_edge.bench.statistics import percentile
from vmeg_edge.errors import BackendError, SourceError, UsageError
from vmeg_edge.results import FrameResult, Timings

NEAR_MS = 0.2
MEDIANS_NEAR_MS = 0.3


def assert_as_the_backend_says(ran: Slice, took_ms: list[float]) -> None:
    """Frame by frame within 0.2 ms for 95 % of them, the medians within 0.3 ms, and never less than the truth."""
    reported = ran.columns["infer_ms"]
    assert len(reported) == len(took_ms)
    over = reported - np.array(took_ms)
    assert over.min() >= 0
    assert np.quantile(over, 0.95) <= NEAR_MS
    assert abs(percentile(reported.tolist(), 50) - percentile(took_ms, 50)) <= MEDIANS_NEAR_MS
    assert (ran.columns["end_to_end_ms"] >= reported).all()


def test_single_reports_each_inference_as_the_backend_took_it(demo_bundle: Path) -> None:
    backend = Metronome(mixture(4.0, 12.0))
    ran = single(
        scorer_on(backend, demo_bundle).score, Cursor(pictures()), duration_s=9, warm_up_frames=2, iterations=80
    )
    assert_as_the_backend_says(ran, backend.took_ms[2:])
    assert (ran.arrived, ran.scored, ran.dropped, ran.failed) == (80, 80, 0, 0)
    stages = sum(ran.columns[f"{name}_ms"] for name in ("preprocess", "infer", "explain", "decide"))
    assert (ran.columns["end_to_end_ms"] >= stages).all()


def test_single_runs_for_its_duration_and_its_wall_time_holds_every_frame(demo_bundle: Path) -> None:
    backend = Metronome(lambda _: 5.0)
    ran = single(scorer_on(backend, demo_bundle).score, Cursor(pictures()), duration_s=0.3)
    assert ran.wall_s >= 0.3
    assert sum(backend.took_ms[:-1]) < 300, "a frame was begun after the time was over"
    assert ran.wall_s * 1e3 >= ran.columns["end_to_end_ms"].sum()
    assert ran.wall_s * 1e3 <= ran.columns["end_to_end_ms"].sum() + 0.5 * ran.scored
    assert ran.columns["at_s"][-1] == pytest.approx(ran.wall_s, abs=0.05)


def test_frames_take_turns_and_the_next_slice_goes_on_where_the_last_one_stopped(demo_bundle: Path) -> None:
    cursor = Cursor(pictures(3))
    score = scorer_on(Metronome(lambda _: 0.0), demo_bundle).score
    first = single(score, cursor, duration_s=1, warm_up_frames=1, iterations=4)
    second = single(score, cursor, duration_s=1, iterations=3)
    assert first.columns["frame"].tolist() == [1, 2, 0, 1]
    assert second.columns["frame"].tolist() == [2, 0, 1]


def test_paced_reports_each_inference_as_the_backend_took_it(demo_bundle: Path) -> None:
    backend = Metronome(mixture(4.0, 12.0))
    ran = paced(
        scorer_on(backend, demo_bundle), Cursor(pictures()), fps=40, duration_s=1.5, warm_up_frames=2, deadline_ms=500
    )
    assert ran.arrived == 60 == ran.scored + ran.dropped + ran.failed
    assert ran.scored == len(backend.took_ms) - 2
    assert_as_the_backend_says(ran, backend.took_ms[2:])
    assert ran.wall_s == 1.5
    assert (np.diff(ran.columns["frame"]) >= 1).all()


def test_paced_drops_what_a_slow_backend_has_no_time_for_and_every_frame_is_counted(demo_bundle: Path) -> None:
    backend = Metronome(lambda _: 50.0, precise=False)
    ran = paced(scorer_on(backend, demo_bundle), Cursor(pictures()), fps=50, duration_s=1.0, deadline_ms=1000)
    assert ran.arrived == 50 == ran.scored + ran.dropped
    assert ran.scored == len(backend.took_ms) <= 22, "there is time for one frame in 50 ms"
    assert ran.dropped >= 28
    ages = ran.columns["end_to_end_ms"]
    assert (ages >= np.array(backend.took_ms)).all()
    assert np.mean(ages - np.array(backend.took_ms)) > 2, "the newest frame waits for the one before, 10 ms as a rule"


def test_a_stall_shows_in_the_frames_that_arrived_during_it(demo_bundle: Path) -> None:
    """No coordinated omission: timed back to back, one frame in twenty would look slow, and no other would."""
    backend = Metronome(lambda number: 150.0 if number == 5 else 2.0)
    ran = paced(scorer_on(backend, demo_bundle), Cursor(pictures()), fps=20, duration_s=1.0, deadline_ms=2000)
    assert ran.columns["end_to_end_ms"][5] >= backend.took_ms[5] >= 150
    assert ran.dropped >= 1, "frames 6 and 7 arrived during the stall, and one of them made way"
    assert ran.arrived == 20 == ran.scored + ran.dropped


def test_a_stalled_frames_successor_is_as_old_as_it_waited(demo_bundle: Path) -> None:
    backend = Metronome(lambda number: 90.0 if number == 3 else 2.0)
    ran = paced(scorer_on(backend, demo_bundle), Cursor(pictures()), fps=20, duration_s=0.5, deadline_ms=2000)
    stalled, following = ran.columns["frame"][3:5]
    if following == stalled + 1:  # else the machine stalled for longer than the backend
        assert ran.columns["end_to_end_ms"][4] >= 35, "it arrived 50 ms after a frame that took 90 ms"
    else:
        assert ran.dropped >= 1


def test_late_are_the_results_older_than_the_deadline(demo_bundle: Path) -> None:
    backend = Metronome(lambda number: 40.0 if number % 2 else 1.0)
    ran = paced(scorer_on(backend, demo_bundle), Cursor(pictures()), fps=15, duration_s=1.0, deadline_ms=30)
    assert (ran.columns["late"] == (ran.columns["end_to_end_ms"] > 30)).all()
    assert ran.columns["late"].any()
    assert not ran.columns["late"].all()


def test_a_frame_that_fails_is_counted_and_one_in_the_warm_up_is_not(demo_bundle: Path) -> None:
    for fail_at, failed in ((4, 1), (0, 0)):
        backend = Metronome(lambda _: 1.0, fail_at=fail_at)
        ran = paced(
            scorer_on(backend, demo_bundle),
            Cursor(pictures()),
            fps=50,
            duration_s=0.3,
            warm_up_frames=2,
            deadline_ms=2000,
        )
        assert (ran.arrived, ran.failed) == (15, failed)
        assert ran.scored + ran.dropped == 15 - failed


def test_a_paced_run_in_which_nothing_is_scored_says_why(demo_bundle: Path) -> None:
    scorer = scorer_on(Metronome(lambda _: 1.0, fail_at=0), demo_bundle)
    with pytest.raises(SourceError, match="the metronome is broken"):
        paced(scorer, Cursor(pictures()), fps=50, duration_s=1, iterations=1)


def test_single_raises_what_scoring_raised(demo_bundle: Path) -> None:
    scorer = scorer_on(Metronome(lambda _: 0.0, fail_at=3), demo_bundle)
    with pytest.raises(BackendError, match="the metronome is broken"):
        single(scorer.score, Cursor(pictures()), duration_s=1, iterations=9)


def test_two_streams_that_wait_have_about_twice_the_throughput_of_one(demo_bundle: Path) -> None:
    def throughput(streams: int) -> float:
        backends = [Metronome(lambda _: 20.0, precise=False) for _ in range(streams)]
        scores = [scorer_on(backend, demo_bundle).score for backend in backends]
        ran = offline(scores, Cursor(pictures()), duration_s=0.6, warm_up_frames=1)
        assert all(len(backend.took_ms) > 5 for backend in backends), "each stream works"
        assert ran.scored == ran.arrived == sum(len(backend.took_ms) - 1 for backend in backends)
        return ran.scored / ran.wall_s

    assert 1.5 < throughput(2) / throughput(1) < 2.5


def test_offline_shares_the_iterations_and_puts_its_frames_in_order_of_time(demo_bundle: Path) -> None:
    backends = [Metronome(lambda _: 1.0) for _ in range(3)]
    scores = [scorer_on(backend, demo_bundle).score for backend in backends]
    ran = offline(scores, Cursor(pictures()), duration_s=9, iterations=11)
    assert [len(backend.took_ms) for backend in backends] == [4, 4, 3]
    assert ran.scored == 11
    assert (np.diff(ran.columns["at_s"]) >= 0).all()


def test_offline_raises_what_one_stream_raised_and_leaves_no_thread(demo_bundle: Path) -> None:
    before, began_s = threading.active_count(), time.perf_counter()
    backends = [Metronome(lambda _: 2.0), Metronome(lambda _: 2.0, fail_at=2)]
    scores = [scorer_on(backend, demo_bundle).score for backend in backends]
    with pytest.raises(BackendError, match="the metronome is broken"):
        offline(scores, Cursor(pictures()), duration_s=60)
    assert threading.active_count() == before
    assert time.perf_counter() - began_s < 30, "the others stop with it"


def test_the_benchs_own_share_of_a_frame_is_measured_and_small(demo_bundle: Path) -> None:
    frames = pictures()
    result = scorer_on(Metronome(lambda _: 0.0), demo_bundle).score(frames[0])
    assert 0 < own_overhead_ms(result, frames) < 0.1


def _result(frame: int) -> FrameResult:
    return FrameResult(
        frame=frame,
        source="hand",
        captured_s=None,
        prediction=None,  # type: ignore[arg-type]
        heat_map=None,  # type: ignore[arg-type]
        stages_ms=Timings(0.5, 1.5, 2.5, 3.5, 4.5),
        age_ms=13.0,
        late=frame == 7,
    )


def test_a_record_gives_back_what_was_written() -> None:
    record = Record(2)
    record.add(_result(3), time.perf_counter_ns(), 12.25)
    record.add(_result(7), time.perf_counter_ns(), 14.5)
    columns = record.columns()
    assert tuple(columns) == COLUMNS
    assert columns["frame"].tolist() == [3, 7]
    assert columns["end_to_end_ms"].tolist() == [12.25, 14.5]
    assert columns["late"].tolist() == [0, 1]
    for name, value in (("preprocess", 1.5), ("infer", 2.5), ("explain", 3.5), ("decide", 4.5)):
        assert columns[f"{name}_ms"].tolist() == [value, value]
    assert 0 < columns["at_s"][0] < columns["at_s"][1]
    assert len(record) == 2
    assert record.full


def test_a_full_record_ends_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Record.__init__, "__defaults__", (5,))
    ran = single(lambda frame: _result(frame.index), Cursor(pictures()), duration_s=60)
    assert ran.scored == 5
    assert ran.wall_s < 30


@pytest.mark.parametrize("count", [0, 1])
def test_one_picture_is_no_bench(count: int) -> None:
    with pytest.raises(UsageError, match=f"{count} frame to bench on"):
        Cursor(pictures(count))
