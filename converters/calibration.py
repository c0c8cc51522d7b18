"""Frames in three parts: to calibrate on, to control accuracy by, and to hold the gate on.

Calibration measures ranges on the first part, chosen for spread. Control decides on the second which recipe and which
layers stay in float: on the first, a range that is too narrow for other frames would not show. The gate is held on the
third, validation, which neither has seen.

Every frame passes through the runtime's own preprocessing. Frames that give the same tensor count once. Files are
the unit of the split (parts of one series, ``_1_of_3``, count as one file), so that no cine lies on both sides; one
single cine is cut in time, with a gap. What is chosen depends on the pixels and not on names or the order of files.
Of very many frames a sample is held, those whose digests are smallest, so that memory does not grow with the sources.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from os import PathLike
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from vmeg_edge.errors import SourceError, UsageError
from vmeg_edge.frames import Frame
from vmeg_edge.manifest import CalibrationSet, Input
from vmeg_edge.phantom import phantoms
from vmeg_edge.preprocess import Preprocessor
from vmeg_edge.sources import open_source

from .series import series_of

Tensors = npt.NDArray[np.uint8]

PHANTOMS = "phantoms"
"""A source by name: phantoms of a seed that no other step uses."""

FEW = 32
CALIBRATION_FRAMES = 128
VALIDATION_FRAMES = 64
CONTROL_FRAMES = 32

_PHANTOM_SEED = 4242
_PHANTOM_FRAMES = 192
_VALIDATION_SHARE = 1 / 3
_CONTROL_SHARE = 1 / 4  # of what validation leaves
_CANDIDATES = 2048
_THUMBNAIL = 16
_ALIKE = 4.0  # grey levels of mean difference between thumbnails below which a set teaches one picture only


@dataclass(frozen=True, eq=False)
class Sets:
    """Three parts, each uint8 ``[n, H, W, 3]``; ``warnings`` say what to add, one line each.

    ``control`` is the calibration part itself where there are too few frames for three parts.
    """

    calibration: Tensors
    control: Tensors
    validation: Tensors
    sources: tuple[str, ...]
    warnings: tuple[str, ...]

    def entry(self) -> CalibrationSet:
        """What the manifest says of the sets."""
        return CalibrationSet(
            frames=len(self.calibration),
            sha256=digest(self.calibration),
            validation_frames=len(self.validation),
            validation_sha256=digest(self.validation),
            sources=self.sources,
        )


def digest(tensors: Tensors) -> str:
    """The SHA-256 of the tensors' bytes, in order."""
    return hashlib.sha256(np.ascontiguousarray(tensors).tobytes()).hexdigest()


def gather(
    sources: Sequence[str | PathLike[str]],
    spec: Input,
    *,
    calibration_frames: int = CALIBRATION_FRAMES,
    validation_frames: int = VALIDATION_FRAMES,
) -> Sets:
    """Read every source, split, and choose. A source is whatever `open_source` reads, or the word ``phantoms``.

    Raises `SourceError` where a source cannot be read or all of them hold no frame, `UsageError` for a number below 1.
    """
    if min(calibration_frames, validation_frames) < 1:
        raise UsageError("calibration needs at least 1 frame, and so does validation; give larger numbers")
    if not sources:
        raise UsageError("int8 is calibrated on frames; give --calibration SOURCE (stills, a cine, a folder)")
    pool = _Pool()
    warnings: list[str] = []
    for source in sources:
        warnings += _read(source, spec, pool, round(validation_frames / _VALIDATION_SHARE))
    parts = pool.groups()
    if not parts:
        raise SourceError(f"{', '.join(map(str, sources))}: not one frame could be read; give another --calibration")
    rest, validation = _split(parts, _VALIDATION_SHARE)
    calibration, control = _split(rest, _CONTROL_SHARE)
    chosen = _spread_out(_joined(calibration, spec), calibration_frames)
    held = _spread_out(_joined(validation, spec), validation_frames)
    watched = _spread_out(_joined(control, spec), CONTROL_FRAMES) if control else chosen[:CONTROL_FRAMES]
    return Sets(chosen, watched, held, tuple(_shown(s) for s in sources), (*warnings, *_complaints(chosen, held)))


class _Pool:
    """Different tensors by group, at most `_CANDIDATES` of them in the end."""

    def __init__(self) -> None:
        self._kept: dict[bytes, tuple[str, Tensors]] = {}
        self._limit = b"\xff" * 32

    def add(self, group: str, tensor: Tensors) -> None:
        mark = hashlib.sha256(tensor.tobytes()).digest()
        if mark in self._kept or mark > self._limit:
            return
        self._kept[mark] = (group, tensor.copy())
        if len(self._kept) >= 2 * _CANDIDATES:
            self._thin()

    def groups(self) -> list[Tensors]:
        if len(self._kept) > _CANDIDATES:
            self._thin()
        groups: dict[str, list[Tensors]] = {}
        for group, tensor in self._kept.values():
            groups.setdefault(group, []).append(tensor)
        return [np.stack(tensors) for tensors in groups.values()]

    def _thin(self) -> None:
        self._limit = sorted(self._kept)[_CANDIDATES - 1]
        self._kept = {mark: entry for mark, entry in self._kept.items() if mark <= self._limit}


