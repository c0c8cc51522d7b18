"""A frame that does not look like the calibration frames gets no decision: a distance in the model's own features.

The features say how the tokens that Eigen-CAM reads spread over the picture: the log variance along each principal axis
of the calibration frames' tokens, and the log of the energy outside those axes (Moghaddam and Pentland 1997,
"Probabilistic visual learning for object representation": distance in a feature space, and from it). A frame's
distance is that of Mahalanobis to the calibration frames (Lee et al. 2018, arXiv 1807.03888), divided by the root of
the number of features, so that a calibration frame lies near 1. Features do not depend on the tokens' order.
"""

from __future__ import annotations

import io
import math
from dataclasses import dataclass, fields, replace

import numpy as np
import numpy.typing as npt

from vmeg_edge import kernels
from vmeg_edge.errors import ActivationError, ManifestError
from vmeg_edge.manifest import Manifest, PlaneGateRule
from vmeg_edge.results import Prediction

Floats = npt.NDArray[np.float64]

PLANE_GATE = "plane_gate.npz"
FEATURES = "log variance of the tokens along their principal axes, and log energy outside these"
MAX_AXES = 64
FARTHEST = 1e6
"""The greatest distance, and that of a frame that has none (NaN, overflow); every threshold is below it."""

_FLOOR = 1e-3  # of what calibration frames show: below it, a smaller spread tells nothing more
_ZIP_LIMIT = 64 << 20


@dataclass(frozen=True, eq=False)
class GateArrays:
    """What ``plane_gate.npz`` holds, for ``C`` channels and ``k`` axes; all float64 but the axes.

    ``token_mean`` ``[C]`` and ``axes`` (float32 ``[C, k]``, orthonormal) are the calibration frames' tokens' mean and
    principal axes, ``variances`` ``[k]`` and ``residual`` ``[1]`` their variance along the axes and outside them.
    ``feature_mean`` ``[k + 1]`` and ``whitening`` ``[k + 1, k + 1]`` turn a frame's features into ones of mean 0 and
    unit covariance.
    """

    token_mean: Floats
    axes: npt.NDArray[np.float32]
    variances: Floats
    residual: Floats
    feature_mean: Floats
    whitening: Floats

    def to_bytes(self) -> bytes:
        """The file's bytes; the same content, the same bytes."""
        buffer = io.BytesIO()
        np.savez_compressed(buffer, **{field.name: getattr(self, field.name) for field in fields(self)})
        return buffer.getvalue()


class PlaneGate:
    """Distances of frames to the calibration set. Use it from one thread: it keeps small buffers."""

    def __init__(self, arrays: GateArrays, positions: int) -> None:
        """For activations of ``positions`` tokens. Raises `ValueError` that names the array that cannot be used."""
        _check(arrays)
        channels, axes = arrays.axes.shape
        self.arrays = arrays
        self._shape = (positions, channels)
        # One product gives the projections and, in the last column, what the energy about the mean needs.
        self._projection = np.ascontiguousarray(
            np.vstack([arrays.axes.T, arrays.token_mean.astype(np.float32)]), dtype=np.float32
        )
        mean = self._projection[axes].astype(np.float64)
        self._centre = self._projection[:axes].astype(np.float64) @ mean
        self._mean_energy = float(mean @ mean)
        self._residual = float(arrays.residual[0])
        self._ones = np.ones(positions)
        self._out = np.empty((positions, axes + 1), dtype=np.float32)
        self._wide = np.empty((positions, axes + 1))

    def features(self, activations: npt.NDArray[np.float32]) -> Floats:
        """The features of one frame, float64 ``[k + 1]``, from activations float32 ``[positions, C]``.

        Raises `ActivationError` for another shape or dtype. Activations that are not finite give features that are not.
        """
        if activations.shape != self._shape or activations.dtype != np.float32:
            raise ActivationError(
                f"activations: {activations.dtype} {list(activations.shape)}; the plane gate was fitted for float32 "
                f"{list(self._shape)}; verify the bundle (`vmeg-edge verify`)"
            )
        with np.errstate(all="ignore"):
            return self._features(activations)

    def distance(self, activations: npt.NDArray[np.float32]) -> float:
        """How far a frame lies from the calibration frames: near 1 for one of them, at most `FARTHEST`.

        Raises `ActivationError` for another shape or dtype than the gate was fitted for.
        """
        features = self.features(activations)
        with np.errstate(all="ignore"):
            white = (features - self.arrays.feature_mean) @ self.arrays.whitening
            distance = math.sqrt(white @ white / len(white))
        return min(distance, FARTHEST) if math.isfinite(distance) else FARTHEST

    def _features(self, activations: npt.NDArray[np.float32]) -> Floats:
        positions = self._shape[0]
        squares = kernels.project(activations, self._projection, self._out)
        seen = self._wide
        np.copyto(seen, self._out)
        means = self._ones @ seen / positions
        variances = np.einsum("ij,ij->j", seen, seen)[:-1] / positions - means[:-1] ** 2
        np.maximum(variances, 0.0, out=variances)  # a difference of near equals, in float64 of float32 products
        offset = means[:-1] - self._centre
        energy = squares / positions - 2 * float(means[-1]) + self._mean_energy
        outside = energy - float(variances.sum() + offset @ offset)
        features = np.empty(len(means))
        features[:-1] = variances / self.arrays.variances
        features[-1] = max(outside, 0.0) / self._residual
        features += _FLOOR
        return np.log(features, out=features)


