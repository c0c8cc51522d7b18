"""How many frames an MP4 or QuickTime file announces, from its sample tables (ISO/IEC 14496-12)."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from vmeg_edge.sources.filesource import size_of

_MAX_BOXES = 4096  # in one container box; files have a few dozen
_MAX_EDITS = 64


@dataclass(frozen=True)
class Movie:
    """Whether there is a whole movie header (moov), and the exact number of frames of the first video track.

    ``samples`` is ``None`` where the file gives no exact one: fragments, or an edit list that cuts some away.
    """

    has_header: bool
    samples: int | None


def read_movie(path: Path) -> Movie:
    """Walk the boxes of a file; damaged boxes end the walk. Raises `OSError`."""
    with path.open("rb") as file:
        try:
            moov = _find(file, b"moov", 0, size_of(file))
            if moov is None or moov[1] > size_of(file):  # absent, or cut short itself
                return Movie(has_header=False, samples=None)
            return Movie(has_header=True, samples=_samples(file, *moov))
        except (struct.error, ValueError, OverflowError):
            return Movie(has_header=True, samples=None)


def _boxes(file: BinaryIO, start: int, end: int) -> Iterator[tuple[bytes, int, int]]:
    """(type, payload start, payload end) of each box between two places in the file."""
    for _ in range(_MAX_BOXES):
        if start + 8 > end:
            return
        file.seek(start)
        size, kind = struct.unpack(">I4s", file.read(8))
        payload = start + 8
        if size == 1:
            (size,) = struct.unpack(">Q", file.read(8))
            payload += 8
        elif size == 0:
            size = end - start
        if size < payload - start:
            return
        yield kind, payload, start + size
        start += size


def _find(file: BinaryIO, kind: bytes, start: int, end: int) -> tuple[int, int] | None:
    return next(((a, b) for found, a, b in _boxes(file, start, end) if found == kind), None)


def _down(file: BinaryIO, start: int, end: int, *kinds: bytes) -> tuple[int, int] | None:
    """The payload of a box inside boxes."""
    place: tuple[int, int] | None = (start, end)
    for kind in kinds:
        if place is None:
            return None
        place = _find(file, kind, *place)
    return place


def _read(file: BinaryIO, place: int, form: str) -> tuple[int, ...]:
    file.seek(place)
    return struct.unpack(form, file.read(struct.calcsize(form)))


def _samples(file: BinaryIO, start: int, end: int) -> int | None:
    if _find(file, b"mvex", start, end) is not None:  # fragmented: the tables come later, piece by piece
        return None
    header = _find(file, b"mvhd", start, end)
    for kind, a, b in _boxes(file, start, end):
        if kind != b"trak":
            continue
        handler = _down(file, a, b, b"mdia", b"hdlr")
        if handler is None or _read(file, handler[0] + 8, ">I")[0] != 0x76696465:  # 'vide'
            continue
        table = _down(file, a, b, b"mdia", b"minf", b"stbl")
        sizes = None if table is None else _find(file, b"stsz", *table) or _find(file, b"stz2", *table)
        media = _down(file, a, b, b"mdia", b"mdhd")
        if sizes is None or header is None or media is None:
            return None
        count = _read(file, sizes[0] + 8, ">I")[0]
        edits = _down(file, a, b, b"edts", b"elst")
        if edits is not None and not _keeps_all(file, edits[0], header[0], media[0], count):
            return None
        return count
    return None


def _clock(file: BinaryIO, place: int) -> tuple[int, int]:
    """(timescale, duration) of an mvhd or mdhd, whose first fields are alike."""
    version = _read(file, place, ">B")[0]
    form, start = (">IQ", 20) if version == 1 else (">II", 12)
    scale, duration = _read(file, place + start, form)
    return scale, duration


def _keeps_all(file: BinaryIO, edits: int, header: int, media: int, count: int) -> bool:
    """Whether an edit list shows the whole track, to within a frame: else fewer frames than samples come."""
    movie_scale, _ = _clock(file, header)
    media_scale, media_duration = _clock(file, media)
    version, entries = _read(file, edits, ">B3xI")
    if not (movie_scale and media_scale and count and entries <= _MAX_EDITS):
        return False
    form, width = (">Qq", 20) if version == 1 else (">Ii", 12)
    shown = 0
    for entry in range(entries):
        duration, first = _read(file, edits + 8 + entry * width, form)
        if first >= 0:  # -1 is an empty edit: a delay
            shown += duration
    missing_s = media_duration / media_scale - shown / movie_scale
    return missing_s < media_duration / media_scale / count