def _read(source: str | PathLike[str], spec: Input, pool: _Pool, wanted: int) -> list[str]:
    """Add the frames of one source to the pool, of phantoms ``wanted``; the warnings name what could not be read."""
    preprocess = Preprocessor(spec)
    if str(source) == PHANTOMS:
        for index, tensor in enumerate(_phantom_tensors(spec, max(_PHANTOM_FRAMES, wanted))):
            pool.add(f"{PHANTOMS}:{index}", tensor)
        return []
    lost: list[str] = []
    with open_source(source) as opened:
        for item in opened:
            if isinstance(item, Frame):
                pool.add(series_of(item.source), preprocess(item)[0])
            else:
                lost.append(item.reason)
    if not lost:
        return []
    return [f"{source}: {len(lost)} frames could not be read and were left out: {lost[0]}"]


@lru_cache(maxsize=2)
def _phantom_tensors(spec: Input, count: int) -> Tensors:
    """Rendering takes longer than reading: one conversion asks for them twice, for int8 and for the plane gate."""
    preprocess = Preprocessor(spec)
    return np.stack([preprocess(made.frame)[0].copy() for made in phantoms(_PHANTOM_SEED, count)])


def _shown(source: str | PathLike[str]) -> str:
    """A source's name without the folders above it: a bundle tells nothing of the machine that made it."""
    return Path(source).resolve().name if str(source) != PHANTOMS else PHANTOMS


def _split(parts: list[Tensors], share: float) -> tuple[list[Tensors], list[Tensors]]:
    """(rest, ``share`` of the frames): whole groups in an order drawn from their pixels; one group alone, by time."""
    if len(parts) == 1:
        only = parts[0]
        cut = len(only) - int(len(only) * share)
        gap = len(only) // 20
        return [only[: max(1, cut - gap)]], [only[cut:]] if cut < len(only) else []
    order = sorted(range(len(parts)), key=lambda i: hashlib.sha256(parts[i][0].tobytes()).digest())
    total = sum(map(len, parts))
    taken: list[int] = []
    held = 0
    for i in order:
        # A group that would overshoot stays, unless nothing is held yet and it is not most of what there is.
        if held + len(parts[i]) <= total * share or (not taken and len(parts[i]) < total / 2):
            taken.append(i)
            held += len(parts[i])
    return [parts[i] for i in order if i not in taken], [parts[i] for i in taken]


def _joined(parts: list[Tensors], spec: Input) -> Tensors:
    return np.concatenate(parts) if parts else np.empty((0, spec.height, spec.width, 3), np.uint8)


def _spread_out(tensors: Tensors, count: int) -> Tensors:
    """``count`` tensors as far from one another as can be (Gonzalez 1985, farthest-first traversal).

    Distance is that of grey thumbnails of 16 by 16. The first is the one nearest to the mean; ties go to the first in
    order.
    """
    if len(tensors) <= count:
        return tensors
    thumbnails = _thumbnails(tensors)
    start = int(np.linalg.norm(thumbnails - thumbnails.mean(axis=0), axis=1).argmin())
    chosen = [start]
    nearest = np.linalg.norm(thumbnails - thumbnails[start], axis=1)
    while len(chosen) < count:
        farthest = int(nearest.argmax())
        chosen.append(farthest)
        nearest = np.minimum(nearest, np.linalg.norm(thumbnails - thumbnails[farthest], axis=1))
    return tensors[sorted(chosen)]


def _thumbnails(tensors: Tensors) -> npt.NDArray[np.float32]:
    """Grey thumbnails, float32 ``[n, 256]``, in grey levels."""
    size = (_THUMBNAIL, _THUMBNAIL)
    small = [cv2.resize(t.mean(axis=2).astype(np.float32), size, interpolation=cv2.INTER_AREA) for t in tensors]
    return np.stack(small).reshape(len(tensors), -1)


def _complaints(calibration: Tensors, validation: Tensors) -> list[str]:
    said = []
    if len(calibration) < FEW:
        said.append(
            f"calibration has {len(calibration)} different frames; {FEW} is the least that can be trusted: "
            f"add at least {FEW - len(calibration)} from other patients and depths"
        )
    thumbnails = _thumbnails(calibration)
    spread = float(np.abs(thumbnails - thumbnails.mean(axis=0)).mean())
    if spread < _ALIKE:
        said.append(
            f"the calibration frames are all alike (they differ by {spread:.1f} grey levels on average): "
            "add frames of other patients, depths, gains and planes"
        )
    if len(validation) < FEW:
        said.append(
            f"validation has {len(validation)} frames that calibration did not see, beside the phantoms: "
            "add frames, so that the gate is held on your own pictures"
        )
    return said
