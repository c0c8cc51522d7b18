"""Softmax, temperature, threshold and abstain band."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vmeg_edge.bundle import open_bundle
from vmeg_edge.decide import decide, judge, probabilities
from vmeg_edge.errors import BackendError
from vmeg_edge.manifest import DecisionRule, Manifest


@pytest.fixture(scope="module")
def manifest(demo_bundle: Path) -> Manifest:
    return open_bundle(demo_bundle).manifest


def test_softmax_of_known_logits() -> None:
    got = probabilities(np.log(np.array([[1.0, 3.0]], dtype=np.float32)), 1.0)
    assert got == pytest.approx(np.array([[0.25, 0.75]]), abs=1e-7)


def test_temperature_divides_the_logits() -> None:
    got = probabilities(np.array([0.0, 2.0], dtype=np.float32), 2.0)
    assert got[1] == pytest.approx(1 / (1 + np.exp(-1.0)), abs=1e-12)


@given(st.lists(st.floats(-(2.0**100), 2.0**100, width=32), min_size=2, max_size=5), st.floats(0.01, 100))
def test_softmax_of_any_finite_logits_is_a_distribution(logits: list[float], temperature: float) -> None:
    got = probabilities(np.array(logits, dtype=np.float32), temperature)
    assert np.isfinite(got).all()
    assert got.sum() == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("probability", "decision"),
    [
        (0.0, "normal"),
        (0.4, "normal"),
        (0.4001, "no-decision"),
        (0.5, "no-decision"),
        (0.5999, "no-decision"),
        (0.6, "suspected"),
        (1.0, "suspected"),
    ],
)
def test_the_abstain_band_is_open_at_both_ends(probability: float, decision: str) -> None:
    rule = DecisionRule(temperature=1, threshold=0.5, abstain=(0.4, 0.6))
    assert judge(probability, rule)[0] == decision


def test_without_a_band_the_threshold_decides_and_reaching_it_counts() -> None:
    rule = DecisionRule(temperature=1, threshold=0.5)
    assert judge(0.5, rule) == ("suspected", "probability 0.500 reaches the threshold 0.5")
    assert judge(0.49, rule) == ("normal", "probability 0.490 is below the threshold 0.5")


def test_the_reason_of_an_abstention_names_the_band() -> None:
    rule = DecisionRule(temperature=1, threshold=0.5, abstain=(0.4, 0.6))
    assert judge(0.55, rule)[1] == "probability 0.550 lies in the abstain band 0.4 to 0.6"


def test_the_label_is_the_most_probable_class(manifest: Manifest) -> None:
    assert decide(np.array([3, -3], dtype=np.float32), manifest).label == "normal"
    positive = decide(np.array([-3, 3], dtype=np.float32), manifest)
    assert (positive.label, positive.decision) == ("ventriculomegaly", "suspected")
    assert positive.probability > 0.9


@pytest.mark.parametrize("logits", [[np.nan, 0], [np.inf, 0], [0, 0, 0], [0]])
def test_logits_that_mean_nothing_are_refused(manifest: Manifest, logits: list[float]) -> None:
    with pytest.raises(BackendError, match="verify the bundle"):
        decide(np.array(logits, dtype=np.float32), manifest)
