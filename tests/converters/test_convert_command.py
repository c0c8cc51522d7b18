"""``vmeg-edge convert`` from a checkpoint file to a bundle that scores real frames as the torch reference does."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from vmeg_edge.converters import checkpoint as checkpoints
from vmeg_edge.converters.onnx_from_checkpoint import reference
from vmeg_edge.converters.origin import IMAGENET_MEAN, IMAGENET_STD

import vmeg_edge as sdk
from checkpoints import make_classifier_state_dict, make_mae_state_dict
from shared_data import shared_data
from vmeg_edge.bundle import open_bundle
from vmeg_edge.decide import probabilities
from vmeg_edge.frames import Frame
from vmeg_edge.preprocess import Preprocessor
from vmeg_edge.sources import open_source


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    """A fine-tuned classifier of two blocks, as MAE saves it."""
    path = tmp_path / "tiny.pth"
    torch.save({"model": make_classifier_state_dict(dim=64, depth=2, image_size=64)}, path)
    return path


def _largest_difference(checkpoint: Path, bundle: Path, frames: list[Frame]) -> float:
    """Between the runtime's probability and that of torch, which normalises and resizes on its own."""
    with sdk.load(bundle) as scorer:
        ours = [scorer.score(frame).prediction.probability for frame in frames]
        spec = scorer.manifest.input
        preprocess = Preprocessor(spec)
        tensors = np.concatenate([preprocess(frame).copy() for frame in frames])
    model = checkpoints.load(checkpoint).model()
    logits, _ = reference(model, mean=IMAGENET_MEAN, std=IMAGENET_STD)(tensors)
    return float(np.abs(probabilities(logits, 1.0)[:, 1] - ours).max())


def test_a_vit_of_twelve_blocks_in_usf_maes_format_scores_real_frames_as_torch_does(
    vmeg_edge: Callable, tmp_path: Path
) -> None:
    checkpoint, bundle = tmp_path / "vit.pt", tmp_path / "v.vmeg"
    torch.save({"model": make_classifier_state_dict(dim=192, depth=12, image_size=224)}, checkpoint)
    ran = vmeg_edge("convert", checkpoint, "--out", bundle, "--no-plane-gate")  # fitted in tests of its own
    assert ran.code == 0, ran.err
    assert "kept" in ran.out
    cine = shared_data("us_video", "Reg_Image_18122_crop.mp4")
    with open_source(cine) as source:
        frames = [item for item in source if isinstance(item, Frame)][::40]
    with open_source(shared_data("fetal_brain", "ventriculomegaly")) as source:
        frames += [item for item in source if isinstance(item, Frame)][::8]
    assert len(frames) >= 8
    assert _largest_difference(checkpoint, bundle, frames) <= 1e-4


def test_the_table_and_the_parity_file_hold_the_same_figures(vmeg_edge: Callable, tiny: Path, tmp_path: Path) -> None:
    bundle = tmp_path / "t.vmeg"
    ran = vmeg_edge("convert", tiny, "--out", bundle, "--json", "--abstain", "0.4,0.6", "--labels", "healthy,vm")
    assert ran.code == 0, ran.err
    row = json.loads(ran.out)["artefacts"][0]
    stored = json.loads((bundle / "parity.json").read_text())
    assert stored["artefacts"][0] == row
    assert stored["reference"].startswith("torch ")
    assert row["frames"] == 16
    assert row["max_abs_dp"] <= 1e-4
    manifest = open_bundle(bundle).manifest
    assert (manifest.labels, manifest.positive) == (("healthy", "vm"), "vm")
    assert manifest.decision.abstain == (0.4, 0.6)
    assert manifest.architecture.head == "trained"
    assert manifest.input.resize == "nearest"
    assert set(manifest.tools) >= {"torch", "onnx", "onnxruntime", "vmeg-edge"}
    assert manifest.golden_origin == "phantoms"
    assert str(tmp_path) not in "".join(path.read_text(errors="ignore") for path in bundle.iterdir())


def test_frames_of_the_users_are_measured_but_do_not_travel(vmeg_edge: Callable, tiny: Path, tmp_path: Path) -> None:
    stills = tmp_path / "stills"
    stills.mkdir()
    rng = np.random.default_rng(0)
    for index in range(5):
        cv2.imwrite(str(stills / f"{index}.png"), rng.integers(0, 255, (90, 120), dtype=np.uint8))
    ran = vmeg_edge("convert", tiny, "--out", tmp_path / "a.vmeg", "--frames", stills, "--json")
    assert json.loads(ran.out)["artefacts"][0]["frames"] == 16 + 5
    assert open_bundle(tmp_path / "a.vmeg").manifest.golden_origin == "phantoms"
    ran = vmeg_edge("convert", tiny, "--out", tmp_path / "b.vmeg", "--golden", stills)
    assert ran.code == 0, ran.err
    assert open_bundle(tmp_path / "b.vmeg").manifest.golden_origin == "frames given by the user"
    with np.load(tmp_path / "b.vmeg" / "golden.npz") as golden:
        assert golden["frame_000"].shape == (90, 120)


