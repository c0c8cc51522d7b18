"""The exported graph: its contract, its bytes, and its scores against the torch reference."""

from __future__ import annotations

import collections
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
import pytest
import torch
from onnx import TensorProto
from vmeg_edge.converters.architectures.vit import ViT
from vmeg_edge.converters.checkpoint import load
from vmeg_edge.converters.onnx_from_checkpoint import OPSET, export, reference

from checkpoints import make_classifier_state_dict, make_mae_state_dict
from vmeg_edge.errors import FrameError, OutputError, UsageError

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # ImageNet's, which MAE trains with


def pixels_of(side: int, frames: int = 1, seed: int = 0) -> npt.NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (frames, side, side, 3), dtype=np.uint8)


def tiny(tmp_path: Path, *, cam_layer: str | None = None, image_size: int | None = None, **options: Any) -> ViT:
    torch.save(make_classifier_state_dict(**options), tmp_path / "tiny.pt")
    return load(tmp_path / "tiny.pt", image_size=image_size).model(cam_layer=cam_layer)


def session_of(path: Path) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def softmax(logits: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
    powers = np.exp(logits.astype(np.float64) - logits.max(axis=-1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=-1, keepdims=True))


def assert_parity(path: Path, model: ViT, *, frames: int, mean: Any = MEAN, std: Any = STD) -> None:
    """Hold the file to the gate's float32 limit in probability, and to tighter ones on what it is made of."""
    pixels = pixels_of(model.config.image_size, frames)
    logits, activations = reference(model, mean=mean, std=std)(pixels)
    session = session_of(path)
    for index in range(frames):
        scores, seen = session.run(["logits", "activations"], {"pixels": pixels[index : index + 1]})
        assert np.abs(softmax(scores) - softmax(logits[index : index + 1])).max() <= 1e-5
        assert np.abs(scores - logits[index : index + 1]).max() <= 1e-4
        assert np.abs(seen - activations[index : index + 1]).max() <= 1e-3


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> tuple[ViT, Path]:
    folder = tmp_path_factory.mktemp("exported")
    model = tiny(folder, dim=128, depth=3, image_size=64)
    export(model, folder / "model.onnx", mean=MEAN, std=STD)
    return model, folder / "model.onnx"


def test_inputs_and_outputs_are_the_contracts(exported: tuple[ViT, Path]) -> None:
    graph = onnx.load(exported[1]).graph
    held = {
        value.name: (
            value.type.tensor_type.elem_type,
            [dimension.dim_value for dimension in value.type.tensor_type.shape.dim],
        )
        for value in (*graph.input, *graph.output)
    }
    assert held == {
        "pixels": (TensorProto.UINT8, [1, 64, 64, 3]),
        "logits": (TensorProto.FLOAT, [1, 2]),
        "activations": (TensorProto.FLOAT, [1, 16, 128]),
    }


def test_every_shape_inside_is_static(exported: tuple[ViT, Path]) -> None:
    proto = onnx.shape_inference.infer_shapes(onnx.load(exported[1]), strict_mode=True, data_prop=True)
    shapes = {value.name: value.type.tensor_type.shape for value in proto.graph.value_info}
    made = [name for node in proto.graph.node for name in node.output if name not in ("logits", "activations")]
    assert set(made) <= set(shapes)
    for name in made:
        assert all(dimension.HasField("dim_value") for dimension in shapes[name].dim), name


def test_a_cast_follows_the_input_and_a_transpose_the_cast(exported: tuple[ViT, Path]) -> None:
    first, second, third = onnx.load(exported[1]).graph.node[:3]
    assert (first.op_type, list(first.input)) == ("Cast", ["pixels"])
    assert (second.op_type, list(second.input)) == ("Transpose", list(first.output))
    assert third.op_type == "Conv"


def test_the_graph_is_of_the_fewest_standard_nodes(exported: tuple[ViT, Path]) -> None:
    proto = onnx.load(exported[1])
    assert [(opset.domain, opset.version) for opset in proto.opset_import] == [("", OPSET)]
    assert not proto.functions
    counts = collections.Counter(node.op_type for node in proto.graph.node)
    assert counts["LayerNormalization"] == 2 * 3 + 1
    assert counts["Softmax"] == counts["Gelu"] == 3
    assert counts["MatMul"] + counts["Gemm"] == 3 * (4 + 2) + 1
    # No trace of a normalisation: between the input and the convolution there is no arithmetic.
    assert counts["Sub"] == counts["Div"] == counts["Pow"] == counts["Sqrt"] == 0


def test_gelu_is_the_exact_one(exported: tuple[ViT, Path]) -> None:
    for node in onnx.load(exported[1]).graph.node:
        if node.op_type == "Gelu":
            assert all(onnx.helper.get_attribute_value(a) == b"none" for a in node.attribute)


def test_nothing_of_the_exporting_machine_is_in_the_file(exported: tuple[ViT, Path]) -> None:
    proto = onnx.load(exported[1])
    parts = [proto, proto.graph, *proto.graph.node, *proto.graph.initializer, *proto.graph.value_info]
    assert not any(part.metadata_props or part.doc_string for part in parts)
    content = exported[1].read_bytes()
    here = {str(Path(path).resolve()) for path in (__file__, sys.prefix, torch.__file__, Path.home(), Path.cwd())}
    for path in here - {"/"}:
        assert path.encode() not in content
    for word in (b"site-packages", b".py", b"forward", b"Traceback"):
        assert word not in content
    # Printable runs with a slash would be paths; names inside the graph have none.
    texts = {node.name for node in proto.graph.node} | {n for node in proto.graph.node for n in node.output}
    assert not [text for text in texts if re.search(r"[/\\]", text)]


def test_the_file_is_whole_and_alone(exported: tuple[ViT, Path]) -> None:
    onnx.checker.check_model(onnx.load(exported[1], load_external_data=False), full_check=True)
    assert sorted(path.name for path in exported[1].parent.iterdir()) == ["model.onnx", "tiny.pt"]


def test_the_same_model_gives_the_same_bytes(tmp_path: Path, exported: tuple[ViT, Path]) -> None:
    model, path = exported
    proto = export(model, tmp_path / "again.onnx", mean=MEAN, std=STD)
    assert (tmp_path / "again.onnx").read_bytes() == path.read_bytes()
    assert proto == onnx.load(path)


def test_another_process_gives_the_same_bytes(tmp_path: Path, exported: tuple[ViT, Path]) -> None:
    program = (
        "import sys\n"
        "from vmeg_edge.converters import checkpoint, onnx_from_checkpoint\n"
        "model = checkpoint.load(sys.argv[1]).model()\n"
        f"onnx_from_checkpoint.export(model, sys.argv[2], mean={MEAN}, std={STD})\n"
    )
    command = [sys.executable, "-c", program, str(exported[1].parent / "tiny.pt"), str(tmp_path / "m.onnx")]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert (tmp_path / "m.onnx").read_bytes() == exported[1].read_bytes()


def test_scores_equal_the_reference(exported: tuple[ViT, Path]) -> None:
    assert_parity(exported[1], exported[0], frames=4)


@pytest.mark.parametrize(
    ("image_size", "pool", "cam_layer"),
    [(160, "token", "blocks.0.norm1"), (224, "mean", None), (384, "mean", None)],
)
def test_scores_equal_the_reference_at_other_sizes(
    tmp_path: Path, image_size: int, pool: str, cam_layer: str | None
) -> None:
    model = tiny(tmp_path, depth=2, image_size=image_size, pool=pool, classes=3, cam_layer=cam_layer)
    export(model, tmp_path / "model.onnx", mean=MEAN, std=STD)
    assert_parity(tmp_path / "model.onnx", model, frames=2)


@pytest.mark.parametrize(("mean", "std"), [((0.0, 0.0, 0.0), (1.0, 1.0, 1.0)), ((0.9, 0.1, 0.5), (0.05, 0.3, 1.0))])
def test_any_normalisation_is_folded(tmp_path: Path, mean: Any, std: Any) -> None:
    model = tiny(tmp_path, depth=1, image_size=32, qkv_bias=False)
    export(model, tmp_path / "model.onnx", mean=mean, std=std)
    assert_parity(tmp_path / "model.onnx", model, frames=2, mean=mean, std=std)


def test_export_leaves_the_model_as_it_was(exported: tuple[ViT, Path]) -> None:
    state = torch.load(exported[1].parent / "tiny.pt", weights_only=True)
    for key, value in exported[0].state_dict().items():
        assert torch.equal(value, state[key])


def test_the_reference_normalises_as_training_does(exported: tuple[ViT, Path]) -> None:
    model, _ = exported
    pixels = pixels_of(64, frames=10)  # more than the reference holds at once
    logits, activations = reference(model, mean=MEAN, std=STD)(pixels)
    assert logits.shape == (10, 2)
    assert activations.shape == (10, 16, 128)
    assert logits.dtype == activations.dtype == np.float32
    normalised = ((pixels / 255.0 - MEAN) / STD).astype(np.float32).transpose(0, 3, 1, 2)
    with torch.inference_mode():
        expected, seen = model(torch.from_numpy(np.ascontiguousarray(normalised)))
    assert np.abs(logits - expected.numpy()).max() < 1e-5
    assert np.abs(activations - seen.numpy()).max() < 1e-4
    empty = reference(model, mean=MEAN, std=STD)(pixels[:0])
    assert [side.shape for side in empty] == [(0, 2), (0, 16, 128)]


@pytest.mark.parametrize(
    "pixels", [np.zeros((1, 64, 64, 3), np.float32), np.zeros((64, 64, 3), np.uint8), pixels_of(32)]
)
def test_the_reference_refuses_other_pixels(exported: tuple[ViT, Path], pixels: Any) -> None:
    with pytest.raises(FrameError, match=r"pass uint8 \[N, 64, 64, 3\] RGB"):
        reference(exported[0], mean=MEAN, std=STD)(pixels)


@pytest.mark.parametrize(
    ("mean", "std", "word"),
    [
        ((0.5,), STD, "mean"),
        ((0.5, 0.5, np.nan), STD, "mean"),
        (MEAN, (0.5, 0.5), "std"),
        (MEAN, (0.5, 0.0, 0.5), "std"),
        (MEAN, (0.5, np.inf, 0.5), "std"),
    ],
)
def test_a_mean_or_std_that_is_none_is_refused(
    exported: tuple[ViT, Path], tmp_path: Path, mean: Any, std: Any, word: str
) -> None:
    with pytest.raises(UsageError, match=f"^{word} is"):
        export(exported[0], tmp_path / "m.onnx", mean=mean, std=std)
    with pytest.raises(UsageError, match=f"^{word} is"):
        reference(exported[0], mean=mean, std=std)
    assert not list(tmp_path.iterdir())


def test_a_place_that_cannot_be_written_is_an_output_error(exported: tuple[ViT, Path], tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="absent"):
        export(exported[0], tmp_path / "absent" / "m.onnx", mean=MEAN, std=STD)


def test_vit_b16_from_a_usf_mae_checkpoint_equals_the_reference(tmp_path: Path, record_property: Any) -> None:
    state = make_mae_state_dict(dim=768, depth=12, image_size=224, decoder_dim=512, decoder_depth=1)
    torch.save(state, tmp_path / "usf-mae.pt")
    checkpoint = load(tmp_path / "usf-mae.pt", new_head=2)
    assert (checkpoint.config.name, checkpoint.head) == ("ViT-B/16", "random")
    model = checkpoint.model()
    start = time.perf_counter()
    export(model, tmp_path / "model.onnx", mean=MEAN, std=STD)
    record_property("export_s", round(time.perf_counter() - start, 2))
    counts = collections.Counter(node.op_type for node in onnx.load(tmp_path / "model.onnx").graph.node)
    assert counts["LayerNormalization"] == 25
    assert_parity(tmp_path / "model.onnx", model, frames=2)