def hold_back(prediction: Prediction, distance: float, rule: PlaneGateRule) -> Prediction:
    """The prediction itself, or the same without a decision where the distance is above the rule's threshold."""
    if distance <= rule.threshold:
        return prediction
    reason = (
        f"out of plane: distance {distance:.1f} is above {rule.threshold:.1f}, "
        "so this does not look like the calibration frames"
    )
    return replace(prediction, decision="no-decision", reason=reason)


def parse_plane_gate(data: bytes, manifest: Manifest, origin: str) -> PlaneGate:
    """Read ``plane_gate.npz``. Raises `ManifestError` when it cannot be read or does not fit the manifest."""
    try:
        with np.load(io.BytesIO(data), allow_pickle=False) as content:
            if sum(entry.file_size for entry in content.zip.infolist()) > _ZIP_LIMIT:
                raise ValueError("it inflates beyond 64 MB")
            arrays = GateArrays(**{field.name: content[field.name] for field in fields(GateArrays)})
        gate = PlaneGate(arrays, math.prod(manifest.explanation.grid))
    except Exception as error:
        reason = " ".join(str(error).split())
        raise ManifestError(f"{origin}: {PLANE_GATE} cannot be used ({reason}); convert the checkpoint again") from None
    if len(arrays.axes) != manifest.explanation.channels:
        raise ManifestError(f"{origin}: {PLANE_GATE} does not fit the manifest; convert the checkpoint again")
    return gate


def _check(arrays: GateArrays) -> None:
    if arrays.axes.ndim != 2 or not 1 <= arrays.axes.shape[1] <= min(MAX_AXES, arrays.axes.shape[0]):
        raise ValueError(f"axes are {list(arrays.axes.shape)}")
    channels, axes = arrays.axes.shape
    shapes = {
        "token_mean": (channels,),
        "axes": (channels, axes),
        "variances": (axes,),
        "residual": (1,),
        "feature_mean": (axes + 1,),
        "whitening": (axes + 1, axes + 1),
    }
    for name, shape in shapes.items():
        array = getattr(arrays, name)
        dtype = np.float32 if name == "axes" else np.float64
        if array.shape != shape or array.dtype != dtype:
            raise ValueError(
                f"{name} is {array.dtype} {list(array.shape)}, and should be {dtype.__name__} {list(shape)}"
            )
        if not np.isfinite(array).all():
            raise ValueError(f"{name} holds NaN or infinity")
    if arrays.variances.min() <= 0 or arrays.residual[0] <= 0:
        raise ValueError("a variance is not above 0")
