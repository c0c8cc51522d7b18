"""ONNX that TensorRT 10, 11 and TensorRT-RTX parse strongly typed, and the proof that it builds.

Matrix products, softmax and GELU are lowered to 16 bits. The residual stream, LayerNorm, pooling and the patch
embedding stay in float32: outliers of a trained ViT grow in the residual, where float16 ends at 65,504, and the
patch embedding holds the folded normalisation, whose weights are too small for float16. Of a convolutional network,
whose norms are folded, only the normalisation of the pixels and the pooling before the head stay.
"""

from __future__ import annotations

import warnings
from collections import Counter
from typing import Literal, TypeAlias

import ml_dtypes
import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from vmeg_edge.backends.tensorrt_engine import build_engine, engine_library, engine_name, is_rtx, layer_precisions
from vmeg_edge.errors import BackendError
from vmeg_edge.silence import silence

from .linear_layers import is_transformer

with silence():
    from onnxruntime.transformers.float16 import convert_float_to_float16

Half: TypeAlias = Literal["float16", "bfloat16"]

NAME = "tensorrt.onnx"
CAPABILITIES = ("8.9", "12.0")

_SMALLEST_NORMAL = 2.0**-14  # of float16; a scale below it loses its digits
_KEPT_OPS = ("LayerNormalization", "ReduceMean", "Concat", "Slice", "Cast")


def lower(model: onnx.ModelProto, half: Half) -> onnx.ModelProto:
    """Return the model with everything that may be in 16 bits in ``half``; inputs and outputs keep their types."""
    kept = _kept_in_float32(model.graph)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # tiny weights that round to zero are what 16 bits mean
        lowered: onnx.ModelProto = convert_float_to_float16(
            model, keep_io_types=True, node_block_list=kept, op_block_list=[], disable_shape_infer=False
        )
    if half == "bfloat16":
        _to_bfloat16(lowered, model)
    return lowered


def emulated(model: onnx.ModelProto) -> onnx.ModelProto:
    """A bfloat16 model that a CPU runs: computed in float32, rounded to bfloat16 wherever the model casts to it."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    for tensor in copy.graph.initializer:
        if tensor.data_type == TensorProto.BFLOAT16:
            tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor).astype(np.float32), tensor.name))
    nodes = []
    for node in copy.graph.node:
        nodes.append(node)
        if any(a.name == "to" and a.i == TensorProto.BFLOAT16 for a in node.attribute):
            rounded = f"{node.output[0]}_bfloat16"
            nodes.append(helper.make_node("Cast", [rounded], [node.output[0]], to=TensorProto.FLOAT))
            node.output[0] = rounded
    del copy.graph.node[:]
    copy.graph.node.extend(nodes)
    del copy.graph.value_info[:]
    return copy


def prove_build(model: bytes) -> str:
    """Build engines from the model, and say in a line what was built and what it computes in.

    TensorRT-RTX compiles for `CAPABILITIES` without a GPU; TensorRT needs the GPU at hand. Raises
    `BackendMissingError` where neither is installed, `BackendError` where the model does not parse or build.
    """
    trt = engine_library()
    ahead = CAPABILITIES if is_rtx(trt) else ()
    size_mb = len(build_engine(trt, model, capabilities=ahead)) / 1e6
    products: Counter[str] = Counter()
    for kind, count in layer_precisions(trt, model).items():
        layer, dtype = kind.split()
        if layer in ("MATRIX_MULTIPLY", "CONVOLUTION", "QUANTIZE", "NORMALIZATION"):
            products[f"{layer.lower()} {dtype.lower()}"] += count
    where = f"SM {' and '.join(ahead)}" if ahead else "the GPU at hand"
    parts = ", ".join(f"{count} {kind}" for kind, count in sorted(products.items()))
    return f"{engine_name(trt)} built it for {where} ({size_mb:.0f} MB: {parts})"


def _kept_in_float32(graph: onnx.GraphProto) -> list[str]:
    """Names of the nodes that stay in float32."""
    values = {tensor.name: tensor for tensor in graph.initializer}
    makers = {output: node for node in graph.node for output in node.output}
    transformer = is_transformer(graph)
    kept = [node.name for node in graph.node if node.op_type in _KEPT_OPS]
    for node in graph.node:
        constants = [name for name in node.input if name in values]
        residual = node.op_type == "Add" and (not constants or constants[0].endswith("pos_embed"))
        if residual and transformer:
            kept.append(node.name)
        if node.op_type == "Conv" and transformer:
            kept += [node.name, *(makers[name].name for name in node.input if name in makers)]
        if node.op_type in ("Mul", "Add") and constants and _of_pixels(node, makers):
            kept.append(node.name)
        if node.op_type in ("QuantizeLinear", "DequantizeLinear"):
            scale = numpy_helper.to_array(values[node.input[1]])
            if scale.dtype == np.float32 and float(scale.min()) < _SMALLEST_NORMAL:
                kept += _around(graph, node)
    return kept


def _of_pixels(node: onnx.NodeProto, makers: dict[str, onnx.NodeProto]) -> bool:
    """Whether nothing but casts, transposes and arithmetic lies between the graph's input and this node."""
    while node.op_type in ("Cast", "Transpose", "Mul", "Add"):
        maker = next((makers[name] for name in node.input if name in makers), None)
        if maker is None:
            return True
        node = maker
    return False


def _around(graph: onnx.GraphProto, node: onnx.NodeProto) -> list[str]:
    """A Q/DQ node whose scale float16 cannot hold, with the pair and the product that it serves."""
    makers = {output: other for other in graph.node for output in other.output}
    names = [node.name]
    for other in graph.node:
        if node.output[0] not in other.input:
            continue
        names.append(other.name)
        if other.op_type in ("MatMul", "Gemm", "Conv"):
            for name in other.input:
                maker = makers.get(name)
                if maker is not None and maker.op_type == "DequantizeLinear":
                    names.append(maker.name)
                    quantizer = makers.get(maker.input[0])
                    names += [quantizer.name] if quantizer is not None else []
    return names


def _to_bfloat16(lowered: onnx.ModelProto, original: onnx.ModelProto) -> None:
    """Make every float16 a bfloat16; weights are rounded once, from the original float32."""
    exact = {tensor.name: tensor for tensor in original.graph.initializer}
    for tensor in lowered.graph.initializer:
        if tensor.data_type == TensorProto.FLOAT16:
            values = numpy_helper.to_array(exact.get(tensor.name, tensor)).astype(np.float32)
            tensor.CopyFrom(numpy_helper.from_array(values.astype(ml_dtypes.bfloat16), tensor.name))
    for node in lowered.graph.node:
        for attribute in node.attribute:
            if attribute.name == "to" and attribute.i == TensorProto.FLOAT16:
                attribute.i = TensorProto.BFLOAT16
    del lowered.graph.value_info[:]
    if any(tensor.data_type == TensorProto.FLOAT16 for tensor in lowered.graph.initializer):
        raise BackendError("a float16 constant survived the conversion to bfloat16; choose --precision float16")
