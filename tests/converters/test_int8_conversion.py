"""Int8 for three engines: what is in float, what the gate says, what the bundle records, and that it scores alike."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper
from vmeg_edge.converters.bundle_from_model import convert
from vmeg_edge.converters.linear_layers import linear_layers

import vmeg_edge as sdk
from conversions import ALL_TARGETS, Made
from shared_data import shared_data
from vmeg_edge.backends.tensorrt_engine import build_engine, engine_library, layer_precisions
from vmeg_edge.bundle import open_bundle
from vmeg_edge.decide import judge
from vmeg_edge.errors import UsageError
from vmeg_edge.frames import Frame
from vmeg_edge.parity import Scores, compare, gate
from vmeg_edge.sources import open_source


def kept(made: Made, target: str) -> dict:
    rows = json.loads((made.path / "parity.json").read_text())["artefacts"]
    (row,) = [row for row in rows if row["target"] == target and row["status"] == "kept"]
    return row


def test_the_manifest_says_what_was_done(int8_of: Mapping[str, Made]) -> None:
    for target in ALL_TARGETS:
        manifest = open_bundle(int8_of[target].path).manifest
        artefact = manifest.artefacts[target]
        assert artefact.precision == "int8"
        assert "head" in artefact.float_layers
        assert manifest.calibration is not None
        assert manifest.calibration.frames == 48
        assert manifest.calibration.validation_frames == 32
        assert manifest.calibration.sources == ("phantoms",)
    assert artefact.float_precision == "float16", "TensorRT's"
    assert artefact.proven == {}, "no processor has a part in TensorRT's"
    assert set(open_bundle(int8_of["openvino"].path).manifest.tools) >= {"openvino", "nncf", "onnxruntime"}


def test_every_kept_artefact_passes_its_gate_on_frames_that_calibration_never_saw(int8_of: Mapping[str, Made]) -> None:
    for target, made in int8_of.items():
        row = kept(made, target)
        assert row["frames"] == 16 + 32
        assert row["max_abs_dp"] <= 5e-2
        assert row["mean_abs_dp"] <= 1e-2
        assert row["flips_outside_band"] == 0
        assert row["failures"] == []
        assert row["heatmap_cosine_min"] > 0.9


def test_speed_is_told_against_float_in_the_same_run_and_what_did_not_run_says_so(int8_of: Mapping[str, Made]) -> None:
    for target in ("onnxruntime", "openvino"):
        row = kept(int8_of[target], target)
        assert row["p50_ms"] > 0
        assert row["float32_p50_ms"] > 0
        assert "float32 on this machine" in row["remark"]
    row = kept(int8_of["tensorrt"], "tensorrt")
    assert row["p50_ms"] is None
    assert "engine not run here" in row["remark"]
    assert "built it for" in row["remark"]


def test_the_stored_logits_give_the_stored_differences(int8_of: Mapping[str, Made]) -> None:
    for target, made in int8_of.items():
        stored = json.loads((made.path / "parity.json").read_text())
        reference = np.array(stored["logits"]["reference"])
        gap = np.abs(_p(np.array(stored["logits"][target])) - _p(reference))
        assert gap.max() == pytest.approx(kept(made, target)["max_abs_dp"], abs=1e-5)


def test_engines_agree_within_the_gate_on_real_frames(
    demo_int8_for_real_frames: Mapping[str, Path], demo_bundle: Path
) -> None:
    frames = _real_frames()
    with sdk.load(demo_bundle) as scorer:
        truth = _scores(scorer, frames)
    for backend, path in demo_int8_for_real_frames.items():
        with sdk.load(path, backend=backend) as scorer:
            assert scorer.provenance["precision"] == "int8"
            parity = compare(truth, _scores(scorer, frames))
        assert gate(parity, "int8") == [], backend
        assert parity.frames == len(frames) >= 60


def test_openvino_runs_the_layers_in_int8(demo_int8_openvino: Made) -> None:
    with sdk.load(demo_int8_openvino.path, backend="openvino") as scorer:
        manifest = scorer.manifest
        layers = 4 * manifest.architecture.depth + 2
        left = len(manifest.artefacts["openvino"].float_layers)
        assert scorer.provenance["details"]["int8_layers"] == layers - left
        assert scorer.provenance["float_precision"] == "float32"


def test_tensorrts_graph_is_symmetric_with_float_bias_and_a_safe_layer_norm(demo_int8: Made) -> None:
    model = onnx.load_from_string(open_bundle(demo_int8.path).read("tensorrt.onnx"))
    values = {tensor.name: tensor for tensor in model.graph.initializer}
    pairs = [node for node in model.graph.node if node.op_type in ("QuantizeLinear", "DequantizeLinear")]
    assert len(pairs) >= 16
    for node in pairs:
        zero = numpy_helper.to_array(values[node.input[2]])
        assert zero.dtype == np.int8
        assert not zero.any()
        scale = numpy_helper.to_array(values[node.input[1]])
        assert scale.dtype == np.float32 or scale.min() >= 2.0**-14
    assert not any(tensor.data_type == onnx.TensorProto.INT32 for tensor in model.graph.initializer)
    types = {
        info.name: info.type.tensor_type.elem_type for info in onnx.shape_inference.infer_shapes(model).graph.value_info
    }
    norms = [node for node in model.graph.node if node.op_type == "LayerNormalization"]
    assert norms
    assert all(types[node.input[0]] == onnx.TensorProto.FLOAT for node in norms)
    trt = engine_library()
    counts = layer_precisions(trt, model.SerializeToString())
    assert counts["QUANTIZE INT8"] >= 8
    assert counts["NORMALIZATION FLOAT"] == len(norms)
    assert build_engine(trt, model.SerializeToString())


def test_tensorrts_pixels_are_not_squeezed_into_symmetric_int8(demo_int8: Made) -> None:
    assert {"patch_embed.proj", "head"} <= set(kept(demo_int8, "tensorrt")["float_layers"])
    model = onnx.load_from_string(open_bundle(demo_int8.path).read("tensorrt.onnx"))
    makers = {output: node for node in model.graph.node for output in node.output}
    (patches,) = [node for node in model.graph.node if node.op_type == "Conv"]
    assert "DequantizeLinear" not in {makers[name].op_type for name in patches.input if name in makers}


@pytest.mark.parametrize("precision", ["float16", "bfloat16"])
def test_sixteen_bits_for_tensorrt_pass_their_gate_and_build(demo_bundle: Path, tmp_path: Path, precision: str) -> None:
    done = convert(demo_bundle, tmp_path / "h.vmeg", targets=("tensorrt",), precision=precision).check()  # type: ignore[arg-type]
    (row,) = done.rows
    assert 0 < row.parity.max_abs_dp <= 1e-2
    kind = {"float16": "HALF", "bfloat16": "BF16"}[precision]
    data = open_bundle(tmp_path / "h.vmeg").read("tensorrt.onnx")
    counts = layer_precisions(engine_library(), data)
    assert counts[f"MATRIX_MULTIPLY {kind}"] >= 24
    assert counts["NORMALIZATION FLOAT"] >= 8
    assert done.manifest.artefacts["tensorrt"].float_precision == precision


def test_bfloat16_on_openvino_is_pinned_and_proven_or_refused(demo_bundle: Path, tmp_path: Path) -> None:
    import openvino as ov

    arguments = {"targets": ("openvino",), "precision": "bfloat16"}
    if "BF16" not in ov.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
        with pytest.raises(UsageError, match="cannot be proven here"):
            convert(demo_bundle, tmp_path / "b.vmeg", **arguments)  # type: ignore[arg-type]
        return
    convert(demo_bundle, tmp_path / "b.vmeg", **arguments).check()  # type: ignore[arg-type]
    with sdk.load(tmp_path / "b.vmeg", backend="openvino") as scorer:
        assert scorer.provenance["float_precision"] == "bfloat16"


def test_the_linear_layers_are_named_as_in_the_checkpoint(demo_bundle: Path) -> None:
    model = onnx.load_from_string(open_bundle(demo_bundle).read("model.onnx"))
    names = [layer.name for layer in linear_layers(model.graph)]
    assert names[0] == "patch_embed.proj"
    assert names[-1] == "head"
    assert names[1:5] == ["blocks.0.attn.qkv", "blocks.0.attn.proj", "blocks.0.mlp.fc1", "blocks.0.mlp.fc2"]
    assert len(names) == 4 * 4 + 2


def test_a_gate_that_fails_writes_no_bundle_and_shows_the_table(
    vmeg_edge: Callable, demo_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from vmeg_edge import parity

    monkeypatch.setitem(parity.GATES, "int8", (1e-9, 1e-9))
    arguments = ("--precision", "int8", "--calibration", "phantoms", "--calibration-frames", 8)
    ran = vmeg_edge("convert", demo_bundle, "--out", tmp_path / "x.vmeg", *arguments)
    assert ran.code == 1
    assert "FAILED" in ran.out
    assert "was not written" in ran.out
    assert "int8 allows 1e-09" in ran.error
    assert not (tmp_path / "x.vmeg").exists()
    assert "layers back to float" in ran.err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--target", "onnxruntime", "--precision", "float16"), "nothing that --target onnxruntime computes in"),
        (("--calibration", "phantoms"), "--calibration serves int8 alone"),
        (("--threshold", "0.4"), "a bundle brings its input"),
        (("--new-head", "2"), "a bundle brings its input"),
        (("--golden", "phantoms"), "a bundle brings its input"),
        (("--precision", "int8", "--calibration", "nowhere"), "nowhere"),
        (("--target", "coreml"), "coreml"),
        (("--for", "x86-avx3"), "--for 'x86-avx3' is no processor class; choose one of x86, x86-avx2"),
        (("--for", "all", "--target", "tensorrt"), "float32 on CPUs, and not TensorRT's artefacts"),
        (("--for", "x86", "--precision", "float16", "--target", "tensorrt"), "--for serves int8 and float32"),
        (
            ("--for", "arm64", "--precision", "int8", "--target", "openvino", "--calibration", "phantoms"),
            "nothing is left to make: openvino: no int8 for arm64",
        ),
    ],
)
def test_what_cannot_be_honoured_is_refused_before_any_work(
    vmeg_edge: Callable, demo_bundle: Path, tmp_path: Path, arguments: tuple[str, ...], words: str
) -> None:
    ran = vmeg_edge("convert", demo_bundle, "--out", tmp_path / "x.vmeg", *arguments)
    assert ran.code == 2
    assert words in ran.error
    assert not list(tmp_path.iterdir())


def test_one_frame_to_calibrate_on_is_warned_of_and_the_gate_still_holds(
    vmeg_edge: Callable, demo_bundle: Path, tmp_path: Path
) -> None:
    still = shared_data("fetal_head_hc18", "050_HC.png")
    arguments = ("--precision", "int8", "--calibration", still, "--json")
    ran = vmeg_edge("convert", demo_bundle, "--out", tmp_path / "x.vmeg", *arguments)
    assert ran.code in (0, 1), ran.err  # one picture may or may not be enough for phantoms; the gate decides
    assert (tmp_path / "x.vmeg").exists() == (ran.code == 0)
    content = json.loads(ran.out)
    assert any("add at least 31" in line for line in content["warnings"])
    assert any("validation has 0 frames" in line for line in content["warnings"])


def test_a_bundle_without_a_float_model_is_no_start(vmeg_edge: Callable, demo_int8: Made, tmp_path: Path) -> None:
    ran = vmeg_edge("convert", demo_int8.path, "--out", tmp_path / "x.vmeg")
    assert ran.code == 2
    assert "holds no float32 model" in ran.error


def test_a_target_whose_package_is_absent_is_answered_with_the_command(
    vmeg_edge: Callable, demo_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "openvino", None)
    ran = vmeg_edge("convert", demo_bundle, "--out", tmp_path / "x.vmeg", "--target", "openvino")
    assert ran.code == 2
    assert "import openvino failed" in ran.error
    assert "pip install 'vmeg-edge[openvino]'" in ran.error


def test_verify_runs_every_backend_that_can_run_and_names_the_others(vmeg_edge: Callable, demo_int8: Made) -> None:
    ran = vmeg_edge("verify", demo_int8.path, "--json")
    content = json.loads(ran.out)
    assert ran.code == 0
    (row,) = [row for row in content["backends"] if row["backend"] == "onnxruntime"]
    assert row["proven"][row["processor"]] == "run"
    assert all(row["passed"] for row in content["backends"])
    if "tensorrt" in content["not_run"]:
        assert "no NVIDIA GPU" in content["not_run"]["tensorrt"]


def test_a_skipped_self_test_is_said_by_every_result(demo_int8: Made) -> None:
    frame = _real_frames()[0]
    with sdk.load(demo_int8.path, backend="onnxruntime", self_test=False) as scorer:
        for _ in range(2):
            result = scorer.score(frame)
            assert result.to_json(with_provenance=False)["notices"][0].startswith("SELF-TEST SKIPPED")
            assert result.provenance["self_test"] == "skipped by request"


def _real_frames() -> list[Frame]:
    frames: list[Frame] = []
    for part, step in (
        (("fetal_brain",), 4),
        (("fetal_head_hc18",), 4),
        (("us_video", "Reg_Image_18122_crop.mp4"), 20),
        (("us_video", "Reg_pat1Image_132943.mpeg"), 20),
    ):
        with open_source(shared_data(*part)) as source:
            frames += [item for item in source if isinstance(item, Frame)][::step]
    return frames


def _scores(scorer: sdk.Scorer, frames: list[Frame]) -> Scores:
    """Decisions are the rule's: the plane gate would hold the real frames back, and hide the flips."""
    results = [scorer.score(frame) for frame in frames]
    rule = scorer.manifest.decision
    return Scores(
        np.array([result.prediction.probability for result in results]),
        [judge(result.prediction.probability, rule)[0] for result in results],
        np.stack([result.heat_map.values for result in results]),
    )


def _p(logits: np.ndarray) -> np.ndarray:
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(powers[:, 1] / powers.sum(axis=1))
