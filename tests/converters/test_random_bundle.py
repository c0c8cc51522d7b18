"""A model with random weights is made once, is the same each time, and says that it was never trained."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from vmeg_edge.converters import random_bundle as module
from vmeg_edge.converters.architectures.vit import ViTConfig
from vmeg_edge.converters.random_bundle import ARCHITECTURES, RANDOM_WEIGHTS, random_bundle

import vmeg_edge as sdk
from conftest import Ran
from vmeg_edge.bench.report import parse_report
from vmeg_edge.bundle import open_bundle
from vmeg_edge.errors import OutputError, UsageError
from vmeg_edge.manifest import RANDOM_HEAD

TARGETS = ("onnxruntime",)


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache of its own, and a model that is made in a moment."""
    monkeypatch.setitem(ARCHITECTURES, "vit_tiny", ViTConfig(dim=64, depth=1, heads=1))
    monkeypatch.setenv("VMEG_EDGE_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def test_it_is_made_once_kept_in_the_cache_and_made_anew_where_it_was_damaged(cache: Path) -> None:
    said: list[str] = []
    path = random_bundle("vit_tiny", "float32", TARGETS, said.append)
    assert cache in path.parents
    assert said[0].startswith("making vit_tiny with random weights, float32, for onnxruntime")
    checkpoint = open_bundle(path).manifest.checkpoint
    said.clear()
    assert random_bundle("vit_tiny", "float32", TARGETS, said.append) == path
    assert said == []
    (path / "model.onnx").write_bytes(b"damaged")
    assert random_bundle("vit_tiny", "float32", TARGETS, said.append) == path
    assert said
    manifest = open_bundle(path).manifest
    assert (manifest.name, tuple(manifest.artefacts)) == ("vit_tiny", TARGETS), "it is whole again"
    assert manifest.checkpoint == checkpoint, "the seed makes the same weights each time"


def test_every_result_says_that_it_was_never_trained() -> None:
    path = random_bundle("vit_tiny", "float32", TARGETS, lambda _line: None)
    with sdk.load(path, threads=1) as scorer:
        assert any(notice.startswith("RANDOM HEAD") for notice in scorer.notices)
        assert scorer.manifest.architecture.dim == 64
    assert RANDOM_WEIGHTS in json.dumps(json.loads((path / "manifest.json").read_text()))


def test_another_precision_or_engine_is_another_bundle(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[Path] = []

    class Done:
        def check(self) -> None:
            """Nothing was converted."""

    def convert(_checkpoint: Path, path: Path, **options: object) -> Done:
        assert (options["quantization"] is None) == (options["precision"] != "int8")
        made.append(path)
        return Done()

    monkeypatch.setattr(module, "convert", convert)
    for precision, targets in (
        ("float32", TARGETS),
        ("int8", TARGETS),
        ("int8", ("openvino",)),
        ("int8", ("openvino", "onnxruntime")),
        ("int8", ("onnxruntime", "openvino")),
    ):
        random_bundle("vit_tiny", precision, targets, lambda _line: None)
    assert len(made) == 5
    assert len(set(made)) == 4, "the order of engines makes no difference"


def test_a_cache_that_cannot_be_used_is_said(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("VMEG_EDGE_CACHE", str(tmp_path / "file"))
    with pytest.raises(OutputError, match="VMEG_EDGE_CACHE"):
        random_bundle("vit_tiny", "float32", TARGETS, lambda _line: None)


def test_bench_measures_an_architecture_without_a_checkpoint_beside_a_bundle(
    vmeg_edge: Callable[..., Ran], demo_bundle: Path
) -> None:
    options = ("--bundle", demo_bundle, "--arch", "vit_tiny", "--precision", "float32", "--backend", "onnxruntime")
    ran = vmeg_edge("bench", *options, "--threads", 1, "--size", "64x48", "--iterations", 4, "--rounds", 2, "--json")
    assert "making vit_tiny" in ran.err
    report = parse_report(ran.out.encode(), "stdout")
    demo, model = report.models
    assert [case.name for case in report.cases] == [f"{name}, onnxruntime, 1 thread" for name in ("demo", "vit_tiny")]
    assert model.notices[:2] == (RANDOM_WEIGHTS, RANDOM_HEAD)
    assert not {RANDOM_WEIGHTS, RANDOM_HEAD} & set(demo.notices)
    assert report.cases[1].parity.passed
    assert "1 blocks, 64 channels" in model.architecture
    assert ran.code == 1, "four samples prove nothing"


def test_an_engine_that_is_not_there_is_refused_before_anything_is_made(
    vmeg_edge: Callable[..., Ran], cache: Path
) -> None:
    ran = vmeg_edge("bench", "--arch", "vit_tiny", "--backend", "abacus")
    assert (ran.code, ran.out) == (2, "")
    assert "backend 'abacus' is unknown" in ran.error
    assert not (cache / "random").exists()


def test_a_precision_that_no_engine_has_is_refused() -> None:
    with pytest.raises(UsageError):
        random_bundle("vit_tiny", "int4", TARGETS, lambda _line: None)  # type: ignore[arg-type]
