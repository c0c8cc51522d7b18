"""The same model for several frames at once: the exported graphs hold the number of frames in a few constants."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import numpy_helper

from vmeg_edge.silence import silence

with silence():
    import openvino as ov
    from openvino import opset13 as opset


def make(source: Path, target: Path, batch: int) -> None:
    """Write ``source``, ONNX or OpenVINO IR, for ``batch`` frames; what it says is checked where it is timed."""
    if source.suffix == ".onnx":
        onnx.save(_onnx(onnx.load(source), batch), target)
    else:
        ov.save_model(_openvino(ov.Core().read_model(source), batch), target, compress_to_fp16=False)


def _onnx(proto: onnx.ModelProto, batch: int) -> onnx.ModelProto:
    graph = proto.graph
    constants = {tensor.name: tensor for tensor in graph.initializer}
    for name in {node.input[1] for node in graph.node if node.op_type == "Reshape"}:
        shape = numpy_helper.to_array(constants[name])
        constants[name].CopyFrom(numpy_helper.from_array(np.array([batch, *shape[1:]]), name))
    for name in {name for node in graph.node if node.op_type == "Concat" for name in node.input if name in constants}:
        token = numpy_helper.to_array(constants[name])  # the class token, [1, 1, C]
        constants[name].CopyFrom(numpy_helper.from_array(np.repeat(token, batch, axis=0), name))
    for value in (*graph.input, *graph.output):
        value.type.tensor_type.shape.dim[0].dim_value = batch
    del graph.value_info[:]
    onnx.checker.check_model(proto)
    return proto


def _openvino(model: Any, batch: int) -> Any:
    rest = list(model.input("pixels").shape)[1:]
    ops = model.get_ordered_ops()
    for reshape in (op for op in ops if op.get_type_name() == "Reshape" and _of_frames(op)):
        shape = reshape.input_value(1).get_node().get_data()
        # Inferred, so that the graph is sound at every step from 1 to ``batch``.
        reshape.input(1).replace_source_output(opset.constant(np.array([-1, *shape[1:]], np.int64)).output(0))
    model.reshape({"pixels": ov.PartialShape([-1, *rest])})
    for concat in (op for op in ops if op.get_type_name() == "Concat"):
        if concat.get_output_partial_shape(0).rank.get_length() != 3:
            continue
        token = concat.input_value(0).get_node().get_data()  # the class token, [1, 1, C]
        concat.input(0).replace_source_output(opset.constant(np.repeat(token, batch, axis=0)).output(0))
    model.reshape({"pixels": [batch, *rest]})
    return model


def _of_frames(reshape: Any) -> bool:
    """Whether activations are reshaped: the target is constant and what is reshaped is not."""
    data, shape = (reshape.input_value(index).get_node().get_type_name() for index in (0, 1))
    return shape == "Constant" and data != "Constant"
