"""The frames that a conversion is held against: golden ones, more phantoms, and frames of the user's."""

from __future__ import annotations

from collections.abc import Sequence
from os import PathLike

import numpy as np
import numpy.typing as npt

from vmeg_edge.errors import SourceError
from vmeg_edge.frames import Frame, Pixels, Region
from vmeg_edge.manifest import Input
from vmeg_edge.phantom import phantom
from vmeg_edge.preprocess import Preprocessor
from vmeg_edge.sources import open_source

GOLDEN_FRAMES = 4
PHANTOM_FRAMES = 16
GIVEN_FRAMES = 64

_PHANTOM_SEED = 2011
_PHANTOM_WIDTHS_MM = (6.5, 13.0, 8.0, 11.5)


def golden_frames(source: str | PathLike[str] | None) -> list[Frame]:
    """Four frames that the bundle will carry: phantoms of both classes, or frames spread over ``source``."""
    return _phantoms(0, GOLDEN_FRAMES) if source is None else spread(source, GOLDEN_FRAMES)


def parity_frames(source: str | PathLike[str] | None, *, phantoms: bool) -> list[Frame]:
    """Twelve more phantoms, if asked for, and at most 64 frames spread over ``source``, where one is given."""
    more = _phantoms(GOLDEN_FRAMES, PHANTOM_FRAMES) if phantoms else []
    return more if source is None else [*more, *spread(source, GIVEN_FRAMES)]


def spread(path: str | PathLike[str], count: int) -> list[Frame]:
    """At most ``count`` frames of a source, evenly spread over it; memory does not grow with its length.

    Every k-th frame is held, and k doubles when twice ``count`` are. Raises `SourceError`.
    """
    kept: list[Frame] = []
    stride = 1
    seen = 0
    with open_source(path) as source:
        for item in source:
            if isinstance(item, Frame):
                if seen % stride == 0:
                    kept.append(item)
                    if len(kept) == 2 * count:
                        kept, stride = kept[::2], stride * 2
                seen += 1
    if not kept:
        raise SourceError(f"{path}: holds no frame that can be used; give another source")
    places = np.linspace(0, len(kept) - 1, min(count, len(kept))).round().astype(int)
    return [kept[place] for place in places]


def tensors_of(frames: Sequence[Frame], spec: Input) -> npt.NDArray[np.uint8]:
    """uint8 ``[n, H, W, 3]``, made by the code that makes them at run time."""
    preprocess = Preprocessor(spec)
    return np.concatenate([preprocess(frame).copy() for frame in frames])


def cropped(frame: Frame) -> Pixels:
    """The frame's region alone, contiguous: what a golden frame keeps."""
    region = frame.region or Region(0, 0, frame.width, frame.height)
    return np.ascontiguousarray(frame.pixels[region.y : region.y + region.height, region.x : region.x + region.width])


def _phantoms(first: int, last: int) -> list[Frame]:
    widths = _PHANTOM_WIDTHS_MM
    return [
        phantom(_PHANTOM_SEED, index, atrial_width_mm=widths[index % len(widths)]).frame for index in range(first, last)
    ]
