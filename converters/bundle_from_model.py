"""A checkpoint or a float32 bundle to a bundle folder: made, held against its reference, written whole or not."""

from __future__ import annotations

import io
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from vmeg_edge import processor_class
from vmeg_edge.bundle import DIRECTION, GOLDEN, PARITY, write_bundle
from vmeg_edge.errors import ParityError, UsageError
from vmeg_edge.frames import Frame
from vmeg_edge.gate import PLANE_GATE
from vmeg_edge.golden import Golden
from vmeg_edge.manifest import Artefact, Manifest, Precision, SizedModel, Variant
from vmeg_edge.processor_class import ProcessorClass

from .answers import maps_of
from .calibration import PHANTOMS, Sets, gather
from .candidate import Candidate
from .candidates import candidates, check_targets, exported
from .control import Control
from .frames import cropped, golden_frames, parity_frames, tensors_of
from .measure import Bar, Row, judged, measure, reason_for, settle
from .orientation import fit_direction
from .origin import Origin, Training, Weights, from_bundle, from_checkpoint
from .parity_file import parity_file
from .plane_gate_fit import FittedGate, fit_gate, gate_frames, gated, warning_of
from .ranking import ranked
from .reduced import merging_of, variants
from .sized import Whole, check_sizes, sized_models
from .slots import Slot, asked_for, plan
from .token_reduction import Reduction, asked, check_frames
from .tools import tool_versions
from .workshop import FloatPrecision, Report, Workshop

_GIVEN = "frames given by the user"


@dataclass(frozen=True)
class Quantization:
    """How to calibrate: sources of frames (``phantoms`` is one), and how many to calibrate and to validate on.

    ``float_precision`` is what the part that is not int8 may compute in, on OpenVINO: with ``bfloat16``, both that and
    float32 are made, and the faster one that passes is kept. A device without bfloat16 refuses such a bundle.
    """

    sources: tuple[str | PathLike[str], ...] = ()
    calibration_frames: int = 128
    validation_frames: int = 64
    float_precision: FloatPrecision = "float32"


@dataclass(frozen=True)
class Conversion:
    """What a conversion made: one row of figures a candidate, and the bundle's digest and manifest.

    Where an artefact has no candidate that passes, no bundle was written: ``digest`` is empty, ``failed`` names the
    artefacts' slots, and `check` raises.
    """

    path: Path
    digest: str
    manifest: Manifest
    rows: tuple[Row, ...]
    warnings: tuple[str, ...] = ()
    failed: tuple[str, ...] = ()

    def check(self) -> Conversion:
        """Return itself. Raises `ParityError` that says which gate failed, where one did."""
        if not self.failed:
            return self
        rows = [row for row in self.rows if row.candidate.slot.name in self.failed]
        reasons = "; ".join(
            f"{row.candidate.artefact.precision} on {row.candidate.slot.name} ({row.candidate.recipe}) fails: "
            f"{', '.join(row.failures)}"
            for row in rows
        )
        exact = rows[0].candidate.artefact.precision == "float32"
        mend = "" if exact else "; calibrate on more frames, choose a wider precision, or leave the target out"
        raise ParityError(f"{self.path}: no bundle was written, since {reasons}{mend}")


