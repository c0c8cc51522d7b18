"""For each target and precision, the artefacts that are worth measuring: candidates, of which at most one is kept."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Literal, TypeAlias

import numpy as np
import numpy.typing as npt
import onnx

from vmeg_edge.backends import availability, open_backend, place
from vmeg_edge.errors import BackendMissingError, UsageError
from vmeg_edge.manifest import Artefact, Manifest, Precision

from .calibration import Sets
from .control import MARGIN, Control
from .cpu import saturates
from .feeds import Feed, pixels_alone
from .linear_layers import is_transformer, linear_layers
from .qdq_from_onnx import (
    CONVOLUTIONAL,
    CONVOLUTIONAL_WHOLE,
    DYNAMIC,
    DYNAMIC_UNSIGNED,
    STATIC,
    TENSORRT,
    TENSORRT_CONVOLUTIONAL,
    QdqQuantizer,
    QdqRecipe,
)

FloatPrecision: TypeAlias = Literal["float32", "float16", "bfloat16"]
Report: TypeAlias = Callable[[str], None]
Logits: TypeAlias = npt.NDArray[np.float32]

PRECISIONS: Mapping[str, tuple[Precision, ...]] = {
    "onnxruntime": ("float32", "int8"),
    "openvino": ("float32", "bfloat16", "float16", "int8"),
    "tensorrt": ("float32", "float16", "bfloat16", "int8"),
}
ONNX_NAME = "model.onnx"

_GIVEN_BACK = (1, 2, 4, 8, 16)


@dataclass(frozen=True, eq=False)
class Candidate:
    """An artefact that may be kept. ``says`` is a line on how it was made.

    ``tokens`` is how many a sized model has, ``None`` for the whole one. ``stand_in`` is what runs in its place where
    its engine cannot run on this machine (an ONNX model with the same roundings); ``proof`` is then a line on what was
    built instead.
    """

    target: str
    recipe: str
    says: str
    artefact: Artefact
    files: Mapping[str, bytes]
    stand_in: bytes | None = None
    proof: str = ""
    tokens: int | None = None


@dataclass(frozen=True, eq=False)
class Workshop:
    """What candidates are made from: the float32 ONNX file, its manifest, and for int8 the frames and the control.

    ``float_precision`` is what OpenVINO may compute in beside int8; ``feed`` makes the model's inputs of a frame.
    """

    model: Path
    manifest: Manifest
    scratch: Path
    sets: Sets | None = None
    control: Control | None = None
    report: Report = field(default=lambda _: None)
    float_precision: FloatPrecision = "float32"
    feed: Feed = pixels_alone

    @cached_property
    def transformer(self) -> bool:
        """Whether recipes for transformers fit this model."""
        return is_transformer(onnx.load(self.model, load_external_data=False).graph)

    def for_int8(self) -> tuple[Sets, Control]:
        """Frames and control. Raises `UsageError` where there are none."""
        if self.sets is None or self.control is None:
            raise UsageError("int8 is calibrated on frames; give --calibration SOURCE (stills, a cine, a folder)")
        return self.sets, self.control


def check_targets(targets: tuple[str, ...], precision: str, float_precision: FloatPrecision = "float32") -> None:
    """Refuse what no engine offers, or what this machine cannot prove, before any work is done.

    Raises `UsageError`, or `BackendMissingError` with the command that adds what is missing.
    """
    if float_precision != "float32" and (precision != "int8" or set(targets) != {"openvino"}):
        raise UsageError(
            f"--float-precision {float_precision} serves --precision int8 with --target openvino alone; leave it out, "
            "or convert for the other targets by themselves"
        )
    for target in targets:
        if precision not in PRECISIONS[target]:
            raise UsageError(
                f"--precision {precision} is nothing that --target {target} computes in; "
                f"choose one of {', '.join(PRECISIONS[target])}"
            )
        found = availability(target)
        if not found.usable:
            raise BackendMissingError(f"--target {target}: {found.reason}")
        if target == "openvino":
            from . import openvino_from_onnx

            openvino_from_onnx.check_precision(precision)
            openvino_from_onnx.check_precision(float_precision, "--float-precision")


def candidates(target: str, precision: Precision, shop: Workshop) -> list[Candidate]:
    """Make the candidates of one target. Raises `UsageError` or what the engine's tools raise."""
    return _MAKERS[target](precision, shop)


