"""OpenVINO IR from the float32 ONNX: float, or int8 by NNCF with accuracy control that gives layers back to float."""

from __future__ import annotations

import io
import logging
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, redirect_stdout
from operator import itemgetter
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx

from vmeg_edge.backends import BackendReport
from vmeg_edge.backends.base import inputs_of
from vmeg_edge.errors import UsageError
from vmeg_edge.processors import usable_processors
from vmeg_edge.silence import silence

from .control import MARGIN, Control
from .feeds import Feed, pixels_alone
from .linear_layers import LinearLayer, is_transformer, linear_layers, quantizable

with silence():
    import nncf
    import openvino as ov
    from nncf.quantization.range_estimator import RangeEstimatorParametersSet

Tensors = npt.NDArray[np.uint8]

NAMES = ("model.xml", "model.bin")
RANKING_FRAMES = 8
# SmoothQuant's alpha, in the order of trying: off, then the paper's. Full ranges without it moved frames of another
# kind least; NNCF's own choice for transformers (0.95, ranges from means) moved one by 0.34.
OFF = -1.0
SMOOTH = (OFF, 0.5)

_FLOAT32 = {"INFERENCE_PRECISION_HINT": "f32"}
_EXACT = {**_FLOAT32, "LP_TRANSFORMS_MODE": "NO"}


def read(model: Path) -> Any:
    """The float32 model as OpenVINO reads it."""
    return ov.Core().read_model(model)


