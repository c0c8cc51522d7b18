"""The read loop of everything that OpenCV captures live: cameras, frame grabbers, network streams."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Iterator
from types import TracebackType
from typing import ClassVar

import cv2
import numpy as np

from vmeg_edge.errors import FrameError
from vmeg_edge.frames import Disconnected, Frame, LostFrame, Pixels, Region

_MAX_FPS = 1000.0
_MISSES = 5  # reads that fail one after the other before the signal counts as gone


class LiveCapture:
    """A capture that one thread reads and any thread may close.

    OpenCV crashes when a capture is released under a read, so that happens between two reads: by `close` where none is
    under way, else by the reader when it comes back.
    """

    def __init__(self, capture: cv2.VideoCapture) -> None:
        """Take an open capture."""
        self._capture = capture
        self._turn = threading.Lock()
        self._closing = threading.Event()

    def read(self) -> tuple[bool, object, int] | None:
        """Whether there was a frame, its picture (``None``: undecodable) and its arrival; ``None`` once closed."""
        grabbed, picture, arrived_ns = False, None, 0
        with self._turn:
            if not self._closing.is_set():
                try:
                    grabbed = self._capture.grab()
                    arrived_ns = time.perf_counter_ns()
                    if grabbed:
                        decoded, retrieved = self._capture.retrieve()
                        picture = retrieved if decoded else None
                except cv2.error:
                    grabbed = False
        if self._closing.is_set():
            self._release()
            return None
        return grabbed, picture, arrived_ns

    def is_open(self) -> bool:
        """Whether another read may succeed."""
        with self._turn:
            return not self._closing.is_set() and self._capture.isOpened()

    def pause(self, seconds: float) -> None:
        """Wait, but not beyond closing."""
        self._closing.wait(seconds)

    def close(self) -> None:
        """Let go of the device, at once or after the read that is under way; never waits for that."""
        self._closing.set()
        self._release()

    def _release(self) -> None:
        if self._turn.acquire(blocking=False):
            try:
                self._capture.release()
            finally:
                self._turn.release()


class CapturedSource:
    """What a camera and a network stream have in common once OpenCV has opened them."""

    kind: ClassVar[str]
    live = True
    frame_count = None

    def __init__(self, capture: cv2.VideoCapture, name: str, region: Region | None) -> None:
        """Take an open capture; frames and messages call it ``name``."""
        self.name = name
        self.fps = rate_of(capture)
        self._region = region
        self._capture = LiveCapture(capture)

    def __iter__(self) -> Iterator[Frame | LostFrame | Disconnected]:
        """Frames until the device or stream goes, which is said by `Disconnected`."""
        return read_live(self._capture, self.name, self._region)

    def close(self) -> None:
        """Let go, from any thread, at once or after the read under way; one that blocks ends only with its process."""
        self._capture.close()

    def __enter__(self) -> CapturedSource:
        """Return itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close."""
        self.close()


def rate_of(capture: cv2.VideoCapture) -> float | None:
    """Frames a second as the capture states them, ``None`` where that makes no sense."""
    fps = float(capture.get(cv2.CAP_PROP_FPS))
    return fps if math.isfinite(fps) and 0 < fps <= _MAX_FPS else None


def read_live(capture: LiveCapture, name: str, region: Region | None) -> Iterator[Frame | LostFrame | Disconnected]:
    """Frames as they arrive, stamped on arrival; ends with `Disconnected` when reads fail.

    Half a frame, or one of a size that no frame may have, is a lost one.
    """
    index = misses = 0
    began_ns: int | None = None
    while (read := capture.read()) is not None:
        grabbed, picture, arrived_ns = read
        if not grabbed:
            misses += 1
            if misses >= _MISSES or not capture.is_open():
                yield Disconnected("the device or stream delivers no more frames", name)
                return
            capture.pause(0.02)
            continue
        misses = 0
        began_ns = arrived_ns if began_ns is None else began_ns
        yield _frame(index, picture, name, region, began_ns, arrived_ns)
        index += 1


def _frame(
    index: int, picture: object, name: str, region: Region | None, began_ns: int, arrived_ns: int
) -> Frame | LostFrame:
    if not isinstance(picture, np.ndarray):
        return LostFrame(index, "the frame cannot be decoded", name)
    try:
        captured_s = (arrived_ns - began_ns) * 1e-9
        return Frame(_rgb(picture), index, captured_s, None, region, name, arrived_ns=arrived_ns)
    except (FrameError, cv2.error) as error:
        return LostFrame(index, str(error).splitlines()[0].removeprefix(f"{name}: "), name)


def _rgb(picture: np.ndarray) -> Pixels:
    """OpenCV's grey, BGR or BGRA as grey or RGB."""
    if picture.ndim == 2 or picture.shape[2] == 1:
        return np.asarray(picture, np.uint8).reshape(picture.shape[:2])
    code = cv2.COLOR_BGRA2RGB if picture.shape[2] == 4 else cv2.COLOR_BGR2RGB
    return np.asarray(cv2.cvtColor(picture, code), np.uint8)
