"""Sized models: the same network for frames of a known sector, made and proven like the whole one, size by size."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from vmeg_edge.errors import UsageError
from vmeg_edge.manifest import Precision, SizedModel
from vmeg_edge.sector import REGISTERS

from .answers import maps_of
from .calibration import Sets
from .candidate import Candidate, renamed
from .candidates import candidates
from .control import Control
from .feeds import by_sector, seen_by
from .measure import Bar, Row, judged, measure, settle
from .origin import Origin
from .reduced import merging_of
from .slots import Slot
from .token_reduction import Schedule
from .workshop import FloatPrecision, Report, Workshop

Tensors = npt.NDArray[np.uint8]
OPTION = "--sector-tokens"
_LEAST = 16


@dataclass(frozen=True, eq=False)
class Whole:
    """The whole model that sized ones stand beside, and what they are made from and held against.

    ``origin`` is the reference, which shares and merges nothing, and ``merge`` what is merged beside; ``kept`` is each
    slot's candidate; ``tensors`` are the frames of the gate, blackened from the edge in where a size asks for it.
    """

    origin: Origin
    merge: Schedule
    kept: Mapping[Slot, Candidate]
    precision: Precision
    float_precision: FloatPrecision
    sets: Sets | None
    tensors: Tensors
    direction: npt.NDArray[np.float32] | None
    report: Report


@dataclass(frozen=True, eq=False)
class Sized:
    """What was made: each slot's models with their files, a row of figures for each, and what to warn of.

    ``logits`` of the frames as each size sees them: ``reference-TOKENS``, and ``SLOT-TOKENS`` of what was kept.
    """

    models: Mapping[Slot, tuple[SizedModel, ...]]
    files: Mapping[str, bytes]
    rows: tuple[Row, ...]
    logits: Mapping[str, npt.NDArray[np.float32]]
    warnings: tuple[str, ...]


def check_sizes(origin: Origin, sizes: Sequence[int], targets: Sequence[str]) -> None:
    """Refuse before any work is done what cannot be made. Raises `UsageError`."""
    if not sizes:
        return
    patches = merging_of(origin, OPTION).config.grid ** 2
    wrong = [size for size in sizes if not _LEAST <= size < patches]
    if wrong:
        raise UsageError(
            f"{OPTION} {wrong[0]}: give {_LEAST} to {patches - 1}; the model has {patches} patches, and those outside "
            f"the sector share at least {REGISTERS} tokens"
        )
    if "tensorrt" in targets:
        raise UsageError(f"{OPTION} serves onnxruntime and openvino; convert for tensorrt by itself")


def sized_models(whole: Whole, sizes: Sequence[int]) -> Sized:
    """For each size and each slot the fastest model that passes; one that does not is left out, with a word."""
    models: dict[Slot, list[SizedModel]] = {slot: [] for slot in whole.kept}
    files: dict[str, bytes] = {}
    rows: list[Row] = []
    logits: dict[str, npt.NDArray[np.float32]] = {}
    warnings: list[str] = []
    for tokens in sorted(set(sizes)):
        whole.report(f"making the models of {tokens} tokens")
        measured, logits[f"reference-{tokens}"] = _measured(whole, tokens)
        found = settle(measured)
        rows += found
        for slot in whole.kept:
            own = [row for row in found if row.candidate.slot == slot]
            best = next((row for row in own if row.status == "kept"), None)
            if best is None:
                reasons = "; ".join(failure for row in own for failure in row.failures)
                warnings.append(f"no model of {tokens} tokens on {slot.name}: {reasons}")
                continue
            models[slot].append(SizedModel(tokens=tokens, files=best.candidate.artefact.files))
            files |= best.candidate.files
            logits[f"{slot.name}-{tokens}"] = best.logits
    by_slot = {slot: tuple(made) for slot, made in models.items()}
    return Sized(by_slot, files, tuple(rows), logits, tuple(warnings))


def _measured(whole: Whole, tokens: int) -> tuple[list[Row], npt.NDArray[np.float32]]:
    """The candidates of one size on frames as they see them, and the reference's logits of the same."""
    origin, sets = whole.origin, whole.sets
    manifest = origin.manifest
    feed = by_sector(tokens, manifest.explanation.grid)
    tensors = seen_by(feed, whole.tensors)
    control = None
    if sets is not None:
        sets = replace(sets, calibration=seen_by(feed, sets.calibration), control=seen_by(feed, sets.control))
        control = Control(manifest, sets.control, origin.reference(sets.control)[0])
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as scratch:
        model = Path(scratch) / "float32.onnx"
        model.write_bytes(merging_of(origin, OPTION).onnx(whole.merge, tokens))
        shop = Workshop(model, manifest, Path(scratch), sets, control, whole.report, whole.float_precision, feed)
        made = [_named(one, tokens) for slot in whole.kept for one in candidates(slot, whole.precision, shop)]
    logits, activations = origin.reference(tensors)
    truth = judged(logits, maps_of(activations, manifest, whole.direction), manifest)
    baselines = {slot.target: candidate for slot, candidate in whole.kept.items() if slot.timed_here}
    bar = Bar(manifest, tensors, truth, whole.direction, baselines, reduced=True, feed=feed)
    return measure(made, bar), logits


def _named(candidate: Candidate, tokens: int) -> Candidate:
    """The candidate with its size in its recipe and in its files' names, which lie beside the whole model's."""
    artefact, files = renamed(candidate.artefact, candidate.files, f"-{tokens}")
    recipe = f"{candidate.recipe}, {tokens} tokens"
    return replace(candidate, recipe=recipe, artefact=artefact, files=files, tokens=tokens)
