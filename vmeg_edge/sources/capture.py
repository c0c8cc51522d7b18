"""The read loop of everything that OpenCV captures live: cameras, frame grabbers, network streams."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import cv2
import numpy as np

from vmeg_edge.errors import FrameError
from vmeg_edge.frames import Disconnected, Frame, LostFrame, Pixels, Region

_MISSES = 5  # reads that fail one after the other before the signal counts as gone


def read_live(
    capture: cv2.VideoCapture, name: str, region: Region | None, closing: threading.Event
) -> Iterator[Frame | LostFrame | Disconnected]:
    """Frames as they arrive, stamped on arrival; ends with `Disconnected` when reads fail.

    Half a frame, or one of a size that no frame may have, is a lost one. The size may change from frame to frame.
    """
    index = misses = 0
    began_ns: int | None = None
    while not closing.is_set():
        try:
            grabbed = capture.grab()
            arrived_ns = time.perf_counter_ns()
            decoded, picture = capture.retrieve() if grabbed else (False, None)
        except cv2.error:
            grabbed, decoded, picture = False, False, None
        if closing.is_set():
            return
        if not grabbed:
            misses += 1
            if misses >= _MISSES or not capture.isOpened():
                yield Disconnected("the device or stream delivers no more frames", name)
                return
            closing.wait(0.02)
            continue
        misses = 0
        began_ns = arrived_ns if began_ns is None else began_ns
        yield _frame(index, decoded, picture, name, region, began_ns, arrived_ns)
        index += 1


def _frame(
    index: int, decoded: bool, picture: object, name: str, region: Region | None, began_ns: int, arrived_ns: int
) -> Frame | LostFrame:
    if not (decoded and isinstance(picture, np.ndarray)):
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