def test_a_mae_encoder_needs_a_head_and_a_new_one_is_said_everywhere(vmeg_edge: Callable, tmp_path: Path) -> None:
    encoder = tmp_path / "usf_mae.pt"
    torch.save(make_mae_state_dict(dim=64, depth=2, image_size=64), encoder)
    bundle = tmp_path / "n.vmeg"
    ran = vmeg_edge("convert", encoder, "--out", bundle)
    assert ran.code == 2
    assert "head.weight" in ran.error
    assert "--new-head" in ran.error
    assert not bundle.exists()
    ran = vmeg_edge("convert", encoder, "--out", bundle, "--new-head", 2)
    assert ran.code == 0, ran.err
    assert "RANDOM HEAD" in ran.out
    assert open_bundle(bundle).manifest.architecture.head == "random"
    cv2.imwrite(str(tmp_path / "still.png"), np.full((64, 64), 99, np.uint8))
    scored = vmeg_edge("score", tmp_path / "still.png", "--bundle", bundle)
    assert json.loads(scored.out)["notices"][0].startswith("RANDOM HEAD")
    assert "RANDOM HEAD" in scored.err
    assert "RANDOM HEAD" in vmeg_edge("verify", bundle).out


def test_the_same_checkpoint_gives_the_same_bundle(vmeg_edge: Callable, tiny: Path, tmp_path: Path) -> None:
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
        assert vmeg_edge("convert", tiny, "--out", tmp_path / name / "m.vmeg").code == 0
    first, second = (open_bundle(tmp_path / name / "m.vmeg") for name in ("first", "second"))
    same = set(first.digests) - {"parity.json"}  # which holds the time it took
    assert {name: first.digests[name] for name in same} == {name: second.digests[name] for name in same}


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--labels", "a,b,c"), "the head has 2 classes, and --labels names 3"),
        (("--positive", "twins"), "'twins' is not one of the labels"),
        (("--mean", "1,2"), "three numbers"),
        (("--std", "0,1,1"), "std"),
        (("--threshold", "2"), "do not fit together"),
        (("--threshold", "0.9", "--abstain", "0.4,0.6"), "do not fit together"),
        (("--abstain", "high"), "two probabilities"),
        (("--image-size", "65"), "image_size is 65"),
        (("--cam-layer", "blocks.7.norm1"), "blocks.7.norm1"),
        (("--precision", "int3"), "--precision"),
        (("--frames", "nowhere"), "nowhere"),
    ],
)
def test_options_that_cannot_be_honoured_leave_nothing(
    vmeg_edge: Callable, tiny: Path, tmp_path: Path, arguments: tuple[str, ...], words: str
) -> None:
    ran = vmeg_edge("convert", tiny, "--out", tmp_path / "x.vmeg", *arguments)
    assert ran.code == 2
    assert words in ran.error
    assert [path.name for path in tmp_path.iterdir()] == ["tiny.pth"]


class _Harmful:
    def __reduce__(self) -> tuple:
        return os.system, ("touch harmed",)


def test_checkpoints_that_are_none_get_one_line_and_leave_nothing(
    vmeg_edge: Callable, tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    good = torch.load(tiny, weights_only=True)["model"]
    missing = {key: value for key, value in good.items() if key != "blocks.1.mlp.fc1.bias"}
    torch.save(missing, tmp_path / "missing.pt")
    torch.save({**good, "surprise.weight": torch.zeros(3)}, tmp_path / "extra.pt")
    torch.save({**good, "head.weight": torch.zeros(2, 65)}, tmp_path / "shape.pt")
    torch.save({"model": _Harmful()}, tmp_path / "code.pt")
    (tmp_path / "text.pt").write_text("no checkpoint")
    (tmp_path / "short.pth").write_bytes(tiny.read_bytes()[:5000])
    for name, words in (
        ("missing.pt", "blocks.1.mlp.fc1.bias"),
        ("extra.pt", "surprise.weight"),
        ("shape.pt", "head.weight"),
        ("code.pt", "system"),
        ("text.pt", "text.pt"),
        ("short.pth", "short.pth"),
        ("absent.pt", "absent.pt"),
    ):
        ran = vmeg_edge("convert", tmp_path / name, "--out", tmp_path / "x.vmeg")
        assert ran.code == 2, name
        assert words in ran.error
        assert not (tmp_path / "x.vmeg").exists()
    assert not (tmp_path / "harmed").exists()


def test_an_existing_bundle_is_kept_without_force(vmeg_edge: Callable, tiny: Path, tmp_path: Path) -> None:
    bundle = tmp_path / "t.vmeg"
    assert vmeg_edge("convert", tiny, "--out", bundle).code == 0
    before = open_bundle(bundle).digest
    ran = vmeg_edge("convert", tiny, "--out", bundle, "--threshold", "0.7")
    assert ran.code == 2
    assert "--force" in ran.error
    assert open_bundle(bundle).digest == before
    assert vmeg_edge("convert", tiny, "--out", bundle, "--threshold", "0.7", "--force").code == 0
    assert open_bundle(bundle).manifest.decision.threshold == 0.7


def test_a_conversion_that_fails_its_gate_writes_no_bundle_and_exits_with_one(
    vmeg_edge: Callable, tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from vmeg_edge.converters import origin as converter

    genuine = converter.export

    def wrong(model: torch.nn.Module, path: Path, **normalisation: object) -> object:
        with torch.no_grad():
            model.head.bias += torch.tensor([0.5, 0.0])  # an export that drifts from its checkpoint
            made = genuine(model, path, **normalisation)
            model.head.bias -= torch.tensor([0.5, 0.0])
        return made

    monkeypatch.setattr(converter, "export", wrong)
    ran = vmeg_edge("convert", tiny, "--out", tmp_path / "x.vmeg")
    assert ran.code == 1
    assert "max |dp|" in ran.error
    assert not (tmp_path / "x.vmeg").exists()
