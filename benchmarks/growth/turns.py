"""Child processes of one series taking turns, so that a machine's ups and downs meet all of them alike."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from models import SEED
from points import Point

CHILD = Path(__file__).with_name("child.py")
TURN_S, STREAMS_TURN_S = 0.4, 1.5
LEAST_ROUNDS = 3


@dataclass
class Result:
    """What a point's turns gave: milliseconds of each call, frames a second of each turn where there are streams."""

    point: Point
    version: str
    max_abs_dp: float
    samples_ms: list[float] = field(default_factory=list)
    streams_ms: list[list[float]] = field(default_factory=list)
    fps: list[float] = field(default_factory=list)
    resident_mb: float = 0.0
    peak_resident_mb: float = 0.0
    rounds: int = 0


class Child:
    """A point's process, opened, checked and warm."""

    def __init__(self, point: Point, file: Path) -> None:
        spec = {
            "engine": point.engine,
            "file": str(file),
            "frames": str(point.model.frames),
            "threads": point.threads,
            "batch": point.batch,
            "streams": point.streams,
            "seed": SEED,
        }
        self._process = subprocess.Popen(
            [sys.executable, str(CHILD), json.dumps(spec)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        facts = self._read()
        self.result = Result(point, facts["version"], facts["max_abs_dp"])

    def turn(self) -> None:
        """Let it measure for its time."""
        assert self._process.stdin is not None
        result = self.result
        print(STREAMS_TURN_S if result.point.streams else TURN_S, file=self._process.stdin, flush=True)
        answer = self._read()
        result.samples_ms += answer["samples_ms"]
        result.resident_mb, result.peak_resident_mb = answer["resident_mb"], answer["peak_resident_mb"]
        result.rounds += 1
        if result.point.streams:
            result.fps.append(answer["fps"])
            before = result.streams_ms or [[] for _ in answer["streams_ms"]]
            result.streams_ms = [old + new for old, new in zip(before, answer["streams_ms"], strict=True)]

    def __enter__(self) -> Child:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.communicate()

    def _read(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            sys.exit(f"a point's process ended early, with {self._process.wait()}; its error is above")
        answer: dict[str, Any] = json.loads(line)
        return answer


def run(points: dict[Point, Path], seconds: float) -> list[Result]:
    """Open every point's file in a process of its own, then go round until ``seconds`` have passed."""
    with ExitStack() as stack:
        children = [stack.enter_context(Child(point, file)) for point, file in points.items()]
        began, rounds = time.perf_counter(), 0
        while rounds < LEAST_ROUNDS or time.perf_counter() - began < seconds:
            for child in children:
                child.turn()
            rounds += 1
        return [child.result for child in children]
