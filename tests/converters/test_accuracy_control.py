"""Accuracy control gives layers back to float until less of the allowance is used, on either quantizer."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import numpy as np
import onnx
import pytest
from vmeg_edge.converters import candidates, giving_back, openvino_from_onnx
from vmeg_edge.converters.calibration import gather
from vmeg_edge.converters.candidate import Candidate
from vmeg_edge.converters.control import Control
from vmeg_edge.converters.measure import Row, reason_for, settle
from vmeg_edge.converters.origin import from_bundle
from vmeg_edge.converters.qdq_from_onnx import QdqQuantizer
from vmeg_edge.converters.slots import Slot, plan
from vmeg_edge.converters.workshop import Workshop

from vmeg_edge.manifest import Artefact
from vmeg_edge.parity import Parity
from vmeg_edge.processor_class import CLASSES, ProcessorClass, current


@pytest.fixture(scope="module")
def shop(demo_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Workshop:
    """The demo model with frames of its own kind."""
    scratch = tmp_path_factory.mktemp("control")
    origin = from_bundle(demo_bundle, "demo")
    manifest = origin.manifest
    sets = gather(["phantoms"], manifest.input, calibration_frames=16, validation_frames=8)
    (scratch / "m.onnx").write_bytes(origin.onnx)
    control = Control(manifest, sets.control, origin.reference(sets.control)[0])
    return Workshop(scratch / "m.onnx", manifest, scratch, sets, control)


def test_nncf_gives_layers_back_until_control_is_content(shop: Workshop, monkeypatch: pytest.MonkeyPatch) -> None:
    sets, control = shop.for_int8()
    plain, before = _uncontrolled(shop)
    assert [layer.name for layer in openvino_from_onnx.float_layers(plain, shop.model)] == _ALWAYS_FLOAT
    monkeypatch.setattr(openvino_from_onnx, "MARGIN", before * 0.6)
    better = openvino_from_onnx.quantize_with_control(shop.model, sets.calibration, control, safe=current().saturates)
    after = control.used(openvino_from_onnx.logits_of(better, control.tensors))
    assert after <= before * 0.6 + 1e-3
    assert len(openvino_from_onnx.float_layers(better, shop.model)) > len(_ALWAYS_FLOAT)


def test_what_control_gives_back_is_kept_only_where_it_helps(shop: Workshop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(candidates, "MARGIN", 1e-6)
    monkeypatch.setattr(openvino_from_onnx, "SMOOTH", (openvino_from_onnx.OFF,))
    monkeypatch.setattr(openvino_from_onnx, "MARGIN", _uncontrolled(shop)[1] * 0.6)
    (slot,), _ = plan(["openvino"], "int8", (), transformer=True)
    (made,) = candidates.candidates(slot, "int8", shop)
    assert made.recipe == "nncf-control"
    assert "accuracy control" in made.says
    assert set(_ALWAYS_FLOAT) < set(made.artefact.float_layers)


def test_the_q_dq_quantizer_gives_its_noisiest_layers_back(shop: Workshop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(giving_back, "MARGIN", 1e-6)
    said: list[str] = []
    changed = Workshop(shop.model, shop.manifest, shop.scratch, shop.sets, shop.control, said.append)
    ((tensorrt,), _) = plan(["tensorrt"], "int8", (), transformer=True)
    (made,) = candidates.candidates(tensorrt, "int8", changed)
    tried = [int(line.split(": ")[1].split()[0]) for line in said if "layers back to float" in line]
    assert tried == [1, 8], "the most, at half of the layers, does not suffice, so nothing between is tried"
    names = {*_ALWAYS_FLOAT, *(f"blocks.{i}.{p}" for i in range(4) for p in _PARTS)}
    assert set(_ALWAYS_FLOAT) < set(made.artefact.float_layers) <= names


@pytest.mark.parametrize(
    ("enough", "tried"),
    [(0, []), (1, [1]), (2, [1, 16, 4, 2]), (4, [1, 16, 4, 2]), (8, [1, 16, 4, 8]), (16, [1, 16, 4, 8])],
)
def test_the_fewest_layers_that_suffice_are_found_by_halving(
    shop: Workshop, monkeypatch: pytest.MonkeyPatch, enough: int, tried: list[int]
) -> None:
    """Of 32 layers; each layer given back is one share of the allowance less."""
    layers = [f"layer {place}" for place in range(32)]
    asked: list[int] = []

    class Quantizer:
        def quantize(self, back: tuple[str, ...] = ()) -> Path:
            asked.append(len(back))
            path = shop.scratch / "made"
            path.write_bytes(b",".join(name.encode() for name in back))
            return path

        def taken(self) -> list[Any]:
            return []

        def worst_first(self) -> list[str]:
            return layers

    def pack(data: bytes, _floats: tuple[str, ...]) -> Candidate:
        return Candidate(_SLOT, "made", "", Artefact(files=("m",), precision="int8"), {"m": data})

    def used(candidate: Candidate, *_: object) -> np.ndarray:
        count = len([name for name in candidate.files["m"].split(b",") if name])
        return np.array([0.0 if count >= enough else 2.0 - count / 100])

    monkeypatch.setattr(giving_back, "logits_of", used)
    monkeypatch.setattr(Control, "used", lambda _self, share: float(share[0]))
    share, candidate = giving_back.controlled(shop, cast(QdqQuantizer, Quantizer()), pack)
    assert asked == [0, *tried]
    assert share == 0.0
    assert len([name for name in candidate.files["m"].split(b",") if name]) == enough


def _uncontrolled(shop: Workshop) -> tuple[Any, float]:
    """NNCF's model as it is without control, and the share of the allowance that it uses."""
    sets, control = shop.for_int8()
    plain = openvino_from_onnx.quantize(
        shop.model, sets.calibration, smooth=openvino_from_onnx.OFF, safe=current().saturates
    )
    return plain, control.used(openvino_from_onnx.logits_of(plain, control.tensors))


