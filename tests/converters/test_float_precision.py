"""What is not int8 may compute in bfloat16 on OpenVINO, where asked for, where it is faster and passes the gate."""

from __future__ import annotations

from pathlib import Path

import openvino as ov
import pytest
from vmeg_edge.converters.bundle_from_model import Quantization, convert

import vmeg_edge
from vmeg_edge.errors import UsageError

IN_BFLOAT16 = Quantization(("phantoms",), calibration_frames=16, validation_frames=16, float_precision="bfloat16")


@pytest.mark.skipif(
    "BF16" not in ov.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES"), reason="this CPU has no bfloat16"
)
def test_both_are_made_and_the_bundle_says_which_was_kept(demo_bundle: Path, tmp_path: Path) -> None:
    done = convert(
        demo_bundle,
        tmp_path / "v.vmeg",
        targets=("openvino",),
        precision="int8",
        quantization=IN_BFLOAT16,
        plane_gate=False,
    ).check()
    assert [row.candidate.artefact.float_precision for row in done.rows] == ["float32", "bfloat16"]
    assert all(row.p50_ms is not None and not row.failures for row in done.rows)
    kept = next(row for row in done.rows if row.status == "kept")
    assert kept.p50_ms == min(row.p50_ms or 0 for row in done.rows)
    with vmeg_edge.load(done.path, backend="openvino", cache=False) as scorer:
        assert scorer.provenance["float_precision"] == kept.candidate.artefact.float_precision
        assert scorer.provenance["precision"] == "int8"


@pytest.mark.parametrize(
    ("targets", "precision"),
    [(("onnxruntime",), "int8"), (("openvino", "onnxruntime"), "int8"), (("openvino",), "float32")],
)
def test_what_cannot_be_honoured_is_refused_before_any_work(
    demo_bundle: Path, tmp_path: Path, targets: tuple[str, ...], precision: str
) -> None:
    with pytest.raises(UsageError, match="--float-precision bfloat16 serves"):
        convert(demo_bundle, tmp_path / "v.vmeg", targets=targets, precision=precision, quantization=IN_BFLOAT16)  # type: ignore[arg-type]
    assert not (tmp_path / "v.vmeg").exists()


def test_a_cpu_without_it_is_named(demo_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Plain:
        def get_property(self, _device: str, _name: str) -> list[str]:
            return ["FP32", "INT8"]

    monkeypatch.setattr(ov, "Core", Plain)
    with pytest.raises(UsageError, match="--float-precision bfloat16 for openvino cannot be proven here"):
        convert(demo_bundle, tmp_path / "v.vmeg", targets=("openvino",), precision="int8", quantization=IN_BFLOAT16)
