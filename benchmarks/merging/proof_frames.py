"""The frames of the proof: phantoms that no training saw, with what a heat map should hit, and all real frames."""

from __future__ import annotations

import hashlib
import multiprocessing
import os
import sys
import time
import warnings
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, fields
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
from trained import Images
from vmeg_edge.converters.frames import spread
from vmeg_edge.converters.pointing_game import holds, widened

from vmeg_edge.errors import VmegError
from vmeg_edge.frames import Region
from vmeg_edge.manifest import Input
from vmeg_edge.phantom import phantom
from vmeg_edge.preprocess import Preprocessor

Grid = tuple[int, int]
Bools = npt.NDArray[np.bool_]

WORKERS = 2


@dataclass(frozen=True, eq=False)
class Truth:
    """Of ``n`` phantoms: which are ``dilated``, and at which cells a peak is on the ventricle or within a patch of it.

    ``inside`` and ``near`` are ``[n, rows, columns]``: `pointing_game.holds` asked of every cell's centre.
    """

    dilated: Bools
    inside: Bools
    near: Bools


@dataclass(frozen=True, eq=False)
class FrameSet:
    """Frames as the runtime's preprocessing makes them, uint8 ``[n, H, W]`` or ``[n, H, W, 3]``."""

    name: str
    about: str
    images: Images
    truth: Truth | None = None

    @property
    def key(self) -> str:
        """A short name for these very pixels."""
        found = hashlib.sha256(str(self.images.shape).encode())
        found.update(np.ascontiguousarray(self.images).data)
        return f"{self.name}-{found.hexdigest()[:12]}"


def phantoms(seed: int, count: int, spec: Input, grid: Grid, scratch: Path) -> FrameSet:
    """The first ``count`` phantoms of the set ``seed``, rendered once and kept in ``scratch``."""
    size = f"{spec.width}x{spec.height}-{spec.resize}-{grid[0]}x{grid[1]}"
    path = scratch / f"phantoms-{seed}-{count}-{size}.npz"
    if not path.exists():
        images, truth = _rendered(seed, count, spec, grid)
        _save(path, images, truth)
    with np.load(path) as kept:
        truth = Truth(**{field.name: kept[field.name] for field in fields(Truth)})
        return FrameSet("phantoms", f"{count} phantoms of the set {seed}", kept["images"], truth)


def real(data: Path, spec: Input, cine_frames: int) -> FrameSet:
    """Every still under ``data``, and at most ``cine_frames`` frames spread over each cine."""
    warnings.simplefilter("ignore")  # of regions that do not fit: the whole frame is taken
    preprocess, images = Preprocessor(spec), []
    sources = 0
    for path in sorted(path for path in data.rglob("*") if path.is_file()):
        try:
            made = [preprocess(frame)[0].copy() for frame in spread(path, cine_frames)]
        except VmegError:
            continue
        sources += 1
        images += made
    about = f"{len(images)} frames of {sources} files, at most {cine_frames} of one"
    return FrameSet("real frames", about, np.stack(images))


def _rendered(seed: int, count: int, spec: Input, grid: Grid) -> tuple[Images, Truth]:
    images = np.empty((count, spec.height, spec.width), np.uint8)
    dilated = np.empty(count, np.bool_)
    inside, near = np.empty((count, *grid), np.bool_), np.empty((count, *grid), np.bool_)
    told = time.monotonic()
    with ProcessPoolExecutor(WORKERS, mp_context=multiprocessing.get_context("spawn")) as pool:
        made = pool.map(partial(_one, seed, spec, grid), range(count), chunksize=32)
        for index, found in enumerate(made):
            images[index], dilated[index], inside[index], near[index] = found
            if time.monotonic() - told > 30:
                told = time.monotonic()
                print(f"phantoms: {index + 1}/{count}", file=sys.stderr, flush=True)
    return images, Truth(dilated, inside, near)


def _one(seed: int, spec: Input, grid: Grid, index: int) -> tuple[Images, bool, Bools, Bools]:
    cv2.setNumThreads(1)
    made = phantom(seed, index)
    preprocess = Preprocessor(spec)
    region = preprocess.region_of(made.frame)
    mask = made.ventricles.astype(np.bool_)
    wide = widened(mask, region, grid)
    image = preprocess(made.frame)[0, :, :, 0].copy()
    return image, made.dilated, _cells(mask, region, grid), _cells(wide, region, grid)


def _cells(mask: Bools, region: Region, grid: Grid) -> Bools:
    """Whether a peak at each cell's centre is on the mask; `explain` puts peaks nowhere else."""
    rows, columns = grid
    xs = [region.x + (column + 0.5) * region.width / columns for column in range(columns)]
    ys = [region.y + (row + 0.5) * region.height / rows for row in range(rows)]
    return np.array([[holds(mask, (x, y)) for x in xs] for y in ys])


def _save(path: Path, images: Images, truth: Truth) -> None:
    """Whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f"{path.stem}.part.npz")
    np.savez(part, images=images, dilated=truth.dilated, inside=truth.inside, near=truth.near)
    os.replace(part, path)
