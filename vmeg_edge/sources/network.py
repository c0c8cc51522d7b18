"""A network stream (RTSP, HTTP, UDP) through the FFmpeg that OpenCV carries."""

from __future__ import annotations

import math
from collections.abc import Iterator
from types import TracebackType

import cv2

from vmeg_edge.errors import SourceError
from vmeg_edge.frames import Disconnected, Frame, LostFrame, Region
from vmeg_edge.sources.address import without_secrets
from vmeg_edge.sources.capture import LiveCapture, read_live
from vmeg_edge.sources.quiet import quiet_opencv

OPEN_S = 5.0
READ_S = 2.0


class NetworkSource:
    """Frames of the stream at ``url``, RGB, stamped on arrival.

    ``name`` is the address `without_secrets`. Raises `SourceError` when nothing answers within ``open_s``, or what
    answers is no video. A stream that is silent for ``read_s`` is gone. One that changes its size midway is scaled to
    its first size by OpenCV, unseen from here, until it is opened again.
    """

    kind = "url"
    live = True
    frame_count = None

    def __init__(
        self, url: str, *, region: Region | None = None, open_s: float = OPEN_S, read_s: float = READ_S
    ) -> None:
        """Connect, and wait for the first picture's header."""
        quiet_opencv()
        self.name = without_secrets(url)
        self._region = region
        limits = [
            cv2.CAP_PROP_OPEN_TIMEOUT_MSEC,
            int(open_s * 1000),
            cv2.CAP_PROP_READ_TIMEOUT_MSEC,
            int(read_s * 1000),
            # Each further thread of the decoder holds one frame back, which no age would count.
            cv2.CAP_PROP_N_THREADS,
            1,
        ]
        try:
            capture = cv2.VideoCapture(url, cv2.CAP_FFMPEG, limits)
        except cv2.error:
            raise SourceError(f"{self.name}: cannot be opened; check the address") from None
        if not capture.isOpened():
            capture.release()
            raise SourceError(
                f"{self.name}: no video came within {open_s:g} s; check the address, and that the sender is running"
            )
        rate = float(capture.get(cv2.CAP_PROP_FPS))
        self.fps: float | None = rate if math.isfinite(rate) and 0 < rate <= 1000 else None
        self._capture = LiveCapture(capture)

    def __iter__(self) -> Iterator[Frame | LostFrame | Disconnected]:
        """Frames until the stream breaks off, which is said by `Disconnected`."""
        return read_live(self._capture, self.name, self._region)

    def close(self) -> None:
        """Close the connection, from any thread; at the latest after the read that is under way."""
        self._capture.close()

    def __enter__(self) -> NetworkSource:
        """Return itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close."""
        self.close()
