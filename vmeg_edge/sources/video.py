"""A video file, decoded by the FFmpeg that OpenCV carries."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import cv2
import numpy as np

from vmeg_edge.frames import Region
from vmeg_edge.processors import usable_processors
from vmeg_edge.sources.capture import rate_of
from vmeg_edge.sources.filesource import Entries, FileSource, failure, read_head
from vmeg_edge.sources.isobmff import read_movie
from vmeg_edge.sources.quiet import quiet_opencv
from vmeg_edge.sources.sniff import HEAD_BYTES, is_quicktime


class VideoSource(FileSource):
    """Frames of the first video track, RGB uint8, turned as the container's rotation says.

    ``captured_s`` is the frame's presentation time, from the first frame; where a time stamp does not
    advance, one frame period is added to the time before. Only the sample tables of MP4 and QuickTime give an
    exact ``frame_count``; where fewer frames decode than they announce, the missing ones follow as lost
    frames at the end, since a decoder does not say which ones it dropped.
    """

    kind = "video"

    def __init__(self, path: Path, *, name: str, region: Region | None) -> None:
        """Decode the first frame; raises `SourceError`."""
        super().__init__(path, name=name, region=region)
        quiet_opencv()
        if is_quicktime(read_head(path, HEAD_BYTES)):
            movie = read_movie(path)
            if not movie.has_header:
                raise self._error("has no movie header (moov); the recording was cut short, copy it again")
            if movie.samples is not None:
                self._check_count(movie.samples)
            self.frame_count = movie.samples
        with self._capture() as capture:
            self.fps = rate_of(capture)
        self._look()

    @contextmanager
    def _capture(self) -> Iterator[cv2.VideoCapture]:
        """An open capture, sides checked, released in the end."""
        # An absolute path cannot be taken for a protocol ("concat:...") or an option.
        threads = [cv2.CAP_PROP_N_THREADS, usable_processors()]  # by itself, FFmpeg follows the affinity alone
        capture = cv2.VideoCapture(str(self._path.absolute()), cv2.CAP_FFMPEG, threads)
        try:
            width, height = capture.get(cv2.CAP_PROP_FRAME_WIDTH), capture.get(cv2.CAP_PROP_FRAME_HEIGHT)
            if not (capture.isOpened() and width and height):
                raise self._error("holds no video that can be decoded; copy it again, or save it as MP4")
            self._check_size(int(width), int(height))
            yield capture
        except cv2.error as error:
            raise self._error(f"cannot be decoded ({failure(error)}); copy it again") from error
        finally:
            capture.release()

    def _entries(self) -> Entries:
        index = 0
        first_s: float | None = None
        last_s: float | None = None
        with self._capture() as capture:
            while capture.grab():
                stamp_s = capture.get(cv2.CAP_PROP_POS_MSEC) / 1000  # of the frame just grabbed
                decoded, picture = capture.retrieve()
                if first_s is None:
                    first_s = stamp_s
                last_s = self._advance(last_s, stamp_s - first_s)
                if decoded:
                    pixels = np.asarray(cv2.cvtColor(picture, cv2.COLOR_BGR2RGB), np.uint8)
                    yield self._frame(index, pixels, captured_s=last_s)
                else:
                    yield self._lost(index, "the frame cannot be decoded")
                index += 1
        for missing in range(index, self.frame_count or 0):
            yield self._lost(missing, f"announced, but only {index} of {self.frame_count} frames decode")

    def _advance(self, last_s: float | None, stamp_s: float) -> float:
        """The stream's own time where it advances, else one frame period on."""
        if last_s is None:
            return 0.0
        if math.isfinite(stamp_s) and stamp_s > last_s:
            return stamp_s
        return last_s + 1 / self.fps if self.fps else last_s
