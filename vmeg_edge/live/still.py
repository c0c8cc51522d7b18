"""How much a frame differs from the one before it, and from the one that a still picture began with."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from vmeg_edge.frames import Disconnected, Frame, LostFrame, Pixels

_ROWS = 16


@dataclass(frozen=True)
class Likeness:
    """``identical``: each pixel equals the previous frame's. ``change``: mean grey levels from the still's first frame.

    ``change`` is infinite where there is nothing to compare with: the first frame, another size.
    """

    identical: bool
    change: float


NEW = Likeness(identical=False, change=float("inf"))
"""Like nothing before it."""


class StillDetector:
    """Compares each frame with its predecessor exactly, and with the start of the still on a sample of rows.

    The comparison is with the first frame of the still and not with the frame before, so that a slow pan, in which
    each frame is nearly its predecessor, ends the still once it has gone far enough. ``limit`` is that distance in
    mean grey levels; with ``None`` nothing is compared, and every frame is new.
    """

    def __init__(self, limit: float | None) -> None:
        """Nothing has been seen."""
        self._limit = limit
        self._last: Pixels | None = None
        self._still: Pixels | None = None

    def likeness(self, item: Frame | LostFrame | Disconnected) -> Likeness:
        """That of whatever a source delivers; after `Disconnected` the next frame is new."""
        if isinstance(item, Frame):
            return self.observe(item.pixels)
        if isinstance(item, Disconnected):
            self._last = self._still = None
        return NEW

    def observe(self, pixels: Pixels) -> Likeness:
        """Compare ``pixels`` (held on to, and not to be changed) with what came before."""
        if self._limit is None:
            return NEW
        last, still = self._last, self._still
        self._last = pixels
        if last is None or still is None or last.shape != pixels.shape or still.shape != pixels.shape:
            self._still = pixels
            return NEW
        change = _mean_difference(still, pixels)
        if change > self._limit:
            self._still = pixels
        may_be_identical = still is not last or change == 0.0
        return Likeness(may_be_identical and np.array_equal(last, pixels), change)


def _mean_difference(one: Pixels, other: Pixels) -> float:
    """Over 16 rows, spread evenly: whole rows, since scattered pixels cost a cache miss each."""
    step = max(1, one.shape[0] // _ROWS)
    rows = slice(step // 2, None, step)
    sampled = one[rows]
    return cv2.norm(_packed(sampled), _packed(other[rows]), cv2.NORM_L1) / sampled.size


def _packed(rows: Pixels) -> Pixels:
    """OpenCV takes rows that lie apart, not pixels that do."""
    apart = rows.strides[-1] != 1 or (rows.ndim == 3 and rows.strides[1] != rows.shape[2])
    return np.ascontiguousarray(rows) if apart else rows