def convert(
    path: str | PathLike[str],
    out: str | PathLike[str],
    *,
    targets: Sequence[str] = ("onnxruntime",),
    precision: Precision = "float32",
    quantization: Quantization | None = None,
    reduce_tokens: Reduction = "off",
    sector_tokens: Sequence[int] = (),
    processors: Sequence[str] = (),
    weights: Weights | None = None,
    training: Training | None = None,
    golden: str | PathLike[str] | None = None,
    frames: str | PathLike[str] | None = None,
    plane_gate: bool = True,
    replace: bool = False,
    report: Report = lambda _: None,
) -> Conversion:
    """Convert the checkpoint or float32 bundle at ``path`` into the bundle ``out``: one artefact a target.

    Parity is measured on the golden frames, on phantoms, on up to 64 frames spread over ``frames``, and on the
    validation part of the calibration sources. The golden frames are phantoms unless ``golden`` names a source; a
    bundle brings its own.

    ``reduce_tokens`` lets a ViT merge tokens: as many in the mean as ToMe's r of so many a block (`tapering`), or
    ``auto``, the cheapest of `schedules` whose artefacts all pass. The reference merges none. For each of
    ``sector_tokens`` a further model is made, for streams whose dark patches outside the sector share tokens
    (`vmeg_edge.sector`); one that fails the gate is left out, and the warnings say so.

    ``processors`` are the classes of processors (`vmeg_edge.processor_class`) that int8 is made for, names or ``all``;
    by default this machine's. Classes share an artefact where its products are the same on them, and each artefact says
    for which it was proven, and how. A target is left out for a class on which its int8 gains nothing, where another
    serves it.

    The plane gate is fitted on the calibration sources and on ``frames``; where neither is given, a bundle keeps the
    gate that it has, and others get one that is fitted on phantoms. Without one (``plane_gate=False``, or too few
    frames) the manifest's notes say so. ``report`` is told each step in a line.

    Raises `CheckpointError`, `BundleError`, `UsageError`, `SourceError`, `BackendError` or `OutputError`; then, and
    where a gate fails (see `Conversion`), no bundle is written.
    """
    chosen = tuple(dict.fromkeys(targets))
    quantization = quantization or Quantization()
    check_targets(chosen, precision, quantization.float_precision)
    source, place = Path(path), Path(out)
    report(f"reading {source.name}")
    origin = _origin(source, place, weights, training, golden)
    if reduce_tokens != "off":
        config = merging_of(origin).config  # before any work is done
        if reduce_tokens != "auto":
            asked(config, reduce_tokens)
    check_sizes(origin, sector_tokens, chosen)
    manifest = origin.manifest
    transformer = manifest.architecture.family == "vit"
    slots, left_out = plan(
        chosen, precision, _classes(processors, chosen, precision, quantization), transformer=transformer
    )
    for line in left_out:
        report(line)
    sets = _sets(precision, quantization, reduce_tokens, manifest, report)

    pictures = golden_frames(golden) if origin.golden is None else _frames_of(origin.golden)
    everything = [*pictures, *parity_frames(frames, phantoms=golden is None)]
    tensors = tensors_of(everything, manifest.input)
    if sets is not None:
        tensors = np.concatenate([tensors, sets.validation])
    report(f"scoring {len(tensors)} frames with the reference, {origin.reference_name}")
    logits, activations = origin.reference(tensors)
    # Not on the calibration's frames: two precisions of one checkpoint must show the same side as hot.
    direction = fit_direction(list(activations[: len(everything)])) if origin.golden is None else origin.direction
    truth = judged(logits, maps_of(activations, manifest, direction), manifest)

    control = None if sets is None else Control(manifest, sets.control, origin.reference(sets.control)[0])
    warnings = (*left_out, *(() if sets is None else sets.warnings))
    for source_model in variants(origin, reduce_tokens, control, direction, report):
        made = _made(source_model, slots, precision, sets, control, quantization.float_precision, report)
        floats = {} if source_model is origin and precision == "float32" else _baselines(made, origin)
        report(f"measuring parity on {len(tensors)} frames, and speed")
        rows = settle(measure(made, Bar(source_model.manifest, tensors, truth, direction, floats)))
        kept = {row.candidate.slot: row for row in rows if row.status == "kept"}
        failed = tuple(slot.name for slot in slots if slot not in kept)
        if not failed:
            break
    manifest = source_model.manifest
    if failed:
        return Conversion(place, "", manifest, tuple(rows), warnings, failed)
    whole = Whole(
        origin=origin,
        merge=manifest.merge,
        kept={slot: row.candidate for slot, row in kept.items()},
        precision=precision,
        float_precision=quantization.float_precision,
        sets=sets,
        tensors=tensors,
        direction=direction,
        report=report,
    )
    sized = sized_models(whole, sector_tokens)
    warnings = (*warnings, *sized.warnings)
    given = (*quantization.sources, *(() if frames is None else (frames,)))
    fitted = _plane_gate(source_model, given, report) if plane_gate else FittedGate(why="left out at conversion")
    warnings = (*warnings, *warning_of(fitted, manifest, asked=plane_gate))
    manifest = manifest.model_copy(
        update={
            "artefacts": _artefacts({slot: _artefact(kept[slot], rows, sized.models[slot]) for slot in slots}),
            "fastest": ranked(list(kept.values()), transformer=transformer),
            "calibration": None if sets is None else sets.entry(),
            "tools": {**manifest.tools, **tool_versions(tuple(slot.target for slot in slots))},
        }
    )
    manifest = gated(manifest, fitted)
    files = dict(sized.files)
    if fitted.arrays is not None:
        files[PLANE_GATE] = fitted.arrays.to_bytes()
    for row in kept.values():
        files |= row.candidate.files
    files[GOLDEN] = (origin.golden or _golden(pictures, logits, truth.heat_maps)).to_bytes()
    if direction is not None:
        files[DIRECTION] = _npy(direction)
    told = {"reference": logits, **{slot.name: row.logits for slot, row in kept.items()}, **sized.logits}
    rows = [*rows, *sized.rows]
    files[PARITY] = parity_file(manifest, rows, origin.reference_name, told, frames is not None)
    digest = write_bundle(out, manifest, files, replace=replace)
    return Conversion(place, digest, manifest, tuple(rows), warnings)


