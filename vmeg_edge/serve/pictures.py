"""A frame and its heat map as two JPEG pictures of a size that a page shows."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np

from vmeg_edge.frames import Frame, Pixels, Region
from vmeg_edge.results import HeatMap
from vmeg_edge.sinks.drawing import bgr, blend

LONGEST = 800
_QUALITY = 85


def encode(frame: Frame, heat: HeatMap, longest: int = LONGEST) -> tuple[bytes, bytes]:
    """The clean frame, and the frame under its heat map, both with the longer side at most ``longest`` pixels."""
    scale = min(1.0, longest / max(frame.width, frame.height))
    width, height = max(1, round(frame.width * scale)), max(1, round(frame.height * scale))
    pixels = np.ascontiguousarray(frame.pixels)
    if scale < 1:  # shrunk before it is coloured, so that a large frame costs no more than a small one
        pixels = np.asarray(cv2.resize(pixels, (width, height), interpolation=cv2.INTER_AREA), dtype=np.uint8)
    clean = bgr(pixels)
    return _jpeg(clean), _jpeg(blend(clean, _scaled(heat, width / frame.width, height / frame.height, width, height)))


def _scaled(heat: HeatMap, across: float, down: float, width: int, height: int) -> HeatMap:
    """The same map over the same part of a frame that is now ``width`` by ``height`` pixels."""
    region = heat.region
    x, y = min(round(region.x * across), width - 1), min(round(region.y * down), height - 1)
    right, bottom = round((region.x + region.width) * across), round((region.y + region.height) * down)
    fitted = Region(x, y, min(max(1, right - x), width - x), min(max(1, bottom - y), height - y))
    peak = None if heat.peak_xy is None else (heat.peak_xy[0] * across, heat.peak_xy[1] * down)
    return replace(heat, region=fitted, peak_xy=peak)


def _jpeg(picture: Pixels) -> bytes:
    _, data = cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, _QUALITY])
    return data.tobytes()
