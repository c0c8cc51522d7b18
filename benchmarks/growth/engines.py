"""An engine opened as the product opens it (latency, float32 pinned, no spinning), for any batch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from vmeg_edge.silence import silence

Infer = Callable[[npt.NDArray[np.uint8]], npt.NDArray[np.float32]]


def openvino_options(threads: int) -> dict[str, Any]:
    return {
        "INFERENCE_PRECISION_HINT": "f32",
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_NUM_THREADS": threads,
    }


def open_engine(engine: str, path: str, threads: int) -> tuple[Infer, str]:
    """``infer`` from pixels ``[N, H, W, 3]`` to logits ``[N, classes]``, and the engine's version."""
    return {"openvino": _openvino, "onnxruntime": _onnxruntime}[engine](path, threads)


def _openvino(path: str, threads: int) -> tuple[Infer, str]:
    with silence():
        import openvino as ov

    core = ov.Core()
    compiled = core.compile_model(core.read_model(path), "CPU", openvino_options(threads))
    request = compiled.create_infer_request()

    def infer(pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        request.infer({"pixels": pixels}, share_inputs=True)
        logits: npt.NDArray[np.float32] = request.get_tensor("logits").data
        return logits

    return infer, str(ov.get_version())


def _onnxruntime(path: str, threads: int) -> tuple[Infer, str]:
    with silence():
        import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = 3
    session = ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])

    def infer(pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        logits: npt.NDArray[np.float32] = session.run(["logits", "activations"], {"pixels": pixels})[0]
        return logits

    return infer, str(ort.__version__)
