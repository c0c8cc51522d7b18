"""The bench held against a backend whose times are known: what it reports is what took place."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import numpy as np
import pytest

from bench.stand_ins import Clock, Metronome, mixture, pictures, scorer_on
from vmeg_edge.bench.scenarios import COLUMNS, Cursor, Record, offline, own_overhead_ms, paced, single
from vmeg_edge.errors import BackendError, SourceError, UsageError
from vmeg_edge.frames import Pixels
from vmeg_edge.results import FrameResult, Timings


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """A clock that only the backend moves: the machine takes no time at all."""
    made = Clock()
    monkeypatch.setattr(time, "perf_counter_ns", made)
    return made


def test_single_reports_each_inference_as_the_backend_took_it(demo_bundle: Path, clock: Clock) -> None:
    backend = Metronome(mixture(4.0, 12.0), clock=clock)
    ran = single(
        scorer_on(backend, demo_bundle).score, Cursor(pictures()), duration_s=9, warm_up_frames=2, iterations=80
    )
    assert set(backend.took_ms) == {4.0, 12.0}
    for column in ("infer_ms", "end_to_end_ms"):
        assert ran.columns[column].tolist() == pytest.approx(backend.took_ms[2:])
    for column in ("preprocess_ms", "explain_ms", "decide_ms"):
        assert not ran.columns[column].any()
    assert (ran.arrived, ran.scored, ran.dropped, ran.failed) == (80, 80, 0, 0)


def test_single_runs_for_its_duration_and_its_wall_time_holds_every_frame(demo_bundle: Path, clock: Clock) -> None:
    ran = single(
        scorer_on(Metronome(lambda _: 7.0, clock=clock), demo_bundle).score, Cursor(pictures()), duration_s=0.3
    )
    assert ran.scored == 43, "the frame that is begun before the time is over is done, and none after it"
    assert ran.wall_s == pytest.approx(43 * 7e-3)
    assert ran.columns["at_s"].tolist() == pytest.approx([7e-3 * (place + 1) for place in range(43)])


def test_what_a_busy_machine_adds_is_never_taken_off(demo_bundle: Path) -> None:
    backend = Metronome(lambda _: 2.0, precise=False)
    ran = single(scorer_on(backend, demo_bundle).score, Cursor(pictures()), duration_s=9, iterations=20)
    assert (ran.columns["infer_ms"] >= np.array(backend.took_ms)).all()
    stages = sum(ran.columns[f"{name}_ms"] for name in ("preprocess", "infer", "explain", "decide"))
    assert (ran.columns["end_to_end_ms"] >= stages).all()
    assert ran.wall_s * 1e3 >= ran.columns["end_to_end_ms"].sum()


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
    over = ran.columns["infer_ms"] - np.array(backend.took_ms[2:])
    assert over.min() >= 0
    assert np.median(over) < 4, "a frame of 4 ms is told from one of 12"
    assert (ran.columns["end_to_end_ms"] >= ran.columns["infer_ms"]).all()
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
    backend = Metronome(lambda number: 180.0 if number % 2 else 0.0, precise=False)
    ran = paced(scorer_on(backend, demo_bundle), Cursor(pictures()), fps=4, duration_s=1.5, deadline_ms=150)
    assert (ran.columns["late"] == (ran.columns["end_to_end_ms"] > 150)).all()
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


def test_two_streams_are_scored_at_the_same_time(demo_bundle: Path) -> None:
    """Each inference waits until the other stream's has begun: taking turns, neither would end."""
    both = threading.Barrier(2)

    class Together(Metronome):
        def infer(self, pixels: Pixels) -> tuple[np.ndarray, np.ndarray]:
            if self.took_ms:  # the warm-up is scored alone
                both.wait(30)
            return super().infer(pixels)

    backends = [Together(lambda _: 0.0) for _ in range(2)]
    scores = [scorer_on(backend, demo_bundle).score for backend in backends]
    ran = offline(scores, Cursor(pictures()), duration_s=9, warm_up_frames=1, iterations=24)
    assert [len(backend.took_ms) for backend in backends] == [13, 13]
    assert ran.scored == ran.arrived == 24


def test_throughput_counts_the_frames_of_every_stream(demo_bundle: Path) -> None:
    backends = [Metronome(lambda _: 5.0, precise=False) for _ in range(2)]
    scores = [scorer_on(backend, demo_bundle).score for backend in backends]
    ran = offline(scores, Cursor(pictures()), duration_s=0.2, warm_up_frames=1)
    assert ran.wall_s >= 0.2
    assert ran.scored == ran.arrived == sum(len(backend.took_ms) - 1 for backend in backends)
    assert all(len(backend.took_ms) > 1 for backend in backends), "each stream works"


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


def test_the_benchs_own_share_of_a_frame_is_the_median_around_one_that_does_nothing(
    demo_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    frames = pictures()
    result = scorer_on(Metronome(lambda _: 0.0), demo_bundle).score(frames[0])
    assert own_overhead_ms(result, frames) > 0
    reads = iter(range(10**9))
    monkeypatch.setattr(time, "perf_counter_ns", lambda: next(reads) * 20_000)  # each reading takes 0.02 ms
    assert own_overhead_ms(result, frames) == pytest.approx(0.02)


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
