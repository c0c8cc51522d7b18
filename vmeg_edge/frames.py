"""Frame and Region: pixels, capture time, spacing, and where they came from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from vmeg_edge.errors import FrameError

Pixels: TypeAlias = npt.NDArray[np.uint8]

MIN_SIDE = 16
MAX_SIDE = 16_384


@dataclass(frozen=True)
class Region:
    """A rectangle of a frame, in pixels. ``x`` and ``y`` are its top left corner."""

    x: int
    y: int
    width: int
    height: int

    def fits(self, frame_width: int, frame_height: int) -> bool:
        """Whether the rectangle is not empty and lies wholly inside the frame."""
        return (
            self.x >= 0
            and self.y >= 0
            and self.width > 0
            and self.height > 0
            and self.x + self.width <= frame_width
            and self.y + self.height <= frame_height
        )


@dataclass(frozen=True, eq=False)
class Frame:
    """One picture as its source delivered it.

    ``pixels`` is uint8, ``[height, width]`` grey or ``[height, width, 3]`` RGB, of any strides. ``captured_s``
    counts from the start of the recording (``None`` for a still). ``spacing_mm`` is (row, column) millimetres
    a pixel, where the source knows it. ``region`` is the part that holds the ultrasound image, where the
    source knows it (DICOM's ultrasound region). ``source`` names the file or device. ``arrived_ns`` is when the
    picture entered this machine, by ``time.perf_counter_ns``; live sources set it, and ages count from it.

    Raises `FrameError` when the pixels are not uint8, not of such a shape, or when a side is shorter than
    16 or longer than 16,384 pixels.
    """

    pixels: Pixels
    index: int = 0
    captured_s: float | None = None
    spacing_mm: tuple[float, float] | None = None
    region: Region | None = None
    source: str = "array"
    arrived_ns: int | None = None

    def __post_init__(self) -> None:
        """Refuse what no later step could give a meaning to."""
        pixels = self.pixels
        if not isinstance(pixels, np.ndarray):
            raise FrameError(f"{self.source}: pixels are a {type(pixels).__name__}; pass a NumPy uint8 array")
        if pixels.dtype != np.uint8:
            raise FrameError(f"{self.source}: pixels are {pixels.dtype}; scale them to 8 bits (uint8, 0 to 255) first")
        if pixels.ndim not in (2, 3) or (pixels.ndim == 3 and pixels.shape[2] != 3):
            shape = "x".join(map(str, pixels.shape))
            raise FrameError(
                f"{self.source}: pixels have shape {shape}; pass [height, width] or [height, width, 3] RGB"
            )
        height, width = pixels.shape[:2]
        if not (MIN_SIDE <= height <= MAX_SIDE and MIN_SIDE <= width <= MAX_SIDE):
            raise FrameError(
                f"{self.source}: a frame of {width}x{height} pixels; "
                f"each side must be {MIN_SIDE} to {MAX_SIDE} pixels, so crop or rescale it"
            )
        if self.region is not None and not self.region.fits(width, height):
            raise FrameError(f"{self.source}: {self.region} reaches beyond the frame of {width}x{height} pixels")

    @property
    def width(self) -> int:
        """Columns of pixels."""
        return int(self.pixels.shape[1])

    @property
    def height(self) -> int:
        """Rows of pixels."""
        return int(self.pixels.shape[0])


@dataclass(frozen=True)
class LostFrame:
    """A frame that its source announced and could not deliver; ``reason`` is one line."""

    index: int
    reason: str
    source: str = "array"


@dataclass(frozen=True)
class Disconnected:
    """A live source's word that its signal is gone; frames follow when it is back. ``reason`` is one line."""

    reason: str
    source: str = "array"
