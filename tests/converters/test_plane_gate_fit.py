"""Fitting the plane gate: parts share no file, too few frames are said, and a heart-like picture is far."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from vmeg_edge.converters.bundle_from_model import convert
from vmeg_edge.converters.frames import tensors_of
from vmeg_edge.converters.origin import from_bundle
from vmeg_edge.converters.plane_gate_fit import (
    FittedGate,
    GateFrames,
    add_gate,
    distances,
    fit_arrays,
    fit_gate,
    gate_frames,
    warning_of,
)

import vmeg_edge
from shared_data import shared_data
from vmeg_edge.bundle import open_bundle
from vmeg_edge.errors import UsageError
from vmeg_edge.gate import PLANE_GATE, parse_plane_gate
from vmeg_edge.phantom import phantoms


def reference(tensors: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Stands for a model: tokens are 4x4 patches of the picture, so that what is fitted can be reasoned about."""
    n = len(tensors)
    patches = tensors[..., 0].reshape(n, 8, 4, 8, 4).transpose(0, 1, 3, 2, 4).reshape(n, 64, 16)
    return np.zeros((n, 2), np.float32), patches.astype(np.float32)


def pictures(count: int, seed: int, scale: float = 20.0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    grey = np.clip(rng.normal(110, scale, (count, 32, 32, 1)), 0, 255).astype(np.uint8)
    return grey.repeat(3, axis=3)


def frames(fit: int = 60, held_out: int = 30) -> GateFrames:
    return GateFrames(pictures(fit, 1), pictures(held_out, 2), ("made",))


def test_frames_of_the_kind_are_near_one_and_others_are_far() -> None:
    fitted = fit_gate(frames(), reference)
    assert fitted.arrays is not None
    assert fitted.rule is not None
    near = distances(fitted.arrays, reference(pictures(40, 3))[1])
    far = distances(fitted.arrays, reference(pictures(40, 4, scale=60.0))[1])
    assert float(np.median(near)) == pytest.approx(1.0, abs=0.35)
    assert (near > fitted.rule.threshold).mean() <= 0.1
    assert (far > fitted.rule.threshold).all()


def test_the_threshold_is_the_held_out_quantile_times_the_margin() -> None:
    given = frames()
    fitted = fit_gate(given, reference, quantile=0.9, margin=1.5)
    assert fitted.arrays is not None
    assert fitted.rule is not None
    far = distances(fitted.arrays, reference(given.held_out)[1])
    assert fitted.rule.threshold == pytest.approx(np.quantile(far, 0.9) * 1.5, abs=1e-4)
    assert (fitted.rule.frames, fitted.rule.held_out_frames) == (60, 30)
    assert "0.9 quantile of 30 held-out" in fitted.rule.origin


@pytest.mark.parametrize("sizes", [(23, 30), (60, 7)])
def test_too_few_frames_make_no_gate_and_say_so(sizes: tuple[int, int]) -> None:
    fitted = fit_gate(frames(*sizes), reference)
    assert fitted.rule is None
    assert "too few" in fitted.why


def test_tokens_that_do_not_vary_make_no_gate() -> None:
    still = np.full((60, 32, 32, 3), 7, np.uint8)
    assert fit_arrays(reference(still)[1]) is None
    assert "do not vary" in fit_gate(GateFrames(still, still[:30], ("made",)), reference).why


def test_a_quantile_or_a_margin_that_is_none_is_refused() -> None:
    for wrong in ({"quantile": 1.0}, {"quantile": 0.0}, {"margin": 0.9}):
        with pytest.raises(UsageError, match="quantile"):
            fit_gate(frames(), reference, **wrong)


def test_the_demo_bundles_gate_is_what_the_fit_gives_and_nothing_else_changed(
    demo_bundle: Path, tmp_path: Path
) -> None:
    """Which phantoms are held out follows from their pixels, and these from the processor's rounding.

    So the gate is fitted on another draw of them here than where the bundle was made, and is held against that one
    as far as two draws agree: another rule, another number of axes or other frames lie outside.
    """
    held = open_bundle(demo_bundle)
    add_gate(held, tmp_path / "again.vmeg", ("phantoms",), replace=False)
    again = open_bundle(tmp_path / "again.vmeg")
    same = set(held.digests) - {PLANE_GATE, "manifest.json"}
    assert {name: held.digests[name] for name in same} == {name: again.digests[name] for name in same}
    one, other = held.manifest.plane_gate, again.manifest.plane_gate
    assert one is not None
    assert other is not None
    drawn_anew = {"threshold", "sha256", "held_out_sha256", "origin"}
    assert one.model_dump(exclude=drawn_anew) == other.model_dump(exclude=drawn_anew)
    assert other.threshold == pytest.approx(one.threshold, rel=0.08)
    ours, theirs = (parse_plane_gate(bundle.read(PLANE_GATE), bundle.manifest, "").arrays for bundle in (again, held))
    assert ours.axes.shape == theirs.axes.shape
    scale = np.sqrt(theirs.variances.sum() + theirs.residual[0])
    assert np.linalg.norm(ours.token_mean - theirs.token_mean) < 0.03 * scale
    assert ours.residual[0] == pytest.approx(theirs.residual[0], rel=0.05)
    np.testing.assert_allclose(ours.variances, theirs.variances, rtol=0.15)
    # The cosines of the angles between the two sets of axes: 1 where one set spans what the other does.
    assert np.linalg.svd(theirs.axes.T @ ours.axes, compute_uv=False).mean() > 0.995
    reference = from_bundle(demo_bundle, "demo").reference
    activations = reference(tensors_of([made.frame for made in phantoms(31, 24)], held.manifest.input))[1]
    apart = distances(ours, activations) / distances(theirs, activations) - 1
    assert np.median(np.abs(apart)) < 0.08
    with vmeg_edge.load(tmp_path / "again.vmeg") as scorer:
        assert scorer.score(np.zeros((480, 640), np.uint8)).prediction.decision == "no-decision"


def test_parts_share_no_frame(demo_bundle: Path) -> None:
    given = gate_frames(("phantoms",), open_bundle(demo_bundle).manifest.input, fit=40, held_out=20)
    fit = {tensor.tobytes() for tensor in given.fit}
    assert not fit & {tensor.tobytes() for tensor in given.held_out}


def test_a_bundle_that_is_converted_again_keeps_its_gate_unless_it_is_left_out(
    demo_bundle: Path, tmp_path: Path
) -> None:
    held = open_bundle(demo_bundle)
    kept = convert(demo_bundle, tmp_path / "kept.vmeg")
    assert kept.manifest.plane_gate == held.manifest.plane_gate
    assert kept.warnings == ()
    assert open_bundle(kept.path).digests[PLANE_GATE] == held.digests[PLANE_GATE]

    bare = convert(demo_bundle, tmp_path / "bare.vmeg", plane_gate=False)
    assert bare.manifest.plane_gate is None
    assert PLANE_GATE not in open_bundle(bare.path).digests
    assert bare.manifest.notes[-1] == "No plane gate: left out at conversion; a picture of anything gets a decision."
    with vmeg_edge.load(bare.path, self_test=False) as scorer:
        assert scorer.score(np.zeros((480, 640), np.uint8)).out_of_plane is None

    again = convert(bare.path, tmp_path / "again.vmeg")
    assert again.manifest.plane_gate is not None
    assert again.manifest.plane_gate.sources == ("phantoms",)
    assert again.manifest.notes == held.manifest.notes


def test_frames_that_are_given_are_what_the_gate_is_fitted_on(demo_bundle: Path, tmp_path: Path) -> None:
    done = convert(demo_bundle, tmp_path / "real.vmeg", frames=shared_data("fetal_brain"))
    rule = done.manifest.plane_gate
    assert rule is not None
    assert rule.sources == ("fetal_brain",)
    assert rule.frames + rule.held_out_frames == 97
    with vmeg_edge.load(done.path, self_test=False) as scorer:
        assert scorer.score(np.zeros((480, 640), np.uint8)).prediction.decision == "no-decision"


def test_too_few_frames_give_a_bundle_without_a_gate_that_says_so(demo_bundle: Path, tmp_path: Path) -> None:
    stills = tmp_path / "stills"
    stills.mkdir()
    for index, made in enumerate(phantoms(31, 6)):
        cv2.imwrite(str(stills / f"{index}.png"), made.frame.pixels)
    done = convert(demo_bundle, tmp_path / "few.vmeg", frames=stills)
    assert done.manifest.plane_gate is None
    assert "too few; 24 and 8 are the least" in done.manifest.notes[-1]
    assert "add frames of the plane with --frames" in done.warnings[0]


def test_a_gate_on_phantoms_alone_is_warned_of_unless_the_model_knows_phantoms_alone(demo_bundle: Path) -> None:
    manifest = open_bundle(demo_bundle).manifest
    held = FittedGate(rule=manifest.plane_gate)
    assert warning_of(held, manifest, asked=True) == ()
    (line,) = warning_of(held, manifest.model_copy(update={"trained_on": None}), asked=True)
    assert "most pictures of patients will get no decision" in line
