"""The model's own orientation for Eigen-CAM: one direction that fixes the sign of every frame's singular vector.

A singular vector's sign is arbitrary and a flip inverts the heat map. The direction is the leading eigenvector of
the frames' singular vectors taken together (their signs cancel), turned so that the pooled projections have a
positive third moment: the hot side is the smaller part of the frames. It is stored in the bundle.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from vmeg_edge import kernels

Activations = npt.NDArray[np.float32]


def fit_direction(activations: Sequence[Activations]) -> npt.NDArray[np.float32] | None:
    """Unit direction, float32 ``[C]``, from activations ``[h*w, C]`` of several frames; ``None`` if all are flat."""
    vectors = np.stack([kernels.principal_direction(frame) for frame in activations]).astype(np.float64)
    _, values, rows = np.linalg.svd(vectors, full_matrices=False)
    if values[0] == 0:
        return None
    direction = rows[0]
    moment = 0.0
    for frame in activations:
        centred = frame.astype(np.float64) - frame.mean(axis=0, dtype=np.float64)
        projection = centred @ direction
        spread = projection.std()
        if spread > 0:
            moment += float(((projection / spread) ** 3).mean())
    if moment < 0:
        direction = -direction
    return np.asarray(direction, dtype=np.float32)
