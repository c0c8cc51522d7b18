"""Parity's figures by hand-made examples, and a gate that fails where it must."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from vmeg_edge.errors import ParityError, UsageError
from vmeg_edge.parity import Parity, Scores, compare, gate

MAP = np.array([[0.0, 0.2, 0.0], [0.0, 1.0, 0.1], [0.0, 0.0, 0.0]])


def scores(p: list[float], decisions: list[Any] | None = None, maps: Any = None, logits: Any = None) -> Scores:
    n = len(p)
    return Scores(
        probabilities=np.array(p, np.float32),
        decisions=decisions or ["normal"] * n,
        heat_maps=np.stack([MAP] * n) if maps is None else np.asarray(maps, np.float32),
        logits=np.array(logits) if logits is not None else None,
    )


def test_a_side_equals_itself() -> None:
    side = scores([0.1, 0.9], ["normal", "suspected"], logits=[[1, 0], [0, 1]])
    parity = compare(side, side)
    assert parity.frames == 2
    assert (parity.max_abs_dp, parity.mean_abs_dp, parity.logits_max_abs_diff) == (0, 0, 0)
    assert (parity.flips, parity.flips_outside_band, parity.non_finite_frames) == (0, 0, 0)
    assert parity.heatmap_cosine_min == pytest.approx(1)
    assert (parity.peak_distance_max, parity.peak_distance_mean) == (0, 0)
    assert gate(parity, "float32") == []


def test_differences_are_the_largest_and_the_mean() -> None:
    parity = compare(
        scores([0.1, 0.5, 0.9], logits=[[0, 1], [0, 1], [0, 1]]),
        scores([0.1, 0.6, 0.7], logits=[[0, 1], [0.5, 1], [0, -1]]),
    )
    assert parity.max_abs_dp == pytest.approx(0.2, abs=1e-6)
    assert parity.mean_abs_dp == pytest.approx(0.1, abs=1e-6)
    assert parity.logits_max_abs_diff == 2


def test_a_flip_is_outside_the_band_only_when_neither_side_abstains() -> None:
    ours = ["normal", "normal", "suspected", "no-decision", "suspected"]
    theirs = ["suspected", "no-decision", "suspected", "suspected", "normal"]
    parity = compare(scores([0.5] * 5, ours), scores([0.5] * 5, theirs))
    assert (parity.flips, parity.flips_outside_band) == (4, 2)
    assert gate(parity, "int8") == ["2 of 5 decisions flip outside the abstain band"]


def test_peak_distance_is_in_grid_cells() -> None:
    other = np.zeros((3, 3))
    other[0, 0] = 1
    parity = compare(scores([0, 0]), scores([0, 0], maps=[MAP, other]))
    assert parity.peak_distance_max == pytest.approx(math.sqrt(2))
    assert parity.peak_distance_mean == pytest.approx(math.sqrt(2) / 2)
    assert parity.heatmap_cosine_min == 0


def test_cosine_is_the_angle_between_maps() -> None:
    a, b = np.zeros((2, 2)), np.zeros((2, 2))
    a[0, 0] = 1
    b[0, :] = 1
    parity = compare(scores([0], maps=[a]), scores([0], maps=[b]))
    assert parity.heatmap_cosine_min == pytest.approx(1 / math.sqrt(2))


@pytest.mark.parametrize(("zeros", "cosine", "distance"), [((0, 1), 0, math.sqrt(8)), ((0, 0), 1, 0)])
def test_an_empty_heat_map_equals_only_another_empty_one(
    zeros: tuple[int, int], cosine: float, distance: float
) -> None:
    ours, theirs = (np.stack([MAP * scale]) for scale in zeros)
    parity = compare(scores([0], maps=ours), scores([0], maps=theirs))
    assert parity.heatmap_cosine_mean == cosine
    assert parity.peak_distance_mean == pytest.approx(distance)


@pytest.mark.parametrize(
    ("precision", "dp", "passes"),
    [
        ("float32", 0.9e-4, True),
        ("float32", 1.1e-4, False),
        ("float16", 0.9e-2, True),
        ("float16", 1.1e-2, False),
        ("bfloat16", 0.9e-2, True),
        ("bfloat16", 1.1e-2, False),
        ("int8", 4.9e-2, True),
        ("int8", 5.1e-2, False),
    ],
)
def test_each_precision_has_its_own_maximum(precision: str, dp: float, passes: bool) -> None:
    sides = [scores([0.5] * 9 + [p]) for p in (0.5, 0.5 + dp)]
    failures = gate(compare(*sides), precision)
    assert (failures == []) is passes
    assert all("max |dp|" in failure and precision in failure for failure in failures)


def test_int8_is_also_held_to_the_mean() -> None:
    parity = compare(scores([0.5, 0.5]), scores([0.52, 0.48]))
    assert gate(parity, "int8") == ["mean |dp| is 0.02; int8 allows 0.01"]


@pytest.mark.parametrize("where", ["probabilities", "heat_maps", "logits"])
@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("side", [0, 1])
def test_nan_or_infinity_anywhere_fails_every_gate(where: str, value: float, side: int) -> None:
    sides = [scores([0.5, 0.5], logits=[[0.0, 1.0], [0.0, 1.0]]) for _ in range(2)]
    array = getattr(sides[side], where)
    array.reshape(-1)[0] = value
    parity = compare(*sides)
    assert parity.non_finite_frames == 1
    for precision in ("float32", "float16", "bfloat16", "int8"):
        assert "1 of 2 frames hold NaN or infinity" in gate(parity, precision)
    json.loads(json.dumps(parity.to_json(), allow_nan=False))


def test_nan_in_a_figure_alone_fails_the_gate() -> None:
    values = {**compare(scores([0.5]), scores([0.5])).to_json(), "max_abs_dp": math.nan}
    assert gate(Parity(**values), "float32") == ["max_abs_dp is not a finite number"]


def test_json_has_every_field_and_comes_back() -> None:
    parity = compare(scores([0.5]), scores([0.25], logits=None))
    assert Parity(**json.loads(json.dumps(parity.to_json()))) == parity
    assert parity.to_json()["max_abs_dp"] == 0.25
    assert parity.to_json()["logits_max_abs_diff"] is None


def test_no_frames_and_other_shapes_are_refused() -> None:
    with pytest.raises(ParityError, match="got none"):
        compare(Scores(np.empty(0), [], np.empty((0, 2, 2))), scores([0.5]))
    with pytest.raises(ParityError, match="probabilities are \\[2\\] in the reference and \\[1\\]"):
        compare(scores([0.5, 0.5]), scores([0.5]))
    with pytest.raises(ParityError, match="heat_maps"):
        compare(scores([0.5]), scores([0.5], maps=np.zeros((1, 2, 2))))
    with pytest.raises(ParityError, match="decisions are 1"):
        compare(scores([0.5]), scores([0.5], ["normal", "normal"]))


def test_a_precision_without_a_gate_is_refused() -> None:
    with pytest.raises(UsageError, match="int4"):
        gate(compare(scores([0.5]), scores([0.5])), "int4")


unit = st.floats(0, 1, width=32)


@given(
    arrays.arrays(np.float32, (4, 3, 3), elements=unit),
    arrays.arrays(np.float32, (4, 3, 3), elements=unit),
    arrays.arrays(np.float32, (2, 4), elements=unit),
)
def test_figures_are_symmetric_and_in_range(a: Any, b: Any, p: Any) -> None:
    one, two = scores(list(p[0]), maps=a), scores(list(p[1]), maps=b)
    parity = compare(one, two)
    assert parity == compare(two, one)
    assert 0 <= parity.mean_abs_dp <= parity.max_abs_dp <= 1
    assert -1e-9 <= parity.heatmap_cosine_min <= parity.heatmap_cosine_mean + 1e-9 <= 1 + 1e-6
    assert 0 <= parity.peak_distance_mean <= parity.peak_distance_max <= math.sqrt(8) + 1e-9
