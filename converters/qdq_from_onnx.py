"""Int8 ONNX by ONNX Runtime's quantizer: dynamic, static Q/DQ, and the Q/DQ that TensorRT takes.

Linear layers get symmetric int8 weights, one scale a channel. The head stays in float, and so do a transformer's patch
embedding, residual adds, LayerNorm, softmax, GELU and products of attention.
A convolutional network may pass its adds and poolings in int8 as well, so that nothing between two layers is float.
"""

from __future__ import annotations

import io
import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass, replace
from pathlib import Path

import onnx

from vmeg_edge.silence import silence

from .linear_layers import LinearLayer, quantizable
from .ranges import BETWEEN, LINEAR, Frames, Ranges

with silence():
    from onnxruntime.quantization import QuantType, qdq_loss_debug, quantize_dynamic, quantize_static

_RANKING_FRAMES = 2


@dataclass(frozen=True)
class QdqRecipe:
    """One way to make an int8 ONNX model. ``activation`` is ``None`` where ranges are taken frame by frame.

    ``between`` are the operators that pass in int8 beside the linear layers. Ranges are full, or those of
    ``least_error``.
    ``quantize_outputs`` rounds the products as well: ONNX Runtime fuses a product only then (437 ms a frame without,
    71 ms with, ViT-B/16 on two cores); TensorRT does not ask for it, and is more exact without.
    """

    name: str
    says: str
    activation: QuantType | None
    weight: QuantType = QuantType.QInt8
    symmetric: bool = False
    quantize_bias: bool = True
    quantize_outputs: bool = True
    between: tuple[str, ...] = ()
    least_error: bool = False


DYNAMIC = QdqRecipe("dynamic", "activations ranged frame by frame (uint8), weights int8 per channel", None)
DYNAMIC_UNSIGNED = QdqRecipe(
    "dynamic-u8",
    "activations ranged frame by frame (uint8), weights uint8 per channel: cannot saturate",
    None,
    weight=QuantType.QUInt8,
)
STATIC = QdqRecipe("static", "Q/DQ, activations uint8 from calibration, weights int8 per channel", QuantType.QUInt8)
CONVOLUTIONAL = QdqRecipe(
    "static",
    "Q/DQ, activations uint8 in ranges of least error, weights int8 per channel",
    QuantType.QUInt8,
    least_error=True,
)
CONVOLUTIONAL_WHOLE = replace(
    CONVOLUTIONAL,
    name="static-whole",
    says="Q/DQ, activations uint8 in ranges of least error, adds and poolings too, weights int8 per channel",
    between=BETWEEN,
)
CONVOLUTIONAL_UNSIGNED = replace(
    CONVOLUTIONAL,
    name="static-u8",
    says="Q/DQ, activations uint8 in ranges of least error, weights uint8 per channel: cannot saturate",
    weight=QuantType.QUInt8,
)
CONVOLUTIONAL_WHOLE_UNSIGNED = replace(
    CONVOLUTIONAL_WHOLE,
    name="static-whole-u8",
    says="Q/DQ, activations uint8 in ranges of least error, adds and poolings too, weights uint8 per channel: cannot "
    "saturate",
    weight=QuantType.QUInt8,
)
TENSORRT = QdqRecipe(
    "q/dq",
    "explicit Q/DQ, activations and weights symmetric int8, weights per channel, float bias",
    QuantType.QInt8,
    symmetric=True,
    quantize_bias=False,
    quantize_outputs=False,
)
TENSORRT_CONVOLUTIONAL = replace(TENSORRT, says=f"{TENSORRT.says}, ranges of least error", least_error=True)


