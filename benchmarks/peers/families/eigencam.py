"""Eigen-CAM by a thin SVD in NumPy, for the engines that bring none."""

from __future__ import annotations

import numpy as np

from .base import GRID, Map


def eigencam(activations: Map, direction: Map) -> Map:
    """``[positions, channels]`` to ``[14, 14]`` in 0..1; ``v . direction`` is positive, as in the reference."""
    centred = activations - activations.mean(axis=0)
    vector = np.linalg.svd(centred, full_matrices=False)[2][0]
    if vector @ direction < 0:
        vector = -vector
    return stretched(centred @ vector)


def stretched(projection: Map) -> Map:
    """Negative to zero, then from the lowest to the highest value."""
    hot = np.maximum(projection, 0).reshape(GRID, GRID)
    hot -= hot.min()
    return np.asarray(hot / max(float(hot.max()), 1e-12), dtype=np.float32)