def to_files(model: Any, *, halve: bool) -> dict[str, bytes]:
    """``model.xml`` and ``model.bin``; ``halve`` stores float weights in 16 bits."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as scratch:
        path = Path(scratch) / NAMES[0]
        ov.save_model(model, path, compress_to_fp16=halve)
        return {name: (Path(scratch) / name).read_bytes() for name in NAMES}


def quantize(model: Path, calibration: Tensors, *, smooth: float, feed: Feed = pixels_alone, safe: bool = False) -> Any:
    """Post-training int8: symmetric weights one scale a channel, asymmetric activations.

    The head stays in float, and so do a transformer's products of attention, which NNCF would take by itself.

    ``smooth`` is SmoothQuant's alpha (Xiao et al. 2023, arXiv 2211.10438): how much of an activation channel's range
    moves into the weights behind it; `OFF` leaves it where it is. ``safe`` weights have 7 bits, so that no pair of
    products saturates on a processor without VNNI.
    """
    with _quiet():
        return nncf.quantize(
            read(model),
            nncf.Dataset([feed(frame) for frame in calibration]),
            subset_size=len(calibration),
            **_recipe(model, smooth, safe=safe),
        )


def quantize_with_control(
    model: Path, calibration: Tensors, control: Control, *, feed: Feed = pixels_alone, safe: bool = False
) -> Any:
    """As `quantize`, then the layers that hurt most go back to float until ``control`` uses less than its margin.

    Without SmoothQuant: a layer that goes back gets its own weights again, while the activations before it stay scaled
    for the smoothed ones, which ruins the model (seen with NNCF 3.4: a probability moved by 1).
    """

    def validate(compiled: Any, frames: Iterable[Any]) -> tuple[float, None]:
        places, logits = [], []
        for place, tensor in frames:
            places.append(int(place))
            logits.append(compiled(tensor)["logits"][0].copy())
        return -control.used(np.stack(logits), places), None

    with _quiet():
        return nncf.quantize_with_accuracy_control(
            read(model),
            nncf.Dataset([feed(frame) for frame in calibration]),
            nncf.Dataset([(place, feed(tensor)) for place, tensor in enumerate(control.tensors)], itemgetter(1)),
            validate,
            max_drop=MARGIN,
            subset_size=len(calibration),
            advanced_accuracy_restorer_parameters=nncf.AdvancedAccuracyRestorerParameters(
                ranking_subset_size=RANKING_FRAMES
            ),
            **{_CONTROLLED.get(key, key): value for key, value in _recipe(model, OFF, safe=safe).items()},
        )


def logits_of(
    model: Any, tensors: Tensors, *, feed: Feed = pixels_alone, exactly: bool = False
) -> npt.NDArray[np.float32]:
    """The logits ``[n, classes]``, with everything that is not int8 in float32; ``exactly`` as `ExactBackend` does."""
    options = {**(_EXACT if exactly else _FLOAT32), "INFERENCE_NUM_THREADS": usable_processors()}
    compiled = ov.Core().compile_model(model, "CPU", options)
    return np.stack([compiled(feed(tensor))["logits"][0].copy() for tensor in tensors])


class ExactBackend:
    """An int8 model whose roundings are carried out in float32, so that no product saturates: what VNNI computes.

    The int8 kernels are switched off (``LP_TRANSFORMS_MODE``, a property of OpenVINO's CPU plugin), and each
    FakeQuantize rounds as the operation's specification says.
    """

    def __init__(self, files: Mapping[str, bytes]) -> None:
        """Compile the IR of ``files``, as `to_files` gives it."""
        model = ov.Core().read_model(*(files[name] for name in NAMES))
        options = {**_EXACT, "INFERENCE_NUM_THREADS": usable_processors()}
        self._request = ov.Core().compile_model(model, "CPU", options).create_infer_request()
        self.report = BackendReport("openvino", str(ov.get_version()), "CPU", "CPU", "int8", usable_processors())

    def infer(
        self, pixels: npt.NDArray[np.uint8], home: npt.NDArray[np.int32] | None = None
    ) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
        """(logits ``[classes]``, activations ``[rows * columns, channels]``) of uint8 ``[1, H, W, 3]``."""
        said = self._request.infer(inputs_of(pixels, home))
        return said["logits"][0], said["activations"][0]

    def close(self) -> None:
        """Free the model."""
        del self._request


def float_layers(model: Any, source: Path) -> list[LinearLayer]:
    """The linear layers of ``source`` whose weights are still float in the quantized ``model``."""
    products = [op for op in model.get_ops() if op.get_type_name() in ("MatMul", "Convolution")]
    nodes = {op.get_friendly_name().removesuffix("/WithoutBiases"): op for op in products}
    layers = linear_layers(onnx.load(source, load_external_data=False).graph)
    return [layer for layer in layers if not _has_int8_weights(nodes.get(layer.node))]


_CONTROLLED = {"advanced_parameters": "advanced_quantization_parameters"}


def _recipe(model: Path, smooth: float, *, safe: bool) -> dict[str, Any]:
    graph = onnx.load(model, load_external_data=False).graph
    taken = {layer.node for layer in quantizable(graph)}
    floats = [node.name for node in graph.node if node.op_type in ("MatMul", "Gemm", "Conv") and node.name not in taken]
    return {
        "model_type": nncf.ModelType.TRANSFORMER if is_transformer(graph) else None,
        "preset": nncf.QuantizationPreset.MIXED,
        "target_device": nncf.TargetDevice.ANY,
        "ignored_scope": nncf.IgnoredScope(patterns=[f"^{node}(/.*)?$" for node in floats], validate=False),
        "advanced_parameters": nncf.AdvancedQuantizationParameters(
            overflow_fix=nncf.OverflowFix.ENABLE if safe else nncf.OverflowFix.DISABLE,
            activations_range_estimator_params=_ranges(graph),
            smooth_quant_alphas=nncf.AdvancedSmoothQuantParameters(matmul=smooth),
        ),
    }


def _ranges(graph: onnx.GraphProto) -> Any:
    """How activations' ranges are found: see `ranges` for why the two kinds of network differ.

    NNCF's own default is the mean of the frames' extremes, which clips whatever is out of a transformer's common run.
    """
    kinds = RangeEstimatorParametersSet
    return kinds.MINMAX if is_transformer(graph) else kinds.HISTOGRAM


def _has_int8_weights(op: Any) -> bool:
    """Whether a product's second factor comes from an 8-bit constant or through a FakeQuantize."""
    if op is None:
        return False
    node = op.input_value(1).get_node()
    for _ in range(8):
        kind = node.get_type_name()
        if kind == "FakeQuantize":
            return True
        if kind == "Constant":
            return node.get_element_type() in (ov.Type.i8, ov.Type.u8)
        if not node.inputs():
            return False
        node = node.input_value(0).get_node()
    return False


def check_precision(precision: str, option: str = "--precision") -> None:
    """Refuse a float precision that this machine's CPU lacks, before any work is done. Raises `UsageError`."""
    needed = {"bfloat16": "BF16", "float16": "FP16"}.get(precision)
    if needed is None:
        return
    capabilities = list(ov.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES"))
    if needed not in capabilities:
        raise UsageError(
            f"{option} {precision} for openvino cannot be proven here: this CPU has {', '.join(capabilities)}; "
            "convert on a machine whose CPU has it, or choose another precision"
        )


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep NNCF's bars and advice off the user's screen; what matters is in our table."""
    logger = logging.getLogger("nncf")
    before = logger.level
    nncf.set_log_level(logging.ERROR)
    try:
        with redirect_stdout(io.StringIO()):
            yield
    finally:
        logger.setLevel(before)
