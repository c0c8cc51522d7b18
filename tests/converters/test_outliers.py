"""Residual outliers as trained ViTs have them: the shipped recipes pass their gate, quantizing everything fails it."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import numpy as np
import pytest
import torch
from onnxruntime.quantization import QuantType, quantize_static
from vmeg_edge.converters import checkpoint as checkpoints
from vmeg_edge.converters.answers import maps_of
from vmeg_edge.converters.bundle_from_model import Quantization, convert
from vmeg_edge.converters.calibration import gather
from vmeg_edge.converters.candidate import Candidate
from vmeg_edge.converters.measure import Bar, judged, measure
from vmeg_edge.converters.origin import IMAGENET_MEAN, IMAGENET_STD, Training, Weights, from_checkpoint
from vmeg_edge.converters.ranges import Frames
from vmeg_edge.converters.slots import Slot

from outliers import CHANNELS, DEPTH, FROM_BLOCK, SIZE, with_outliers
from shared_data import shared_data
from vmeg_edge import processor_class
from vmeg_edge.manifest import Artefact, DecisionRule, Input

MAGNITUDE = 400.0
SPEC = Input(width=SIZE, height=SIZE, resize="nearest", mean=IMAGENET_MEAN, std=IMAGENET_STD)
RULE = DecisionRule(temperature=1.0, threshold=0.5, abstain=(0.35, 0.65))


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A ViT of ViT-B/16's width whose late blocks carry outliers, its head fitted so that small changes show."""
    frames = gather([shared_data("fetal_brain")], SPEC, calibration_frames=12).calibration
    pixels = (frames / 255 - np.array(IMAGENET_MEAN)) / np.array(IMAGENET_STD)
    path = tmp_path_factory.mktemp("outliers") / "outliers.pt"
    torch.save({"model": with_outliers(pixels.transpose(0, 3, 1, 2).astype(np.float32), MAGNITUDE)}, path)
    return path


def test_the_residual_carries_outliers_of_hundreds_beside_a_small_median(checkpoint: Path) -> None:
    model = checkpoints.load(checkpoint).model()
    seen: list[torch.Tensor] = []
    model.blocks[FROM_BLOCK].register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].x))
    with torch.no_grad():
        model(torch.zeros(1, 3, SIZE, SIZE))
    largest = seen[0].abs().amax(dim=(0, 1))
    assert set(largest.topk(4).indices.tolist()) == set(CHANNELS)
    assert largest[list(CHANNELS)].min() > 300
    assert seen[0].abs().median() < 10


@pytest.mark.parametrize("targets", [("onnxruntime", "tensorrt"), ("openvino",)])
def test_the_shipped_recipes_pass_their_gates_there(checkpoint: Path, tmp_path: Path, targets: tuple[str, ...]) -> None:
    done = convert(
        checkpoint,
        tmp_path / "o.vmeg",
        targets=targets,  # OpenVINO's alone: beside ONNX Runtime's, some processors get none
        precision="int8",
        quantization=Quantization((shared_data("fetal_brain"),), calibration_frames=16, validation_frames=8),
        training=Training(decision=RULE),
        plane_gate=False,  # it is fitted in tests of its own
    ).check()
    kept = {row.candidate.target: row for row in done.rows if row.status == "kept"}
    assert set(kept) == set(targets)
    truth = np.array(json.loads((tmp_path / "o.vmeg" / "parity.json").read_text())["logits"]["reference"])
    spread = (truth[:, 1] - truth[:, 0]).std()
    assert spread > 0.5, "the gate says nothing where every frame has the same score"
    for row in kept.values():
        assert len(row.candidate.artefact.float_layers) <= 2
    if "tensorrt" in kept:
        proof = kept["tensorrt"].candidate.proof
        assert "SM 8.9 and 12.0" in proof or "GPU at hand" in proof


def test_float16_for_tensorrt_holds_the_outliers_and_builds(checkpoint: Path, tmp_path: Path) -> None:
    done = convert(
        checkpoint,
        tmp_path / "h.vmeg",
        targets=("tensorrt",),
        precision="float16",
        training=Training(decision=RULE),
        plane_gate=False,  # it is fitted in tests of its own
    ).check()
    (row,) = done.rows
    assert row.parity.non_finite_frames == 0
    assert row.parity.max_abs_dp <= 1e-2
    assert f"{2 * DEPTH + 1} normalization float" in row.candidate.proof


def test_quantizing_everything_fails_the_gate_there(checkpoint: Path, tmp_path: Path) -> None:
    origin = from_checkpoint(checkpoint, "o", Weights(), Training(decision=RULE), "phantoms")
    source, naive = tmp_path / "float.onnx", tmp_path / "naive.onnx"
    source.write_bytes(origin.onnx)
    sets = gather([shared_data("fetal_brain")], SPEC, calibration_frames=8, validation_frames=8)
    logging.disable(logging.WARNING)
    try:
        quantize_static(
            source,
            naive,
            Frames(sets.calibration),
            activation_type=QuantType.QInt8,
            weight_type=QuantType.QInt8,
        )
    finally:
        logging.disable(logging.NOTSET)
    logits, activations = origin.reference(sets.validation)
    truth = judged(logits, maps_of(activations, origin.manifest, None), origin.manifest)
    artefact = Artefact(files=("model.onnx",), precision="int8")
    candidate = Candidate(
        Slot("onnxruntime", processor_class.current()),
        "everything",
        "naive",
        artefact,
        {"model.onnx": naive.read_bytes()},
    )
    (row,) = measure([candidate], Bar(origin.manifest, sets.validation, truth))
    assert row.failures
    assert row.parity.max_abs_dp > 5e-2
