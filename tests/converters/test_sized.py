"""Sized models: patches that share tokens, against the whole model and a twin; made, proven, loaded, streamed."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnxruntime
import openvino
import pytest
import torch
from vmeg_edge.converters import origin
from vmeg_edge.converters.architectures.token_merging import shared
from vmeg_edge.converters.architectures.vit import ViT, ViTConfig
from vmeg_edge.converters.bundle_from_model import Conversion, Quantization, convert
from vmeg_edge.converters.decision_fit import _parity_under
from vmeg_edge.converters.onnx_from_checkpoint import reference
from vmeg_edge.converters.origin import Training
from vmeg_edge.converters.token_reduction import fitting, tapering

import vmeg_edge as sdk
from checkpoints import make_classifier_state_dict, make_resnet_state_dict
from vmeg_edge import parity
from vmeg_edge.errors import ParityError, UsageError
from vmeg_edge.manifest import DecisionRule
from vmeg_edge.sector import LEARNT_FROM, Sector, brightest_of, fitted

CONFIG = ViTConfig(image_size=96, dim=64, depth=3, heads=1)
GRID = (6, 6)
MEAN = STD = (0.25, 0.25, 0.25)
TRAINING = Training(
    decision=DecisionRule(temperature=1.0, threshold=0.5, abstain=(0.25, 0.75)), mean=MEAN, std=STD, resize="nearest"
)


@pytest.fixture(scope="module", autouse=True)
def any_map_will_do() -> Iterator[None]:
    """Random weights have no leading direction worth the name."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(parity, "MERGED_COSINES", (-1.0, -1.0))
        yield


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("sized") / "tiny.pt"
    torch.save({"model": make_classifier_state_dict(dim=64, depth=3, image_size=96)}, path)
    return path


def converted(checkpoint: Path, out: Path, sizes: tuple[int, ...], **more: Any) -> Conversion:
    options: dict[str, Any] = {"plane_gate": False, "training": TRAINING, "targets": ("onnxruntime", "openvino")}
    return convert(checkpoint, out, sector_tokens=sizes, **{**options, **more})


