"""The plane gate: what looks like calibration gets a decision, a black screen or a menu does not; bad files refused."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import vmeg_edge
from vmeg_edge.bundle import open_bundle
from vmeg_edge.errors import ActivationError, IntegrityError, ManifestError
from vmeg_edge.frames import Frame, Pixels
from vmeg_edge.gate import FARTHEST, PLANE_GATE, GateArrays, PlaneGate, hold_back, parse_plane_gate
from vmeg_edge.loading import plane_gate_of
from vmeg_edge.phantom import phantoms
from vmeg_edge.results import Prediction


@pytest.fixture(scope="module")
def scorer(demo_bundle: Path) -> Iterator[vmeg_edge.Scorer]:
    with vmeg_edge.load(demo_bundle, self_test=False) as opened:
        yield opened


@pytest.fixture(scope="module")
def gate(demo_bundle: Path) -> PlaneGate:
    found = plane_gate_of(open_bundle(demo_bundle))
    assert found is not None
    return found


def screens() -> dict[str, Pixels]:
    menu = np.full((600, 800, 3), 40, np.uint8)
    for row in range(8):
        cv2.putText(menu, f"SETTING {row}", (60, 75 + 65 * row), cv2.FONT_HERSHEY_SIMPLEX, 0.9, (240, 240, 240), 2)
    return {
        "black": np.zeros((480, 640), np.uint8),
        "white": np.full((480, 640), 255, np.uint8),
        "grey": np.full((480, 640, 3), 90, np.uint8),
        "noise": np.random.default_rng(0).integers(0, 256, (480, 640), np.uint8),
        "menu": menu,
    }


@pytest.mark.parametrize("name", sorted(screens()))
def test_what_is_no_head_gets_no_decision_and_the_reason_says_why(scorer: vmeg_edge.Scorer, name: str) -> None:
    result = scorer.score(screens()[name])
    rule = scorer.manifest.plane_gate
    assert rule is not None
    assert result.prediction.decision == "no-decision"
    assert "does not look like the calibration frames" in result.prediction.reason
    assert result.out_of_plane is not None
    assert result.out_of_plane > rule.threshold
    assert result.to_json()["out_of_plane"] == pytest.approx(result.out_of_plane, abs=1e-3)


def test_unseen_phantoms_keep_their_decisions(scorer: vmeg_edge.Scorer) -> None:
    rule = scorer.manifest.plane_gate
    assert rule is not None
    distances = [scorer.score(made.frame).out_of_plane or 0.0 for made in phantoms(4711, 40)]
    assert sum(distance > rule.threshold for distance in distances) <= 3
    assert 0.5 < float(np.median(distances)) < rule.threshold


def test_the_distance_is_the_slow_ones(gate: PlaneGate) -> None:
    """Written out in float64, term by term, from the module's own description."""
    rng = np.random.default_rng(2)
    held = gate.arrays
    channels, axes = held.axes.shape
    tokens = rng.normal(held.token_mean, 0.5, (196, channels)).astype(np.float32)
    centred = tokens.astype(np.float64) - held.token_mean
    along = centred @ held.axes.astype(np.float64)
    variances = along.var(axis=0)
    outside = (centred**2).sum(axis=1).mean() - (along**2).mean(axis=0).sum()
    features = np.log(np.append(variances / held.variances, outside / held.residual[0]) + 1e-3)
    white = (features - held.feature_mean) @ held.whitening
    assert gate.distance(tokens) == pytest.approx(np.sqrt((white**2).mean()), rel=1e-3)
    assert len(features) == axes + 1


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 1000))
def test_the_order_of_tokens_does_not_matter(gate: PlaneGate, seed: int) -> None:
    rng = np.random.default_rng(seed)
    tokens = rng.normal(size=gate._shape).astype(np.float32)
    assert gate.distance(rng.permutation(tokens)) == pytest.approx(gate.distance(tokens), rel=1e-4)


def test_tokens_that_are_not_finite_are_farthest_and_a_wrong_shape_is_an_error(gate: PlaneGate) -> None:
    tokens = np.zeros(gate._shape, np.float32)
    for bad in (np.nan, np.inf, 3e38):
        tokens[3, 5] = bad
        assert gate.distance(tokens) == FARTHEST
    for wrong in (tokens[:-1], tokens.astype(np.float64), tokens[:, :-1]):
        with pytest.raises(ActivationError, match="plane gate was fitted for"):
            gate.distance(wrong)


def test_holding_back_keeps_label_and_probability(scorer: vmeg_edge.Scorer) -> None:
    rule = scorer.manifest.plane_gate
    assert rule is not None
    said = Prediction("normal", 0.1, "normal", "below")
    assert hold_back(said, rule.threshold, rule) is said
    held = hold_back(said, rule.threshold + 0.1, rule)
    assert (held.label, held.probability, held.decision) == ("normal", 0.1, "no-decision")


def as_file(arrays: GateArrays, **changed: Any) -> bytes:
    content = {field.name: getattr(arrays, field.name) for field in fields(arrays)} | changed
    buffer = io.BytesIO()
    np.savez(buffer, **{name: value for name, value in content.items() if value is not None})
    return buffer.getvalue()


def test_files_that_no_fit_writes_are_refused(gate: PlaneGate, demo_bundle: Path) -> None:
    manifest = open_bundle(demo_bundle).manifest
    held = gate.arrays
    bad_mean = held.token_mean.copy()
    bad_mean[0] = np.nan
    wrongs = {
        "holds NaN": as_file(held, token_mean=bad_mean),
        "feature_mean is": as_file(held, feature_mean=held.feature_mean[:-1]),
        "axes is float64": as_file(held, axes=held.axes.astype(np.float64)),
        "not above 0": as_file(held, variances=held.variances * 0),
        "residual": as_file(held, residual=None),
        "allow_pickle": as_file(held, residual=np.array([object()], dtype=object)),
        "cannot be used": b"PK nonsense",
    }
    for message, data in wrongs.items():
        with pytest.raises(ManifestError, match=message) as caught:
            parse_plane_gate(data, manifest, "x.vmeg")
        assert "\n" not in str(caught.value)


def test_a_bundle_and_its_manifest_must_agree_on_the_gate(bundle_copy: Path, reseal: Callable[[Path], None]) -> None:
    (bundle_copy / PLANE_GATE).unlink()
    with pytest.raises(IntegrityError):
        vmeg_edge.load(bundle_copy)
    reseal(bundle_copy)
    with pytest.raises(ManifestError, match=PLANE_GATE):
        vmeg_edge.load(bundle_copy)


def test_a_bundle_without_a_gate_decides_on_anything(bundle_copy: Path, reseal: Callable[[Path], None]) -> None:
    (bundle_copy / PLANE_GATE).unlink()
    manifest = open_bundle_manifest(bundle_copy)
    (bundle_copy / "manifest.json").write_text(manifest.model_copy(update={"plane_gate": None}).to_json())
    reseal(bundle_copy)
    with vmeg_edge.load(bundle_copy) as scorer:
        result = scorer.score(Frame(screens()["menu"]))
    assert result.out_of_plane is None


def open_bundle_manifest(path: Path) -> Any:
    from vmeg_edge.manifest import parse_manifest

    return parse_manifest((path / "manifest.json").read_bytes(), str(path))
