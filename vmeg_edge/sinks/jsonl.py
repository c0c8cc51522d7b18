"""JSON lines: one result a line, provenance in full on the first."""

from __future__ import annotations

import contextlib
import json
import os
from pathlib import Path
from typing import Any, TextIO

from vmeg_edge.frames import Frame
from vmeg_edge.outputs import PendingFile, is_closed_pipe, output_error
from vmeg_edge.results import FrameResult, Signal


class JsonLines:
    """Writes ``FrameResult.to_json`` of each result as one line of UTF-8, to a file or to an open stream.

    ``provenance`` is an object on the first line and the bundle's digest after that. A file appears whole on
    `close`; a stream is written line by line and stays open. Raises `OutputError` where it cannot be written.
    """

    def __init__(self, target: str | os.PathLike[str] | TextIO) -> None:
        """Open the file under a temporary name, or take the stream as it is."""
        self._pending: PendingFile | None = None
        self._name = Path("standard output")
        if isinstance(target, (str, os.PathLike)):
            self._pending = PendingFile(target)
            self._name = self._pending.target
            self._file: TextIO = self._pending.temporary.open("w", encoding="utf-8", newline="\n")
        else:
            self._file = target
        self._first = True

    def write(self, frame: Frame, result: FrameResult) -> None:  # noqa: ARG002
        """Append one line."""
        self._append(result.to_json(with_provenance=self._first))
        self._first = False

    def signal(self, state: Signal, reason: str) -> None:
        """Append a line without a score: after ``none``, the score on the line before it holds no longer."""
        self._append({"signal": state, "reason": reason})

    def _append(self, fields: dict[str, Any]) -> None:
        line = json.dumps(fields, allow_nan=False)
        try:
            self._file.write(line + "\n")
            if self._pending is None:
                self._file.flush()
        except OSError as error:
            if is_closed_pipe(error):
                raise
            raise output_error(self._name, error) from None

    def close(self) -> None:
        """Flush, and move the file into place."""
        if self._pending is None:
            return
        try:
            self._file.close()
        except OSError as error:
            self._pending.abort()
            raise output_error(self._name, error) from None
        self._pending.commit()

    def abort(self) -> None:
        """Delete what was written to a file."""
        if self._pending is None:
            return
        with contextlib.suppress(OSError):
            self._file.close()
        self._pending.abort()
