"""Whether a heat map's peak lies on what it should show: the pointing game (Zhang et al., IJCV 2018)."""

from __future__ import annotations

from typing import TypeAlias

import cv2
import numpy as np
import numpy.typing as npt

from vmeg_edge.frames import Region

Mask: TypeAlias = npt.NDArray[np.bool_]


def widened(mask: Mask, region: Region, grid: tuple[int, int]) -> Mask:
    """``mask`` and all that lies within one cell of it, to the sides, up, down and across.

    ``mask`` has the frame's shape; ``grid`` is the heat map's (rows, columns), which cover ``region``.
    """
    width, height = round(region.width / grid[1]), round(region.height / grid[0])
    reach = np.ones((2 * height + 1, 2 * width + 1), np.uint8)
    return cv2.dilate(mask.astype(np.uint8), reach) > 0


def holds(mask: Mask, peak_xy: tuple[float, float] | None) -> bool:
    """Whether the peak, in pixels of the frame, lies on the mask; a flat map has none, and points at nothing."""
    return peak_xy is not None and bool(mask[int(peak_xy[1]), int(peak_xy[0])])