def _made(
    origin: Origin,
    slots: Sequence[Slot],
    precision: Precision,
    sets: Sets | None,
    control: Control | None,
    float_precision: FloatPrecision,
    report: Report,
) -> list[Candidate]:
    """The candidates of every slot."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as scratch:
        model = Path(scratch) / "float32.onnx"
        model.write_bytes(origin.onnx)
        shop = Workshop(model, origin.manifest, Path(scratch), sets, control, report, float_precision)
        return [candidate for slot in slots for candidate in candidates(slot, precision, shop)]


def _origin(source: Path, out: Path, weights: Weights | None, training: Training | None, golden: object) -> Origin:
    name = out.name.removesuffix(".vmeg") or "model"
    if source.is_dir():
        if weights is not None or training is not None or golden is not None:
            raise UsageError(
                f"{source}: a bundle brings its input, labels, decision rule and golden frames; "
                "leave out the options that say otherwise, or give the checkpoint"
            )
        return from_bundle(source, name)
    golden_origin = "phantoms" if golden is None else _GIVEN
    return from_checkpoint(source, name, weights or Weights(), training or Training(), golden_origin)


def _sets(
    precision: Precision, quantization: Quantization, reduction: Reduction, manifest: Manifest, report: Report
) -> Sets | None:
    if precision != "int8" and not quantization.sources:
        check_frames(reduction, 0)
        return None
    if precision != "int8" and reduction == "off":
        raise UsageError(f"--calibration serves int8 alone, and --precision is {precision}; leave one out")
    report("gathering calibration frames")
    sets = gather(
        quantization.sources,
        manifest.input,
        calibration_frames=quantization.calibration_frames,
        validation_frames=quantization.validation_frames,
    )
    report(
        f"{len(sets.calibration)} frames to calibrate on, {len(sets.control)} for control, "
        f"{len(sets.validation)} for the gate"
    )
    for warning in sets.warnings:
        report(f"warning: {warning}")
    check_frames(reduction, len(sets.validation))
    return sets


def _plane_gate(origin: Origin, given: Sequence[str | PathLike[str]], report: Report) -> FittedGate:
    if not given and origin.plane_gate is not None:
        report("keeping the bundle's plane gate")
        return FittedGate(origin.plane_gate, origin.manifest.plane_gate)
    report("fitting the plane gate")
    return fit_gate(gate_frames(given or (PHANTOMS,), origin.manifest.input), origin.reference)


def _classes(
    processors: Sequence[str], targets: Sequence[str], precision: Precision, quantization: Quantization
) -> tuple[ProcessorClass, ...]:
    """The classes asked for. Raises `UsageError` where the artefacts do not depend on them."""
    asked = asked_for(processors)
    if asked and (set(targets) == {"tensorrt"} or precision not in ("float32", "int8")):
        what = "TensorRT's artefacts" if set(targets) == {"tensorrt"} else f"--precision {precision}"
        raise UsageError(f"--for serves int8 and float32 on CPUs, and not {what}; leave it out")
    here = processor_class.current()
    if quantization.float_precision != "float32" and any(one != here for one in asked):
        raise UsageError(
            f"--float-precision {quantization.float_precision} is proven on the machine that has it; leave out --for, "
            f"or give --for {here.name}"
        )
    return asked


def _baselines(made: Sequence[Candidate], origin: Origin) -> dict[str, Candidate]:
    """Float32 without merging on each engine that runs here, to tell how much faster the candidates are."""
    slots = {candidate.target: candidate.slot for candidate in made if candidate.stand_in is None}
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as scratch:
        model = Path(scratch) / "float32.onnx"
        model.write_bytes(origin.onnx)
        shop = Workshop(model, origin.manifest, Path(scratch))
        return {target: exported(slot, shop) for target, slot in sorted(slots.items())}


def _artefact(row: Row, rows: Sequence[Row], sized: tuple[SizedModel, ...]) -> Artefact:
    told = {"reason": reason_for(row, rows), "sized": sized, "proven": row.proofs}
    return row.candidate.artefact.model_copy(update=told)


def _artefacts(made: Mapping[Slot, Artefact]) -> dict[str, Artefact]:
    """One entry a target: its first slot's artefact, and the others as its variants."""
    found: dict[str, Artefact] = {}
    for slot, artefact in made.items():
        if slot.target not in found:
            found[slot.target] = artefact
            continue
        further = Variant(**{name: getattr(artefact, name) for name in Variant.model_fields})
        first = found[slot.target]
        found[slot.target] = first.model_copy(update={"variants": (*first.variants, further)})
    return found


def _frames_of(golden: Golden) -> list[Frame]:
    return [Frame(picture, index=index, source="golden frame") for index, picture in enumerate(golden.frames)]


def _golden(pictures: Sequence[Frame], logits: npt.NDArray[np.float32], maps: npt.NDArray[np.floating[Any]]) -> Golden:
    count = len(pictures)
    return Golden(
        tuple(cropped(frame) for frame in pictures),
        np.asarray(logits[:count], dtype=np.float32),
        np.asarray(maps[:count], dtype=np.float32),
    )


def _npy(array: npt.NDArray[np.float32]) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=False)
    return buffer.getvalue()
