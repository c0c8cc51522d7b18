"""The model with its tokens merged: as asked, or the cheapest that says the same, found by screening in float32."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from vmeg_edge.errors import UsageError
from vmeg_edge.parity import LEAST_COSINE_MERGED, compare

from .candidates import Report
from .control import Control
from .measure import judged, maps_of
from .origin import Merging, Origin
from .token_reduction import Reduction, Schedule, constant, mean_tokens, schedules

Direction = npt.NDArray[np.float32] | None

SCREEN_MARGIN = 0.5
"""The share of the gate's allowance that merging may use up in float32; rounding to int8 takes its own."""


def variants(
    origin: Origin, reduction: Reduction, control: Control | None, direction: Direction, report: Report
) -> Iterator[Origin]:
    """The origins to try, in order, until one passes: with merged tokens, and under ``auto`` at last without.

    Raises `UsageError` where tokens cannot be merged.
    """
    if reduction == "off":
        yield origin
        return
    merging = _merging_of(origin)
    if reduction != "auto":
        yield _merged(origin, merging, constant(merging.config, reduction), report)
        return
    if control is None:
        raise UsageError("--reduce-tokens auto chooses by frames; give --calibration SOURCE (stills, a cine, a folder)")
    for schedule in schedules(merging.config):
        candidate = _merged(origin, merging, schedule, report)
        if _agrees(origin, candidate, control, direction):
            yield candidate
    report("no schedule of merging passes; no tokens are merged")
    yield origin


def _merging_of(origin: Origin) -> Merging:
    if origin.merging is not None:
        return origin.merging
    if origin.manifest.architecture.family != "vit":
        raise UsageError(
            f"--reduce-tokens merges a ViT's tokens, and this is a {origin.manifest.architecture.summary}; leave it out"
        )
    raise UsageError("--reduce-tokens starts from the checkpoint, and a bundle was given; give the checkpoint")


def _merged(origin: Origin, merging: Merging, schedule: Schedule, report: Report) -> Origin:
    report(f"merging tokens: {mean_tokens(merging.config, schedule):.0f} of {1 + merging.config.grid**2} in the mean")
    onnx, reference = merging.by(schedule)
    manifest = origin.manifest.model_copy(update={"merge": schedule})
    return replace(origin, manifest=manifest, onnx=onnx, reference=reference)


def _agrees(origin: Origin, candidate: Origin, control: Control, direction: Direction) -> bool:
    """Whether merging alone leaves room in the gate on the control frames, their heat maps among it."""
    logits, activations = candidate.reference(control.tensors)
    if control.used(logits) > SCREEN_MARGIN:
        return False
    _, whole = origin.reference(control.tensors)
    ours, theirs = (
        judged(said, maps_of(seen, origin.manifest, direction), origin.manifest)
        for said, seen in ((control.logits, whole), (logits, activations))
    )
    return compare(ours, theirs).heatmap_cosine_min >= LEAST_COSINE_MERGED
