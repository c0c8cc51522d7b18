"""For each slot and precision, the artefacts that are worth measuring: candidates, of which at most one is kept."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

import onnx

from vmeg_edge.backends import Backend, availability
from vmeg_edge.errors import BackendMissingError, UsageError
from vmeg_edge.manifest import Artefact, Manifest, Precision

from .candidate import ONNX_NAME, Candidate, StandIn, on_onnxruntime, renamed
from .control import MARGIN
from .giving_back import controlled
from .qdq_from_onnx import (
    CONVOLUTIONAL,
    CONVOLUTIONAL_UNSIGNED,
    CONVOLUTIONAL_WHOLE,
    CONVOLUTIONAL_WHOLE_UNSIGNED,
    DYNAMIC,
    DYNAMIC_UNSIGNED,
    STATIC,
    TENSORRT,
    TENSORRT_CONVOLUTIONAL,
    QdqQuantizer,
    QdqRecipe,
)
from .slots import Slot
from .unsigned_twin import unsigned_twin
from .workshop import FloatPrecision, Workshop

PRECISIONS: Mapping[str, tuple[Precision, ...]] = {
    "onnxruntime": ("float32", "int8"),
    "openvino": ("float32", "bfloat16", "float16", "int8"),
    "tensorrt": ("float32", "float16", "bfloat16", "int8"),
}

ONNXRUNTIME_RECIPES: Mapping[tuple[bool, bool], tuple[QdqRecipe, ...]] = {
    # (transformer, safe where int8 products saturate): the likeliest first. A dynamic recipe takes no convolutions.
    (True, False): (DYNAMIC, STATIC),
    (True, True): (DYNAMIC_UNSIGNED,),
    (False, False): (CONVOLUTIONAL, CONVOLUTIONAL_WHOLE),
    (False, True): (CONVOLUTIONAL_UNSIGNED, CONVOLUTIONAL_WHOLE_UNSIGNED),
}


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


def candidates(slot: Slot, precision: Precision, shop: Workshop) -> list[Candidate]:
    """Make the candidates of one slot, in files of its own names.

    Raises `UsageError` or what the engine's tools raise.
    """
    made = _MAKERS[slot.target](slot, precision, shop)
    if not slot.suffix:
        return made
    apart = []
    for candidate in made:
        artefact, files = renamed(candidate.artefact, candidate.files, slot.suffix)
        apart.append(replace(candidate, artefact=artefact, files=files))
    return apart


def _onnxruntime(slot: Slot, precision: Precision, shop: Workshop) -> list[Candidate]:
    if precision == "float32":
        return [exported(slot, shop)]
    made = []
    for recipe in ONNXRUNTIME_RECIPES[shop.transformer, slot.safe]:
        shop.report(f"quantizing for ONNX Runtime, {recipe.name}: {recipe.says}")

        def pack(data: bytes, float_layers: tuple[str, ...], recipe: QdqRecipe = recipe) -> Candidate:
            artefact = Artefact(files=(ONNX_NAME,), precision="int8", recipe=recipe.says, float_layers=float_layers)
            stand_in, proof = None, ""
            if not slot.exact_here:
                twin = unsigned_twin(onnx.load_from_string(data)).SerializeToString()
                stand_in, proof = on_onnxruntime(twin, artefact), "run with its weights as uint8: the same integers"
            return Candidate(slot, recipe.name, recipe.says, artefact, {ONNX_NAME: data}, stand_in, proof)

        used, candidate = controlled(shop, QdqQuantizer(shop.ranges, recipe), pack)
        made.append(candidate)
        if used <= MARGIN and not slot.timed_here:
            break  # no race can choose between it and the next
    return made


def _openvino(slot: Slot, precision: Precision, shop: Workshop) -> list[Candidate]:
    from . import openvino_from_onnx as tool

    if precision != "int8":
        rest: FloatPrecision = precision
        if precision == "float32":  # OpenVINO reads ONNX, so one file serves two engines
            return [exported(slot, shop)]
        shop.report(f"writing OpenVINO IR, {precision}")
        files = tool.to_files(tool.read(shop.model), halve=True)
        artefact = Artefact(files=tool.NAMES, precision=precision, float_precision=rest, recipe="export")
        return [Candidate(slot, "export", "the float32 graph", artefact, files)]
    sets, control = shop.for_int8()
    best, used, alpha = None, float("inf"), 0.0
    kind = "transformer, full ranges" if shop.transformer else "convolutional, ranges of least error"
    for smooth in tool.SMOOTH if shop.transformer else (tool.OFF,):
        shop.report(f"quantizing for OpenVINO with NNCF, {_smoothing(smooth, slot)}, on {len(sets.calibration)} frames")
        model = tool.quantize(shop.model, sets.calibration, smooth=smooth, feed=shop.feed, safe=slot.safe)
        share = control.used(tool.logits_of(model, control.tensors, feed=shop.feed, exactly=not slot.exact_here))
        if share < used:
            best, used, alpha = model, share, smooth
        if used <= MARGIN:
            break
    recipe, says = "nncf", f"NNCF post-training, {kind}, {_smoothing(alpha, slot)}"
    if used > MARGIN and slot.exact_here:  # accuracy control runs the model, so it has to be exact
        shop.report(f"{used:.2f} of the gate's allowance is used on the control frames: giving layers back to float")
        given = tool.quantize_with_control(shop.model, sets.calibration, control, feed=shop.feed, safe=slot.safe)
        given_back = len(tool.float_layers(given, shop.model))
        better = control.used(tool.logits_of(given, control.tensors, feed=shop.feed)) < used
        if better and given_back < len(tool.float_layers(tool.read(shop.model), shop.model)):
            best = given
            recipe = "nncf-control"
            says = f"NNCF post-training, {kind}, {_smoothing(tool.OFF, slot)}, accuracy control"
    artefact = Artefact(
        files=tool.NAMES,
        precision="int8",
        recipe=says,
        float_layers=tuple(layer.name for layer in tool.float_layers(best, shop.model)),
    )
    files = tool.to_files(best, halve=False)
    stand_in, proof = None, ""
    if not slot.exact_here:
        stand_in, proof = _exactly(files), "run with its rounding in float32, where products are exact"
    made = [Candidate(slot, recipe, says, artefact, files, stand_in, proof)]
    if shop.float_precision != "float32":
        both = f"{says}; {shop.float_precision} elsewhere"
        changed = artefact.model_copy(update={"recipe": both, "float_precision": shop.float_precision})
        made.append(Candidate(slot, f"{recipe}, {shop.float_precision}", both, changed, files))
    return made


def _exactly(files: Mapping[str, bytes]) -> StandIn:
    from . import openvino_from_onnx as tool

    def opened(_: Manifest) -> Backend:
        return tool.ExactBackend(files)

    return opened


def _smoothing(alpha: float, slot: Slot) -> str:
    said = "no SmoothQuant" if alpha < 0 else f"SmoothQuant {alpha:g}"
    return f"{said}, weights of 7 bits, which cannot saturate" if slot.safe else said


def _tensorrt(slot: Slot, precision: Precision, shop: Workshop) -> list[Candidate]:
    from . import tensorrt_from_onnx as tool

    def pack(model: onnx.ModelProto, half: FloatPrecision, float_layers: tuple[str, ...], says: str) -> Candidate:
        data = model.SerializeToString(deterministic=True)
        runs_here = tool.emulated(model).SerializeToString() if half == "bfloat16" else data
        artefact = Artefact(
            files=(tool.NAME,),
            precision=precision,
            float_precision=half,
            recipe=says,
            float_layers=float_layers,
        )
        shop.report("building TensorRT engines")
        proof = f"engine not run here: its graph ran on ONNX Runtime; {tool.prove_build(data)}"
        recipe = "q/dq" if precision == "int8" else "casts"
        stand_in = on_onnxruntime(runs_here, artefact)
        return Candidate(slot, recipe, says, artefact, {tool.NAME: data}, stand_in, proof)

    if precision == "float32":
        return [pack(onnx.load(shop.model), "float32", (), "the float32 graph, strongly typed")]
    if precision in ("float16", "bfloat16"):
        half: tool.Half = "float16" if precision == "float16" else "bfloat16"
        says = f"strongly typed {precision}; residual, LayerNorm and patch embedding float32"
        return [pack(tool.lower(onnx.load(shop.model), half), half, (), says)]
    way = TENSORRT if shop.transformer else TENSORRT_CONVOLUTIONAL
    shop.report(f"quantizing for TensorRT: {way.says}")

    def wrap(data: bytes, float_layers: tuple[str, ...]) -> Candidate:
        artefact = Artefact(files=(ONNX_NAME,), precision="int8", float_layers=float_layers)
        return Candidate(slot, way.name, way.says, artefact, {ONNX_NAME: data}, on_onnxruntime(data, artefact))

    _, chosen = controlled(shop, QdqQuantizer(shop.ranges, way), wrap)
    lowered = tool.lower(onnx.load_from_string(chosen.files[ONNX_NAME]), "float16")
    return [pack(lowered, "float16", chosen.artefact.float_layers, f"{way.says}; float16 elsewhere")]


_MAKERS: Mapping[str, Callable[[Slot, Precision, Workshop], list[Candidate]]] = {
    "onnxruntime": _onnxruntime,
    "openvino": _openvino,
    "tensorrt": _tensorrt,
}


def exported(slot: Slot, shop: Workshop) -> Candidate:
    """The float32 ONNX file itself, for ONNX Runtime or OpenVINO."""
    artefact = Artefact(files=(ONNX_NAME,), precision="float32", recipe="export")
    return Candidate(slot, "export", "the float32 graph", artefact, {ONNX_NAME: shop.model.read_bytes()})
