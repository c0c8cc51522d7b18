"""Sized models: the same network for frames of a known sector, made and proven like the whole one, size by size."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePath

import numpy as np
import numpy.typing as npt

from vmeg_edge.errors import UsageError
from vmeg_edge.manifest import Artefact, Precision, SizedModel
from vmeg_edge.sector import REGISTERS

from .calibration import Sets
from .candidates import Candidate, FloatPrecision, Report, Workshop, candidates
from .control import Control
from .feeds import by_sector, seen_by
from .measure import Bar, Row, judged, maps_of, measure, settle
from .origin import Merging, Origin
from .reduced import merging_of
from .token_reduction import Schedule

Tensors = npt.NDArray[np.uint8]
_LEAST = 16


@dataclass(frozen=True, eq=False)
class Sized:
    """What was made: each target's models with their files, a row of figures for each, and what to warn of."""

    models: dict[str, tuple[SizedModel, ...]]
    files: dict[str, bytes]
    rows: tuple[Row, ...]
    warnings: tuple[str, ...]


NOTHING = Sized({}, {}, (), ())


def check_sizes(origin: Origin, sizes: Sequence[int], targets: Sequence[str]) -> None:
    """Refuse before any work is done what cannot be made. Raises `UsageError`."""
    if not sizes:
        return
    patches = merging_of(origin, "--sector-tokens").config.grid ** 2
    wrong = [size for size in sizes if not _LEAST <= size < patches]
    if wrong:
        raise UsageError(
            f"--sector-tokens {wrong[0]}: give {_LEAST} to {patches - 1}; the model has {patches} patches, and those "
            f"outside the sector share at least {REGISTERS} tokens"
        )
    if "tensorrt" in targets:
        raise UsageError("--sector-tokens serves onnxruntime and openvino; convert for tensorrt by itself")


def sized_models(
    origin: Origin,
    chosen: Origin,
    kept: dict[str, Row],
    sizes: Sequence[int],
    precision: Precision,
    sets: Sets | None,
    tensors: Tensors,
    direction: npt.NDArray[np.float32] | None,
    float_precision: FloatPrecision,
    report: Report,
) -> Sized:
    """For each of ``sizes`` and each target the fastest model that passes; one that does not is left out, with a word.

    ``chosen`` says what is merged beside, ``origin`` is the reference that shares and merges nothing, and scores the
    very pixels that a sized model sees: ``tensors``, blackened from the edge in as far as their sector does not fit.
    """
    if not sizes:
        return NOTHING
    merging = merging_of(origin, "--sector-tokens")
    models: dict[str, list[SizedModel]] = {target: [] for target in kept}
    files: dict[str, bytes] = {}
    rows: list[Row] = []
    warnings: list[str] = []
    for tokens in sorted(set(sizes)):
        report(f"making the models of {tokens} tokens")
        made, bar = _of_size(
            origin, merging, chosen.manifest.merge, tokens, kept, precision, sets, tensors, direction, float_precision,
            report,
        )  # fmt: skip
        found = settle(measure(made, bar))
        rows += found
        for target in kept:
            best = next((row for row in found if row.candidate.target == target and row.status == "kept"), None)
            if best is None:
                reasons = "; ".join(f for row in found if row.candidate.target == target for f in row.failures)
                warnings.append(f"no model of {tokens} tokens on {target}: {reasons}")
                continue
            models[target].append(SizedModel(tokens=tokens, files=best.candidate.artefact.files))
            files |= best.candidate.files
    return Sized({target: tuple(found) for target, found in models.items()}, files, tuple(rows), tuple(warnings))


def with_sized(artefact: Artefact, models: tuple[SizedModel, ...]) -> Artefact:
    """The artefact with its sized models."""
    return artefact.model_copy(update={"sized": models})


def _of_size(
    origin: Origin,
    merging: Merging,
    merge: Schedule,
    tokens: int,
    kept: dict[str, Row],
    precision: Precision,
    sets: Sets | None,
    tensors: Tensors,
    direction: npt.NDArray[np.float32] | None,
    float_precision: FloatPrecision,
    report: Report,
) -> tuple[list[Candidate], Bar]:
    """The candidates of one size, and what they are held against."""
    manifest = origin.manifest
    feed = by_sector(tokens, manifest.explanation.grid)
    control = None
    if sets is not None:
        control = Control(manifest, sets.control, origin.reference(seen_by(feed, sets.control))[0])
    with tempfile.TemporaryDirectory() as scratch:
        model = Path(scratch) / "float32.onnx"
        model.write_bytes(merging.onnx(merge, tokens))
        shop = Workshop(model, manifest, Path(scratch), sets, control, report, float_precision, feed)
        made = [_named(one, tokens) for target in kept for one in candidates(target, precision, shop)]
    logits, activations = origin.reference(seen_by(feed, tensors))
    truth = judged(logits, maps_of(activations, manifest, direction), manifest)
    whole = {target: row.candidate for target, row in kept.items()}
    return made, Bar(manifest, tensors, truth, direction, whole, reduced=True, feed=feed)


def _named(candidate: Candidate, tokens: int) -> Candidate:
    """The candidate with its size in its recipe and in its files' names, which lie beside the whole model's."""
    names = {name: f"{PurePath(name).stem}-{tokens}{PurePath(name).suffix}" for name in candidate.files}
    return replace(
        candidate,
        recipe=f"{candidate.recipe}, {tokens} tokens",
        artefact=candidate.artefact.model_copy(
            update={"files": tuple(names[name] for name in candidate.artefact.files)}
        ),
        files={names[name]: data for name, data in candidate.files.items()},
        tokens=tokens,
    )
