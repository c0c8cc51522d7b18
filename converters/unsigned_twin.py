"""A model whose int8 weights are written as uint8: the same integers, for a processor on which int8 products saturate.

Integer products subtract the zero points first (ONNX, MatMulInteger and QLinearMatMul), so a weight and its zero point
may both be moved by 128. Engines compute uint8 x uint8 in 16 by 16 bits on x86 without VNNI, which cannot saturate.
What the twin says here is what the model says on a processor whose int8 products are exact.
"""

from __future__ import annotations

import numpy as np
import onnx
from onnx import numpy_helper

_OFFSET = 128
_FACTOR = {"MatMulInteger": (1, 3), "DequantizeLinear": (0, 2)}
"""Where an operator has its weight, and the weight's zero point."""


def unsigned_twin(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return a copy in which every int8 weight of a product is uint8; the products are the same integers."""
    twin = onnx.ModelProto()
    twin.CopyFrom(model)
    values = {tensor.name: tensor for tensor in twin.graph.initializer}
    moved: set[str] = set()
    for node in twin.graph.node:
        weight_at, zero_at = _FACTOR.get(node.op_type, (0, 0))
        if node.op_type not in _FACTOR or not _is_int8(values, node.input[weight_at]):
            continue
        if len(node.input) <= zero_at or not node.input[zero_at]:
            _add_zero_point(twin, node, zero_at, values)
        for name in (node.input[weight_at], node.input[zero_at]):
            if name not in moved:
                shifted = numpy_helper.to_array(values[name]).astype(np.int16) + _OFFSET
                values[name].CopyFrom(numpy_helper.from_array(shifted.astype(np.uint8), name))
                moved.add(name)
    del twin.graph.value_info[:]
    return twin


def _is_int8(values: dict[str, onnx.TensorProto], name: str) -> bool:
    return name in values and values[name].data_type == onnx.TensorProto.INT8


def _add_zero_point(
    model: onnx.ModelProto, node: onnx.NodeProto, place: int, values: dict[str, onnx.TensorProto]
) -> None:
    name = f"{node.name}_zero_point_of_weights"
    node.input.extend([""] * (place + 1 - len(node.input)))
    node.input[place] = name
    shape = list(values[node.input[1]].dims) if node.op_type == "DequantizeLinear" else []
    zeros = np.zeros(shape, np.int8)
    model.graph.initializer.append(numpy_helper.from_array(zeros, name))
    values[name] = model.graph.initializer[-1]
