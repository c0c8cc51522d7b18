"""A live source, for the capture process: plays frames from a file, and misbehaves when a command file says so."""

from __future__ import annotations

import ctypes
import os
import stat
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from vmeg_edge.frames import Frame, LostFrame


class FaultySource:
    """Plays ``frames`` (a .npy, uint8 ``[n, height, width]``) for ever.

    A file named after a fault in ``commands`` is consumed, and its fault happens: ``stall`` (the read blocks),
    ``crash`` (a segmentation fault), ``corrupt`` (nonsense on the pipe to the parent), ``resize`` (another size from
    here on), ``half`` (a frame that was torn), ``freeze`` (one picture for three seconds).
    """

    name, kind, live, frame_count = "soak", "soak", True, None

    def __init__(self, frames: str, commands: str, fps: float) -> None:
        self._pictures = np.load(frames)
        self._commands = Path(commands)
        self.fps = fps
        self._narrow = False

    def __iter__(self) -> Iterator[Frame | LostFrame]:
        began = time.perf_counter()
        index = 0
        frozen_until = 0.0
        shown = 0
        while True:
            index += 1
            time.sleep(max(0.0, began + index / self.fps - time.perf_counter()))
            fault = self._command()
            if fault == "stall":
                time.sleep(1000)
            elif fault == "crash":
                ctypes.string_at(0)
            elif fault == "corrupt":
                _nonsense()
            elif fault == "resize":
                self._narrow = not self._narrow
            elif fault == "freeze":
                frozen_until = time.perf_counter() + 3.0
            elif fault == "half":
                yield LostFrame(index, "the frame was torn")
                continue
            if time.perf_counter() > frozen_until:
                shown += 1
            picture = self._pictures[shown % len(self._pictures)]
            picture = picture[:, : picture.shape[1] * 3 // 4] if self._narrow else picture
            # A copy, and a counter in a corner, as a live screen has: no two frames are the same unless frozen.
            picture = picture.copy()
            picture[:4, :4] = shown % 256
            yield Frame(picture, index, index / self.fps, source="soak", arrived_ns=time.perf_counter_ns())

    def close(self) -> None:
        pass

    def _command(self) -> str | None:
        for path in self._commands.iterdir():
            path.unlink(missing_ok=True)
            return path.name
        return None


def _nonsense() -> None:
    """Write to every pipe of this process but the first three files: one of them leads to the parent."""
    for number in range(3, 64):
        try:
            if stat.S_ISFIFO(os.fstat(number).st_mode):
                os.write(number, b'{"do": "frame", "sequence": 77, "shape": [-1, 10\x00\xff]}\n')
        except OSError:
            continue
