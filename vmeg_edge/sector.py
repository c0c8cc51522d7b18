"""The ultrasound sector: which patches lie outside it for as long as a geometry lasts, and the smaller models for it.

Outside patches are dark, and dark in every frame so far, and joined to the picture's edge by such patches: an anechoic
ventricle is not. They share a few tokens (`REGISTERS` at least) instead of having one each; a frame in which one of
them lights up never goes to a model that would have it share.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from vmeg_edge.backends import Backend
from vmeg_edge.errors import UsageError

Grid = tuple[int, int]
Levels = npt.NDArray[np.uint8]
Home = npt.NDArray[np.int32]

DARK = 8
"""The highest level, of 255 and after preprocessing, of a patch that shows nothing."""

REGISTERS = 4
"""How many tokens the outside shares at least. Measured: benchmarks/merging/sector.py."""

LEARNT_FROM = 16
"""Frames of a geometry that the whole model scores before a smaller one may."""


@dataclass(frozen=True, eq=False)
class Sector:
    """``inside``, bool ``[rows, columns]``: the patches that have a token of their own."""

    inside: npt.NDArray[np.bool_]

    @classmethod
    def seen(cls, brightest: Levels) -> Sector:
        """Of each patch's highest level so far, uint8 ``[rows, columns]``."""
        dark = np.pad(brightest <= DARK, 1, constant_values=True)
        _, parts = cv2.connectedComponents(dark.astype(np.uint8), connectivity=4)
        return cls(parts[1:-1, 1:-1] != parts[0, 0])

    @property
    def needs(self) -> int:
        """The tokens that this sector asks for."""
        own = int(self.inside.sum())
        return own + min(REGISTERS, self.inside.size - own)

    def home(self, tokens: int) -> Home:
        """In which of ``tokens`` each patch is, int32 ``[1, rows * columns]``, patches in rows from the top left.

        Inside patches come first, one token each; the others share the rest, in runs. Raises `UsageError` where the
        sector does not fit.
        """
        if not self.needs <= tokens <= self.inside.size:
            raise UsageError(f"the sector needs {self.needs} tokens of {self.inside.size}, and the model has {tokens}")
        own = self.inside.ravel()
        count, others = int(own.sum()), int((~own).sum())
        home = np.empty((1, own.size), np.int32)
        home[0, own] = np.arange(count)
        home[0, ~own] = count + np.arange(others) * (tokens - count) // max(others, 1)
        return home


def brightest_of(pixels: Levels, grid: Grid) -> Levels:
    """The highest level of each patch of uint8 ``[1, H, W, 3]``: uint8 ``[rows, columns]``."""
    _, height, width, channels = pixels.shape
    rows, columns = grid
    of_rows = pixels.reshape(rows, height // rows, width * channels).max(axis=1)
    return np.asarray(of_rows.reshape(rows, columns, -1).max(axis=2))


def read_sector(path: str | PathLike[str], grid: Grid) -> Sector:
    """A sector that is known beforehand, from a picture of the region that is white inside and black outside.

    A patch is inside where any of its pixels is. Raises `UsageError` for a file that is no such picture.
    """
    picture = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE) if Path(path).is_file() else None
    if picture is None:
        raise UsageError(f"{path}: no picture that can be read; give a PNG of the region, white inside the sector")
    rows, columns = grid
    levels = cv2.resize(picture, (16 * columns, 16 * rows), interpolation=cv2.INTER_AREA)
    inside = levels.reshape(rows, 16, columns, 16).max(axis=(1, 3)) > 0
    if not inside.any():
        raise UsageError(f"{path}: is black all over; paint the sector white")
    return Sector(inside)


