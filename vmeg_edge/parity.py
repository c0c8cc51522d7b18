"""An artefact against its reference, in clinical units, and the gate that it has to pass."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

import numpy as np
import numpy.typing as npt

from vmeg_edge.errors import ParityError, UsageError
from vmeg_edge.results import Decision

Floats = npt.NDArray[np.floating[Any]]

_RANKS = {"probabilities": 1, "heat_maps": 3, "logits": 2}

# precision: the greatest (max |dp|, mean |dp|) that passes; None where only the other is bounded.
GATES: dict[str, tuple[float, float | None]] = {
    "float32": (1e-4, None),
    "float16": (1e-2, None),
    "bfloat16": (1e-2, None),
    "int8": (5e-2, 1e-2),
}

# Heat maps of a model that merges tokens: the least mean cosine, and the least of any frame.
MERGED_COSINES = (0.95, 0.8)


@dataclass(frozen=True, eq=False)
class Scores:
    """What one side of a comparison said of the same ``n`` frames.

    ``probabilities`` ``[n]`` of the positive class, 0 to 1, after softmax with temperature; ``decisions``
    ``[n]``; ``heat_maps`` ``[n, h, w]``; ``logits`` ``[n, classes]``, compared where both sides give them.
    Any float dtype; compared in float64.
    """

    probabilities: Floats
    decisions: Sequence[Decision]
    heat_maps: Floats
    logits: Floats | None = None


@dataclass(frozen=True)
class Parity:
    """How far a candidate is from its reference over ``frames`` frames.

    ``max_abs_dp`` and ``mean_abs_dp`` are the differences of the positive class's probability. A flip is a
    frame whose decision differs; it lies outside the abstain band when neither side abstained, so that
    ``normal`` met ``suspected``. Heat maps are compared by cosine (two empty maps: 1, one empty: 0) and by
    the distance between their hottest cells, in grid cells (two flat maps: 0, one flat: the grid's diagonal).
    ``non_finite_frames`` counts the frames where either side holds NaN or infinity; the figures that these
    touch are NaN or infinite.
    """

    frames: int
    max_abs_dp: float
    mean_abs_dp: float
    flips: int
    flips_outside_band: int
    heatmap_cosine_min: float
    heatmap_cosine_mean: float
    peak_distance_max: float
    peak_distance_mean: float
    non_finite_frames: int
    logits_max_abs_diff: float | None = None

    def to_json(self) -> dict[str, Any]:
        """The fields, ready for ``json.dumps``; NaN and infinity, which JSON lacks, become ``None``."""
        return {name: value if _finite(value) else None for name, value in asdict(self).items()}


def compare(reference: Scores, candidate: Scores) -> Parity:
    """Measure ``candidate`` against ``reference``, frame by frame.

    Raises `ParityError` where there are no frames, or where the two do not have the same shapes.
    """
    frames = len(reference.decisions)
    if frames == 0:
        raise ParityError("parity needs frames and got none; give golden or calibration frames")
    pairs = {
        name: (
            np.asarray(getattr(reference, name), np.float64),
            np.asarray(getattr(candidate, name), np.float64),
        )
        for name in _RANKS
        if getattr(reference, name) is not None and getattr(candidate, name) is not None
    }
    for name, (ours, theirs) in pairs.items():
        if ours.ndim != _RANKS[name] or ours.shape != theirs.shape or len(ours) != frames or ours.size == 0:
            raise ParityError(
                f"{name} are {list(ours.shape)} in the reference and {list(theirs.shape)} in the candidate "
                f"for {frames} frames; score the same frames on the same grid"
            )
    if len(candidate.decisions) != frames:
        raise ParityError(f"decisions are {frames} in the reference and {len(candidate.decisions)} in the candidate")

    finite = np.ones(frames, dtype=bool)
    for side in (array for pair in pairs.values() for array in pair):
        finite &= np.isfinite(side).reshape(frames, -1).all(axis=1)
    flips = [
        "no-decision" not in (ours, theirs)
        for ours, theirs in zip(reference.decisions, candidate.decisions, strict=True)
        if ours != theirs
    ]
    with np.errstate(invalid="ignore", over="ignore"):
        dp = np.abs(pairs["probabilities"][0] - pairs["probabilities"][1])
        logits = np.abs(pairs["logits"][0] - pairs["logits"][1]).max() if "logits" in pairs else None
        cosines = _cosines(*pairs["heat_maps"])
        distances = _peak_distances(*pairs["heat_maps"])
        return Parity(
            frames=frames,
            max_abs_dp=float(dp.max()),
            mean_abs_dp=float(dp.mean()),
            flips=len(flips),
            flips_outside_band=sum(flips),
            heatmap_cosine_min=float(cosines.min()),
            heatmap_cosine_mean=float(cosines.mean()),
            peak_distance_max=float(distances.max()),
            peak_distance_mean=float(distances.mean()),
            non_finite_frames=int(frames - finite.sum()),
            logits_max_abs_diff=None if logits is None else float(logits),
        )


def gate(parity: Parity, precision: str, *, merged: bool = False) -> list[str]:
    """Return why an artefact of ``precision`` may not be shipped, one line each; an empty list passes.

    float32: max |Δp| at most 1e-4. float16, bfloat16: at most 1e-2. int8: at most 5e-2, and the mean at most
    1e-2. Never a flip outside the abstain band, and never NaN or infinity. An artefact that merges tokens (``merged``)
    has int8's bounds in any precision, and its heat maps a cosine of 0.95 in the mean and of 0.8 on every frame.

    Raises `UsageError` for a precision that has no gate.
    """
    if precision not in GATES:
        raise UsageError(f"no parity gate for precision {precision!r}; choose one of {', '.join(GATES)}")
    failures = []
    if parity.non_finite_frames:
        failures.append(f"{parity.non_finite_frames} of {parity.frames} frames hold NaN or infinity")
    else:
        failures += [
            f"{field.name} is not a finite number"
            for field in fields(parity)
            if getattr(parity, field.name) is not None and not _finite(getattr(parity, field.name))
        ]
    bounds = "int8" if merged else precision
    most, most_mean = GATES[bounds]
    if parity.max_abs_dp > most:
        failures.append(f"max |dp| is {parity.max_abs_dp:.3g}; {bounds} allows {most:g}")
    if most_mean is not None and parity.mean_abs_dp > most_mean:
        failures.append(f"mean |dp| is {parity.mean_abs_dp:.3g}; {bounds} allows {most_mean:g}")
    if merged:
        failures += cosines_too_low(parity)
    if parity.flips_outside_band:
        failures.append(f"{parity.flips_outside_band} of {parity.frames} decisions flip outside the abstain band")
    return failures


def cosines_too_low(parity: Parity) -> list[str]:
    """What a model that merges tokens fails by its heat maps."""
    figures = zip(
        ("mean", "lowest"), (parity.heatmap_cosine_mean, parity.heatmap_cosine_min), MERGED_COSINES, strict=True
    )
    return [
        f"the heat maps' {name} cosine is {value:.3f}; merged tokens ask for {least}"
        for name, value, least in figures
        if not value >= least
    ]


def _finite(value: float | None) -> bool:
    return value is not None and math.isfinite(value)


def _cosines(ours: Floats, theirs: Floats) -> Floats:
    """Return the cosine of each pair of maps ``[n, h, w]``, ``[n]``."""
    a, b = ours.reshape(len(ours), -1), theirs.reshape(len(theirs), -1)
    norms = np.linalg.norm(a, axis=1), np.linalg.norm(b, axis=1)
    product: Floats = norms[0] * norms[1]
    cosines: Floats = np.where(
        product == 0,
        (norms[0] == norms[1]).astype(np.float64),
        (a * b).sum(axis=1) / np.where(product == 0, 1, product),
    )
    return cosines


def _peak_distances(ours: Floats, theirs: Floats) -> Floats:
    """Return how far apart each pair's hottest cells are, ``[n]``, in grid cells; NaN where a map has NaN."""
    n, rows, columns = ours.shape
    a, b = ours.reshape(n, -1), theirs.reshape(n, -1)
    row_a, column_a = np.divmod(a.argmax(axis=1), columns)
    row_b, column_b = np.divmod(b.argmax(axis=1), columns)
    distances: Floats = np.hypot(row_a - row_b, column_a - column_b).astype(np.float64)
    flat_a, flat_b = a.max(axis=1) == a.min(axis=1), b.max(axis=1) == b.min(axis=1)
    distances = np.where(flat_a & flat_b, 0.0, distances)
    distances = np.where(flat_a ^ flat_b, math.hypot(rows - 1, columns - 1), distances)
    unknown = ~(np.isfinite(a).all(axis=1) & np.isfinite(b).all(axis=1))
    distances[unknown] = np.nan
    return distances