def _onnxruntime(precision: Precision, shop: Workshop) -> list[Candidate]:
    if precision == "float32":
        return [exported(shop.model)]
    sets, _ = shop.for_int8()
    if shop.transformer:
        recipes = [DYNAMIC, STATIC]
        if saturates():
            recipes.append(DYNAMIC_UNSIGNED)
    else:  # a dynamic recipe cannot take convolutions
        recipes = [CONVOLUTIONAL, CONVOLUTIONAL_WHOLE]
    made = []
    for recipe in recipes:
        shop.report(f"quantizing for ONNX Runtime, {recipe.name}: {recipe.says}")
        quantizer = QdqQuantizer(shop.model, sets.calibration, shop.scratch, recipe, shop.feed)

        def pack(data: bytes, float_layers: tuple[str, ...], recipe: QdqRecipe = recipe) -> Candidate:
            artefact = Artefact(files=(ONNX_NAME,), precision="int8", recipe=recipe.says, float_layers=float_layers)
            return Candidate("onnxruntime", recipe.name, recipe.says, artefact, {ONNX_NAME: data})

        made.append(_controlled(shop, quantizer, pack))
    return made


def _openvino(precision: Precision, shop: Workshop) -> list[Candidate]:
    from . import openvino_from_onnx as tool

    if precision != "int8":
        rest: FloatPrecision = precision
        if precision == "float32":  # OpenVINO reads ONNX, so one file serves two engines
            alone = Artefact(files=(ONNX_NAME,), precision=precision, recipe="export")
            return [Candidate("openvino", "export", "the float32 graph", alone, {ONNX_NAME: shop.model.read_bytes()})]
        shop.report(f"writing OpenVINO IR, {precision}")
        files = tool.to_files(tool.read(shop.model), halve=True)
        artefact = Artefact(files=tool.NAMES, precision=precision, float_precision=rest, recipe="export")
        return [Candidate("openvino", "export", "the float32 graph", artefact, files)]
    sets, control = shop.for_int8()
    best, used, alpha = None, float("inf"), 0.0
    kind = "transformer, full ranges" if shop.transformer else "convolutional, ranges of least error"
    for smooth in tool.SMOOTH if shop.transformer else (tool.OFF,):
        shop.report(f"quantizing for OpenVINO with NNCF, {_smoothing(smooth)}, on {len(sets.calibration)} frames")
        model = tool.quantize(shop.model, sets.calibration, smooth=smooth, feed=shop.feed)
        share = control.used(tool.logits_of(model, control.tensors, feed=shop.feed))
        if share < used:
            best, used, alpha = model, share, smooth
        if used <= MARGIN:
            break
    recipe, says = "nncf", f"NNCF post-training, {kind}, {_smoothing(alpha)}"
    if used > MARGIN:
        shop.report(f"{used:.2f} of the gate's allowance is used on the control frames: giving layers back to float")
        controlled = tool.quantize_with_control(shop.model, sets.calibration, control, feed=shop.feed)
        given_back = len(tool.float_layers(controlled, shop.model))
        better = control.used(tool.logits_of(controlled, control.tensors, feed=shop.feed)) < used
        if better and given_back < len(tool.float_layers(tool.read(shop.model), shop.model)):
            best = controlled
            recipe = "nncf-control"
            says = f"NNCF post-training, {kind}, {_smoothing(tool.OFF)}, accuracy control"
    artefact = Artefact(
        files=tool.NAMES,
        precision="int8",
        recipe=says,
        float_layers=tuple(layer.name for layer in tool.float_layers(best, shop.model)),
    )
    files = tool.to_files(best, halve=False)
    made = [Candidate("openvino", recipe, says, artefact, files)]
    if shop.float_precision != "float32":
        both = f"{says}; {shop.float_precision} elsewhere"
        changed = artefact.model_copy(update={"recipe": both, "float_precision": shop.float_precision})
        made.append(Candidate("openvino", f"{recipe}, {shop.float_precision}", both, changed, files))
    return made


def _smoothing(alpha: float) -> str:
    said = "no SmoothQuant" if alpha < 0 else f"SmoothQuant {alpha:g}"
    return f"{said}, weights of 7 bits since this processor saturates" if saturates() else said


