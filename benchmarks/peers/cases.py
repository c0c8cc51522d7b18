"""What is compared: a line a peer, and which file of the work folder each opens."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from families.base import Peer

INT8_BFLOAT16 = "int8-bf16"


@dataclass(frozen=True)
class Work:
    """The folder that holds everything that is made once: checkpoint, bundles, frames, reference, grad-cam."""

    path: Path

    @property
    def checkpoint(self) -> Path:
        return self.path / "vit.pt"

    @property
    def grad_cam(self) -> Path:
        """Where grad-cam is installed, apart from the environment that runs the rest."""
        return self.path / "gradcam"

    @property
    def frames(self) -> Path:
        """uint8 ``[frames, 1080, 1920, 3]``."""
        return self.path / "frames.npy"

    def bundle(self, precision: str) -> Path:
        return self.path / f"{precision}.vmeg"

    def model(self, precision: str, engine: str) -> Path:
        """The artefact of the bundle, as its engine opens it."""
        bundle = self.bundle(precision)
        manifest = json.loads((bundle / "manifest.json").read_text(encoding="utf-8"))
        return Path(bundle / manifest["artefacts"][engine]["files"][0])

    @property
    def direction(self) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
        """Which way the leading singular vector points: the model's own, float32 ``[768]``."""
        return np.asarray(np.load(self.bundle("int8") / "cam_direction.npy"), dtype=np.float32)


@dataclass(frozen=True)
class Case:
    """``gate`` is the precision whose limit holds; ``whole``: from frame to score and map; ``signed``: by the rule.

    ``blas_threads`` are NumPy's, ``None`` as NumPy ships. ``bfloat16`` marks what a processor without it cannot run.
    """

    name: str
    label: str
    gate: str
    open: Callable[[Work, int], Peer]
    whole: bool = True
    signed: bool = True
    blas_threads: int | None = 1
    bfloat16: bool = False


def _grad_cam(work: Work, threads: int) -> Peer:
    from families.gradcam import GradCam

    return GradCam(work.checkpoint, threads)


def _torch(*, autocast: bool) -> Callable[[Work, int], Peer]:
    def opened(work: Work, threads: int) -> Peer:
        from families.torch_tuned import TorchTuned

        return TorchTuned(work.checkpoint, work.direction, threads, autocast=autocast)

    return opened


def _onnxruntime(precision: str) -> Callable[[Work, int], Peer]:
    def opened(work: Work, threads: int) -> Peer:
        from families.engine_onnxruntime import OnnxRuntime

        return OnnxRuntime(work.model(precision, "onnxruntime"), work.direction, threads)

    return opened


def _openvino(precision: str, hint: str, *, raw: bool = False) -> Callable[[Work, int], Peer]:
    def opened(work: Work, threads: int) -> Peer:
        from families.engine_openvino import OpenVino, RawOpenVino

        kind = RawOpenVino if raw else OpenVino
        return kind(work.model(precision, "openvino"), work.direction, threads, hint=hint)

    return opened


def _product(precision: str, backend: str) -> Callable[[Work, int], Peer]:
    def opened(work: Work, threads: int) -> Peer:
        from families.product import VmegEdge

        return VmegEdge(work.bundle(precision), work.path / "cache", threads, backend=backend)

    return opened


GRAD_CAM, RAW_INT8, OURS = "torch-gradcam", "openvino-int8-raw", "vmeg-openvino-int8"
GRAD_CAM_AS_INSTALLED = "torch-gradcam-as-installed"
RAW_INT8_BFLOAT16, OURS_BFLOAT16 = "openvino-int8-bfloat16-raw", "vmeg-openvino-int8-bf16"

_WHOLE = (
    Case(GRAD_CAM, "torch float32 + grad-cam, one BLAS thread", "float32", _grad_cam, signed=False),
    Case(
        GRAD_CAM_AS_INSTALLED,
        "torch float32 + grad-cam, as installed",
        "float32",
        _grad_cam,
        signed=False,
        blas_threads=None,
    ),
    Case("torch-float32", "torch float32, thin SVD", "float32", _torch(autocast=False)),
    Case("torch-bfloat16", "torch bfloat16 autocast, thin SVD", "bfloat16", _torch(autocast=True), bfloat16=True),
    Case("onnxruntime-float32", "ONNX Runtime float32", "float32", _onnxruntime("float32")),
    Case("onnxruntime-int8", "ONNX Runtime int8", "int8", _onnxruntime("int8")),
    Case("openvino-float32", "OpenVINO float32", "float32", _openvino("float32", "f32")),
    Case("openvino-bfloat16", "OpenVINO bfloat16", "bfloat16", _openvino("float32", "bf16"), bfloat16=True),
    Case("openvino-int8", "OpenVINO NNCF int8", "int8", _openvino("int8", "f32")),
)
_RAW = tuple(
    Case(
        name,
        f"raw OpenVINO {label}",
        gate,
        _openvino(precision, hint, raw=True),
        whole=False,
        bfloat16=hint == "bf16",
    )
    for name, label, gate, precision, hint in (
        ("openvino-float32-raw", "float32", "float32", "float32", "f32"),
        ("openvino-bfloat16-raw", "bfloat16", "bfloat16", "float32", "bf16"),
        (RAW_INT8, "NNCF int8", "int8", "int8", "f32"),
        (RAW_INT8_BFLOAT16, "NNCF int8, the rest bfloat16", "int8", "int8", "bf16"),
    )
)
_PRODUCT = tuple(
    Case(f"vmeg-{backend}-{precision}", f"vmeg-edge, {label} {precision}", precision, _product(precision, backend))
    for backend, label in (("onnxruntime", "ONNX Runtime"), ("openvino", "OpenVINO"))
    for precision in ("float32", "int8")
)
_PRODUCT_BFLOAT16 = Case(
    OURS_BFLOAT16,
    "vmeg-edge, OpenVINO int8, the rest bfloat16",
    "int8",
    _product(INT8_BFLOAT16, "openvino"),
    bfloat16=True,
)
CASES = {case.name: case for case in (*_WHOLE, *_RAW, *_PRODUCT, _PRODUCT_BFLOAT16)}


def runnable() -> list[Case]:
    """What this processor can run."""
    from vmeg_edge.silence import silence

    with silence():
        import openvino

    has = "BF16" in openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    return [case for case in CASES.values() if has or not case.bfloat16]
