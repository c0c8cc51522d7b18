"""Whatever happens and whenever: each frame has one end, the buffer its bound, no score outlives its signal."""

from __future__ import annotations

import itertools
import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vmeg_edge.errors import UsageError
from vmeg_edge.exam import ExamRule
from vmeg_edge.frames import Disconnected, Frame, LostFrame, Region
from vmeg_edge.live import Entry, Likeness, SignalRules, StreamCore, StreamRules
from vmeg_edge.live.core import ENDED, EXPIRED, FULL, NEWER, SIGNAL_GONE
from vmeg_edge.results import Decision, FrameResult, HeatMap, Prediction, Timings

MS = 1_000_000
PICTURE = np.zeros((16, 16), np.uint8)
NEW = Likeness(False, float("inf"))
SAME = Likeness(True, 0.0)


def a_frame(index: int) -> Frame:
    return Frame(PICTURE, index)


def a_result(index: int, decision: Decision = "suspected", captured_s: float | None = None) -> FrameResult:
    heat = HeatMap(np.zeros((2, 2), np.float32), Region(0, 0, 16, 16), None)
    prediction = Prediction("vm", 0.9, decision, "")
    return FrameResult(index, "t", captured_s, prediction, heat, Timings(0, 0, 0, 0, 0), age_ms=0.0)


class Driven:
    """A core with its logs."""

    def __init__(self, **rules: Any) -> None:
        self.told: list[dict[str, Any]] = []
        self.events: list[dict[str, Any]] = []
        self.core = StreamCore(StreamRules(**rules), journal=self.told.append, emit=self.events.append)

    def score(self, at_ms: int, took_ms: int = 5) -> FrameResult | None:
        entry = self.core.take(at_ms * MS)
        if entry is None:
            return None
        scored = self.core.answer(entry) or a_result(entry.frame.index, captured_s=entry.frame.captured_s)
        return self.core.finish((at_ms + took_ms) * MS, entry, scored)

    def of(self, kind: str) -> list[dict[str, Any]]:
        return [event for event in self.events if event["event"] == kind]


def test_latest_scores_the_newest_and_says_how_many_it_passed_over() -> None:
    run = Driven(policy="latest")
    for index in range(4):
        run.core.arrive(index * MS, a_frame(index), likeness=NEW)
    result = run.score(10)
    assert result is not None
    assert (result.frame, result.dropped_before, result.age_ms) == (3, 3, 12.0)
    assert dict(run.core.ends.drops) == {NEWER: 3}


def test_age_counts_from_when_the_picture_entered_the_machine() -> None:
    run = Driven(deadline_ms=20.0)
    run.core.arrive(10 * MS, a_frame(0), arrived_ns=2 * MS, likeness=NEW)
    result = run.score(12, took_ms=11)
    assert result is not None
    assert (result.age_ms, result.late) == (21.0, True)
    assert run.core.ends.late == 1


def test_a_frame_past_its_deadline_is_dropped_and_not_scored() -> None:
    run = Driven(policy="queue", deadline_ms=20.0)
    for index in range(3):
        run.core.arrive(index * 15 * MS, a_frame(index), likeness=NEW)
    result = run.score(45)
    assert result is not None
    assert result.frame == 2
    assert dict(run.core.ends.drops) == {EXPIRED: 2}
    run.core.arrive(50 * MS, a_frame(3), likeness=NEW)
    assert run.score(71) is None
    assert run.core.ends.drops[EXPIRED] == 3


def test_a_full_queue_refuses_the_newest() -> None:
    run = Driven(policy="queue", depth=2)
    for index in range(3):
        run.core.arrive(0, a_frame(index), likeness=NEW)
    assert dict(run.core.ends.drops) == {FULL: 1}
    assert run.of("drop")[0]["frame"] == 2


