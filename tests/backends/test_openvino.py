"""OpenVINO: precision pinned, devices named, engines cached and refused, the same answers as ONNX Runtime."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import openvino as ov
import pytest

import vmeg_edge as sdk
from vmeg_edge.backends import open_backend, place, usable_processors
from vmeg_edge.bundle import open_bundle
from vmeg_edge.errors import BackendError, UsageError
from vmeg_edge.phantom import phantom


@pytest.fixture(scope="module")
def float_bundle(demo_bundle: Path) -> Path:
    """The demo model for ONNX Runtime and OpenVINO, float32; it is only read, and no toolchain is needed for it."""
    return demo_bundle


def test_both_engines_say_the_same(float_bundle: Path, tmp_path: Path) -> None:
    frame = phantom(5, 1, atrial_width_mm=12.0).frame
    with (
        sdk.load(float_bundle, backend="openvino", cache=tmp_path) as one,
        sdk.load(float_bundle, backend="onnxruntime") as two,
    ):
        ours, theirs = one.score(frame), two.score(frame)
    assert ours.prediction.probability == pytest.approx(theirs.prediction.probability, abs=1e-5)
    assert np.abs(ours.heat_map.values - theirs.heat_map.values).max() < 1e-3
    assert ours.provenance["backend"] == "openvino"
    assert ours.provenance["device"] == "CPU"
    assert ours.provenance["precision"] == ours.provenance["float_precision"] == "float32"
    assert ours.provenance["details"]["hint"] == "LATENCY"
    json.dumps(ours.to_json())


def test_the_second_opening_takes_the_engine_from_the_cache_and_damage_is_survived(
    float_bundle: Path, tmp_path: Path
) -> None:
    frame = phantom(5, 2, atrial_width_mm=7.0).frame
    states, scores = [], []
    for turn in range(4):
        with sdk.load(float_bundle, backend="openvino", cache=tmp_path) as scorer:
            states.append(scorer.provenance["details"]["cache"])
            scores.append(scorer.score(frame).prediction.probability)
        if turn == 1:
            (engine,) = tmp_path.glob("*.engine")
            data = bytearray(engine.read_bytes())
            data[len(data) // 2] ^= 1
            engine.write_bytes(data)
    assert states[:2] == ["stored", "hit"]
    assert states[2] == "refused: damaged, or not written by this device, compiled anew"
    assert states[3] == "hit"
    assert len(set(scores)) == 1


def test_an_engine_of_another_version_is_not_looked_at(
    float_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from vmeg_edge.backends import openvino as backend

    with sdk.load(float_bundle, backend="openvino", cache=tmp_path):
        pass
    monkeypatch.setattr(backend, "_version", lambda: "1999.1")
    with sdk.load(float_bundle, backend="openvino", cache=tmp_path) as scorer:
        assert scorer.provenance["details"]["cache"] == "stored"
    assert len(list(tmp_path.glob("*.engine"))) == 2


@pytest.mark.parametrize(
    ("device", "error", "words"),
    [
        ("AUTO", UsageError, "name one device"),
        ("HETERO:CPU", UsageError, "name one device"),
        ("TPU", UsageError, "no device 'TPU'"),
        ("GPU.7", BackendError, "found: CPU"),
        ("NPU", BackendError, "NPU driver"),
    ],
)
def test_a_device_that_is_not_there_is_named_with_what_was_found(
    float_bundle: Path, device: str, error: type[Exception], words: str
) -> None:
    if any(name.startswith(device.partition(".")[0]) for name in ov.Core().available_devices):
        pytest.skip(f"this machine has {device}")
    with pytest.raises(error, match=words):
        sdk.load(float_bundle, backend="openvino", device=device, cache=False)


def test_a_precision_that_the_device_does_not_compute_in_is_an_error_not_a_fall_back(float_bundle: Path) -> None:
    bundle = open_bundle(float_bundle)
    artefact = bundle.manifest.artefacts["openvino"]
    halved = artefact.model_copy(update={"precision": "float16", "float_precision": "float16"})
    manifest = bundle.manifest.model_copy(update={"artefacts": {"openvino": halved}})
    files = {name: bundle.read(name) for name in artefact.files}
    if "FP16" in ov.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
        pytest.skip("this CPU computes float16")
    with pytest.raises(BackendError, match="where the bundle asks for float16"):
        open_backend("openvino", manifest, files, place("openvino"))


def test_a_float_model_that_claims_int8_is_refused(float_bundle: Path) -> None:
    bundle = open_bundle(float_bundle)
    artefact = bundle.manifest.artefacts["openvino"].model_copy(update={"precision": "int8"})
    manifest = bundle.manifest.model_copy(update={"artefacts": {"openvino": artefact}})
    files = {name: bundle.read(name) for name in artefact.files}
    with pytest.raises(BackendError, match="no layer of this int8 model in int8"):
        open_backend("openvino", manifest, files, place("openvino"))


def test_a_model_that_is_none_and_one_that_does_not_fit_get_one_line(float_bundle: Path) -> None:
    bundle = open_bundle(float_bundle)
    files = {name: bundle.read(name) for name in bundle.manifest.artefacts["openvino"].files}
    for nonsense in (b"<net>", b"", b"PK"):
        # OpenVINO 2025.4 reads one of these as a model without tensors.
        with pytest.raises(BackendError, match=r"cannot compile|no such tensor"):
            open_backend("openvino", bundle.manifest, {**files, "model.onnx": nonsense}, place("openvino"))
    wider = bundle.manifest.explanation.model_copy(update={"channels": 191})
    manifest = bundle.manifest.model_copy(update={"explanation": wider})
    with pytest.raises(BackendError, match=r"promises activations .* has float32 \[1, 196, 192\]"):
        open_backend("openvino", manifest, files, place("openvino"))


def test_the_hint_reaches_the_engine(float_bundle: Path, vmeg_edge: Callable, tmp_path: Path) -> None:
    still = tmp_path / "still.png"
    import cv2

    cv2.imwrite(str(still), np.full((64, 64), 90, np.uint8))
    arguments = (
        "score",
        still,
        "--bundle",
        float_bundle,
        "--backend",
        "openvino",
        "--no-cache",
        "--hint",
        "throughput",
    )
    ran = vmeg_edge(*arguments)
    assert ran.code == 0, ran.err
    details = json.loads(ran.out.splitlines()[0])["provenance"]["details"]
    assert details["hint"] == "THROUGHPUT"
    assert details["cache"] == "off"


def test_progress_is_told_of_compiling(float_bundle: Path) -> None:
    told: list[tuple[str, int, int | None]] = []
    bundle = open_bundle(float_bundle)
    files = {name: bundle.read(name) for name in bundle.manifest.artefacts["openvino"].files}
    placement = replace(place("openvino"), progress=lambda *step: told.append(step))
    open_backend("openvino", bundle.manifest, files, placement).close()
    assert told == [("compiling for OpenVINO", 0, 1), ("compiling for OpenVINO", 1, 1)]


@pytest.mark.skipif(usable_processors() < 2, reason="one processor leaves no choice")
def test_threads_are_pinned_only_where_one_model_has_all_processors(float_bundle: Path) -> None:
    for threads, pinned in ((1, False), (usable_processors(), True)):
        with sdk.load(float_bundle, backend="openvino", threads=threads, cache=False, self_test=False) as scorer:
            assert scorer.backend._compiled.get_property("ENABLE_CPU_PINNING") is pinned


def test_scoring_and_conversion_send_no_usage_statistics(tmp_path: Path) -> None:
    pytest.importorskip("nncf")
    code = """
import sys
import vmeg_edge.backends.openvino, vmeg_edge.converters.openvino_from_onnx
import openvino.tools.ovc, nncf.telemetry.wrapper
assert type(openvino.tools.ovc.telemetry).__module__ == "openvino.tools.ovc.telemetry_stub"
assert not isinstance(nncf.telemetry.telemetry, nncf.telemetry.wrapper.NNCFTelemetry)
assert not any(name.startswith("openvino_telemetry") for name in sys.modules)
"""
    subprocess.run([sys.executable, "-c", code], check=True, env={**os.environ, "HOME": str(tmp_path)})
    assert list(tmp_path.iterdir()) == []
