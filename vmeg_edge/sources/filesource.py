"""What the file readers share: a first look at opening, the region rule, one-line messages, closing."""

from __future__ import annotations

import os
import warnings
from collections.abc import Generator, Iterator
from itertools import chain
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, ClassVar

from vmeg_edge.errors import FrameError, SourceError, VmegError
from vmeg_edge.frames import MAX_SIDE, MIN_SIDE, Frame, LostFrame, Pixels, Region
from vmeg_edge.sources.base import MAX_FRAMES, MAX_PIXELS, SourceWarning

_KEPT = 64  # entries that opening may hold back for the first iteration

Entries = Generator[Frame | LostFrame, None, None]


def printable(text: object) -> str:
    """``text`` on one line, without control characters: file names and headers are not to be trusted."""
    return "".join(c if c.isprintable() else " " if c.isspace() else "?" for c in str(text))


def failure(error: BaseException) -> str:
    """The first line of what a library raised, short enough for a message."""
    if isinstance(error, OSError) and error.strerror:
        return printable(error.strerror)
    first = next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
    return printable(first)[:160]


class FileSource:
    """A source that reads one file or folder; a subclass writes `_entries` and sets the announced figures.

    A subclass calls `_look` at the end of its constructor: the first whole frame is decoded there, so that
    a file that holds none is refused at opening. What was decoded is kept for the first iteration.
    """

    kind: ClassVar[str]
    live: ClassVar[bool] = False

    def __init__(self, path: Path, *, name: str, region: Region | None) -> None:
        """Take ``path``; frames and messages call it ``name``; ``region`` overrides the frame's own."""
        self._path = path
        self._region = region
        self._warned = False
        self._closed = False
        self._looked: tuple[list[Frame | LostFrame], Entries] | None = None
        self.name = printable(name)
        self.frame_count: int | None = None
        self.fps: float | None = None

    def __repr__(self) -> str:
        """Name the reader and its file."""
        return f"{type(self).__name__}({self.name!r})"

    def __iter__(self) -> Iterator[Frame | LostFrame]:
        """Deliver frames from the first one on."""
        if self._closed:
            raise SourceError(f"{self.name}: the source is closed; open it again")
        if self._looked is not None:
            (seen, rest), self._looked = self._looked, None
            return chain(seen, rest)
        return self._guarded()

    def __enter__(self) -> FileSource:
        """Return itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close."""
        self.close()

    def close(self) -> None:
        """Let go of the file; closing twice is fine."""
        self._closed = True
        if self._looked is not None:
            self._looked[1].close()
            self._looked = None

    def _entries(self) -> Entries:
        """Yield every frame afresh, in order."""
        raise NotImplementedError

    def _guarded(self) -> Entries:
        """`_entries`, with what the system raises (a file gone, no memory) said in one line."""
        try:
            yield from self._entries()
        except VmegError:
            raise
        except (OSError, MemoryError, RecursionError) as error:
            raise self._error(f"cannot be read ({failure(error)}); check the file and its folder") from error

    def _look(self) -> None:
        """Decode up to the first whole frame; raise `SourceError` where there is none."""
        seen: list[Frame | LostFrame] = []
        rest = self._guarded()
        reason = "it holds no frame; check that the file was copied whole"
        for entry in rest:
            if isinstance(entry, Frame):
                if len(seen) < _KEPT:
                    self._looked = ([*seen, entry], rest)
                else:
                    rest.close()
                return
            if not seen:
                reason = entry.reason
            if len(seen) < _KEPT:
                seen.append(entry)
        raise self._error(reason)

    def _error(self, message: str) -> SourceError:
        return SourceError(f"{self.name}: {printable(message)}")

    def _warn_once(self, message: str) -> None:
        if not self._warned:
            self._warned = True
            warnings.warn(f"{self.name}: {printable(message)}", SourceWarning, stacklevel=2)

    def _check_size(self, width: int, height: int) -> None:
        """Refuse sides that no frame may have, before anything is decoded or allocated."""
        if not (MIN_SIDE <= width <= MAX_SIDE and MIN_SIDE <= height <= MAX_SIDE):
            raise self._error(
                f"a frame of {width}x{height} pixels; "
                f"each side must be {MIN_SIDE} to {MAX_SIDE} pixels, so crop or rescale it"
            )
        if width * height > MAX_PIXELS:
            raise self._error(f"a frame of {width}x{height} pixels is more than {MAX_PIXELS}; rescale it")

    def _check_count(self, frames: int) -> None:
        """Refuse a header that announces more frames than a recording can have."""
        if frames > MAX_FRAMES:
            raise self._error(
                f"announces {frames} frames, more than {MAX_FRAMES}; its header is damaged, copy it again"
            )

    def _frame(
        self,
        index: int,
        pixels: Pixels,
        *,
        captured_s: float | None = None,
        spacing_mm: tuple[float, float] | None = None,
        region: Region | None = None,
    ) -> Frame | LostFrame:
        """A frame, or a lost one where its pixels cannot be a frame. A fixed region wins over the file's."""
        chosen = self._region if self._region is not None else region
        try:
            return Frame(pixels, index, captured_s, spacing_mm, chosen, self.name)
        except FrameError as error:
            return self._lost(index, self._unnamed(error))

    def _lost(self, index: int, reason: str) -> LostFrame:
        return LostFrame(index, printable(reason), self.name)

    def _unnamed(self, error: VmegError) -> str:
        """The message without the file's name: a `LostFrame` carries that in its own field."""
        return str(error).removeprefix(f"{self.name}: ")


def read_head(path: Path, count: int) -> bytes:
    """The first ``count`` bytes of a regular file, fewer where it is shorter; raises `OSError`."""
    with path.open("rb") as file:
        return file.read(count)


def size_of(file: BinaryIO) -> int:
    """Bytes in an open file."""
    return os.fstat(file.fileno()).st_size
