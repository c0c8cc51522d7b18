"""Bundles that several tests of the toolchain read: the demo model in int8, made once.

OpenVINO's int8 of a ViT is made by itself: beside ONNX Runtime's it is left out for processors without VNNI.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest
from vmeg_edge.converters.bundle_from_model import Quantization, convert

from conversions import Made
from shared_data import shared_data

FRAMES = Quantization(("phantoms",), calibration_frames=48, validation_frames=32)


def _made(demo_bundle: Path, path: Path, *targets: str) -> Made:
    said: list[str] = []
    done = convert(demo_bundle, path, targets=targets, precision="int8", quantization=FRAMES, report=said.append)
    return Made(path, done.check(), tuple(said))


@pytest.fixture(scope="session")
def demo_int8(demo_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Made:
    """The demo model in int8 for ONNX Runtime and TensorRT, calibrated on phantoms."""
    return _made(demo_bundle, tmp_path_factory.mktemp("bundles") / "demo-int8.vmeg", "onnxruntime", "tensorrt")


@pytest.fixture(scope="session")
def demo_int8_openvino(demo_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Made:
    """The demo model in int8 for OpenVINO, calibrated on phantoms."""
    return _made(demo_bundle, tmp_path_factory.mktemp("bundles") / "demo-openvino.vmeg", "openvino")


@pytest.fixture(scope="session")
def int8_of(demo_int8: Made, demo_int8_openvino: Made) -> Mapping[str, Made]:
    """Each target's conversion of the demo model in int8."""
    return {"onnxruntime": demo_int8, "tensorrt": demo_int8, "openvino": demo_int8_openvino}


@pytest.fixture(scope="session")
def demo_int8_for_real_frames(demo_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Path]:
    """The demo model in int8 for each engine that runs here, calibrated on the kinds of frame it is then shown."""
    sources = (
        "phantoms",
        shared_data("fetal_brain"),
        shared_data("fetal_head_hc18"),
        shared_data("us_video", "Cov_convex_volpecelli_sonographic_v1.mov"),
    )
    quantization = Quantization(sources, calibration_frames=48, validation_frames=24)
    paths = {}
    for target in ("onnxruntime", "openvino"):
        paths[target] = tmp_path_factory.mktemp("bundles") / f"demo-real-{target}.vmeg"
        convert(
            demo_bundle, paths[target], targets=(target,), precision="int8", quantization=quantization, plane_gate=False
        ).check()
    return paths
