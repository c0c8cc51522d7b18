"""The capture process: opens one source and hands its frames over. Run by `isolated`, never by hand.

Line by line, as JSON. From the parent: the spec; ``ring`` (name, slots, bytes) whenever one was asked for; ``free`` for
each picture that was copied out. To the parent: ``ready`` or ``error``; ``need`` (bytes) when a picture does not fit;
``frame``, ``lost``, ``gone``, ``end``. When the parent's end of the pipe closes, this process ends.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import time
from dataclasses import asdict
from importlib import import_module
from typing import Any, TextIO, cast

from vmeg_edge.errors import SourceError, VmegError
from vmeg_edge.frames import Disconnected, Frame, LostFrame
from vmeg_edge.sources.base import Source
from vmeg_edge.sources.ring import Ring

PYTHON = "python"


class _Parent:
    """The parent's side of the pipe: what it sent, waited for by the frame loop."""

    def __init__(self, lines: TextIO) -> None:
        self._lines = lines
        self._free = threading.Semaphore(0)
        self._ring: Ring | None = None
        self._has_ring = threading.Event()
        threading.Thread(target=self._listen, daemon=True).start()

    def _listen(self) -> None:
        try:
            for line in self._lines:
                told = json.loads(line)
                if told["do"] == "free":
                    self._free.release()
                else:
                    self._ring = Ring.attach(told["name"], told["slots"], told["bytes"])
                    self._free = threading.Semaphore(told["slots"])
                    self._has_ring.set()
        finally:
            os._exit(0)  # the parent is gone; a read() that blocks must not keep this process

    def new_ring(self, ask: Any) -> Ring:
        """Ask for a larger ring and wait for it."""
        self._has_ring.clear()
        ask()
        self._has_ring.wait()
        return cast(Ring, self._ring)

    def wait_for_slot(self) -> None:
        """Wait until the parent has room for one more picture."""
        self._free.acquire()


def open_source_of(spec: dict[str, Any]) -> Source:
    """The source that ``spec`` describes; kind ``python`` names a function as ``module:function``."""
    if spec["kind"] == PYTHON:
        module, _, name = str(spec["options"]["factory"]).partition(":")
        return cast(Source, getattr(import_module(module), name)(**spec["options"].get("arguments", {})))
    from vmeg_edge.sources.spec import SourceSpec, open_spec

    return open_spec(SourceSpec.from_json(spec))


def main() -> None:
    """Serve one source until it ends or the parent goes."""
    out = os.fdopen(os.dup(1), "w", encoding="utf-8")
    silence = os.open(os.devnull, os.O_WRONLY)
    os.dup2(silence, 1)  # what libraries print must not be taken for a message
    os.dup2(silence, 2)

    def say(**told: Any) -> None:
        out.write(json.dumps(told) + "\n")
        out.flush()

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to answer
    start = json.loads(sys.stdin.readline())
    sys.path[:] = start["path"]
    parent = _Parent(sys.stdin)
    try:
        source = open_source_of(start["spec"])
        say(do="ready", name=source.name, kind=source.kind, fps=source.fps, frames=source.frame_count, live=source.live)
        _serve(source, parent, say)
        say(do="end")
    except VmegError as error:
        say(do="error", reason=str(error))
    except BrokenPipeError:
        pass
    except Exception as error:  # one line for the parent instead of a traceback for nobody
        say(do="error", reason=f"the source failed ({type(error).__name__}: {' '.join(str(error).split())})")
    os._exit(0)


def _serve(source: Source, parent: _Parent, say: Any) -> None:
    ring: Ring | None = None
    sequence = 0
    for item in source:
        if isinstance(item, LostFrame):
            say(do="lost", reason=item.reason, source=item.source)
        elif isinstance(item, Disconnected):
            say(do="gone", reason=item.reason, source=item.source)
        else:
            stamp_ns = time.perf_counter_ns() if item.arrived_ns is None else item.arrived_ns
            need = item.pixels.nbytes
            if ring is None or need > ring.slot_bytes:
                if ring is not None:
                    ring.close()
                ring = parent.new_ring(lambda need=need: say(do="need", bytes=need))
                sequence = 0
            parent.wait_for_slot()
            ring.write(sequence, item.pixels)
            say(do="frame", sequence=sequence, shape=item.pixels.shape, arrived_ns=stamp_ns, **_about(item))
            sequence += 1


def _about(frame: Frame) -> dict[str, Any]:
    return {
        "captured_s": frame.captured_s,
        "spacing_mm": frame.spacing_mm,
        "region": None if frame.region is None else asdict(frame.region),
        "source": frame.source,
    }


if __name__ == "__main__":
    try:
        main()
    except SourceError:
        os._exit(1)