def _tensorrt(precision: Precision, shop: Workshop) -> list[Candidate]:
    from . import tensorrt_from_onnx as tool

    def pack(model: onnx.ModelProto, half: FloatPrecision, float_layers: tuple[str, ...], says: str) -> Candidate:
        data = model.SerializeToString(deterministic=True)
        stand_in = tool.emulated(model).SerializeToString() if half == "bfloat16" else data
        artefact = Artefact(
            files=(tool.NAME,),
            precision=precision,
            float_precision=half,
            recipe=says,
            float_layers=float_layers,
        )
        shop.report("building TensorRT engines")
        proof = tool.prove_build(data)
        recipe = "q/dq" if precision == "int8" else "casts"
        return Candidate("tensorrt", recipe, says, artefact, {tool.NAME: data}, stand_in, proof)

    if precision == "float32":
        return [pack(onnx.load(shop.model), "float32", (), "the float32 graph, strongly typed")]
    if precision in ("float16", "bfloat16"):
        half: tool.Half = "float16" if precision == "float16" else "bfloat16"
        says = f"strongly typed {precision}; residual, LayerNorm and patch embedding float32"
        return [pack(tool.lower(onnx.load(shop.model), half), half, (), says)]
    sets, _ = shop.for_int8()
    way = TENSORRT if shop.transformer else TENSORRT_CONVOLUTIONAL
    shop.report(f"quantizing for TensorRT: {way.says}")
    quantizer = QdqQuantizer(shop.model, sets.calibration, shop.scratch, way)

    def wrap(data: bytes, float_layers: tuple[str, ...]) -> Candidate:
        artefact = Artefact(files=(ONNX_NAME,), precision="int8", float_layers=float_layers)
        return Candidate("onnxruntime", way.name, way.says, artefact, {ONNX_NAME: data})

    chosen = _controlled(shop, quantizer, wrap)
    lowered = tool.lower(onnx.load_from_string(chosen.files[ONNX_NAME]), "float16")
    return [pack(lowered, "float16", chosen.artefact.float_layers, f"{way.says}; float16 elsewhere")]


_MAKERS: Mapping[str, Callable[[Precision, Workshop], list[Candidate]]] = {
    "onnxruntime": _onnxruntime,
    "openvino": _openvino,
    "tensorrt": _tensorrt,
}


def exported(model: Path) -> Candidate:
    """The float32 ONNX itself, for ONNX Runtime."""
    artefact = Artefact(files=(ONNX_NAME,), precision="float32", recipe="export")
    return Candidate("onnxruntime", "export", "the float32 graph", artefact, {ONNX_NAME: model.read_bytes()})


def _controlled(
    shop: Workshop, quantizer: QdqQuantizer, pack: Callable[[bytes, tuple[str, ...]], Candidate]
) -> Candidate:
    """Quantize; while control says that too much is used, leave 1, 2, 4, 8, 16 of the noisiest layers in float."""
    _, control = shop.for_int8()
    graph = onnx.load(shop.model, load_external_data=False).graph
    names = {layer.node: layer.name for layer in linear_layers(graph)}
    taken = {layer.node for layer in quantizer.taken()}
    always = [node for node in names if node not in taken]
    path = quantizer.quantize()
    best = pack(path.read_bytes(), tuple(names[node] for node in always))
    used = control.used(_logits(shop, best))
    if used <= MARGIN:
        return best
    order = quantizer.worst_first(path)
    for count in _GIVEN_BACK:
        if count > len(order) // 2:
            break
        shop.report(f"{used:.2f} of the gate's allowance is used on the control frames: {count} layers back to float")
        back = order[:count]
        made = pack(quantizer.quantize(back).read_bytes(), tuple(names[n] for n in names if n in always or n in back))
        share = control.used(_logits(shop, made))
        if share < used:
            best, used = made, share
        if used <= MARGIN:
            break
    return best


def _logits(shop: Workshop, candidate: Candidate) -> Logits:
    """What a candidate for ONNX Runtime says of the control frames."""
    _, control = shop.for_int8()
    changed = shop.manifest.model_copy(update={"artefacts": {"onnxruntime": candidate.artefact}})
    backend = open_backend("onnxruntime", changed, candidate.files, place("onnxruntime"))
    try:
        return np.stack([backend.infer(**shop.feed(tensor))[0].copy() for tensor in control.tensors])
    finally:
        backend.close()
