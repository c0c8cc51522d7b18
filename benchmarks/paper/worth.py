"""What a heat map is worth: chance at the pointing game, energy inside a mask, the deletion curve; all pure."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
from vmeg_edge.converters.pointing_game import Mask

from vmeg_edge.frames import Pixels, Region

Floats: TypeAlias = npt.NDArray[np.float64]
Cells: TypeAlias = npt.NDArray[np.intp]
Score: TypeAlias = Callable[[Pixels], float]

STEPS = 16
RESAMPLES = 2000


def cells_of(region: Region, grid: tuple[int, int]) -> tuple[list[int], list[int]]:
    """Where the rows and columns of ``grid`` (rows, columns) begin and end in pixels of the frame."""
    rows = [region.y + round(region.height * row / grid[0]) for row in range(grid[0] + 1)]
    columns = [region.x + round(region.width * column / grid[1]) for column in range(grid[1] + 1)]
    return rows, columns


def centres_of(region: Region, grid: tuple[int, int]) -> tuple[Cells, Cells]:
    """The pixels (x, y) at the cells' centres, in reading order: where a peak can lie."""
    y = region.y + (np.arange(grid[0]) + 0.5) * region.height / grid[0]
    x = region.x + (np.arange(grid[1]) + 0.5) * region.width / grid[1]
    return np.tile(x, grid[0]).astype(np.intp), np.repeat(y, grid[1]).astype(np.intp)


def chance(mask: Mask, region: Region, grid: tuple[int, int]) -> float:
    """How often a peak in a cell drawn at random would lie on the mask."""
    x, y = centres_of(region, grid)
    return float(mask[y, x].mean())


def energy_inside(stretched: npt.NDArray[np.floating], inside: Mask) -> float | None:
    """The share of a map's sum that lies inside ``inside``, both of one shape; a flat map has none."""
    whole = float(stretched.sum(dtype=np.float64))
    return float(stretched[inside].sum(dtype=np.float64)) / whole if whole > 0 else None


def hottest_first(values: npt.NDArray[np.floating], rng: np.random.Generator) -> Cells:
    """The cells of a map in reading order, hottest first; ``rng`` decides among equals: half a map may be zero."""
    shuffled = rng.permutation(values.size)
    return shuffled[np.argsort(-values.ravel()[shuffled], kind="stable")]


def deletion(
    score: Score, pixels: Pixels, region: Region, grid: tuple[int, int], order: Cells, steps: int = STEPS
) -> list[float]:
    """The score of the frame whole, and after each of ``steps`` equal shares of its cells was masked, in ``order``.

    A masked cell holds the mean of the region, one for each channel. The last entry is the frame with all cells masked.
    """
    rows, columns = cells_of(region, grid)
    inside = pixels[region.y : region.y + region.height, region.x : region.x + region.width]
    mean = np.rint(inside.mean(axis=(0, 1))).astype(np.uint8)
    left = pixels.copy()
    scores = [score(left)]
    done = 0
    for step in range(1, steps + 1):
        until = round(len(order) * step / steps)
        for cell in order[done:until]:
            row, column = divmod(int(cell), grid[1])
            left[rows[row] : rows[row + 1], columns[column] : columns[column + 1]] = mean
        scores.append(score(left))
        done = until
    return scores


def area_under(curve: Sequence[float]) -> float:
    """The area under a deletion curve over the share of cells masked, 0 to 1, its start taken as 1."""
    values = np.asarray(curve, np.float64)
    return float((values[:-1] + values[1:]).sum() / 2 / (len(values) - 1) / values[0])


@dataclass(frozen=True)
class Mean:
    """A mean over ``n`` frames with its 95 % interval: a percentile bootstrap over the frames, seeded."""

    n: int
    value: float | None
    low: float | None
    high: float | None


def mean_of(values: Sequence[float | None], seed: int = 0) -> Mean:
    """The mean of what is there; `Mean.n` counts it."""
    held = np.array([value for value in values if value is not None], np.float64)
    if not len(held):
        return Mean(0, None, None, None)
    drawn = np.random.default_rng(seed).integers(0, len(held), (RESAMPLES, len(held)))
    low, high = np.percentile(held[drawn].mean(axis=1), (2.5, 97.5))
    return Mean(len(held), float(held.mean()), float(low), float(high))
