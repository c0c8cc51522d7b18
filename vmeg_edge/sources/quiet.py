"""What OpenCV and its codecs write on standard error about damaged files: silenced, since our line says it."""

from __future__ import annotations

import os
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import cv2

from vmeg_edge.processors import keep_opencv_within

_done = False
_lock = threading.Lock()
# libjpeg has no other way to say that it filled in what it could not decode.
_DAMAGE = (b"Corrupt JPEG data", b"Premature end of JPEG", b"Inconsistent progression")
_REMARKS = (b"Caution: ", b"Warning: unknown JFIF", b"Invalid SOS", b"Invalid component")


def quiet_opencv() -> None:
    """Silence OpenCV for the process, unless OPENCV_LOG_LEVEL or OPENCV_FFMPEG_LOGLEVEL asks for its log.

    And keep its threads within what this process may use.
    """
    global _done
    if _done:
        return
    _done = True
    keep_opencv_within()
    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")  # AV_LOG_QUIET; read at the first capture
    if "OPENCV_LOG_LEVEL" not in os.environ:
        # The level that ``cv2.setLogLevel`` sets; the typed module is where the stubs have it.
        cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)


@contextmanager
def libjpeg_heard() -> Iterator[list[bytes]]:
    """Catch what libjpeg prints meanwhile; afterwards the list holds its complaints of damage.

    It prints to the process's standard error and then returns a picture with made-up parts. Other lines, from
    other threads, are passed on. Where standard error is closed, nothing is caught.
    """
    heard: list[bytes] = []
    with _lock, tempfile.TemporaryFile() as spool:
        if sys.stderr is not None:
            sys.stderr.flush()
        try:
            kept = os.dup(2)
        except OSError:
            yield heard
            return
        os.dup2(spool.fileno(), 2)
        try:
            yield heard
        finally:
            os.dup2(kept, 2)
            os.close(kept)
            spool.seek(0)
            for line in spool.read().splitlines(keepends=True):
                if line.startswith(_DAMAGE):
                    heard.append(line)
                elif not line.startswith(_REMARKS):
                    os.write(2, line)
