"""The linear layers of an exported graph: which nodes they are, what to call them, and which one is the head."""

from __future__ import annotations

from dataclasses import dataclass

import onnx


@dataclass(frozen=True)
class LinearLayer:
    """One matrix product or convolution with constant weights.

    ``node`` is the node's name in the ONNX graph (OpenVINO keeps it), ``name`` the checkpoint's, such as
    ``blocks.0.attn.qkv``; ``data`` and ``weight`` are the tensors that it multiplies.
    """

    node: str
    name: str
    op: str
    data: str
    weight: str


def linear_layers(graph: onnx.GraphProto) -> list[LinearLayer]:
    """Every linear layer in the order of the graph; the last is the head. Products of two activations are none."""
    constants = {tensor.name for tensor in graph.initializer}
    bias_of = {
        other: constant
        for node in graph.node
        if node.op_type == "Add"
        for constant, other in (tuple(node.input), tuple(reversed(node.input)))
        if constant in constants and constant.endswith(".bias")
    }
    found = []
    for node in graph.node:
        if node.op_type not in ("MatMul", "Gemm", "Conv") or node.input[1] not in constants:
            continue
        named = [name for name in node.input[1:] if name.endswith((".weight", ".bias"))]
        parameter = named[0] if named else bias_of.get(node.output[0], node.name)
        name = parameter.removesuffix(".weight").removesuffix(".bias").removeprefix("model.")
        found.append(LinearLayer(node.name, name, node.op_type, node.input[0], node.input[1]))
    return found


def is_transformer(graph: onnx.GraphProto) -> bool:
    """Whether int8 recipes for transformers fit: LayerNorm tells; a network of folded convolutions has none."""
    return any(node.op_type == "LayerNormalization" for node in graph.node)


def quantizable(graph: onnx.GraphProto) -> list[LinearLayer]:
    """The layers that int8 recipes take: all but the head, and all but a transformer's patch embedding.

    The head costs nothing and speaks straight to the logits. The patch embedding is under 1 % of a ViT-B/16's
    arithmetic and every token's beginning; symmetric int8, TensorRT's, would have half of its levels for pixels.
    """
    layers = linear_layers(graph)[:-1]
    return [layer for layer in layers if layer.op != "Conv"] if is_transformer(graph) else layers
