"""A record folder read back, line by line; nothing in it is trusted."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import cv2
import numpy as np
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from vmeg_edge.errors import FrameError, SourceError
from vmeg_edge.frames import Disconnected, Frame, LostFrame, Region
from vmeg_edge.recording.layout import EVENTS, FRAMES, HEADER, JOURNAL, Header, parse_header

_NAME = re.compile(r"[0-9]{8,12}\.png")
_MAX_LINE = 1 << 20


class _Told(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)
    at_ns: Annotated[int, Field(ge=0)]


class Arrive(_Told):
    """A frame came. ``file`` is ``None`` where its pixels could not be kept."""

    do: Literal["arrive"]
    arrived_ns: int
    frame: int
    captured_s: float | None
    source: str
    spacing_mm: tuple[float, float] | None
    region: dict[Literal["x", "y", "width", "height"], int] | None
    file: str | None


class Lost(_Told):
    """A frame was announced and did not come."""

    do: Literal["lost"]
    frame: int
    reason: str
    source: str


class Gone(_Told):
    """The source said that its signal was gone."""

    do: Literal["gone"]
    reason: str
    source: str


class Step(_Told):
    """The stream took or finished a frame, or noticed that time had passed."""

    do: Literal["take", "finish", "tick"]


class Fail(_Told):
    """The frame that was taken could not be scored."""

    do: Literal["fail"]
    reason: str


class End(_Told):
    """The stream was over."""

    do: Literal["end"]
    why: str


Told = Arrive | Lost | Gone | Step | Fail | End
_TOLD: TypeAdapter[Told] = TypeAdapter(Annotated[Told, Field(discriminator="do")])


@dataclass(frozen=True)
class Record:
    """An opened record: its header; `told` and `events` read the rest as it is needed."""

    folder: Path
    header: Header

    def told(self) -> Iterator[Told]:
        """What the stream was told, in order. Raises `SourceError` that names the line."""
        last_ns = 0
        for number, line in self._lines(JOURNAL):
            try:
                told = _TOLD.validate_json(line)
            except ValidationError as error:
                raise self._damaged(JOURNAL, number, error.errors()[0]["msg"]) from None
            if told.at_ns < last_ns:
                raise self._damaged(JOURNAL, number, "its time goes back")
            last_ns = told.at_ns
            yield told

    def events(self) -> Iterator[str]:
        """The lines of the event log, without their ends."""
        for _, line in self._lines(EVENTS):
            yield line

    def item(self, told: Arrive | Lost | Gone) -> Frame | LostFrame | Disconnected:
        """What the source delivered. Raises `SourceError` where a picture is missing or damaged."""
        if isinstance(told, Lost):
            return LostFrame(told.frame, told.reason, told.source)
        if isinstance(told, Gone):
            return Disconnected(told.reason, told.source)
        if told.file is None:
            raise SourceError(
                f"{self.folder}: frame {told.frame} came faster than it could be kept; "
                "the record ends there, so record again at a lower rate or to a faster disk"
            )
        if not _NAME.fullmatch(told.file):
            raise SourceError(f"{self.folder}: {JOURNAL} names {told.file!r}, which no recorder writes; copy it again")
        path = self.folder / FRAMES / told.file
        try:
            data = path.read_bytes()
            decoded = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
        except (OSError, cv2.error):
            decoded = None
        if not isinstance(decoded, np.ndarray):
            raise SourceError(f"{path}: the picture is missing or damaged; copy the record again")
        pixels = np.asarray(decoded if decoded.ndim == 2 else cv2.cvtColor(decoded, cv2.COLOR_BGR2RGB), np.uint8)
        region = None if told.region is None else _region(told.region)
        try:
            return Frame(pixels, told.frame, told.captured_s, told.spacing_mm, region, told.source)
        except FrameError as error:
            raise SourceError(f"{path}: {error}") from None

    def _lines(self, name: str) -> Iterator[tuple[int, str]]:
        try:
            with (self.folder / name).open(encoding="utf-8", newline="\n") as file:
                number = 0
                while line := file.readline(_MAX_LINE):
                    number += 1
                    if not line.endswith("\n"):
                        return  # a line that was being written when the power went
                    yield number, line.rstrip("\n")
        except (OSError, UnicodeDecodeError) as error:
            reason = getattr(error, "strerror", None) or "not UTF-8"
            raise SourceError(f"{self.folder}: {name} cannot be read ({reason}); copy the record again") from None

    def _damaged(self, name: str, number: int, what: Any) -> SourceError:
        return SourceError(f"{self.folder}: {name}, line {number}: {what}; copy the record again")


def is_record(path: Path) -> bool:
    """Whether ``path`` is a folder that a recorder began."""
    return (path / HEADER).is_file() and (path / JOURNAL).is_file()


def open_record(path: Path) -> Record:
    """Read the header. Raises `SourceError` for another version or a damaged record."""
    try:
        text = (path / HEADER).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        raise SourceError(f"{path}: {HEADER} cannot be read; copy the record again") from None
    return Record(path, parse_header(text, str(path)))


def as_line(event: dict[str, Any]) -> str:
    """An event as the recorder writes it."""
    return json.dumps(event, allow_nan=False)


def _region(sides: dict[Any, int]) -> Region:
    return Region(sides.get("x", 0), sides.get("y", 0), sides.get("width", 0), sides.get("height", 0))
