"""Where the time goes: OpenVINO's own profile of one model, by kind of layer. A process of its own, like a point."""

from __future__ import annotations

import json
import sys
import time
from collections import defaultdict
from typing import Any

import numpy as np
from engines import openvino_options

from vmeg_edge.silence import silence

with silence():
    import openvino as ov

LINEAR, WITH_GELU = (
    "linear layers, int8: qkv, projection, second of the MLP",
    "linear layers + GELU, int8: first of the MLP",
)
ATTENTION = "attention, float32: two products, softmax and the rounding to int8, fused"
PATCHES, HEAD = "patch embedding", "head"
MOVES = ("Split", "Transpose", "Concatenation", "StridedSlice", "Reorder", "Reshape")


def profile(path: str, frames: str, threads: int, seconds: float) -> dict[str, Any]:
    """Milliseconds of a frame by kind of layer, means over all runs, and the medians with and without the profiler."""
    core = ov.Core()
    model = core.read_model(path)
    with np.load(frames) as arrays:
        pixels = arrays["pixels"][-1:].copy()
    options = openvino_options(threads)
    plain = core.compile_model(model, "CPU", options).create_infer_request()
    compiled = core.compile_model(model, "CPU", options | {"PERF_COUNT": True})
    watched = compiled.create_infer_request()
    walls: dict[str, list[float]] = {"plain": [], "watched": []}
    spent: dict[str, float] = defaultdict(float)
    calls: dict[str, int] = defaultdict(int)
    for request in (plain, watched):
        request.infer({"pixels": pixels})
    kinds = {op.get_friendly_name(): kind_of(op.get_rt_info()) for op in compiled.get_runtime_model().get_ops()}
    ends = time.perf_counter() + seconds
    while time.perf_counter() < ends:  # the two take turns
        for name, request in (("plain", plain), ("watched", watched)):
            began = time.perf_counter()
            request.infer({"pixels": pixels})
            walls[name].append((time.perf_counter() - began) * 1e3)
        for item in watched.profiling_info:
            if item.real_time:
                kind = kinds.get(str(item.node_name), "other")
                spent[kind] += item.real_time.total_seconds() * 1e3
                calls[kind] += 1
    runs = len(walls["watched"])
    return {
        "runs": runs,
        "plain_ms": walls["plain"],
        "watched_ms": walls["watched"],
        "layers": [
            {"kind": kind, "ms": spent[kind] / runs, "calls": calls[kind] // runs}
            for kind in sorted(spent, key=lambda kind: -spent[kind])
        ],
    }


def kind_of(info: Any) -> str:
    """What a node of the executable graph does, by its type, its precision and the layers that it was made from."""
    layer, precision, made_from = (_text(info, key) for key in ("layerType", "runtimePrecision", "originalLayersNames"))
    if layer == "FullyConnected" and precision in ("i8", "u8"):
        return WITH_GELU if "gelu" in made_from else LINEAR
    if layer == "Convolution":
        return PATCHES
    if layer in ("FullyConnected", "MatMul"):
        return HEAD
    if "softmax" in made_from:
        return ATTENTION
    if layer == "MVN":
        return "LayerNorm: mean and variance"
    if "layer_norm" in made_from:
        return "LayerNorm: scale, shift and the rounding to int8"
    if layer in MOVES:
        return "moving data: Split, Transpose, Concat, Slice"
    return "residual adds and other steps an element"


def _text(info: Any, key: str) -> str:
    value = info[key] if key in info else ""  # noqa: SIM401
    return str(getattr(value, "value", value))


if __name__ == "__main__":
    print(json.dumps(profile(sys.argv[1], sys.argv[2], int(sys.argv[3]), float(sys.argv[4]))))
