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
from vmeg_edge.exam import ExamRule
from vmeg_edge.live import SignalRules, StreamRules

VERSION = 1

HEADER = "record.json"
JOURNAL = "journal.jsonl"
EVENTS = "events.jsonl"
FRAMES = "frames"


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class _Signal(_Strict):
    none_after_s: float
    frozen_after_s: float
    still_levels: float


class _Exam(_Strict):
    version: Literal[1]
    window_s: float
    minimum_evidence: int
    enter: float
    leave: float
    dwell_s: float


class _Rules(_Strict):
    policy: Literal["latest", "block", "queue"]
    depth: int | None
    deadline_ms: float | None
    signal: _Signal | None
    exam: _Exam


class Header(_Strict):
    """``record.json``, version 1. ``missing`` frames arrived faster than they could be kept."""

    record_version: Literal[1]
    source: str
    started: str
    complete: bool
    missing: Annotated[int, Field(ge=0)]
    rules: _Rules
    provenance: dict[str, Any]
    notices: tuple[str, ...]

    def stream_rules(self) -> StreamRules:
        """The rules as the stream takes them. Raises `UsageError` where they contradict one another."""
        rules = self.rules
        return StreamRules(
            policy=rules.policy,
            depth=rules.depth,
            deadline_ms=rules.deadline_ms,
            signal=None if rules.signal is None else SignalRules(**rules.signal.model_dump()),
            exam=ExamRule(**rules.exam.model_dump()),
        )


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
        header.stream_rules()
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise SourceError(f"{name}: {HEADER}: {where}: {first['msg']}; copy the record again") from None
    except UsageError as error:
        raise SourceError(f"{name}: {HEADER}: {error}; copy the record again") from None
    return header