_SLOT = Slot("onnxruntime", current())
_ALWAYS_FLOAT = ["patch_embed.proj", "head"]
_PARTS = ("attn.qkv", "attn.proj", "mlp.fc1", "mlp.fc2")


def test_the_share_of_the_allowance_is_the_gates(shop: Workshop) -> None:
    _, control = shop.for_int8()
    logits = control.logits.copy()
    assert control.used(logits) == 0.0
    rule = control.manifest.decision.model_copy(update={"abstain": None})
    flat = Control(
        control.manifest.model_copy(update={"decision": rule}), control.tensors, np.zeros((4, 2), np.float32)
    )
    shifted = np.zeros((4, 2), np.float32)
    shifted[:, 1] = 0.02  # a probability of 0.505 where the reference says 0.5: half of the mean's allowance
    assert flat.used(shifted) == pytest.approx(0.5, rel=1e-2)
    shifted[:, 1] = -0.02  # and just below the threshold: a flip
    assert flat.used(shifted) == 2.0
    assert flat.used(np.full((4, 2), np.nan, np.float32)) == float("inf")


def test_only_weights_that_cannot_saturate_are_made_for_a_processor_that_saturates(shop: Workshop) -> None:
    (slot,), _ = plan(["onnxruntime"], "int8", (CLASSES["x86-avx2"],), transformer=True)
    (made,) = candidates.candidates(slot, "int8", shop)
    assert made.recipe == "dynamic-u8"
    model = onnx.load_from_string(made.files["model.onnx"])
    kinds = {tensor.data_type for tensor in model.graph.initializer if tensor.name.endswith("_quantized")}
    assert kinds == {onnx.TensorProto.UINT8}
    (slot,), _ = plan(["openvino"], "int8", (CLASSES["x86-avx2"],), transformer=True)
    (narrow,) = candidates.candidates(slot, "int8", shop)
    assert "weights of 7 bits" in narrow.says


@pytest.mark.parametrize("here", [CLASSES["x86-avx2"], CLASSES["x86-avx512-vnni"]], ids=lambda one: one.name)
def test_signed_weights_for_vnni_run_as_themselves_there_and_as_their_twin_elsewhere(
    shop: Workshop, here: ProcessorClass
) -> None:
    vnni = CLASSES["x86-avx512-vnni"]
    slot = Slot("onnxruntime", here, (vnni,), (vnni,))
    made = candidates.candidates(slot, "int8", shop)[0]
    assert made.recipe == "dynamic"
    model = onnx.load_from_string(made.files["model.onnx"])
    kinds = {tensor.data_type for tensor in model.graph.initializer if tensor.name.endswith("_quantized")}
    assert kinds == {onnx.TensorProto.INT8}
    assert (made.stand_in is None) == (here == vnni)
    assert ("the same integers" in made.proof) == (here != vnni)


def test_int8_that_is_not_faster_is_said_to_be_so() -> None:
    parity = Parity(4, 0.0, 0.0, 0, 0, 1.0, 1.0, 0.0, 0.0, 0)
    artefact = Artefact(files=("model.onnx",), precision="int8")
    rows = [
        Row(Candidate(_SLOT, name, "", artefact, {}), parity, np.zeros((4, 2), np.float32), (), p50_ms=ms,
            float_p50_ms=10.0)
        for name, ms in (("slow", 12.5), ("fast", 5.0))
    ]  # fmt: skip
    assert rows[0].remark == "not faster than float32 on this machine (0.80x)"
    assert rows[1].remark == "2.00x as fast as float32 on this machine"
    settled = settle(rows)
    assert [row.status for row in settled] == ["passed", "kept"]
    assert reason_for(settled[1], settled) == "fastest that passed at 5.0 ms; slow passed at 12.5 ms"
