"""Pictures for people: an overlay video, or a PNG of one result or of a contact sheet of several."""

from __future__ import annotations

import os
from pathlib import Path

import cv2
import numpy as np

from vmeg_edge.errors import OutputError, UsageError
from vmeg_edge.frames import Frame, Pixels
from vmeg_edge.manifest import DecisionRule
from vmeg_edge.outputs import PendingFile, output_error
from vmeg_edge.results import FrameResult, Signal
from vmeg_edge.sinks.base import Sink
from vmeg_edge.sinks.drawing import Layout, draw

FOURCC = {".mp4": "mp4v", ".mov": "mp4v", ".mkv": "mp4v", ".avi": "MJPG"}


def open_overlay(path: str | os.PathLike[str], rule: DecisionRule, fps: float | None) -> Sink:
    """The sink that fits the suffix of ``path``: a video, or ``.png``. Raises `UsageError` for another suffix."""
    suffix = Path(path).suffix.lower()
    if suffix == ".png":
        return OverlaySheet(path, rule)
    if suffix in FOURCC:
        return OverlayVideo(path, rule, fps or 10.0)
    known = ", ".join([*FOURCC, ".png"])
    raise UsageError(f"{path}: an overlay is written as one of {known}; choose such a name")


class OverlayVideo:
    """A video with one picture a result, at the source's rate. Raises `OutputError`."""

    def __init__(self, path: str | os.PathLike[str], rule: DecisionRule, fps: float) -> None:
        """Reserve the file; the encoder opens with the first frame, whose shape decides the video's."""
        self._pending = PendingFile(path)
        self._rule = rule
        self._fps = float(np.clip(fps, 1.0, 240.0))
        self._layout: Layout | None = None
        self._writer: cv2.VideoWriter | None = None
        self._written = 0

    def write(self, frame: Frame, result: FrameResult) -> None:
        """Draw and encode one result."""
        if self._writer is None or self._layout is None:
            self._layout = Layout.for_frame(frame)
            code = cv2.VideoWriter.fourcc(*FOURCC[self._pending.target.suffix.lower()])
            path = str(self._pending.temporary)
            self._writer = cv2.VideoWriter(path, cv2.CAP_FFMPEG, code, self._fps, self._layout.size)
            if not self._writer.isOpened():
                raise OutputError(f"{self._pending.target}: OpenCV cannot encode this video; choose .mp4 or .avi")
        self._writer.write(draw(frame, result, self._rule, self._layout))
        self._written += 1

    def signal(self, state: Signal, reason: str) -> None:
        """Nothing is drawn: a video holds results, each with its own time."""

    def close(self) -> None:
        """Finish the container, and check that as many pictures as were written can be counted in it.

        OpenCV's writer reports no error on a full disk; reading the container back does.
        """
        self._release()
        if self._written:
            capture = cv2.VideoCapture(str(self._pending.temporary), cv2.CAP_FFMPEG)
            held = int(capture.get(cv2.CAP_PROP_FRAME_COUNT)) if capture.isOpened() else 0
            capture.release()
            if held < self._written:
                self._pending.abort()
                raise OutputError(
                    f"{self._pending.target}: holds {held} of {self._written} pictures, as a full disk leaves it; "
                    "free some space or choose another place"
                )
        self._pending.commit()

    def abort(self) -> None:
        """Delete what was written."""
        self._release()
        self._pending.abort()

    def _release(self) -> None:
        if self._writer is not None:
            self._writer.release()
            self._writer = None


class OverlaySheet:
    """A PNG: the only result, or a contact sheet of at most ``tiles`` results spread evenly over the run.

    While the length is unknown it keeps every k-th picture and doubles k when twice ``tiles`` are held, so
    memory stays flat. Raises `OutputError`.
    """

    def __init__(self, path: str | os.PathLike[str], rule: DecisionRule, *, tiles: int = 6, columns: int = 2) -> None:
        """Reserve the file."""
        self._pending = PendingFile(path)
        self._rule = rule
        self._tiles = tiles
        self._columns = columns
        self._layout: Layout | None = None
        self._kept: list[Pixels] = []
        self._stride = 1
        self._seen = 0

    def write(self, frame: Frame, result: FrameResult) -> None:
        """Keep the picture of one result, if it is its turn."""
        if self._layout is None:
            self._layout = Layout.for_frame(frame)
        if self._seen % self._stride == 0:
            self._kept.append(draw(frame, result, self._rule, self._layout))
            if len(self._kept) == 2 * self._tiles:
                self._kept = self._kept[::2]
                self._stride *= 2
        self._seen += 1

    def signal(self, state: Signal, reason: str) -> None:
        """Nothing is drawn: a sheet holds results, each with its own time."""

    def close(self) -> None:
        """Lay the pictures out, encode, and move the file into place."""
        if self._kept:
            places = np.linspace(0, len(self._kept) - 1, min(self._tiles, len(self._kept))).round().astype(int)
            picture = _sheet([self._kept[place] for place in places], self._columns)
            ok, data = cv2.imencode(".png", picture)
            if not ok:
                self._pending.abort()
                raise OutputError(f"{self._pending.target}: OpenCV cannot encode this PNG")
            try:
                self._pending.temporary.write_bytes(data.tobytes())
            except OSError as error:
                self._pending.abort()
                raise output_error(self._pending.target, error) from None
        self._pending.commit()

    def abort(self) -> None:
        """Forget the pictures."""
        self._kept = []
        self._pending.abort()


def _sheet(pictures: list[Pixels], columns: int) -> Pixels:
    """Pictures of one size in rows of ``columns``; empty places are black."""
    if len(pictures) == 1:
        return pictures[0]
    rows = -(-len(pictures) // columns)
    height, width = pictures[0].shape[:2]
    sheet = np.zeros((rows * height, columns * width, 3), dtype=np.uint8)
    for place, picture in enumerate(pictures):
        top, left = place // columns * height, place % columns * width
        sheet[top : top + height, left : left + width] = picture
    return sheet
