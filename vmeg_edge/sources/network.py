"""A network stream (RTSP, HTTP, UDP) through the FFmpeg that OpenCV carries."""

from __future__ import annotations

import math
import threading
from collections.abc import Iterator
from types import TracebackType
from urllib.parse import urlsplit

import cv2

from vmeg_edge.errors import SourceError
from vmeg_edge.frames import Disconnected, Frame, LostFrame, Region
from vmeg_edge.sources.capture import read_live
from vmeg_edge.sources.filesource import printable
from vmeg_edge.sources.quiet import quiet_opencv

OPEN_S = 5.0
READ_S = 2.0


class NetworkSource:
    """Frames of the stream at ``url``, RGB, stamped on arrival.

    ``name`` is the address without user, password and query, so that no secret reaches a log. Raises `SourceError` when
    nothing answers within ``open_s``, or what answers is no video. A stream that is silent for ``read_s`` is gone.
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
        self._closing = threading.Event()
        limits = [
            cv2.CAP_PROP_OPEN_TIMEOUT_MSEC,
            int(open_s * 1000),
            cv2.CAP_PROP_READ_TIMEOUT_MSEC,
            int(read_s * 1000),
        ]
        try:
            self._capture = cv2.VideoCapture(url, cv2.CAP_FFMPEG, limits)
        except cv2.error:
            raise SourceError(f"{self.name}: cannot be opened; check the address") from None
        if not self._capture.isOpened():
            self._capture.release()
            raise SourceError(
                f"{self.name}: no video came within {open_s:g} s; check the address, and that the sender is running"
            )
        rate = float(self._capture.get(cv2.CAP_PROP_FPS))
        self.fps: float | None = rate if math.isfinite(rate) and 0 < rate <= 1000 else None

    def __iter__(self) -> Iterator[Frame | LostFrame | Disconnected]:
        """Frames until the stream breaks off, which is said by `Disconnected`."""
        return read_live(self._capture, self.name, self._region, self._closing)

    def close(self) -> None:
        """Close the connection, after the read that is under way."""
        self._closing.set()

    def __enter__(self) -> NetworkSource:
        """Return itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close."""
        self.close()


def without_secrets(url: str) -> str:
    """The address for people: scheme, host, port and path."""
    try:
        parts = urlsplit(url)
        host = parts.hostname or ""
        port = f":{parts.port}" if parts.port else ""
    except ValueError:
        return "stream"
    return printable(f"{parts.scheme}://{host}{port}{parts.path}")
