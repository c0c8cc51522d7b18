"""The table of backends is data, and ONNX Runtime reports what it got."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from vmeg_edge.backends import BACKENDS, availability, base, open_backend, place, usable_processors
from vmeg_edge.backends.base import Package
from vmeg_edge.bundle import open_bundle
from vmeg_edge.errors import BackendMissingError, UsageError


def test_every_row_of_the_table_can_be_asked_for() -> None:
    for name in BACKENDS:
        found = availability(name)
        assert found.usable == (found.version is not None)
        assert found.entry.install.startswith("pip install")
        assert found.entry.default_device.split(":")[0] in ("CPU", "CUDA")


def test_an_absent_engine_is_answered_with_the_command_that_adds_it(monkeypatch: pytest.MonkeyPatch) -> None:
    absent = replace(BACKENDS["onnxruntime"], packages=(Package("no_such_engine", "no-such-engine", "1.0"),))
    monkeypatch.setattr(base, "BACKENDS", {"onnxruntime": absent})
    with pytest.raises(BackendMissingError, match=r"no_such_engine.*pip install 'onnxruntime"):
        open_backend("onnxruntime", None, {}, place("onnxruntime"))  # type: ignore[arg-type]


def test_an_engine_that_is_too_old_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        base,
        "BACKENDS",
        {"onnxruntime": replace(BACKENDS["onnxruntime"], packages=(Package("onnxruntime", "onnxruntime", "99.1"),))},
    )
    found = availability("onnxruntime")
    assert not found.usable
    assert "older than 99.1" in found.reason


def test_what_is_inferred_has_the_manifests_shapes_and_is_deterministic(demo_bundle: Path) -> None:
    bundle = open_bundle(demo_bundle)
    manifest = bundle.manifest
    backend = open_backend(
        "onnxruntime", manifest, {"model.onnx": bundle.read("model.onnx")}, place("onnxruntime", threads=1)
    )
    rng = np.random.default_rng(3)
    pixels = rng.integers(0, 256, (1, manifest.input.height, manifest.input.width, 3), dtype=np.uint8)
    logits, activations = backend.infer(pixels)
    rows, columns = manifest.explanation.grid
    assert logits.shape == (2,)
    assert activations.shape == (rows * columns, manifest.explanation.channels)
    assert logits.dtype == activations.dtype == np.float32
    again, _ = backend.infer(pixels)
    assert np.array_equal(logits, again)
    assert backend.report.threads == 1
    backend.close()


def test_the_processors_are_those_this_process_may_use() -> None:
    assert usable_processors() >= 1


def test_the_first_package_that_serves_is_taken_and_the_others_are_named_when_none_does(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    two = (Package("no_such_engine", "no-such-engine", "1.0"), Package("onnxruntime", "onnxruntime", "1.20"))
    monkeypatch.setattr(base, "BACKENDS", {"onnxruntime": replace(BACKENDS["onnxruntime"], packages=two)})
    found = availability("onnxruntime")
    assert found.usable
    assert found.package == two[1]
    old = (two[0], Package("onnxruntime", "onnxruntime", "99.1"))
    monkeypatch.setattr(base, "BACKENDS", {"onnxruntime": replace(BACKENDS["onnxruntime"], packages=old)})
    reason = availability("onnxruntime").reason
    assert "no_such_engine" in reason
    assert "older than 99.1" in reason


def test_a_hint_or_a_thread_count_that_is_none_is_refused() -> None:
    with pytest.raises(UsageError, match="hint"):
        place("openvino", hint="FASTEST")  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="threads is 0"):
        open_backend("onnxruntime", None, {}, place("onnxruntime", threads=0))  # type: ignore[arg-type]
