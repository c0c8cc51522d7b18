"""One bundle for every class: twins that say exactly the same, engines held to less, and the loads of each class."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from vmeg_edge.converters import openvino_from_onnx
from vmeg_edge.converters.answers import answers_of
from vmeg_edge.converters.bundle_from_model import Quantization, convert
from vmeg_edge.converters.calibration import gather
from vmeg_edge.converters.candidate import Candidate, on_onnxruntime
from vmeg_edge.converters.emulation import scored_as
from vmeg_edge.converters.feeds import pixels_alone
from vmeg_edge.converters.frames import tensors_of
from vmeg_edge.converters.measure import Bar, judged, measure
from vmeg_edge.converters.origin import from_bundle
from vmeg_edge.converters.qdq_from_onnx import DYNAMIC, STATIC, QdqQuantizer, QdqRecipe
from vmeg_edge.converters.ranges import Ranges
from vmeg_edge.converters.slots import Slot
from vmeg_edge.converters.unsigned_twin import unsigned_twin

import vmeg_edge as sdk
from conversions import Made
from vmeg_edge.bundle import open_bundle
from vmeg_edge.errors import BackendError, UsageError
from vmeg_edge.kernels import cpu_features
from vmeg_edge.manifest import Artefact, Manifest
from vmeg_edge.phantom import phantom
from vmeg_edge.processor_class import CLASS_VARIABLE, CLASSES, current

INT8 = Artefact(files=("model.onnx",), precision="int8")


@pytest.fixture(scope="module")
def every(demo_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Made:
    """The demo model in int8 for every class of processors."""
    path = tmp_path_factory.mktemp("every") / "every.vmeg"
    said: list[str] = []
    done = convert(
        demo_bundle,
        path,
        targets=("onnxruntime", "openvino"),
        precision="int8",
        processors=("all",),
        quantization=Quantization(("phantoms",), calibration_frames=16, validation_frames=16),
        plane_gate=False,
        report=said.append,
    )
    return Made(path, done.check(), tuple(said))


def test_every_class_is_served_each_by_one_artefact_and_the_manifest_says_how_it_was_proven(every: Made) -> None:
    manifest = open_bundle(every.path).manifest
    proofs: dict[str, str] = {}
    for one in manifest.artefacts["onnxruntime"].made:
        assert not proofs.keys() & one.proven.keys()
        proofs |= one.proven
    assert set(proofs) == set(CLASSES)
    assert proofs[current().name] == "run"
    for name in CLASSES:
        found = manifest.on(name).artefacts["onnxruntime"]
        model = onnx.load_from_string(open_bundle(every.path).read(found.files[0]))
        kinds = {tensor.data_type for tensor in model.graph.initializer if tensor.name.endswith("_quantized")}
        unsigned = kinds == {onnx.TensorProto.UINT8}
        assert unsigned == CLASSES[name].saturates or not CLASSES[name].saturates
        assert ("openvino" in manifest.on(name).artefacts) == (name in ("x86-avx-vnni", "x86-avx512-vnni", "x86-amx"))
        if "openvino" in manifest.on(name).artefacts:
            assert set(manifest.fastest[name].backends) == {"onnxruntime", "openvino"}
    stored = json.loads((every.path / "parity.json").read_text())
    assert {row["slot"] for row in stored["artefacts"] if row["status"] == "kept"} < set(stored["logits"])
    assert stored["machine"]["class"] == current().name


def test_the_bundle_serves_this_processor_and_every_lesser_one_that_it_can_pass_for(
    every: Made, monkeypatch: pytest.MonkeyPatch
) -> None:
    frame = phantom(3, 1).frame
    seen = set()
    for one in CLASSES.values():
        if not one.fits(cpu_features()):
            continue
        monkeypatch.setenv(CLASS_VARIABLE, one.name)
        with sdk.load(every.path, cache=False, backend="onnxruntime") as scorer:
            assert scorer.provenance["processor"] == one.name
            assert scorer.provenance["self_test"] == "passed"
            seen.add(round(scorer.score(frame).prediction.probability, 1))
    assert len(seen) == 1


@pytest.mark.parametrize("recipe", [DYNAMIC, STATIC], ids=lambda recipe: recipe.name)
def test_a_twin_with_unsigned_weights_says_exactly_what_signed_weights_say(
    demo_bundle: Path, tmp_path: Path, recipe: QdqRecipe
) -> None:
    """The weights are rounded to six bits first, so that signed products are exact on every processor."""
    origin = from_bundle(demo_bundle, "demo")
    (tmp_path / "m.onnx").write_bytes(origin.onnx)
    frames = gather(["phantoms"], origin.manifest.input, calibration_frames=8, validation_frames=4).calibration
    model = onnx.load(QdqQuantizer(Ranges(tmp_path / "m.onnx", frames, tmp_path), recipe).quantize())
    moved = 0
    for tensor in model.graph.initializer:
        if tensor.data_type == onnx.TensorProto.INT8 and len(tensor.dims) == 2:
            values = onnx.numpy_helper.to_array(tensor) // 4
            tensor.CopyFrom(onnx.numpy_helper.from_array(values.astype(np.int8), tensor.name))
            moved += 1
    assert moved >= 16
    twin = unsigned_twin(model)
    kinds = [{t.data_type for t in made.graph.initializer if len(t.dims) == 2} for made in (model, twin)]
    assert onnx.TensorProto.INT8 in kinds[0]
    assert onnx.TensorProto.INT8 not in kinds[1]
    said = []
    for made in (model, twin):
        backend = on_onnxruntime(made.SerializeToString(), INT8)(origin.manifest)
        said.append(np.stack([backend.infer(frame[None])[0].copy() for frame in frames[:4]]))
        backend.close()
    np.testing.assert_allclose(said[0], said[1], atol=1e-5)
    assert np.ptp(said[0]) > 1e-3


@pytest.fixture
def on_openvino(demo_int8_openvino: Made) -> tuple[Manifest, Candidate]:
    """The demo model in int8 for OpenVINO, as if it was made for AVX2 alone on a larger processor."""
    bundle = open_bundle(demo_int8_openvino.path)
    (artefact,) = bundle.manifest.artefacts.values()
    files = {name: bundle.read(name) for name in artefact.files}
    avx2 = (CLASSES["x86-avx2"],)
    slot = Slot("openvino", CLASSES["x86-amx"], avx2, avx2, safe=True)
    return bundle.manifest, Candidate(slot, "nncf", "", artefact, files)


def test_openvinos_rounding_in_float32_says_what_its_int8_says_where_nothing_saturates(
    on_openvino: tuple[Manifest, Candidate],
) -> None:
    manifest, candidate = on_openvino
    exact, native = openvino_from_onnx.ExactBackend(candidate.files), candidate.open(manifest)
    for tensor in _tensors(manifest):
        (ours, _), (theirs, _) = exact.infer(tensor[None]), native.infer(tensor[None])
        np.testing.assert_allclose(ours, theirs, atol=0.02)


@pytest.mark.skipif("avx2" not in cpu_features(), reason="oneDNN has no such switch here")
def test_an_engine_held_to_a_lesser_class_is_gated_too_and_its_failure_is_named(
    on_openvino: tuple[Manifest, Candidate],
) -> None:
    manifest, candidate = on_openvino
    tensors = _tensors(manifest)
    logits, maps = answers_of(candidate.open(manifest), tensors, pixels_alone, manifest, None)
    (row,) = measure([candidate], Bar(manifest, tensors, judged(logits, maps, manifest)))
    assert row.proofs == {"x86-avx2": "emulated"}
    assert row.p50_ms is None, "its speed here says nothing of its class"
    inverted = judged(logits[:, ::-1].copy(), maps, manifest)
    (row,) = measure([candidate], Bar(manifest, tensors, inverted))
    assert row.status == "failed"
    avx2 = CLASSES["x86-avx2"]
    held, held_maps = scored_as(avx2, candidate, manifest, tensors, None)
    np.testing.assert_allclose(held, logits, atol=0.05)
    assert held_maps.shape == (len(tensors), *manifest.explanation.grid)
    broken = replace(candidate, files=dict.fromkeys(candidate.files, b"no model"))
    with pytest.raises(BackendError, match=r"openvino held to x86-avx2 .* failed: "):
        scored_as(avx2, broken, manifest, tensors, None)


def _tensors(manifest: Manifest) -> np.ndarray:
    return tensors_of([phantom(seed, 1).frame for seed in range(2)], manifest.input)


def test_bfloat16_beside_int8_serves_the_machine_that_has_it(demo_bundle: Path, tmp_path: Path) -> None:
    quantization = Quantization(("phantoms",), float_precision="bfloat16")
    other = next(name for name in CLASSES if name != current().name)
    with pytest.raises(UsageError, match=r"leave out --for, or give --for|cannot be proven here"):
        convert(
            demo_bundle, tmp_path / "x.vmeg", targets=("openvino",), precision="int8", quantization=quantization,
            processors=(other,),
        )  # fmt: skip
