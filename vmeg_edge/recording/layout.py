"""What lies in a record folder, and the header that says so.

::

    NAME/
      record.json     version, rules, what scored, how many frames could not be kept
      journal.jsonl   what the stream was told: arrivals, times at which it took and finished frames
      events.jsonl    what it decided: the log that a replay repeats byte for byte
      frames/         each new picture once, lossless, as PNG
"""

from __future__ import annotations

import json
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from vmeg_edge.errors import SourceError, UsageError
from vmeg_edge.live import StreamRules

VERSION = 1

HEADER = "record.json"
JOURNAL = "journal.jsonl"
EVENTS = "events.jsonl"
FRAMES = "frames"


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Header(_Strict):
    """``record.json``, version 1. ``missing`` frames arrived faster than they could be kept."""

    record_version: Literal[1]
    source: str
    started: str
    complete: bool
    missing: Annotated[int, Field(ge=0)]
    rules: StreamRules
    provenance: dict[str, Any]
    notices: tuple[str, ...]


def parse_header(text: str, name: str) -> Header:
    """Check the text of ``record.json``. Raises `SourceError`, one line."""
    try:
        raw = json.loads(text)
    except (ValueError, RecursionError):
        raise SourceError(f"{name}: {HEADER} is not JSON; copy the record again") from None
    version = raw.get("record_version") if isinstance(raw, dict) else None
    if version != VERSION:
        raise SourceError(
            f"{name}: a record of version {version!r}, and this vmeg-edge replays version {VERSION}; "
            "use the vmeg-edge that made it"
        )
    try:
        header = Header.model_validate(raw)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise SourceError(f"{name}: {HEADER}: {where}: {first['msg']}; copy the record again") from None
    except UsageError as error:
        raise SourceError(f"{name}: {HEADER}: {error}; copy the record again") from None
    return header
