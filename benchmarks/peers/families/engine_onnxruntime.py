"""ONNX Runtime through its own API: default session options but for the threads."""

from __future__ import annotations

from pathlib import Path

from vmeg_edge.silence import silence

from .base import Map, Pixels, positive, resized
from .eigencam import eigencam

with silence():
    import onnxruntime as ort


class OnnxRuntime:
    settings = "default session options, intra_op_num_threads; OpenCV; NumPy thin SVD"

    def __init__(self, model: Path, direction: Map, threads: int) -> None:
        options = ort.SessionOptions()
        options.intra_op_num_threads = threads
        self._session = ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        self._direction = direction
        self.versions = {"onnxruntime": str(ort.__version__)}

    def prepare(self, frame: Pixels) -> Pixels:
        return frame

    def score(self, item: Pixels) -> tuple[float, Map]:
        logits, activations = self._session.run(["logits", "activations"], {"pixels": resized(item)[None]})
        return positive(logits[0]), eigencam(activations[0], self._direction)