def test_when_the_signal_goes_the_score_is_cleared_and_what_waits_is_dropped() -> None:
    run = Driven(policy="queue", signal=SignalRules(none_after_s=0.1))
    run.core.arrive(0, a_frame(0), likeness=NEW)
    run.score(1)
    assert run.core.status(8 * MS).result is not None
    run.core.arrive(10 * MS, a_frame(1), likeness=NEW)
    assert run.core.due_ns() == 110 * MS
    assert not run.core.tick(109 * MS)
    assert run.core.tick(110 * MS)
    status = run.core.status(111 * MS)
    assert (status.signal, status.result, status.signal_reason) == ("none", None, "no frame for 0.1 s")
    assert dict(run.core.ends.drops) == {SIGNAL_GONE: 1}
    run.core.arrive(300 * MS, a_frame(2), likeness=NEW)
    assert run.core.signal == "live"


def test_a_result_that_comes_after_the_signal_went_is_not_live() -> None:
    run = Driven(signal=SignalRules(none_after_s=0.1))
    run.core.arrive(0, a_frame(0), likeness=NEW)
    entry = run.core.take(MS)
    assert entry is not None
    run.core.arrive(50 * MS, Disconnected("unplugged", "camera"))
    result = run.core.finish(60 * MS, entry, a_result(0))
    assert result.signal == "none"
    assert run.core.status(61 * MS).result is None
    assert run.core.status(61 * MS).signal_reason == "unplugged"
    assert run.core.reconnects == 0
    run.core.arrive(70 * MS, a_frame(1), likeness=NEW)
    assert run.core.reconnects == 1


def test_a_still_picture_freezes_reuses_its_result_and_is_no_evidence() -> None:
    run = Driven(signal=SignalRules(frozen_after_s=0.2, none_after_s=1.0))
    results = []
    for index in range(40):
        run.core.arrive(index * 50 * MS, a_frame(index), likeness=NEW if index in (0, 30) else SAME)
        results.append(run.score(index * 50 + 1))
    signals = [result.signal for result in results if result is not None]
    assert signals == ["live"] * 4 + ["frozen"] * 26 + ["live"] * 4 + ["frozen"] * 6
    reused = [result.reused for result in results if result is not None]
    assert reused == [index not in (0, 30) for index in range(40)]
    assert run.core.ends.reused == 38
    assert run.core.exam.state.evidence <= 2
    assert [event["signal"] for event in run.of("signal")] == ["live", "frozen", "live", "frozen"]


def test_a_file_has_no_signal_to_watch_and_reuses_nothing() -> None:
    run = Driven(policy="block", signal=None)
    for index in range(3):
        run.core.arrive(index * 5000 * MS, a_frame(index), likeness=SAME)
        result = run.score(index * 5000 + 1)
        assert result is not None
        assert (result.signal, result.reused) == ("live", False)
        assert not run.core.tick((index * 5000 + 4000) * MS)


def test_an_exam_of_a_file_counts_by_the_recordings_own_time() -> None:
    rule = ExamRule(window_s=2.0, minimum_evidence=5, dwell_s=1.0)
    verdicts = []
    for signal in (None, SignalRules()):
        run = Driven(policy="block", signal=signal, exam=rule)
        for index in range(20):  # a second apart when they were recorded, a millisecond apart when they are read
            run.core.arrive(index * MS, Frame(PICTURE, index, float(index)), likeness=NEW)
            run.score(index, took_ms=0)
        verdicts.append(run.core.exam.state.verdict)
    assert verdicts == ["undetermined", "suspected"]


def test_a_slow_source_is_given_three_frame_periods() -> None:
    assert SignalRules.at_rate(None).none_after_s == SignalRules.at_rate(30.0).none_after_s == 0.4
    assert SignalRules.at_rate(2.0).none_after_s == 1.5


def test_a_source_that_was_made_to_wait_is_not_called_silent() -> None:
    run = Driven(policy="block", signal=SignalRules(none_after_s=0.1))
    run.core.arrive(0, a_frame(0), likeness=NEW)
    assert run.core.buffer.must_wait
    assert not run.core.tick(500 * MS)
    assert run.core.signal == "live"


@pytest.mark.parametrize("deadline_ms", [0.0, -1.0, float("nan"), 1e9])
def test_a_deadline_that_nothing_can_meet_is_refused(deadline_ms: float) -> None:
    with pytest.raises(UsageError, match="deadline"):
        StreamRules(deadline_ms=deadline_ms)


