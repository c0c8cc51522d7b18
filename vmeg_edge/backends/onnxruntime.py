"""ONNX Runtime on the CPU: one thread budget, no spinning, the graph checked against the manifest."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from vmeg_edge.backends.base import BackendReport, Placement, check_tensors, inputs_of
from vmeg_edge.errors import BackendError, UsageError
from vmeg_edge.manifest import Manifest
from vmeg_edge.silence import silence

with silence():
    import onnxruntime as ort

PROVIDER = "CPUExecutionProvider"

_DTYPES = {"tensor(uint8)": "uint8", "tensor(float)": "float32"}


def open_model(manifest: Manifest, files: Mapping[str, bytes], placement: Placement) -> OnnxRuntimeBackend:
    """Open the artefact ``onnxruntime`` of ``manifest``. Raises `UsageError` or `BackendError`."""
    if placement.device.upper() != "CPU":
        raise UsageError(f"backend onnxruntime runs on the device CPU, and {placement.device!r} was asked for")
    artefact = manifest.artefacts["onnxruntime"]
    return OnnxRuntimeBackend(manifest, files[artefact.files[0]], artefact.precision, placement.threads)


class OnnxRuntimeBackend:
    """One inference session. Its threads sleep between frames, so that decoding and kernels are not starved."""

    def __init__(self, manifest: Manifest, model: bytes, precision: str, threads: int) -> None:
        """Create the session from the model's bytes. Raises `BackendError` when it cannot, or does not fit."""
        options = ort.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.execution_mode = ort.ExecutionMode.ORT_SEQUENTIAL
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        options.add_session_config_entry("session.inter_op.allow_spinning", "0")
        options.log_severity_level = 3
        try:
            self._session = ort.InferenceSession(model, options, providers=[PROVIDER])
            self._session._model_bytes = None  # kept to fall back to other providers, which we never do
        except Exception as error:
            raise BackendError(
                f"ONNX Runtime {ort.__version__} cannot open the model ({_one_line(error)}); "
                "convert the checkpoint again, or upgrade onnxruntime"
            ) from None
        providers = self._session.get_providers()
        if providers != [PROVIDER]:
            raise BackendError(f"ONNX Runtime opened {providers} where {PROVIDER} was asked for; reinstall onnxruntime")
        self._check_graph(manifest)
        self.report = BackendReport("onnxruntime", ort.__version__, "CPU", "CPU", precision, threads)

    def infer(
        self, pixels: npt.NDArray[np.uint8], home: npt.NDArray[np.int32] | None = None
    ) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
        """(logits ``[classes]``, activations ``[rows * columns, channels]``) of uint8 ``[1, H, W, 3]``."""
        try:
            logits, activations = self._session.run(["logits", "activations"], inputs_of(pixels, home))
        except Exception as error:
            raise BackendError(f"ONNX Runtime failed on a frame ({_one_line(error)}); run `vmeg-edge verify`") from None
        return np.asarray(logits)[0], np.asarray(activations)[0]

    def close(self) -> None:
        """Free the session."""
        del self._session

    def _check_graph(self, manifest: Manifest) -> None:
        nodes = [*self._session.get_inputs(), *self._session.get_outputs()]
        found = {node.name: (_DTYPES.get(node.type, node.type), list(node.shape)) for node in nodes}
        check_tensors(manifest, found, "ONNX Runtime")


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:300]
