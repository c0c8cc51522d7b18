"""Bundles that several tests of the toolchain read: the demo model in int8 and in 16 bits, made once."""

from __future__ import annotations

from pathlib import Path

import pytest
from vmeg_edge.converters.bundle_from_model import Quantization, convert

from conversions import ALL_TARGETS, Made
from shared_data import shared_data


@pytest.fixture(scope="session")
def demo_int8(demo_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Made:
    """The demo model in int8 for all three engines, calibrated on phantoms."""
    path = tmp_path_factory.mktemp("bundles") / "demo-int8.vmeg"
    said: list[str] = []
    done = convert(
        demo_bundle,
        path,
        targets=ALL_TARGETS,
        precision="int8",
        quantization=Quantization(("phantoms",), calibration_frames=64, validation_frames=48),
        report=said.append,
    )
    return Made(path, done.check(), tuple(said))


@pytest.fixture(scope="session")
def demo_int8_for_real_frames(demo_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The demo model in int8 for the two engines that run here, calibrated on the kinds of frame it is then shown."""
    path = tmp_path_factory.mktemp("bundles") / "demo-real.vmeg"
    sources = (
        "phantoms",
        shared_data("fetal_brain"),
        shared_data("fetal_head_hc18"),
        shared_data("us_video", "Cov_convex_volpecelli_sonographic_v1.mov"),
    )
    quantization = Quantization(sources, calibration_frames=48, validation_frames=24)
    convert(demo_bundle, path, targets=("onnxruntime", "openvino"), precision="int8", quantization=quantization).check()
    return path
