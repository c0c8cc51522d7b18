"""Activations to HeatMap: Eigen-CAM (Muhammad and Yeasin, 2020, arXiv 2008.00299)."""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

from vmeg_edge import kernels
from vmeg_edge.frames import Region
from vmeg_edge.results import HeatMap

SALIENCY_LABEL = "feature saliency"


def heat_map(
    activations: npt.NDArray[np.float32],
    grid: tuple[int, int],
    region: Region,
    direction: npt.NDArray[np.float32] | None = None,
) -> HeatMap:
    """The heat map of ``activations`` (float32 ``[rows * columns, channels]``) over ``region`` of the frame.

    ``direction`` (float32 ``[channels]``) is the model's own orientation: it fixes the sign of the singular
    vector, so that consecutive frames cannot flip. Raises `ActivationError` where activations are not finite.
    """
    values = kernels.eigencam(activations, grid, direction)
    return HeatMap(values, region, _peak(values, region))


def over_region(heat: HeatMap) -> npt.NDArray[np.float32]:
    """The map stretched bilinearly over its region: float32 ``[region.height, region.width]`` in 0..1."""
    size = (heat.region.width, heat.region.height)
    return np.asarray(cv2.resize(heat.values, size, interpolation=cv2.INTER_LINEAR), dtype=np.float32)


def _peak(values: npt.NDArray[np.float32], region: Region) -> tuple[float, float] | None:
    """Centre of the hottest cell in pixels of the frame; the first in reading order on a tie."""
    rows, columns = values.shape
    hottest = int(values.argmax())
    if values.flat[hottest] <= 0:
        return None
    row, column = divmod(hottest, columns)
    x = region.x + (column + 0.5) * region.width / columns
    y = region.y + (row + 0.5) * region.height / rows
    return x, y
