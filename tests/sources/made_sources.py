"""Live sources that misbehave on purpose, opened by name inside a capture process."""

from __future__ import annotations

import ctypes
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from vmeg_edge.frames import Disconnected, Frame, LostFrame, Region


class Made:
    """Frames whose pixels tell their index, at ``fps``; after ``good`` of them, ``then`` happens."""

    kind = "made"
    frame_count = None

    def __init__(
        self,
        *,
        good: int = 5,
        then: str = "end",
        fps: float = 100.0,
        width: int = 64,
        live: bool = True,
        once: str = "",
    ) -> None:
        self.name = "made"
        self.live = live
        self.fps = fps
        self._good, self._then, self._width = good, then, width
        if once and Path(once).exists():
            self._then, self._good = "go on", 10_000
        elif once:
            Path(once).touch()

    def __iter__(self) -> Iterator[Frame | LostFrame | Disconnected]:
        for index in range(self._good):
            time.sleep(1 / self.fps)
            width = self._width * (2 if self._then == "resize" and index >= 3 else 1)
            pixels = np.full((48, width, 3), index % 256, np.uint8)
            yield Frame(pixels, index, index / self.fps, (0.5, 0.25), Region(0, 0, 40, 40), "made")
        if self._then == "hang":
            time.sleep(1000)
        elif self._then == "crash":
            ctypes.string_at(0)
        elif self._then == "exit":
            os._exit(7)
        elif self._then == "raise":
            raise RuntimeError("two\nlines")
        elif self._then == "gone":
            yield Disconnected("cable pulled", "made")
        elif self._then == "lost":
            yield LostFrame(self._good, "torn")
        elif self._then == "noise":
            print("not a message", file=sys.__stdout__, flush=True)
            os.write(1, b"nor this\n")

    def close(self) -> None:
        pass


def refuses() -> Made:
    from vmeg_edge.errors import SourceError

    raise SourceError("made: no such device; plug it in")


def opens_never() -> Made:
    time.sleep(1000)
    return Made()


def speaks_out_of_turn() -> Made:
    os._exit(3)
