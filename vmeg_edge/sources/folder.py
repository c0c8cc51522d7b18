"""A folder: every file that can be read, below it too, chained in natural order."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from vmeg_edge.errors import SourceError, VmegError
from vmeg_edge.frames import Region
from vmeg_edge.sources.base import KINDS, UNDERSTOOD, Kind, NoPixelsError
from vmeg_edge.sources.filesource import Entries, FileSource, printable
from vmeg_edge.sources.opening import kind_of, open_file, require

_DIGITS = re.compile(r"(\d+)")
_EXTENSIONS = frozenset[str]().union(*(kind.extensions for kind in KINDS))


@dataclass(frozen=True)
class _Member:
    """A file of the folder; no ``kind`` where its extension promises one and its content keeps none."""

    path: Path
    name: str
    kind: Kind | None


class FolderSource(FileSource):
    """Every readable file in and below a folder, as one recording.

    Files come in natural order of their relative path (``2.png`` before ``10.png``), which also is the
    frame's ``source``; ``index`` runs over the whole folder, while ``captured_s`` starts anew with each
    video. ``frame_count`` is known only where every file is a still. Hidden files, DICOM objects without a
    picture and files of no known format are skipped; a file that looks like a picture and cannot be decoded
    is one `LostFrame`. Links are followed while they lead to a readable file, and no folder is walked twice.
    """

    kind = "folder"

    def __init__(self, path: Path, *, name: str, region: Region | None) -> None:
        """List the folder; raises `SourceError` where nothing in it can be read."""
        super().__init__(path, name=name, region=region)
        self._members = sorted(self._list(), key=lambda member: _natural(member.name))
        kinds = {member.kind.kind: member.kind for member in self._members if member.kind is not None}
        if not kinds:
            raise self._error(f"the folder holds nothing that can be read; what can be is {UNDERSTOOD}")
        for kind in kinds.values():
            require(kind, self.name)
        if set(kinds) == {"image"}:
            self.frame_count = len(self._members)
        self._look()

    def _list(self) -> Iterator[_Member]:
        walked: set[str] = set()
        for folder, inner, files in os.walk(self._path, followlinks=True):
            real = os.path.realpath(folder)
            if real in walked:  # a link to a folder above
                inner.clear()
                continue
            walked.add(real)
            inner[:] = sorted(name for name in inner if not name.startswith("."))
            for file in files:
                if not file.startswith("."):
                    yield from self._member(Path(folder, file))

    def _member(self, path: Path) -> Iterator[_Member]:
        named = path.suffix.lower() in _EXTENSIONS
        name = path.relative_to(self._path).as_posix()
        try:
            # A pipe or a device would block: only regular files are opened.
            if not stat.S_ISREG(path.stat().st_mode):
                return
            kind = kind_of(path)
        except OSError:
            if not path.is_symlink() and named:
                yield _Member(path, name, None)
            return
        if kind is not None or named:
            yield _Member(path, name, kind)

    def _entries(self) -> Entries:
        index = 0
        for member in self._members:
            for entry in self._of(member):
                yield replace(entry, index=index)
                index += 1

    def _of(self, member: _Member) -> Entries:
        name = printable(member.name)
        if member.kind is None:
            yield replace(self._lost(0, "its content is of no known format, or cannot be read"), source=name)
            return
        try:
            with open_file(member.path, name=name, region=self._region, kind=member.kind) as source:
                yield from source
        except NoPixelsError:
            return
        except (SourceError, VmegError) as error:
            reason = str(error).removeprefix(f"{name}: ")
            yield replace(self._lost(0, reason), source=name)


def _natural(name: str) -> tuple[tuple[tuple[int, str], ...], str]:
    """Numbers by value, letters without case; the name itself decides between equals."""
    parts = _DIGITS.split(name.casefold())
    # Split leaves text at even places and digits at odd ones, so numbers never meet text in a comparison.
    key = tuple((int(part), "") if place % 2 else (0, part) for place, part in enumerate(parts))
    return key, name