STEPS = st.lists(
    st.tuples(
        st.sampled_from(
            ["new", "new", "same", "near", "lost", "gone", "take", "take", "finish", "finish", "fail", "tick"]
        ),
        st.integers(0, 40),
    ),
    max_size=120,
)
RULES = st.fixed_dictionaries(
    {
        "policy": st.sampled_from(["latest", "block", "queue"]),
        "depth": st.sampled_from([None, 1, 2, 5]),
        "deadline_ms": st.sampled_from([None, 15.0, 60.0]),
        "signal": st.sampled_from([None, SignalRules(0.05, 0.08)]),
    }
)


def drive(rules: dict[str, Any], steps: list[tuple[str, int]]) -> Driven:
    """Follow the steps as a stream would: one frame in work at a time, a full block buffer makes the source wait."""
    run = Driven(**rules)
    core = run.core
    at, index = 0, 0
    taken: Entry | None = None
    for step, pause_ms in steps:
        at += pause_ms * MS
        if step in ("new", "same", "near"):
            if core.buffer.must_wait:
                continue
            likeness = {"new": NEW, "same": SAME, "near": Likeness(False, 0.1)}[step]
            core.arrive(at, a_frame(index), max(0, at - 3 * MS), likeness)
            index += 1
        elif step == "lost":
            core.arrive(at, LostFrame(index, "torn"))
            index += 1
        elif step == "gone":
            core.arrive(at, Disconnected("unplugged"))
        elif step == "take" and taken is None:
            taken = core.take(at)
        elif step == "finish" and taken is not None:
            core.finish(at, taken, core.answer(taken) or a_result(taken.frame.index))
            taken = None
        elif step == "fail" and taken is not None:
            core.fail(at, taken, "no")
            taken = None
        elif step == "tick":
            core.tick(at)
        assert len(core.buffer) <= core.buffer.depth
        assert core.ends.open == len(core.buffer) + (taken is not None)
        if core.signal == "none":
            assert core.status(at).result is None
    if taken is not None:
        core.fail(at, taken, "left")
    core.end(at, "over")
    return run


@settings(max_examples=300, deadline=None)
@given(RULES, STEPS)
def test_every_frame_has_exactly_one_end(rules: dict[str, Any], steps: list[tuple[str, int]]) -> None:
    run = drive(rules, steps)
    ends = run.core.ends
    assert ends.open == 0
    assert ends.arrived == ends.scored + ends.lost + ends.failed + ends.dropped
    ended = [event["frame"] for event in run.events if event["event"] in ("drop", "lost", "failed", "result")]
    assert sorted(ended) == list(range(ends.arrived))
    assert set(ends.drops) <= {NEWER, FULL, EXPIRED, SIGNAL_GONE, ENDED}
    before = sum(event["dropped_before"] for event in run.of("result"))
    assert before + ends.unanswered == ends.arrived - ends.scored


@settings(max_examples=150, deadline=None)
@given(RULES, STEPS)
def test_what_is_shown_is_within_its_stated_age_and_signal(rules: dict[str, Any], steps: list[tuple[str, int]]) -> None:
    run = drive(rules, steps)
    deadline_ms = rules["deadline_ms"]
    for event in run.of("result"):
        if deadline_ms is not None:
            assert event["late"] == (event["age_ns"] > deadline_ms * MS)
            assert event["taken_ns"] - (event["at_ns"] - event["age_ns"]) <= deadline_ms * MS
    if rules["signal"] is None:
        assert run.of("signal") == []
    states = [event["signal"] for event in run.of("signal")]
    assert all(one != other for one, other in itertools.pairwise(states))


@settings(max_examples=100, deadline=None)
@given(RULES, STEPS)
def test_the_same_story_gives_the_same_log(rules: dict[str, Any], steps: list[tuple[str, int]]) -> None:
    one, other = drive(rules, steps), drive(rules, steps)
    assert json.dumps(one.events) == json.dumps(other.events)
