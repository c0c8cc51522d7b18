"""The text header of a MetaImage, with the frame fields that PLUS adds."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, BinaryIO

MAX_HEADER_BYTES = 32 << 20
_MAX_LINE_BYTES = 1 << 16
_FRAME_FIELD = re.compile(r"Seq_Frame(\d{1,9})_(Timestamp|ImageStatus)\Z")

# UltrasoundImageOrientation: (transpose, flip left-right, flip top-bottom) that turns the picture to MF.
_TURNS = {
    "MF": (False, False, False),
    "UF": (False, True, False),
    "MN": (False, False, True),
    "UN": (False, True, True),
    "FM": (True, False, False),
    "FU": (True, True, False),
    "NM": (True, False, True),
    "NU": (True, True, True),
}


class MetaHeaderError(ValueError):
    """A header that cannot be read or honoured; the message says the mend."""


@dataclass(frozen=True)
class MetaHeader:
    """A parsed header. ``width`` and ``height`` are as stored, before ``turn`` is applied.

    ``data_file`` is "LOCAL" or a file name; ``data_start`` is where local data begin. ``skip`` is HeaderSize,
    the bytes before external data (-1: count from the end). ``stamps_s`` and ``invalid`` are by frame index.
    """

    width: int
    height: int
    frames: int
    channels: int
    compressed: bool
    spacing: tuple[float, float] | None
    turn: tuple[bool, bool, bool]
    data_file: str
    data_start: int
    skip: int
    stamps_s: dict[int, float] = field(default_factory=dict)
    invalid: frozenset[int] = frozenset()

    @property
    def frame_bytes(self) -> int:
        """Bytes of one frame, uncompressed."""
        return self.width * self.height * self.channels


def read_meta_header(file: BinaryIO) -> MetaHeader:
    """Parse up to and with ElementDataFile, which ends every MetaImage header.

    Raises `MetaHeaderError`, and `OSError` from the file. Nothing is allocated by what the header claims.
    """
    fields: dict[str, str] = {}
    stamps_s: dict[int, float] = {}
    invalid: set[int] = set()
    while "ElementDataFile" not in fields:
        line = file.readline(_MAX_LINE_BYTES)
        if not line:
            raise MetaHeaderError("its header ends before ElementDataFile; copy the file again")
        if file.tell() > MAX_HEADER_BYTES or (len(line) == _MAX_LINE_BYTES and not line.endswith(b"\n")):
            raise MetaHeaderError("its header is longer than any recording's; copy the file again")
        key, separator, value = line.decode("utf-8", "replace").partition("=")
        if not separator:
            if line.strip():
                raise MetaHeaderError("its header has a line without '='; copy the file again")
            continue
        key, value = key.strip(), value.strip()
        match = _FRAME_FIELD.match(key)
        if match is None:
            if not key.startswith("Seq_"):
                fields[key] = value
        elif match[2] == "Timestamp":
            stamp_s = _real(value)
            if stamp_s is not None:
                stamps_s[int(match[1])] = stamp_s
        elif value == "INVALID":
            invalid.add(int(match[1]))
    return _checked(fields, stamps_s, frozenset(invalid), file.tell())


def _checked(
    fields: dict[str, str], stamps_s: dict[int, float], invalid: frozenset[int], data_start: int
) -> MetaHeader:
    sizes = _list(fields, "DimSize", int)
    dimensions = _one(fields, "NDims", int, len(sizes))
    if len(sizes) != dimensions or len(sizes) not in (2, 3, 4) or min(sizes) < 1:
        raise MetaHeaderError("its DimSize and NDims make no sequence of pictures; copy the file again")
    width, height, *rest = sizes
    if len(rest) == 2 and 1 not in rest:
        raise MetaHeaderError("a sequence of volumes is not supported; save its planes as a 3D sequence")
    kind = fields.get("ElementType", "MET_UCHAR")
    if kind not in ("MET_UCHAR", "MET_UCHAR_ARRAY"):
        raise MetaHeaderError(f"elements of type {kind[:40]}; save them as MET_UCHAR (8 bits)")
    channels = _one(fields, "ElementNumberOfChannels", int, 1)
    if channels not in (1, 3):
        raise MetaHeaderError(f"{channels} channels; save it with 1 (grey) or 3 (RGB)")
    if not _true(fields, "BinaryData", default=True):
        raise MetaHeaderError("its pixels are text; save it with BinaryData = True")
    orientation = fields.get("UltrasoundImageOrientation", "MF")
    # The third letter is the elevational direction of a volume and says nothing about a plane.
    turn = _TURNS.get(orientation[:2])
    if turn is None or orientation[2:] not in ("", "A", "D"):
        raise MetaHeaderError(f"orientation {orientation[:40]} is unknown; it can be {', '.join(_TURNS)}")
    return MetaHeader(
        width=width,
        height=height,
        frames=math.prod(rest),
        channels=channels,
        compressed=_true(fields, "CompressedData", default=False),
        spacing=_spacing(fields),
        turn=turn,
        data_file=fields["ElementDataFile"],
        data_start=data_start,
        skip=_one(fields, "HeaderSize", int, 0),
        stamps_s=stamps_s,
        invalid=invalid,
    )


def _spacing(fields: dict[str, str]) -> tuple[float, float] | None:
    """(x, y) millimetres as stored. 1 1 is what writers put when they know none, so it counts as unknown."""
    values = _list(fields, "ElementSpacing", float) if "ElementSpacing" in fields else []
    if len(values) < 2 or not all(math.isfinite(value) and value > 0 for value in values[:2]):
        return None
    return None if values[0] == values[1] == 1.0 else (values[0], values[1])


def _list(fields: dict[str, str], key: str, kind: Callable[[str], int | float]) -> list[Any]:
    try:
        return [kind(word) for word in fields.get(key, "").split()[:16]]
    except ValueError as error:
        raise MetaHeaderError(f"its {key} is not a list of numbers; copy the file again") from error


def _one(fields: dict[str, str], key: str, kind: Callable[[str], int], default: int) -> int:
    try:
        return kind(fields[key]) if key in fields else default
    except ValueError as error:
        raise MetaHeaderError(f"its {key} is not a number; copy the file again") from error


def _true(fields: dict[str, str], key: str, *, default: bool) -> bool:
    return fields[key].lower() in ("true", "1", "t", "yes") if key in fields else default


def _real(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) else None
