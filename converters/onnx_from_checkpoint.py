"""A model to one ONNX file that takes uint8 RGB pixels, and the torch reference that it is held against."""

from __future__ import annotations

import logging
import math
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from os import PathLike
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import onnx
import torch
from torch import Tensor, nn

from vmeg_edge.errors import FrameError, UsageError
from vmeg_edge.outputs import PendingFile

from .architectures.batch_norm import folded
from .architectures.network import Network
from .architectures.vit import ViT
from .threads import within_quota

Reference: TypeAlias = Callable[[npt.NDArray[np.uint8]], tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]]

OPSET = 20  # the first with Gelu as one node; LayerNormalization is one since 17
_BATCH = 8  # frames that the reference holds at once: about 100 MB of attention in a ViT-B/16


class _FromPixels(nn.Module):
    """The model behind its uint8 input, and behind ``normalise`` (scale and shift) where that is no part of it."""

    scale: Tensor
    shift: Tensor

    def __init__(self, model: Network, normalise: tuple[Tensor, Tensor] | None = None) -> None:
        super().__init__()
        self.model = model
        self.normalise = normalise is not None
        if normalise is not None:
            self.register_buffer("scale", normalise[0])
            self.register_buffer("shift", normalise[1])

    def forward(self, pixels: Tensor, *home: Tensor) -> Any:
        """Score ``[N, H, W, 3]`` uint8. The cast comes first: TensorRT refuses to transpose uint8."""
        x = pixels.to(torch.float32).permute(0, 3, 1, 2)  # [N, 3, H, W], 0..255
        if self.normalise:
            x = x * self.scale + self.shift
        return self.model(x, *home)


def export(
    model: Network, path: str | PathLike[str], *, mean: Sequence[float], std: Sequence[float]
) -> onnx.ModelProto:
    """Write ``model`` as one ONNX file and return what was written.

    Input ``pixels`` uint8 ``[1, H, W, 3]`` RGB, and ``home`` int32 ``[1, h*w]`` of a ViT with a sector; outputs
    ``logits`` float32 ``[1, classes]`` and ``activations`` float32 ``[1, h*w, C]``. ``(x / 255 - mean) / std``, one
    number a channel as in training, is folded into a first convolution that never pads (a ViT's patch embedding), where
    the fold is exact; before one that pads with zeros it stays two nodes. Batch norms are folded into the convolutions
    before them. Shapes are static, the same model gives the same bytes, nothing of the exporting machine is in them.

    Raises `UsageError` for a mean or std that is none, `OutputError` where ``path`` cannot be written.
    """
    means, stds = _normalisation(mean, std)
    if model.get_submodule(model.first_conv).padding == (0, 0):
        behind = _FromPixels(_with_normalisation(model, means, stds))
    else:
        behind = _FromPixels(folded(model), _scale_and_shift(means, stds))
    with PendingFile(path) as pending:
        side = model.config.image_size
        inputs = {"pixels": torch.zeros(1, side, side, 3, dtype=torch.uint8)}
        if isinstance(model, ViT) and model.config.sector:
            inputs["home"] = torch.zeros(1, model.config.grid**2, dtype=torch.int32)
        proto = _traced(behind, inputs)
        _forget_the_exporter(proto)
        onnx.checker.check_model(proto)
        pending.write_bytes(proto.SerializeToString(deterministic=True))
    return proto


def reference(model: Network, *, mean: Sequence[float], std: Sequence[float]) -> Reference:
    """Return the float32 reference that every artefact is compared with.

    It takes uint8 ``[N, H, W, 3]`` RGB, normalises as training did, and returns the logits ``[N, classes]``
    and the activations ``[N, h*w, C]``, both float32 NumPy.

    Raises `UsageError` for a mean or std that is none; the callable raises `FrameError` for other pixels.
    """
    channel_mean, channel_std = (
        torch.tensor(values, dtype=torch.float32).reshape(1, 3, 1, 1) for values in _normalisation(mean, std)
    )
    side = model.config.image_size
    model = model.eval()
    within_quota()

    def score(
        pixels: npt.NDArray[np.uint8],
    ) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
        if pixels.dtype != np.uint8 or pixels.ndim != 4 or pixels.shape[1:] != (side, side, 3):
            raise FrameError(
                f"the reference got {pixels.dtype} {list(pixels.shape)}; pass uint8 [N, {side}, {side}, 3] RGB"
            )
        logits, activations = [], []
        with torch.inference_mode():
            for start in range(0, len(pixels), _BATCH):
                x = torch.from_numpy(np.ascontiguousarray(pixels[start : start + _BATCH]))
                x = x.permute(0, 3, 1, 2).to(torch.float32) / 255  # [N, 3, H, W], 0..1
                scores, seen = model((x - channel_mean) / channel_std)
                logits.append(scores.numpy())
                activations.append(seen.numpy())
        if not logits:
            positions = model.grid[0] * model.grid[1]
            return (
                np.empty((0, model.config.classes), np.float32),
                np.empty((0, positions, model.channels), np.float32),
            )
        return np.concatenate(logits), np.concatenate(activations)

    return score


