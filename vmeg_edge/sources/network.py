"""A network stream (RTSP, HTTP, UDP) through the FFmpeg that OpenCV carries."""

from __future__ import annotations

import cv2

from vmeg_edge.errors import SourceError
from vmeg_edge.frames import Region
from vmeg_edge.sources.address import without_secrets
from vmeg_edge.sources.capture import CapturedSource
from vmeg_edge.sources.quiet import quiet_opencv

OPEN_S = 5.0
READ_S = 2.0


class NetworkSource(CapturedSource):
    """Frames of the stream at ``url``, RGB, stamped on arrival.

    ``name`` is the address `without_secrets`. Raises `SourceError` when nothing answers within ``open_s``, or what
    answers is no video. A stream that is silent for ``read_s`` is gone. One that changes its size midway is scaled to
    its first size by OpenCV, unseen from here, until it is opened again.
    """

    kind = "url"

    def __init__(
        self, url: str, *, region: Region | None = None, open_s: float = OPEN_S, read_s: float = READ_S
    ) -> None:
        """Connect, and wait for the first picture's header."""
        quiet_opencv()
        name = without_secrets(url)
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
            raise SourceError(f"{name}: cannot be opened; check the address") from None
        if not capture.isOpened():
            capture.release()
            raise SourceError(
                f"{name}: no video came within {open_s:g} s; check the address, and that the sender is running"
            )
        super().__init__(capture, name, region)
