"""Calibration frames to a plane gate: fitted on some files, its threshold taken from others.

The covariance of the features is shrunk (Ledoit and Wolf 2004, "A well-conditioned estimator for large-dimensional
covariance matrices"). The threshold is a high quantile of the held-out frames' distances times a margin: engines and
precisions move a distance a little, and calibration frames are never all that a probe will see.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from os import PathLike

import numpy as np
import numpy.typing as npt
from sklearn.covariance import ledoit_wolf

from vmeg_edge._version import __version__
from vmeg_edge.bundle import MANIFEST, Bundle, write_bundle
from vmeg_edge.errors import UsageError
from vmeg_edge.gate import FEATURES, PLANE_GATE, GateArrays, PlaneGate
from vmeg_edge.manifest import Input, Manifest, PlaneGateRule

from .calibration import PHANTOMS, digest, gather
from .onnx_from_checkpoint import Reference
from .origin import from_bundle

Tensors = npt.NDArray[np.uint8]
Activations = npt.NDArray[np.float32]
Floats = npt.NDArray[np.float64]

AXES = 16
FIT_FRAMES = 128
HELD_OUT_FRAMES = 64
FEWEST_FIT = 24
FEWEST_HELD_OUT = 8
QUANTILE = 0.95
MARGIN = 1.15
"""int8 moved distances by up to 4 % (the demo model, 100 phantoms and 60 stills, ONNX Runtime and OpenVINO); the rest
is for frames that calibration did not foresee."""

_NONE = "No plane gate:"
_SMALLEST = 1e-6  # of the first axis's variance: a smaller one is rounding, and no axis of the tokens


@dataclass(frozen=True, eq=False)
class GateFrames:
    """Tensors uint8 ``[n, H, W, 3]`` to fit on, and others, of other files, for the threshold."""

    fit: Tensors
    held_out: Tensors
    sources: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class FittedGate:
    """A gate with its rule; or neither, and ``why``."""

    arrays: GateArrays | None = None
    rule: PlaneGateRule | None = None
    why: str = ""


def gate_frames(
    sources: Sequence[str | PathLike[str]], spec: Input, *, fit: int = FIT_FRAMES, held_out: int = HELD_OUT_FRAMES
) -> GateFrames:
    """Read the sources (the word ``phantoms`` is one), and split by file. Raises `SourceError`."""
    sets = gather(sources, spec, calibration_frames=fit, validation_frames=held_out)
    seen = {tensor.tobytes() for tensor in sets.calibration}
    more = [tensor for tensor in sets.control if tensor.tobytes() not in seen]
    return GateFrames(np.stack([*sets.calibration, *more]), sets.validation, sets.sources)


def fit_gate(
    frames: GateFrames, reference: Reference, *, quantile: float = QUANTILE, margin: float = MARGIN
) -> FittedGate:
    """Fit on the float32 reference's tokens; where that cannot be done, `FittedGate.why` says so.

    Raises `UsageError` for a quantile outside 0 to 1 or a margin below 1.
    """
    if not 0 < quantile < 1 or not 1 <= margin <= 10:
        raise UsageError("a plane gate's quantile lies between 0 and 1, and its margin between 1 and 10")
    if len(frames.fit) < FEWEST_FIT or len(frames.held_out) < FEWEST_HELD_OUT:
        return FittedGate(
            why=f"{len(frames.fit)} frames to fit on and {len(frames.held_out)} of other files are too few; "
            f"{FEWEST_FIT} and {FEWEST_HELD_OUT} are the least"
        )
    arrays = fit_arrays(reference(frames.fit)[1])
    if arrays is None:
        return FittedGate(why="the model's tokens do not vary over the calibration frames")
    far = distances(arrays, reference(frames.held_out)[1])
    threshold = float(np.quantile(far, quantile)) * margin
    rule = PlaneGateRule(
        threshold=round(threshold, 4),
        origin=f"{quantile:g} quantile of {len(far)} held-out frames' distances times {margin:g}; fitted on "
        f"{len(frames.fit)} frames of other files of {', '.join(frames.sources)} with the float32 reference; "
        f"vmeg-edge {__version__}, scikit-learn {version('scikit-learn')}",
        features=FEATURES,
        frames=len(frames.fit),
        sha256=digest(frames.fit),
        held_out_frames=len(frames.held_out),
        held_out_sha256=digest(frames.held_out),
        quantile=quantile,
        margin=margin,
        sources=frames.sources,
    )
    return FittedGate(arrays, rule)


def fit_arrays(activations: Activations, axes: int = AXES) -> GateArrays | None:
    """The gate of activations float32 ``[n, positions, C]``; ``None`` where they do not vary enough to have axes."""
    count, positions, channels = activations.shape
    mean = np.zeros(channels)
    second = np.zeros((channels, channels))
    for frame in activations:
        tokens = frame.astype(np.float64)
        mean += tokens.mean(axis=0) / count
        second += tokens.T @ tokens / (count * positions)
    # The runtime multiplies in float32, so the mean is taken as float32 holds it.
    mean = mean.astype(np.float32).astype(np.float64)
    values, vectors = np.linalg.eigh(second - np.outer(mean, mean))
    values, vectors = values[::-1], vectors[:, ::-1]
    kept = min(axes, channels - 1, int((values > max(values[0], 0.0) * _SMALLEST).sum()) - 1)
    if kept < 1:
        return None
    bare = GateArrays(
        token_mean=mean,
        axes=np.ascontiguousarray(vectors[:, :kept], dtype=np.float32),
        variances=np.array(values[:kept]),
        residual=np.array([values[kept:].clip(0.0).sum()]),
        feature_mean=np.zeros(kept + 1),
        whitening=np.eye(kept + 1),
    )
    features = _features(bare, activations)
    covariance, _ = ledoit_wolf(features)
    lower = np.linalg.cholesky(covariance)
    return GateArrays(
        token_mean=bare.token_mean,
        axes=bare.axes,
        variances=bare.variances,
        residual=bare.residual,
        feature_mean=features.mean(axis=0),
        whitening=np.ascontiguousarray(np.linalg.inv(lower).T),
    )


def distances(arrays: GateArrays, activations: Activations) -> Floats:
    """What the runtime says of each frame of activations ``[n, positions, C]``."""
    gate = PlaneGate(arrays, activations.shape[1])
    return np.array([gate.distance(frame) for frame in activations])


def gated(manifest: Manifest, fitted: FittedGate) -> Manifest:
    """The manifest with the gate's rule; where there is no gate, its notes say so and why."""
    notes = [note for note in manifest.notes if not note.startswith(_NONE)]
    if fitted.rule is None:
        notes.append(f"{_NONE} {fitted.why}; a picture of anything gets a decision.")
    return manifest.model_copy(update={"plane_gate": fitted.rule, "notes": tuple(notes)})


