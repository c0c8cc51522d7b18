"""A finished run's checkpoint to a bundle, whose plane gate knows the frames that the network was trained for."""

from __future__ import annotations

from os import PathLike

import numpy as np
import numpy.typing as npt

from vmeg_edge.bundle import open_bundle
from vmeg_edge.errors import UsageError

from ..bundle_from_model import convert
from ..origin import Training
from ..plane_gate_fit import FIT_FRAMES, HELD_OUT_FRAMES, GateFrames, write_gated
from ..workshop import Report
from .examples import Examples
from .plan import Plan

TARGETS = ("onnxruntime", "openvino")


def convert_run(
    plan: Plan,
    checkpoint: str | PathLike[str],
    out: str | PathLike[str],
    source: str,
    *,
    replace: bool = False,
    report: Report = lambda _: None,
) -> tuple[str, tuple[str, ...]]:
    """Convert in float32 for ONNX Runtime and OpenVINO; the bundle's digest, and warnings.

    Phantoms' gate is the one that `convert` fits. Another's is fitted on the frames that were trained on, its threshold
    on those for validation, which training never saw; ``source`` is what the manifest calls them. Where they are too
    few for a gate, a warning says so.

    Raises what `convert` raises; `ParityError` where a gate fails.
    """
    simulated = plan.train.phantoms
    training = Training(decision=plan.rule)
    done = convert(
        checkpoint, out, targets=TARGETS, training=training, plane_gate=simulated, replace=replace, report=report
    )
    done.check()
    if simulated:
        return done.digest, done.warnings
    report("fitting the plane gate")
    frames = GateFrames(_tensors(plan.train, FIT_FRAMES), _tensors(plan.validation, HELD_OUT_FRAMES), (source,))
    try:
        return write_gated(open_bundle(out), out, frames, replace=True), done.warnings
    except UsageError as error:
        return done.digest, (*done.warnings, f"the bundle has no plane gate: {error}")


def _tensors(part: Examples, most: int) -> npt.NDArray[np.uint8]:
    """At most so many frames, spread over the part, as uint8 ``[n, H, W, 3]``."""
    places = np.unique(np.linspace(0, len(part) - 1, min(most, len(part))).round().astype(int))
    images = part.images[places]
    return np.ascontiguousarray(np.repeat(images[..., None], 3, axis=3) if images.ndim == 3 else images)
