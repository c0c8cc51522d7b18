"""The frames of a run: decoded once, ahead of the clock, and handed to every case's process as files."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import cv2
import numpy as np

from vmeg_edge.bench.scenarios import LEAST_FRAMES
from vmeg_edge.errors import SourceError, UsageError
from vmeg_edge.frames import MAX_SIDE, MIN_SIDE, Disconnected, Frame, LostFrame, Region
from vmeg_edge.phantom import PhantomCine
from vmeg_edge.sources import Source
from vmeg_edge.sources.isolated import open_where_due
from vmeg_edge.sources.spec import parse_source

PHANTOMS = "phantom:"
PHANTOM_SIZE = (1920, 1080)
MOST_FRAMES = 64
MOST_BYTES = 96 << 20

_LIST = "frames.json"


@dataclass(frozen=True)
class HeldFrames:
    """Distinct frames in memory. ``decode_ms`` is what each took its source, empty where that tells nothing."""

    frames: tuple[Frame, ...]
    source: str
    decode_ms: tuple[float, ...] = ()


def gather(
    words: str,
    *,
    region: Region | None = None,
    size: tuple[int, int] | None = None,
    progress: Callable[[int, int], None] = lambda _done, _total: None,
) -> HeldFrames:
    """Decode up to 64 distinct frames (or 96 MiB, but two at least) of a source as ``vmeg-edge stream`` names it.

    A frame equal to the one before is passed over, and so is a last one that equals the first, which it would meet when
    the frames come round again. ``size`` (width, height) scales each frame, as a frame grabber set
    to that size would. Raises `UsageError` for a source with fewer than two different frames, and `SourceError`.
    """
    if size is not None and not all(MIN_SIDE <= side <= MAX_SIDE for side in size):
        raise UsageError(f"--size {size[0]}x{size[1]}: each side must be {MIN_SIDE} to {MAX_SIDE} pixels")
    phantoms = words in (PHANTOMS, "phantom")
    source: Source | PhantomCine
    if phantoms:
        width, height = size or PHANTOM_SIZE
        source = PhantomCine(frames=MOST_FRAMES, width=width, height=height)
        size = None
    else:
        source = open_where_due(parse_source(words))
    kept: list[Frame] = []
    decode_ms: list[float] = []
    try:
        for frame, took_ms in _decoded(source):
            placed = frame if region is None else _cut(frame, region)
            if phantoms:  # as a frame grabber delivers them
                placed = replace(placed, pixels=np.repeat(placed.pixels[..., None], 3, axis=2))
            scaled = placed if size is None else _scaled(placed, size)
            if kept and np.array_equal(kept[-1].pixels, scaled.pixels):
                continue
            kept.append(replace(scaled, index=len(kept), pixels=np.ascontiguousarray(scaled.pixels)))
            decode_ms.append(took_ms)
            most = min(MOST_FRAMES, max(LEAST_FRAMES, MOST_BYTES // kept[0].pixels.nbytes))
            progress(len(kept), most)
            if len(kept) >= most:
                break
    finally:
        source.close()
    if len(kept) > LEAST_FRAMES and np.array_equal(kept[0].pixels, kept[-1].pixels):
        del kept[-1], decode_ms[-1]
    if len(kept) < LEAST_FRAMES:
        raise UsageError(
            f"{source.name}: {len(kept)} different frame{'s' * (len(kept) != 1)}; a bench takes turns among at least "
            f"{LEAST_FRAMES}, so give a cine or a folder"
        )
    said = f"{source.name}, simulated heads" if phantoms else source.name
    return HeldFrames(tuple(kept), said, () if phantoms or source.live else tuple(decode_ms))


def store(frames: Iterable[Frame], folder: Path) -> None:
    """Write frames where another process of this run finds them."""
    listed = []
    for frame in frames:
        np.save(folder / f"{frame.index}.npy", frame.pixels, allow_pickle=False)
        listed.append(
            {
                "index": frame.index,
                "captured_s": frame.captured_s,
                "spacing_mm": frame.spacing_mm,
                "source": frame.source,
                "region": None if frame.region is None else asdict(frame.region),
            }
        )
    (folder / _LIST).write_text(json.dumps(listed), encoding="utf-8")


def fetch(folder: Path) -> list[Frame]:
    """What `store` wrote, in memory."""
    frames = []
    for about in json.loads((folder / _LIST).read_text(encoding="utf-8")):
        region, spacing = about.pop("region"), about.pop("spacing_mm")
        frames.append(
            Frame(
                np.load(folder / f"{about['index']}.npy", allow_pickle=False),
                region=None if region is None else Region(**region),
                spacing_mm=None if spacing is None else (spacing[0], spacing[1]),
                **about,
            )
        )
    return frames


def _decoded(source: Source | PhantomCine) -> Iterable[tuple[Frame, float]]:
    items = iter(source)
    lost = ""
    while True:
        began = time.perf_counter_ns()
        item = next(items, None)
        took_ms = (time.perf_counter_ns() - began) * 1e-6
        if item is None:
            return
        if isinstance(item, LostFrame):
            lost = lost or item.reason
        elif isinstance(item, Disconnected):
            raise SourceError(f"{source.name}: {item.reason}; a bench needs frames, so mend the source first")
        else:
            yield item, took_ms


def _cut(frame: Frame, region: Region) -> Frame:
    if not region.fits(frame.width, frame.height):
        where = f"{region.x},{region.y},{region.width},{region.height}"
        raise UsageError(
            f"{frame.source}: --region {where} reaches beyond the frame of {frame.width}x{frame.height} pixels"
        )
    return replace(frame, region=region)


def _scaled(frame: Frame, size: tuple[int, int]) -> Frame:
    width, height = size
    pixels = cv2.resize(np.ascontiguousarray(frame.pixels), (width, height), interpolation=cv2.INTER_LINEAR)
    across, down = width / frame.width, height / frame.height
    region = frame.region
    if region is not None:
        left, top = round(region.x * across), round(region.y * down)
        region = Region(
            left,
            top,
            max(1, round((region.x + region.width) * across) - left),
            max(1, round((region.y + region.height) * down) - top),
        )
    spacing = frame.spacing_mm
    spacing = None if spacing is None else (spacing[0] / down, spacing[1] / across)
    return replace(frame, pixels=np.asarray(pixels, dtype=np.uint8), region=region, spacing_mm=spacing)