def warning_of(fitted: FittedGate, manifest: Manifest, *, asked: bool) -> tuple[str, ...]:
    """What must be said of the gate at conversion, at most one line."""
    if not asked:
        return ()
    if fitted.rule is None:
        return (
            f"the bundle has no plane gate ({fitted.why}), so a picture of anything gets a decision; "
            "add frames of the plane with --frames",
        )
    if manifest.trained_on != PHANTOMS and all(source == PHANTOMS for source in fitted.rule.sources):
        return (
            "the plane gate was fitted on phantoms alone, so most pictures of patients will get no decision; "
            "fit it on frames of yours with --frames, or leave it out with --no-plane-gate",
        )
    return ()


def add_gate(source: Bundle, out: str | PathLike[str], sources: Sequence[str | PathLike[str]], *, replace: bool) -> str:
    """Write the bundle again with a gate that its own float32 model was asked for; return the digest.

    Raises what `write_gated` raises, and `SourceError`.
    """
    return write_gated(source, out, gate_frames(sources, source.manifest.input), replace=replace)


def write_gated(source: Bundle, out: str | PathLike[str], frames: GateFrames, *, replace: bool) -> str:
    """Write the bundle again with a gate fitted on ``frames``; every other file stays as it is, byte for byte.

    Raises `UsageError` where the bundle holds no float32 model or no gate can be fitted, or `OutputError`.
    """
    origin = from_bundle(source.path, source.manifest.name)
    fitted = fit_gate(frames, origin.reference)
    if fitted.arrays is None:
        raise UsageError(f"{source.path}: no plane gate can be fitted: {fitted.why}; give more frames")
    files = {name: source.read(name) for name in source.digests if name != MANIFEST}
    files[PLANE_GATE] = fitted.arrays.to_bytes()
    return write_bundle(out, gated(source.manifest, fitted), files, replace=replace)


def _features(arrays: GateArrays, activations: Activations) -> Floats:
    gate = PlaneGate(arrays, activations.shape[1])
    return np.stack([gate.features(frame) for frame in activations])
