"""Int8 of a ResNet and a VGG for three engines: what is int8, what stays in float, and that bundles score."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper
from vmeg_edge.converters.bundle_from_model import Quantization, convert
from vmeg_edge.converters.origin import Training, Weights
from vmeg_edge.converters.random_bundle import UNDECIDED

import vmeg_edge as sdk
from checkpoints import make_resnet_state_dict, make_vgg_state_dict
from conversions import ALL_TARGETS, Made
from vmeg_edge.backends.tensorrt_engine import build_engine, engine_library
from vmeg_edge.bundle import open_bundle
from vmeg_edge.phantom import phantom
from vmeg_edge.processor_class import current

HEADS = {"resnet": "fc", "vgg": "classifier.6"}
CONVOLUTIONS = {"resnet": 1 + 4 * 2 + 3, "vgg": 4}


@pytest.fixture(scope="module", params=["resnet", "vgg"])
def made(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Made:
    """A small network with seeded weights, its head toned down so that its scores stay off 0 and 1."""
    kind = request.param
    state = make_resnet_state_dict(kind="basic") if kind == "resnet" else make_vgg_state_dict(batch_norm=True)
    for part in ("weight", "bias"):
        state[f"{HEADS[kind]}.{part}"] *= 0.1
    folder = tmp_path_factory.mktemp(kind)
    torch.save(state, folder / f"{kind}.pth")
    said: list[str] = []
    done = convert(
        folder / f"{kind}.pth",
        folder / f"{kind}.vmeg",
        targets=ALL_TARGETS,
        precision="int8",
        quantization=Quantization(("phantoms",), calibration_frames=24, validation_frames=16),
        weights=Weights(image_size=64),
        training=Training(resize="bilinear", decision=UNDECIDED),
        plane_gate=False,
        report=said.append,
    )
    return Made(folder / f"{kind}.vmeg", done.check(), tuple(said))


def test_the_gate_passes_and_dynamic_recipes_are_left_out(made: Made) -> None:
    weights = "-u8" if current().saturates else ""
    recipes = {(row.candidate.target, row.candidate.recipe.partition("-control")[0]) for row in made.done.rows}
    assert recipes == {
        ("onnxruntime", f"static{weights}"),
        ("onnxruntime", f"static-whole{weights}"),
        ("openvino", "nncf"),
        ("tensorrt", "q/dq"),
    }
    for row in made.done.rows:
        if row.status == "kept":
            assert 0 < row.parity.max_abs_dp <= 5e-2
            assert row.parity.heatmap_cosine_min > 0.8


def test_the_bundle_ranks_its_backends_by_what_was_measured_here(made: Made) -> None:
    times = {r.candidate.target: r.p50_ms for r in made.done.rows if r.status == "kept" and r.p50_ms is not None}
    ranking = open_bundle(made.path).manifest.fastest[current().name]
    assert ranking.measured
    assert set(ranking.backends) == {"onnxruntime", "openvino"}
    assert times[ranking.backends[0]] <= times[ranking.backends[1]]


def test_convolutions_have_one_scale_a_channel_and_the_normalisation_stays_in_float(made: Made) -> None:
    manifest = made.done.manifest
    kind = manifest.architecture.family
    model = onnx.load_from_string(open_bundle(made.path).read("model.onnx"))
    values = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    makers = {output: node for node in model.graph.node for output in node.output}
    quantized = [n for n in model.graph.node if n.op_type == "Conv" and n.input[1] in makers]
    left = set(manifest.artefacts["onnxruntime"].float_layers)
    assert HEADS[kind] in left
    assert len(quantized) == CONVOLUTIONS[kind] - len(left - {HEADS[kind], "classifier.0", "classifier.3"})
    for node in quantized:
        weight, scale = (values[name] for name in makers[node.input[1]].input[:2])
        assert weight.dtype == (np.uint8 if current().saturates else np.int8)
        assert scale.shape == weight.shape[:1]
    (scaled,) = [node for node in model.graph.node if node.op_type == "Mul"]
    (shifted,) = [node for node in model.graph.node if node.op_type == "Add" and node.input[0] == scaled.output[0]]
    assert makers[scaled.input[0]].op_type == "Transpose"
    assert values[scaled.input[1]].dtype == values[shifted.input[1]].dtype == np.float32


def test_float32_of_the_same_checkpoint_shows_the_same_side_as_hot(made: Made, tmp_path: Path) -> None:
    checkpoint = made.path.with_suffix(".pth")
    training = Training(resize="bilinear", decision=UNDECIDED)
    convert(
        checkpoint, tmp_path / "f.vmeg", weights=Weights(image_size=64), training=training, plane_gate=False
    ).check()
    exact, rounded = (open_bundle(path).read("cam_direction.npy") for path in (tmp_path / "f.vmeg", made.path))
    assert exact == rounded


@pytest.mark.parametrize("backend", ["onnxruntime", "openvino"])
def test_the_bundle_scores_and_explains_on_both_engines(made: Made, backend: str) -> None:
    with sdk.load(made.path, backend=backend) as scorer:
        result = scorer.score(phantom(5, 1).frame)
        provenance = scorer.provenance
    assert result.heat_map.values.shape == made.done.manifest.explanation.grid
    assert 0 < result.prediction.probability < 1
    assert provenance["precision"] == "int8"


def test_openvino_runs_what_is_not_left_in_float_in_int8(made: Made) -> None:
    manifest = made.done.manifest
    kind = manifest.architecture.family
    total = CONVOLUTIONS[kind] + (3 if kind == "vgg" else 1)
    with sdk.load(made.path, backend="openvino") as scorer:
        assert scorer.provenance["details"]["int8_layers"] == total - len(manifest.artefacts["openvino"].float_layers)


def test_tensorrts_graph_builds_with_half_convolutions_around_its_int8(made: Made) -> None:
    model = onnx.load_from_string(open_bundle(made.path).read("tensorrt.onnx"))
    types = {tensor.name: tensor.data_type for tensor in model.graph.initializer}
    assert not any(kind == onnx.TensorProto.INT32 for kind in types.values())
    normalising = [node for node in model.graph.node if node.op_type in ("Mul", "Add")][:2]
    assert [types[node.input[1]] for node in normalising] == [onnx.TensorProto.FLOAT] * 2
    assert build_engine(engine_library(), model.SerializeToString())
