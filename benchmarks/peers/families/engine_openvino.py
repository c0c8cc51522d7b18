"""OpenVINO through its own API: latency hint, one reused request; whole frames, and inference alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from vmeg_edge.silence import silence

from .base import Map, Pixels, positive, resized
from .eigencam import eigencam

with silence():
    import openvino as ov


class OpenVino:
    """``hint`` is INFERENCE_PRECISION_HINT: what layers that are not int8 run in."""

    def __init__(self, model: Path, direction: Map, threads: int, *, hint: str) -> None:
        options: dict[str, Any] = {
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_NUM_THREADS": threads,
            "INFERENCE_PRECISION_HINT": hint,
        }
        self._compiled = ov.Core().compile_model(model, "CPU", options)
        self._request = self._compiled.create_infer_request()
        self._direction = direction
        self.versions = {"openvino": str(ov.get_version())}
        self.settings = f"LATENCY, precision hint {hint}, shared tensors; OpenCV; NumPy thin SVD"

    def prepare(self, frame: Pixels) -> Pixels:
        return frame

    def score(self, item: Pixels) -> tuple[float, Map | None]:
        logits, activations = self.infer(resized(item)[None])
        return positive(logits[0]), eigencam(activations[0], self._direction)

    def infer(self, pixels: Pixels) -> tuple[Any, Any]:
        """Views of the request's outputs."""
        self._request.infer({"pixels": pixels}, share_inputs=True)
        return self._request.get_tensor("logits").data, self._request.get_tensor("activations").data


class RawOpenVino(OpenVino):
    """The inference call alone: the resize is done ahead, and no heat map is made."""

    def __init__(self, model: Path, direction: Map, threads: int, *, hint: str) -> None:
        super().__init__(model, direction, threads, hint=hint)
        self.settings = f"LATENCY, precision hint {hint}, shared tensors; inference alone"

    def prepare(self, frame: Pixels) -> Pixels:
        return resized(frame)[None]

    def score(self, item: Pixels) -> tuple[float, None]:
        logits, _ = self.infer(item)
        return positive(logits[0]), None