class QdqQuantizer:
    """Quantizes one float32 model by a recipe, again and again with more layers left in float."""

    def __init__(self, ranges: Ranges, recipe: QdqRecipe) -> None:
        """Read the model's layers. ``ranges`` are of the model to quantize; other recipes share them."""
        self.recipe = recipe
        self._ranges = ranges
        self._out = ranges.scratch / f"{recipe.name.replace('/', '')}.onnx"
        graph = onnx.load(ranges.model, load_external_data=False).graph
        self.layers: list[LinearLayer] = quantizable(graph)
        self._between = _between(graph, recipe.between)

    def quantize(self, float_nodes: Sequence[str] = ()) -> Path:
        """Write the int8 model, its ``float_nodes`` left in float, and return its path (overwritten by the next)."""
        model, out = self._ranges.model, self._out
        nodes = [layer.node for layer in self.taken() if layer.node not in set(float_nodes)]
        with _quiet():
            if self.recipe.activation is None:
                quantize_dynamic(
                    model,
                    out,
                    op_types_to_quantize=["MatMul", "Gemm"],
                    per_channel=True,
                    weight_type=self.recipe.weight,
                    nodes_to_quantize=nodes,
                )
            else:
                operators = [*LINEAR, *self.recipe.between]
                symmetric = self.recipe.symmetric
                known = (
                    self._ranges.least_error(symmetric=symmetric) if self.recipe.least_error else self._ranges.full()
                )
                quantize_static(
                    model,
                    out,
                    None,
                    op_types_to_quantize=operators,
                    per_channel=True,
                    activation_type=self.recipe.activation,
                    weight_type=self.recipe.weight,
                    nodes_to_quantize=[*nodes, *self._between],
                    calibration_cache_path=known,
                    extra_options={
                        "ActivationSymmetric": self.recipe.symmetric,
                        "WeightSymmetric": True,
                        "QuantizeBias": self.recipe.quantize_bias,
                        "OpTypesToExcludeOutputQuantization": [] if self.recipe.quantize_outputs else list(LINEAR),
                    },
                )
        return out

    def taken(self) -> list[LinearLayer]:
        """The layers that the recipe quantizes unless told otherwise: a dynamic one cannot take convolutions."""
        return [layer for layer in self.layers if self.recipe.activation is not None or layer.op != "Conv"]

    def worst_first(self) -> list[str]:
        """Nodes by the noise that int8 adds to their input and their weights in the model written last, most first.

        The noise is measured by ONNX Runtime's debugging aid, as signal to quantization noise, on a few frames.
        """
        model, frames = self._ranges.model, self._ranges.calibration
        frames = frames[:: max(1, len(frames) // _RANKING_FRAMES)][:_RANKING_FRAMES]
        augmented = self._ranges.scratch / "augmented.onnx"
        with _quiet():
            weights = qdq_loss_debug.compute_weight_error(
                qdq_loss_debug.create_weight_matching(str(model), str(self._out))
            )
            seen = []
            for path, operators in ((model, LINEAR), (self._out, ("QuantizeLinear", "DequantizeLinear"))):
                qdq_loss_debug.modify_model_output_intermediate_tensors(
                    str(path), str(augmented), op_types_for_saving=operators
                )
                seen.append(qdq_loss_debug.collect_activations(str(augmented), Frames(frames, self._ranges.feed)))
            activations = qdq_loss_debug.compute_activation_error(
                qdq_loss_debug.create_activation_matching(*reversed(seen))
            )

        def noise(layer: LinearLayer) -> float:
            figures = (weights.get(layer.weight), activations.get(layer.data, {}).get("qdq_err"))
            return sum(10 ** (-float(figure) / 10) for figure in figures if figure is not None)

        return [layer.node for layer in sorted(self.taken(), key=noise, reverse=True)]


def _between(graph: onnx.GraphProto, operators: tuple[str, ...]) -> list[str]:
    """Nodes of these operators that join or pass on activations: an Add of a constant (the normalisation) is none."""
    constants = {tensor.name for tensor in graph.initializer}
    return [node.name for node in graph.node if node.op_type in operators and not constants & set(node.input)]


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep the quantizer's advice on preprocessing, which our export does not need, off the user's screen."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with redirect_stdout(io.StringIO()):
            yield
    finally:
        logging.disable(before)
