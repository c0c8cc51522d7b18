"""What a DICOM header says about time, the ultrasound region and millimetres."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

from vmeg_edge.frames import Region
from vmeg_edge.sources.dicomfile import Elements

_TWO_DIMENSIONAL = 1  # Region Spatial Format (0018,6012)
_TISSUE = 1  # Region Data Type (0018,6014)
_CENTIMETRES = 3  # Physical Units X, Y Direction (0018,6024), (0018,6026)


@dataclass(frozen=True)
class Timing:
    """``times_s`` holds each frame's time where they are listed; else ``period_s`` lies between two."""

    period_s: float | None = None
    times_s: tuple[float, ...] = ()

    @property
    def fps(self) -> float | None:
        """Frames a second, the mean over a list of times."""
        if len(self.times_s) > 1:
            return (len(self.times_s) - 1) / self.times_s[-1]
        return None if self.period_s is None else 1 / self.period_s

    def at(self, index: int) -> float | None:
        """Seconds from the first frame to frame ``index``."""
        if self.times_s:
            return self.times_s[index] if index < len(self.times_s) else None
        return None if self.period_s is None else index * self.period_s


@dataclass(frozen=True)
class Geometry:
    """The ultrasound region, (row, column) millimetres a pixel, and why a declared region was ignored."""

    region: Region | None = None
    spacing_mm: tuple[float, float] | None = None
    ignored: str | None = None


def read_timing(elements: Elements, frames: int) -> Timing:
    """Times of a cine (PS3.3, C.7.6.5); a single frame has none.

    In this order: Frame Time Vector (0018,1065), Frame Time (0018,1063), Recommended Display Frame Rate
    (0008,2144), Cine Rate (0018,0040). A vector that is short of frames or runs backwards is passed over.
    """
    if frames < 2:
        return Timing()
    steps_ms = [_number(step) for step in _values(elements, "FrameTimeVector")]
    if len(steps_ms) == frames - 1:  # some makers leave out the first, which is zero
        steps_ms.insert(0, 0.0)
    if len(steps_ms) >= frames and all(step is not None and step > 0 for step in steps_ms[1:frames]):
        times = accumulate(0.0 if step is None else step / 1000 for step in (0.0, *steps_ms[1:frames]))
        return Timing(times_s=tuple(times))
    period_ms = _positive(elements.get("FrameTime"))
    if period_ms is not None:
        return Timing(period_ms / 1000)
    rate = _positive(elements.get("RecommendedDisplayFrameRate")) or _positive(elements.get("CineRate"))
    return Timing(None if rate is None else 1 / rate)


def read_geometry(elements: Elements, columns: int, rows: int) -> Geometry:
    """The 2D tissue region (0018,6011) of largest area, the first of equals (PS3.3, C.8.5.5).

    Region Location Max X1 and Y1 name the last pixel *inside* the region, so that width is max - min + 1.
    Many makers write the first pixel outside instead; where the inclusive reading overshoots the frame by
    exactly that one pixel, the maximum is read so. A region that reaches further is a lie (often the picture
    was rescaled), and neither it nor its millimetres are used. Without any region, Pixel Spacing (0028,0030)
    counts.
    """
    items = [item for item in _values(elements, "SequenceOfUltrasoundRegions") if _is_tissue(item)]
    best: tuple[Region, Any] | None = None
    lie: str | None = None
    for item in items:
        region = _rectangle(item, columns, rows)
        if region is None or not region.fits(columns, rows):
            lie = lie or (
                "the ultrasound region (0018,6011) does not fit the frame of "
                f"{columns}x{rows} pixels{'' if region is None else f' ({_corners(region)})'}; "
                "it is ignored and the whole frame used"
            )
        elif best is None or region.width * region.height > best[0].width * best[0].height:
            best = region, item
    if best is not None:
        return Geometry(best[0], _delta_mm(best[1]))
    if items:
        return Geometry(ignored=lie)
    spacing = [_positive(value) for value in _values(elements, "PixelSpacing")]
    if len(spacing) == 2 and spacing[0] is not None and spacing[1] is not None:
        return Geometry(spacing_mm=(spacing[0], spacing[1]))
    return Geometry()


def _is_tissue(item: Elements) -> bool:
    return bool(item.get("RegionSpatialFormat") == _TWO_DIMENSIONAL and item.get("RegionDataType") == _TISSUE)


def _rectangle(item: Elements, columns: int, rows: int) -> Region | None:
    names = ("MinX0", "MinY0", "MaxX1", "MaxY1")
    corners = [_number(item.get(f"RegionLocation{name}")) for name in names]
    if any(corner is None for corner in corners):
        return None
    left, top, right, bottom = (int(corner) for corner in corners if corner is not None)
    right = right - 1 if right == columns else right
    bottom = bottom - 1 if bottom == rows else bottom
    return Region(left, top, right - left + 1, bottom - top + 1)


def _corners(region: Region) -> str:
    return f"x {region.x} to {region.x + region.width - 1}, y {region.y} to {region.y + region.height - 1}"


def _delta_mm(item: Elements) -> tuple[float, float] | None:
    """Physical Delta Y and X (0018,602E), (0018,602C) in millimetres; their sign is a direction."""
    if any(item.get(f"PhysicalUnits{axis}Direction") != _CENTIMETRES for axis in "XY"):
        return None
    row, column = (_positive(abs(_number(item.get(f"PhysicalDelta{axis}")) or 0.0)) for axis in "YX")
    return None if row is None or column is None else (10 * row, 10 * column)


def _values(elements: Elements, keyword: str) -> Sequence[Any]:
    """An element as a list, empty where it is absent or unreadable."""
    value = elements.get(keyword)
    if value is None or isinstance(value, str | bytes):
        return []
    return list(value) if hasattr(value, "__iter__") else [value]


def _number(value: Any) -> float | None:
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None


def _positive(value: Any) -> float | None:
    number = _number(value)
    # Beyond these bounds no rate, time or spacing means anything, and a reciprocal could overflow.
    return number if number is not None and 1e-9 < number < 1e9 else None
