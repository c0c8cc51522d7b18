"""TensorRT up to the first CUDA call: engines built without a GPU, precisions counted, keys and refusals."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

import vmeg_edge as sdk
from vmeg_edge.backends import cuda, devices_of, open_backend, place
from vmeg_edge.backends import tensorrt as backend
from vmeg_edge.backends.tensorrt_engine import build_engine, engine_library, is_rtx, layer_precisions
from vmeg_edge.bundle import open_bundle
from vmeg_edge.errors import BackendError, BackendMissingError, UsageError

try:
    TRT = engine_library()
except BackendMissingError as error:
    pytest.skip(str(error), allow_module_level=True)


def has_gpu() -> bool:
    try:
        return bool(cuda.find_gpus())
    except BackendError:
        return False


no_gpu = pytest.mark.skipif(has_gpu(), reason="this machine has an NVIDIA GPU")
rtx = pytest.mark.skipif(not is_rtx(TRT), reason="only TensorRT-RTX compiles ahead of time")


@pytest.fixture(scope="module")
def model(demo_bundle: Path) -> bytes:
    """The demo model's float32 ONNX, which every TensorRT parses."""
    return open_bundle(demo_bundle).read("model.onnx")


@rtx
def test_an_engine_is_built_for_gpus_that_are_not_here_with_progress(model: bytes) -> None:
    told: list[tuple[str, int, int | None]] = []
    engine = build_engine(TRT, model, capabilities=("8.9", "12.0"), progress=lambda *step: told.append(step))
    assert len(engine) > len(model) // 2
    stages = {stage for stage, _, _ in told}
    assert stages == {"building the TensorRT engine"}
    done = [step for _, step, _ in told]
    assert done == sorted(done)
    assert told[-1][1] == told[-1][2]


@rtx
def test_a_capability_that_is_none_is_refused(model: bytes) -> None:
    with pytest.raises(UsageError, match=r"'1\.0'"):
        build_engine(TRT, model, capabilities=("1.0",))


def test_a_model_that_is_none_gets_the_parsers_words_in_one_line(model: bytes) -> None:
    with pytest.raises(BackendError, match="cannot parse the model") as caught:
        build_engine(TRT, model[:2000])
    assert "\n" not in str(caught.value)


def test_the_float_model_computes_in_float_alone(model: bytes) -> None:
    counts = layer_precisions(TRT, model)
    assert counts["MATRIX_MULTIPLY FLOAT"] >= 24
    assert not any("HALF" in kind or "INT8" in kind for kind in counts)


@no_gpu
def test_without_a_gpu_opening_stops_at_the_first_cuda_call_and_says_what_was_looked_for(
    demo_bundle: Path, model: bytes
) -> None:
    manifest = open_bundle(demo_bundle).manifest
    artefact = manifest.artefacts["onnxruntime"].model_copy(update={"files": ("tensorrt.onnx",)})
    manifest = manifest.model_copy(update={"artefacts": {"tensorrt": artefact}})
    with pytest.raises(BackendError, match=r"looked for an NVIDIA GPU and found none: CUDA's cudaGetDeviceCount"):
        open_backend("tensorrt", manifest, {"tensorrt.onnx": model}, place("tensorrt"))
    devices, why = devices_of("tensorrt")
    assert devices == ()
    assert "engines can be built, not run" in why


def test_an_engine_from_elsewhere_is_refused_before_anything_opens_it(demo_bundle: Path) -> None:
    manifest = open_bundle(demo_bundle).manifest
    artefact = manifest.artefacts["onnxruntime"].model_copy(update={"files": ("model.plan",)})
    manifest = manifest.model_copy(update={"artefacts": {"tensorrt": artefact}})
    with pytest.raises(BackendError, match="executable code and is not opened"):
        open_backend("tensorrt", manifest, {"model.plan": b"anything"}, place("tensorrt"))


@pytest.mark.parametrize("device", ["CPU", "CUDA:x", "FPGA"])
def test_a_device_that_is_no_gpu_is_refused(device: str) -> None:
    with pytest.raises(UsageError, match="name a GPU such as CUDA:0"):
        backend._chosen(device)


def test_a_gpu_beyond_those_there_are_is_named_with_what_was_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cuda, "find_gpus", lambda: [cuda.Gpu(0, "RTX 4000 Ada", "8.9", 13000)])
    assert backend._chosen("cuda:0").name == "RTX 4000 Ada"
    with pytest.raises(BackendError, match="found: CUDA:0 RTX 4000 Ada"):
        backend._chosen("CUDA:3")


def test_every_part_of_the_cache_key_makes_another_key() -> None:
    gpu = cuda.Gpu(0, "RTX 4000 Ada", "8.9", 13000)
    options = {"precision": "int8"}
    first = backend.cache_key(TRT, gpu, options)
    assert str(TRT.__version__) in str(first["version"])
    others = [
        backend.cache_key(TRT, replace(gpu, capability="12.0"), options),
        backend.cache_key(TRT, replace(gpu, driver=13010), options),
        backend.cache_key(TRT, replace(gpu, name="RTX 6000"), options),
        backend.cache_key(TRT, gpu, {"precision": "float16"}),
    ]
    assert all(other != first for other in others)
    assert len({str(sorted(other.items())) for other in others}) == len(others)
    assert backend.cache_key(TRT, replace(gpu, index=1), options) == first


def test_cuda_bindings_that_are_absent_are_answered_with_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "cuda.bindings", None)
    with pytest.raises(BackendMissingError, match="pip install 'cuda-bindings"):
        cuda.find_gpus()


@no_gpu
def test_a_bundle_for_tensorrt_alone_says_why_it_cannot_run_here(bundle_copy: Path, reseal: object) -> None:
    import json

    path = bundle_copy / "manifest.json"
    content = json.loads(path.read_text())
    content["artefacts"] = {"tensorrt": content["artefacts"]["onnxruntime"]}
    path.write_text(json.dumps(content))
    reseal(bundle_copy)  # type: ignore[operator]
    with pytest.raises(BackendMissingError, match="no NVIDIA GPU can be used here"):
        sdk.load(bundle_copy)
