"""A plan that cannot be measured is refused, and one that can survives the way to another process."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vmeg_edge.bench.plan import CaseSpec, Plan
from vmeg_edge.errors import UsageError

HERE = Path("demo.vmeg")
NAN, INF = float("nan"), float("inf")


@pytest.mark.parametrize(
    ("field", "value"),
    [
        *(("fps", value) for value in (0.0, -1.0, NAN, INF, 1000.1)),
        *(("duration_s", value) for value in (0.0, -1.0, NAN, INF, 86_401.0)),
        *(("deadline_ms", value) for value in (0.0, -1.0, NAN, INF)),
        *(("rounds", value) for value in (0, -1)),
        ("warm_up_frames", -1),
        ("iterations", 4),
        ("iterations", 0),
    ],
)
def test_what_cannot_be_measured_is_refused_in_one_line(field: str, value: float) -> None:
    with pytest.raises(UsageError) as caught:
        Plan(**{field: value})
    assert "\n" not in str(caught.value)
    assert f"{value:g}" in str(caught.value)


@given(st.integers(1, 40), st.integers(0, 500))
def test_all_rounds_together_have_the_iterations_that_were_asked_for(rounds: int, more: int) -> None:
    plan = Plan(rounds=rounds, iterations=rounds + more)
    each = [plan.iterations_of(turn) for turn in range(rounds)]
    assert sum(each) == rounds + more
    assert min(each) >= 1
    assert max(each) - min(each) <= 1


def test_without_iterations_a_round_goes_by_the_clock() -> None:
    assert Plan().iterations_of(0) is None


def test_a_plan_and_a_case_survive_the_way_to_another_process() -> None:
    plan = Plan(scenario="paced", duration_s=3.5, rounds=2, fps=7.0, deadline_ms=20.0, cache=False)
    assert Plan(**json.loads(json.dumps(asdict(plan)))) == plan
    case = json.loads(json.dumps(CaseSpec(HERE, "openvino", threads=2, pinned_to=(0, 1)).to_json()))
    assert (case["bundle"], case["backend"], case["pinned_to"]) == ("demo.vmeg", "openvino", [0, 1])


@pytest.mark.parametrize(("threads", "streams", "said"), [(2, 3, "give --threads 3 or more"), (2, 0, "give 1 or more")])
def test_each_stream_has_a_thread(threads: int, streams: int, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        CaseSpec(HERE, "onnxruntime", threads=threads, streams=streams)


@pytest.mark.parametrize(
    ("case", "name"),
    [
        (CaseSpec(HERE, "onnxruntime"), "onnxruntime, 1 thread"),
        (CaseSpec(HERE, "openvino", device="GPU", threads=4, streams=2), "openvino, GPU, 4 threads, 2 streams"),
    ],
)
def test_a_case_is_named_by_what_tells_it_from_others(case: CaseSpec, name: str) -> None:
    assert case.name == name