def _normalisation(mean: Sequence[float], std: Sequence[float]) -> tuple[list[float], list[float]]:
    """Return mean and std as three numbers each, on the scale where a pixel is 0 to 1."""
    means, stds = [float(value) for value in mean], [float(value) for value in std]
    if len(means) != 3 or not all(math.isfinite(value) for value in means):
        raise UsageError(f"mean is {means}; give three finite numbers, for red, green and blue")
    if len(stds) != 3 or not all(math.isfinite(value) and value > 0 for value in stds):
        raise UsageError(f"std is {stds}; give three numbers above zero, for red, green and blue")
    return means, stds


def _scale_and_shift(mean: list[float], std: list[float]) -> tuple[Tensor, Tensor]:
    """``(x/255 - m)/s`` as ``x·scale + shift``, each float32 ``[1, 3, 1, 1]``, in float64 and rounded once."""
    means, stds = (torch.tensor(values, dtype=torch.float64).reshape(1, 3, 1, 1) for values in (mean, std))
    return (1 / (255 * stds)).float(), (-means / stds).float()


def _with_normalisation(model: Network, mean: list[float], std: list[float]) -> Network:
    """Return the model with the normalisation inside its first convolution, sharing every other weight.

    ``w·((x/255 - m)/s) + b = (w/(255 s))·x + (b - Σ w m/s)``, in float64 and rounded once.
    """
    state = model.state_dict()
    name = model.first_conv
    weight = state[f"{name}.weight"].double()  # [C, 3, kernel, kernel]
    channel_mean, channel_std = (
        torch.tensor(values, dtype=torch.float64).reshape(1, 3, 1, 1) for values in (mean, std)
    )
    shift = (weight * (channel_mean / channel_std)).sum(dim=(1, 2, 3))  # [C]
    state[f"{name}.weight"] = (weight / (255 * channel_std)).float()
    state[f"{name}.bias"] = (state[f"{name}.bias"].double() - shift).float()
    return model.with_state(state)


def _traced(model: nn.Module, inputs: dict[str, Tensor]) -> onnx.ModelProto:
    """Trace through torch.export, whose graph keeps LayerNormalization whole."""
    with _quiet():
        program = torch.onnx.export(
            model.eval(),
            tuple(inputs.values()),
            dynamo=True,
            opset_version=OPSET,
            input_names=list(inputs),
            output_names=["logits", "activations"],
            external_data=False,
            verbose=False,
        )
    if program is None:
        raise AssertionError("torch.onnx.export with dynamo=True returns a program")
    return program.model_proto


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep torch's talk about absent torchvision operators and its own deprecations off the user's screen."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "onnxscript", "onnx_ir")]
    levels = [logger.level for logger in loggers]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        try:
            yield
        finally:
            for logger, level in zip(loggers, levels, strict=True):
                logger.setLevel(level)


def _forget_the_exporter(proto: onnx.ModelProto) -> None:
    """Remove stack traces, which hold the exporter's paths, and the shapes that initializers repeat."""
    graph = proto.graph
    held = {tensor.name for tensor in graph.initializer}
    shapes = [info for info in graph.value_info if info.name not in held]
    del graph.value_info[:]
    graph.value_info.extend(shapes)
    described: list[Any] = [proto, graph]
    for part in (graph.node, graph.initializer, graph.value_info, graph.input, graph.output):
        described.extend(part)
    for item in described:
        del item.metadata_props[:]
        item.doc_string = ""
