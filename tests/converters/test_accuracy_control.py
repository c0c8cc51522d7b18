"""Accuracy control gives layers back to float until less of the allowance is used, on either quantizer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from vmeg_edge.converters import candidates, openvino_from_onnx
from vmeg_edge.converters.calibration import gather
from vmeg_edge.converters.candidates import Candidate, Workshop
from vmeg_edge.converters.control import Control
from vmeg_edge.converters.measure import Row, reason_for, settle
from vmeg_edge.converters.origin import from_bundle

from vmeg_edge.manifest import Artefact
from vmeg_edge.parity import Parity


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
    better = openvino_from_onnx.quantize_with_control(shop.model, sets.calibration, control)
    after = control.used(openvino_from_onnx.logits_of(better, control.tensors))
    assert after <= before * 0.6 + 1e-3
    assert len(openvino_from_onnx.float_layers(better, shop.model)) > len(_ALWAYS_FLOAT)


def test_what_control_gives_back_is_kept_only_where_it_helps(shop: Workshop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(candidates, "MARGIN", 1e-6)
    monkeypatch.setattr(openvino_from_onnx, "SMOOTH", (openvino_from_onnx.OFF,))
    monkeypatch.setattr(openvino_from_onnx, "MARGIN", _uncontrolled(shop)[1] * 0.6)
    (made,) = candidates.candidates("openvino", "int8", shop)
    assert made.recipe == "nncf-control"
    assert "accuracy control" in made.says
    assert set(_ALWAYS_FLOAT) < set(made.artefact.float_layers)


def test_the_q_dq_quantizer_gives_its_noisiest_layers_back(shop: Workshop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(candidates, "MARGIN", 1e-6)
    said: list[str] = []
    changed = Workshop(shop.model, shop.manifest, shop.scratch, shop.sets, shop.control, said.append)
    static = candidates.candidates("onnxruntime", "int8", changed)[1]
    assert static.recipe == "static"
    counts = [line for line in said if "layers back to float" in line]
    assert [int(line.split(": ")[1].split()[0]) for line in counts] == [1, 2, 4, 8, 1, 2, 4, 8][: len(counts)]
    names = {*_ALWAYS_FLOAT, *(f"blocks.{i}.{p}" for i in range(4) for p in _PARTS)}
    assert set(_ALWAYS_FLOAT) < set(static.artefact.float_layers) <= names


def _uncontrolled(shop: Workshop) -> tuple[Any, float]:
    """NNCF's model as it is without control, and the share of the allowance that it uses."""
    sets, control = shop.for_int8()
    plain = openvino_from_onnx.quantize(shop.model, sets.calibration, smooth=openvino_from_onnx.OFF)
    return plain, control.used(openvino_from_onnx.logits_of(plain, control.tensors))


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


def test_a_processor_that_saturates_gets_unsigned_weights_and_weights_of_seven_bits(
    shop: Workshop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(candidates, "saturates", lambda: True)
    monkeypatch.setattr(openvino_from_onnx, "saturates", lambda: True)
    made = {made.recipe: made for made in candidates.candidates("onnxruntime", "int8", shop)}
    assert set(made) == {"dynamic", "static", "dynamic-u8"}
    model = onnx.load_from_string(made["dynamic-u8"].files["model.onnx"])
    kinds = {tensor.data_type for tensor in model.graph.initializer if tensor.name.endswith("_quantized")}
    assert kinds == {onnx.TensorProto.UINT8}
    (narrow,) = candidates.candidates("openvino", "int8", shop)
    assert "weights of 7 bits" in narrow.says


def test_int8_that_is_not_faster_is_said_to_be_so() -> None:
    parity = Parity(4, 0.0, 0.0, 0, 0, 1.0, 1.0, 0.0, 0.0, 0)
    artefact = Artefact(files=("model.onnx",), precision="int8")
    rows = [
        Row(Candidate("onnxruntime", name, "", artefact, {}), parity, np.zeros((4, 2), np.float32), (), p50_ms=ms,
            float_p50_ms=10.0)
        for name, ms in (("slow", 12.5), ("fast", 5.0))
    ]  # fmt: skip
    assert rows[0].remark == "not faster than float32 on this machine (0.80x)"
    assert rows[1].remark == "2.00x as fast as float32 on this machine"
    settled = settle(rows)
    assert [row.status for row in settled] == ["passed", "kept"]
    assert reason_for(settled[1], settled) == "fastest that passed at 5.0 ms; slow passed at 12.5 ms"