def fitted(pixels: Levels, tokens: int, grid: Grid) -> tuple[Levels, Home]:
    """``pixels`` as a model of ``tokens`` can take them, and their home: for calibrating and proving such a model.

    The frame's own sector where it fits; else the patches that are farthest from the middle are blackened until it
    does.
    """
    rows, columns = grid
    if tokens <= REGISTERS:
        raise UsageError(f"a model of {tokens} tokens sees nothing; give more than {REGISTERS}")
    away = np.hypot(*np.ogrid[(1 - rows) / 2 : rows / 2, (1 - columns) / 2 : columns / 2])
    order = np.argsort(-away, axis=None, kind="stable")
    brightest = brightest_of(pixels, grid)
    sector = Sector.seen(brightest)
    if sector.needs > tokens:
        pixels = pixels.copy()
        cells = pixels.reshape(rows, pixels.shape[1] // rows, columns, pixels.shape[2] // columns, 3)
        for place in order:
            row, column = divmod(int(place), columns)
            cells[row, :, column] = brightest[row, column] = 0
            sector = Sector.seen(brightest)
            if sector.needs <= tokens:
                break
    return pixels, sector.home(tokens)


class SectorWatch:
    """Follows a stream's geometry, frame by frame, and says which of ``sizes`` serves each.

    Without a ``preset`` the first `LEARNT_FROM` frames of a geometry are learnt from. The sector only grows; where it
    outgrows every size, and where the geometry changes, learning starts again.
    """

    def __init__(self, sizes: Sequence[int], grid: Grid, preset: Sector | None = None) -> None:
        """Start to learn."""
        self.sizes = sorted(sizes)
        self.grid = grid
        self.preset = preset
        self._geometry: Hashable = None
        self._brightest: Levels = self._known()
        self._seen = 0
        self._settled = False
        self._chosen: tuple[int, Home] | None = None

    def choose(self, pixels: Levels, geometry: Hashable) -> tuple[int, Home] | None:
        """(tokens, home) for this frame, ``None`` for the whole model. ``geometry`` is what tells two of them apart."""
        now = brightest_of(pixels, self.grid)
        if geometry != self._geometry:
            self._start(geometry)
        brightest = np.maximum(self._brightest, now)
        grew = bool(((brightest > DARK) & (self._brightest <= DARK)).any())
        self._brightest = brightest
        self._seen += 1
        if self.preset is None and self._seen <= LEARNT_FROM:
            return None
        if grew or not self._settled:
            self._chosen, self._settled = self._fitting(Sector.seen(brightest)), True
        if self._chosen is None:
            self._start(geometry)
        return self._chosen

    def _start(self, geometry: Hashable) -> None:
        self._geometry, self._brightest = geometry, self._known()
        self._seen, self._settled, self._chosen = 0, False, None

    def _known(self) -> Levels:
        inside = np.zeros(self.grid, np.bool_) if self.preset is None else self.preset.inside
        return np.where(inside, 255, 0).astype(np.uint8)

    def _fitting(self, sector: Sector) -> tuple[int, Home] | None:
        for tokens in self.sizes:
            if sector.needs <= tokens:
                return tokens, sector.home(tokens)
        return None


class SectorModels:
    """The models of fewer tokens behind one watch: the smallest that the stream's sector fits scores a frame."""

    def __init__(self, models: Mapping[int, Backend], grid: Grid, preset: Sector | None = None) -> None:
        """Start to watch. Raises `UsageError` for a preset that fits none of the models."""
        self.models = models
        self.grid = grid
        self._watch = SectorWatch(tuple(models), grid, preset)
        if preset is not None and preset.needs > max(models):
            raise UsageError(
                f"the sector asks for {preset.needs} tokens, and the bundle's largest such model has {max(models)}; "
                f"convert with --sector-tokens {preset.needs}, or leave --sector out"
            )

    def choose(self, pixels: Levels, geometry: Hashable) -> tuple[Backend, int, Home] | None:
        """The model for this frame, its tokens and home; ``None`` where the whole model must score it."""
        chosen = self._watch.choose(pixels, geometry)
        if chosen is None:
            return None
        tokens, home = chosen
        return self.models[tokens], tokens, home

    def close(self) -> None:
        """Free the engines."""
        for model in self.models.values():
            model.close()
