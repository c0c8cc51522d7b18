"""Keeps a stream: pixels without loss, arrival times, and decisions, on a thread of its own."""

from __future__ import annotations

import json
import os
import threading
from collections import deque
from dataclasses import asdict
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, TextIO

import cv2
import numpy as np

from vmeg_edge.errors import OutputError
from vmeg_edge.frames import Disconnected, Frame, LostFrame, Pixels
from vmeg_edge.live import StreamRules
from vmeg_edge.outputs import output_error
from vmeg_edge.recording.layout import EVENTS, FRAMES, HEADER, JOURNAL, VERSION

_MAX_WAITING_BYTES = 256 << 20
_CLOSE_S = 60.0


class Recorder:
    """Told by a stream what it was told and what it decided; it never holds the stream up.

    Pixels that arrive faster than they can be written are left out once 256 MiB wait, and counted in ``missing``: such
    a record says so, and cannot be replayed past them. When writing fails, ``problem`` says why, and no more is kept.
    Raises `OutputError` where the folder cannot be begun.
    """

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        """Make the folder; one that holds anything is refused."""
        self.folder = Path(folder)
        self.problem: str | None = None
        self.missing = 0
        self.kept = 0
        try:
            (self.folder / FRAMES).mkdir(parents=True, exist_ok=True)
            if [entry.name for entry in self.folder.iterdir()] != [FRAMES] or any((self.folder / FRAMES).iterdir()):
                raise OutputError(f"{self.folder}: holds something already; choose a new folder for the record")
            self._journal: TextIO = (self.folder / JOURNAL).open("w", encoding="utf-8", newline="\n")
            self._events: TextIO = (self.folder / EVENTS).open("w", encoding="utf-8", newline="\n")
        except OSError as error:
            raise output_error(self.folder, error) from None
        self._header: dict[str, Any] = {}
        self._jobs: deque[tuple[TextIO, dict[str, Any], Pixels | None]] = deque()
        self._waiting_bytes = 0
        self._last: Pixels | None = None
        self._last_file: str | None = None
        self._ending = False
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._run, name="recorder", daemon=True)

    def begin(self, rules: StreamRules, source: str, provenance: dict[str, Any], notices: tuple[str, ...]) -> None:
        """Write the header and start keeping. Raises `OutputError`."""
        self._header = {
            "record_version": VERSION,
            "source": source,
            "started": datetime.now(timezone.utc).isoformat(timespec="seconds"),
            "complete": False,
            "missing": 0,
            "rules": asdict(rules),
            "provenance": provenance,
            "notices": list(notices),
        }
        try:
            self._write_header()
        except OSError as error:
            raise output_error(self.folder, error) from None
        self._thread.start()

    def journal(self, told: dict[str, Any]) -> None:
        """Keep what the stream was told; a frame's pixels with it."""
        item = told.pop("item", None)
        pixels = None
        if isinstance(item, Frame):
            told |= {
                "frame": item.index,
                "captured_s": item.captured_s,
                "source": item.source,
                "spacing_mm": item.spacing_mm,
                "region": None if item.region is None else asdict(item.region),
            }
            pixels = item.pixels
        elif isinstance(item, LostFrame):
            told |= {"frame": item.index, "reason": item.reason, "source": item.source}
        elif isinstance(item, Disconnected):
            told |= {"reason": item.reason, "source": item.source}
        self._queue(self._journal, told, pixels)

    def event(self, event: dict[str, Any]) -> None:
        """Keep what the stream decided."""
        self._queue(self._events, event, None)

    def close(self) -> None:
        """Write what waits, and the header anew with the counts."""
        with self._changed:
            self._ending = True
            self._changed.notify()
        if self._thread.ident is not None:
            self._thread.join(_CLOSE_S)
            if self._thread.is_alive():
                self.problem = self.problem or f"{self.folder}: writing did not finish in {_CLOSE_S:g} s"
                return
        try:
            self._journal.close()
            self._events.close()
            if self._header:
                self._header |= {"complete": self.problem is None and self.missing == 0, "missing": self.missing}
                self._write_header()
        except OSError as error:
            self.problem = self.problem or str(output_error(self.folder, error))

    def _queue(self, file: TextIO, line: dict[str, Any], pixels: Pixels | None) -> None:
        with self._changed:
            if self.problem is not None or self._ending:
                return
            if pixels is not None:
                if self._waiting_bytes + pixels.nbytes > _MAX_WAITING_BYTES:
                    self.missing += 1
                    line["file"] = None
                    pixels = None
                else:
                    self._waiting_bytes += pixels.nbytes
            self._jobs.append((file, line, pixels))
            self._changed.notify()

    def _run(self) -> None:
        while True:
            with self._changed:
                while not self._jobs:
                    if self._ending:
                        return
                    self._changed.wait()
                file, line, pixels = self._jobs.popleft()
            try:
                if pixels is not None:
                    line["file"] = self._keep(pixels)
                file.write(json.dumps(line, allow_nan=False) + "\n")
            except (OSError, cv2.error) as error:
                with self._changed:
                    system = error if isinstance(error, OSError) else OSError(str(error))
                    self.problem = str(output_error(self.folder, system))
                    self._jobs.clear()
                    return
            if pixels is not None:
                with self._changed:
                    self._waiting_bytes -= pixels.nbytes

    def _keep(self, pixels: Pixels) -> str:
        """Write the picture, unless it is the one before; its file's name."""
        last = self._last
        same = last is not None and last.shape == pixels.shape and np.array_equal(last, pixels)
        if self._last_file is None or not same:
            picture = pixels if pixels.ndim == 2 else cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR)
            ok, data = cv2.imencode(".png", np.ascontiguousarray(picture), [cv2.IMWRITE_PNG_COMPRESSION, 1])
            if not ok:
                raise OSError("a frame cannot be encoded")
            name = f"{self.kept:08d}.png"
            (self.folder / FRAMES / name).write_bytes(data.tobytes())
            self.kept += 1
            self._last, self._last_file = pixels, name
        return self._last_file or ""

    def _write_header(self) -> None:
        beside = self.folder / f".{HEADER}"
        beside.write_text(json.dumps(self._header, indent=2) + "\n", encoding="utf-8")
        os.replace(beside, self.folder / HEADER)