@pytest.fixture(scope="module")
def plain(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A float32 bundle for ONNX Runtime with a model of 28 tokens; it is only read."""
    path = tmp_path_factory.mktemp("plain") / "s.vmeg"
    converted(checkpoint, path, (28,), targets=("onnxruntime",)).check()
    return path


def cone(count: int = 1, seed: int = 0) -> np.ndarray:
    """uint8 ``[count, 96, 96, 3]``: grey noise in the middle four columns of patches, black beside them."""
    made = np.zeros((count, 96, 96, 3), np.uint8)
    made[:, :, 16:80] = np.random.default_rng(seed).integers(20, 200, (count, 96, 64, 1), dtype=np.uint8)
    return made


def test_sharing_is_the_mean_of_the_patches() -> None:
    rng = np.random.default_rng(1)
    x = rng.normal(size=(2, 1 + 36, 8))
    home = np.stack([rng.permutation(np.r_[np.arange(20), rng.integers(0, 20, 16)]) for _ in range(2)])
    tokens = shared(torch.from_numpy(x), torch.from_numpy(home), 20)
    assert tokens.sizes is not None
    assert tokens.home is not None
    for n in range(2):
        np.testing.assert_array_equal(tokens.x[n, 0].numpy(), x[n, 0])
        for token in range(20):
            members = np.flatnonzero(home[n] == token)
            assert tokens.sizes[n, token, 0] == len(members)
            np.testing.assert_allclose(tokens.x[n, 1 + token].numpy(), x[n, 1 + members].mean(axis=0))
    np.testing.assert_array_equal(tokens.home.numpy(), home)


def test_identical_patches_share_a_token_and_the_network_says_the_same() -> None:
    whole, fewer = ViT(CONFIG), ViT(replace(CONFIG, sector=28))
    whole.initialise(0)
    with torch.no_grad():
        whole.pos_embed[:, 1:] = whole.pos_embed[:, 1:2]
    fewer.load_state_dict(whole.state_dict())
    pixels = torch.from_numpy(cone().transpose(0, 3, 1, 2).astype(np.float32)) / 255
    home = torch.from_numpy(Sector.seen(brightest_of(cone(), GRID)).home(28))
    with torch.inference_mode():
        ours, theirs = whole.eval()(pixels), fewer.eval()(pixels, home)
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("merge", [(), fitting(replace(CONFIG, sector=28), tapering(CONFIG, 3))])
def test_both_engines_say_what_the_network_says(merge: tuple[int, ...], checkpoint: Path, tmp_path: Path) -> None:
    assert bool(sum(merge)) == bool(merge)
    model = ViT(replace(CONFIG, sector=28, merge=merge))
    model.load_state_dict(torch.load(checkpoint, weights_only=True)["model"])
    origin.export(model.eval(), tmp_path / "model.onnx", mean=MEAN, std=STD)  # those that the bundles hold
    pixels, home = fitted(cone(), 28, GRID)
    x = torch.from_numpy(pixels.transpose(0, 3, 1, 2).astype(np.float32)) / 255
    with torch.inference_mode():
        logits, activations = model.eval()((x - 0.25) / 0.25, torch.from_numpy(home))
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx")
    compiled = openvino.Core().compile_model(tmp_path / "model.onnx", "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    inputs = {"pixels": pixels, "home": home}
    for said in (session.run(None, inputs), list(compiled(inputs).values())):
        np.testing.assert_allclose(said[0], logits.numpy(), atol=1e-5)
        np.testing.assert_allclose(said[1], activations.numpy(), atol=1e-4)


@pytest.mark.parametrize(
    ("precision", "targets", "sizes"),
    [
        ("float32", ("onnxruntime", "openvino"), (28, 32)),
        ("int8", ("onnxruntime",), (28,)),
        ("int8", ("openvino",), (28,)),  # alone: beside ONNX Runtime's, some processors get none
    ],
)
def test_a_bundle_holds_its_sized_models_and_serves_by_them(
    checkpoint: Path,
    tmp_path: Path,
    precision: str,
    targets: tuple[str, ...],
    sizes: tuple[int, ...],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(parity.GATES, "int8", (0.1, 0.05))  # random weights are rounded worse than trained ones
    more: dict[str, Any] = {"precision": precision, "targets": targets}
    if precision == "int8":
        more["reduce_tokens"] = 3
        more["quantization"] = Quantization(("phantoms",), calibration_frames=16, validation_frames=8)
    done = converted(checkpoint, tmp_path / "s.vmeg", sizes, **more).check()
    assert not done.warnings or all("tokens on" not in warning for warning in done.warnings)
    assert set(done.manifest.artefacts) == set(targets)
    for target, artefact in done.manifest.artefacts.items():
        assert artefact.sizes == sizes, target
    sized = [row for row in done.rows if row.candidate.tokens is not None]
    assert {row.candidate.tokens for row in sized} == set(sizes)
    held = json.loads((tmp_path / "s.vmeg" / "parity.json").read_text())
    assert {row["tokens"] for row in held["artefacts"]} == {None, *sizes}
    again = json.loads(_parity_under(done.manifest, json.dumps(held).encode(), "here"))
    for row, before in zip(again["artefacts"], held["artefacts"], strict=True):
        assert row["max_abs_dp"] == pytest.approx(before["max_abs_dp"], abs=1e-5)
    frames = cone(LEARNT_FROM + 4)
    truth, _ = reference(_whole(checkpoint), mean=MEAN, std=STD)(frames)
    expected = torch.from_numpy(truth).softmax(dim=1).numpy()[:, 1]
    for backend in targets:
        with sdk.load(tmp_path / "s.vmeg", backend=backend, sector="auto") as scorer:
            assert scorer.provenance["sector"] == list(sizes)
            results = [scorer.score(sdk.Frame(frame, source="cone")) for frame in frames]
        assert [result.tokens for result in results] == [None] * LEARNT_FROM + [28] * 4
        said = np.array([result.prediction.probability for result in results])
        np.testing.assert_allclose(said, expected, atol=0.05)
        assert results[-1].to_json()["tokens"] == 28
        with sdk.load(tmp_path / "s.vmeg", backend=backend) as scorer:
            assert all(scorer.score(sdk.Frame(frame, source="cone")).tokens is None for frame in frames)


def test_another_region_or_source_is_learnt_afresh(plain: Path) -> None:
    with sdk.load(plain, sector="auto") as scorer:
        for frame in cone(LEARNT_FROM):
            assert scorer.score(sdk.Frame(frame, source="a")).tokens is None
        assert scorer.score(sdk.Frame(cone()[0], source="a")).tokens == 28
        assert scorer.score(sdk.Frame(cone()[0], source="b")).tokens is None
        moved = sdk.Frame(np.pad(cone()[0], ((0, 16), (0, 0), (0, 0))), source="b", region=sdk.Region(0, 0, 96, 96))
        assert scorer.score(moved).tokens is None
    sector = Sector.seen(brightest_of(cone(), GRID))
    with sdk.load(plain, sector=sector) as scorer:
        assert scorer.score(sdk.Frame(cone()[0])).tokens == 28
        assert scorer.score(sdk.Frame(np.full((96, 96, 3), 99, np.uint8))).tokens is None
    with pytest.raises(UsageError, match="the sector asks for 36 tokens"):
        sdk.load(plain, sector=Sector(np.ones(GRID, np.bool_)))


def test_a_size_that_fails_the_gate_is_left_out_with_a_word(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parity, "MERGED_COSINES", (1.1, 1.1))
    done = converted(checkpoint, tmp_path / "s.vmeg", (28,), targets=("onnxruntime",)).check()
    assert done.manifest.artefacts["onnxruntime"].sized == ()
    assert any(w.startswith("no model of 28 tokens on onnxruntime: the heat maps'") for w in done.warnings)
    with pytest.raises(UsageError, match="holds no model for a known sector on onnxruntime; convert the checkpoint"):
        sdk.load(tmp_path / "s.vmeg", sector="auto")


def test_a_sized_model_that_does_not_match_the_whole_one_is_refused(
    plain: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parity, "MERGED_COSINES", (1.1, 1.1))
    with pytest.raises(ParityError, match="its model of 28 tokens does not match the whole one"):
        sdk.load(plain, sector="auto", cache=False)


@pytest.mark.parametrize(
    ("sizes", "targets", "says"),
    [
        ((36,), ("onnxruntime",), "--sector-tokens 36: give 16 to 35"),
        ((28, 5), ("onnxruntime",), "--sector-tokens 5: give 16 to 35"),
        ((28,), ("tensorrt",), "--sector-tokens serves onnxruntime and openvino"),
    ],
)
def test_sizes_that_cannot_be_are_refused(
    checkpoint: Path, tmp_path: Path, sizes: tuple[int, ...], targets: tuple[str, ...], says: str
) -> None:
    with pytest.raises(UsageError, match=says):
        converted(checkpoint, tmp_path / "s.vmeg", sizes, targets=targets)
    assert not (tmp_path / "s.vmeg").exists()


def test_what_has_no_tokens_is_refused(checkpoint: Path, tmp_path: Path) -> None:
    path = tmp_path / "resnet.pt"
    torch.save(make_resnet_state_dict(classes=2), path)
    with pytest.raises(UsageError, match="--sector-tokens is for a ViT's tokens"):
        convert(path, tmp_path / "s.vmeg", sector_tokens=(28,))
    converted(checkpoint, tmp_path / "whole.vmeg", (), targets=("onnxruntime",)).check()
    with pytest.raises(UsageError, match="--sector-tokens starts from the checkpoint"):
        convert(tmp_path / "whole.vmeg", tmp_path / "s.vmeg", sector_tokens=(28,))


def _whole(checkpoint: Path) -> Any:
    from vmeg_edge.converters.checkpoint import load

    return load(checkpoint).model()


def test_from_the_command_line_to_a_stream(checkpoint: Path, tmp_path: Path, vmeg_edge: Any) -> None:
    where = [checkpoint, "--out", tmp_path / "s.vmeg", "--no-plane-gate", "--abstain", "0.25,0.75"]
    made = vmeg_edge(
        "convert", *where, "--mean", "0.25,0.25,0.25", "--std", "0.25,0.25,0.25", "--sector-tokens", "28", "--json"
    )
    assert made.code == 0, made.err
    assert json.loads(made.out)["sized"] == {"onnxruntime": [28]}
    writer = cv2.VideoWriter(str(tmp_path / "cone.avi"), cv2.VideoWriter.fourcc(*"MJPG"), 20, (96, 96))
    for frame in cone(LEARNT_FROM + 4):
        writer.write(frame)
    writer.release()
    stream = ["stream", tmp_path / "cone.avi", "--bundle", tmp_path / "s.vmeg", "--out", tmp_path / "out.jsonl"]
    ran = vmeg_edge(*stream, "--sector", "auto")
    assert ran.code == 0, ran.err
    lines = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert [line["tokens"] for line in lines if "tokens" in line] == [None] * LEARNT_FROM + [28] * 4
    for wrong in ("nowhere.png", str(checkpoint)):
        ran = vmeg_edge(*stream[:4], "--sector", wrong)
        assert ran.code != 0
        assert "no picture that can be read" in ran.err
