"""An exam's state needs evidence, has hysteresis, and cannot flicker."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vmeg_edge.errors import UsageError
from vmeg_edge.exam import Exam, ExamRule, exam_states
from vmeg_edge.frames import Region
from vmeg_edge.results import FrameResult, HeatMap, Prediction, Timings

HEAT = HeatMap(np.zeros((2, 2), np.float32), Region(0, 0, 16, 16), None)
BASE = FrameResult(0, "t", None, Prediction("vm", 0.9, "suspected", ""), HEAT, Timings(0, 0, 0, 0, 0), 0.0)
KINDS = {
    "suspected": BASE,
    "normal": replace(BASE, prediction=Prediction("normal", 0.1, "normal", "")),
    "no-decision": replace(BASE, prediction=Prediction("vm", 0.5, "no-decision", "")),
    "frozen": replace(BASE, signal="frozen"),
    "none": replace(BASE, signal="none"),
    "reused": replace(BASE, reused=True),
}
RULE = ExamRule(window_s=2.0, minimum_evidence=5, enter=0.7, leave=0.3, dwell_s=1.0)


def verdicts(kinds: list[str], rate: float = 10.0, rule: ExamRule = RULE) -> list[str]:
    return [state.verdict for state in exam_states(((i / rate, KINDS[kind]) for i, kind in enumerate(kinds)), rule)]


def test_it_speaks_once_there_is_enough_evidence() -> None:
    assert verdicts(["suspected"] * 6) == ["undetermined"] * 4 + ["suspected"] * 2
    assert verdicts(["normal"] * 6) == ["undetermined"] * 4 + ["normal"] * 2


@pytest.mark.parametrize("kind", ["no-decision", "frozen", "none", "reused"])
def test_what_is_no_evidence_never_counts(kind: str) -> None:
    assert set(verdicts([kind] * 50)) == {"undetermined"}
    mixed = verdicts(["normal", kind, kind, kind] * 20)
    assert mixed[-1] == "normal"


def test_between_the_thresholds_it_stays_what_it_was() -> None:
    half = ["suspected", "normal"] * 30
    assert verdicts(["suspected"] * 20 + half)[-1] == "suspected"
    assert verdicts(["normal"] * 20 + half)[-1] == "normal"
    assert set(verdicts(half)) == {"undetermined"}


def test_it_changes_its_mind_when_the_evidence_does_and_falls_silent_without_any() -> None:
    seen = verdicts(["normal"] * 30 + ["suspected"] * 30 + ["no-decision"] * 40)
    changes = [one for one, other in zip(seen, [None, *seen], strict=False) if one != other]
    assert changes == ["undetermined", "normal", "suspected", "undetermined"]


def test_time_alone_ends_the_evidence() -> None:
    exam = Exam(RULE)
    for i in range(10):
        exam.add(i / 10, BASE)
    assert exam.state.verdict == "suspected"
    assert not exam.pass_to(1.5)
    assert exam.pass_to(3.5)
    assert (exam.state.verdict, exam.state.evidence, exam.state.share) == ("undetermined", 0, None)


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from(sorted(KINDS)), st.floats(0.001, 0.4)), max_size=150),
    st.floats(0.05, 3.0),
    st.integers(1, 8),
    st.floats(0.2, 3.0),
)
def test_it_never_changes_twice_within_the_dwell(
    story: list[tuple[str, float]], dwell_s: float, minimum: int, window_s: float
) -> None:
    rule = ExamRule(window_s=window_s, minimum_evidence=minimum, enter=0.6, leave=0.4, dwell_s=dwell_s)
    at_s, changed, last = 0.0, [], "undetermined"
    timed = []
    for kind, pause_s in story:
        at_s += pause_s
        timed.append((at_s, KINDS[kind]))
    for (when_s, _), state in zip(timed, exam_states(timed, rule), strict=True):
        if state.verdict != last:
            changed.append(when_s)
            last = state.verdict
    assert all(later - earlier >= dwell_s for earlier, later in itertools.pairwise(changed))
    assert [s.verdict for s in exam_states(timed, rule)] == [s.verdict for s in exam_states(timed, rule)]


@given(st.integers(20, 400), st.floats(5.0, 60.0))
def test_alternating_scores_cannot_toggle_it(count: int, rate: float) -> None:
    seen = verdicts(["suspected", "normal"] * count, rate)
    toggles = sum(one != other for one, other in itertools.pairwise(seen))
    assert toggles <= 1 + math.floor(2 * count / rate / RULE.dwell_s)


@pytest.mark.parametrize(
    "wrong",
    [
        {"enter": 0.3, "leave": 0.3},
        {"enter": 1.1},
        {"leave": -0.1},
        {"window_s": 0.0},
        {"dwell_s": -1.0},
        {"minimum_evidence": 0},
        {"window_s": float("nan")},
        {"version": 2},
    ],
)
def test_a_rule_that_would_flicker_or_never_speak_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match="exam"):
        replace(RULE, **wrong)
