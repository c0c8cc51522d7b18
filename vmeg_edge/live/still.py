"""How much a frame differs from the one before it, and from the one that a still picture began with."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from vmeg_edge.frames import Pixels

_ROWS = 16


@dataclass(frozen=True)
class Likeness:
    """``identical``: each pixel equals the previous frame's. ``change``: mean grey levels from the still's first frame.

    ``change`` is infinite where there is nothing to compare with: the first frame, another size.
    """

    identical: bool
    change: float


class StillDetector:
    """Compares each frame with its predecessor exactly, and with the start of the still on a sample of rows.

    The comparison is with the first frame of the still and not with the frame before, so that a slow pan, in which
    each frame is nearly its predecessor, ends the still once it has gone far enough. ``limit`` is that distance in
    mean grey levels.
    """

    def __init__(self, limit: float) -> None:
        """Nothing has been seen."""
        self._limit = limit
        self._last: Pixels | None = None
        self._last_samples: Pixels | None = None
        self._still: Pixels | None = None

    def observe(self, pixels: Pixels) -> Likeness:
        """Compare ``pixels`` (kept until the next call) with what came before."""
        samples = _samples(pixels)
        last, last_samples = self._last, self._last_samples
        identical = (
            last is not None
            and last_samples is not None
            and last.shape == pixels.shape
            and last_samples.tobytes() == samples.tobytes()
            and np.array_equal(last, pixels)
        )
        change = np.inf
        if self._still is not None and self._still.shape == samples.shape and last is not None:
            same_size = last.shape == pixels.shape
            change = float(_mean_difference(self._still, samples)) if same_size else np.inf
        if change > self._limit:
            self._still = samples
        self._last, self._last_samples = pixels, samples
        return Likeness(identical, change)

    def forget(self) -> None:
        """The signal was gone: the next frame is like none before it."""
        self._last = self._last_samples = self._still = None


def _samples(pixels: Pixels) -> Pixels:
    """16 rows, spread evenly and copied: whole rows, since scattered pixels cost a cache miss each."""
    step = max(1, pixels.shape[0] // _ROWS)
    return np.ascontiguousarray(pixels[step // 2 :: step])


def _mean_difference(one: Pixels, other: Pixels) -> float:
    return cv2.norm(one, other, cv2.NORM_L1) / one.size
