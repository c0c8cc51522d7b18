"""Peers taking turns in processes of their own: one works, the others wait, each round begins with another."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from cases import GRAD_CAM, GRAD_CAM_AS_INSTALLED, Case, Work
from families.base import Map

CHILD = Path(__file__).with_name("child.py")
T = TypeVar("T")


@dataclass
class Result:
    """``rounds_ms``: the samples of each round."""

    case: Case
    versions: dict[str, str]
    settings: str
    answers: list[tuple[float, Map | None]]
    rounds_ms: list[list[float]] = field(default_factory=list)
    resident_mb: float = 0.0


class Child:
    """A peer's process, open and warm."""

    def __init__(self, case: Case, work: Work, threads: int, frames: int, scratch: Path) -> None:
        answers = scratch / f"{case.name}.npz"
        spec = {"case": case.name, "work": str(work.path), "threads": threads, "frames": frames}
        self._process = subprocess.Popen(
            [sys.executable, str(CHILD), json.dumps(spec | {"answers": str(answers)})],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=_environment(case, work, threads),
        )
        facts = self._read(case)
        with np.load(answers) as held:
            maps: Sequence[Map | None] = list(held["maps"]) or [None] * len(held["probabilities"])
            pairs = [(float(p), heat) for p, heat in zip(held["probabilities"], maps, strict=True)]
        self.result = Result(case, facts["versions"], facts["settings"], pairs)

    def turn(self, count: int) -> None:
        """Let it score ``count`` frames after one that is not counted."""
        assert self._process.stdin is not None
        print(count, file=self._process.stdin, flush=True)
        answer = self._read(self.result.case)
        self.result.rounds_ms.append(answer["samples_ms"])
        self.result.resident_mb = answer["resident_mb"]

    def __enter__(self) -> Child:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.communicate()

    def _read(self, case: Case) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            sys.exit(f"{case.name}: its process ended early, with {self._process.wait()}; its error is above")
        answer: dict[str, Any] = json.loads(line)
        return answer


def _environment(case: Case, work: Work, threads: int) -> dict[str, str]:
    """Threads alike for all, and grad-cam's folder for its peers alone.

    OpenBLAS has one thread, except for what runs as installed: with more, its workers spin after each of NumPy's
    decompositions and take the engine's processors from it, which costs a peer up to half of its speed.
    """
    found = os.environ | {"OMP_NUM_THREADS": str(threads)}
    if case.blas_threads is not None:
        found["OPENBLAS_NUM_THREADS"] = str(case.blas_threads)
    if case.name in (GRAD_CAM, GRAD_CAM_AS_INSTALLED):
        found["PYTHONPATH"] = os.pathsep.join([str(work.grad_cam), *filter(None, [found.get("PYTHONPATH")])])
    return found


def rotated(items: Sequence[T], by: int) -> list[T]:
    """``items`` from place ``by`` on, round to the one before."""
    start = by % len(items)
    return [*items[start:], *items[:start]]


def run(children: Sequence[Child], rounds: int, count: int, between: Callable[[int], None]) -> list[Result]:
    """Every round's turns; ``between`` is called after each round."""
    for index in range(rounds):
        for child in rotated(children, index):
            child.turn(count)
        between(index)
    return [child.result for child in children]


def open_all(
    stack: ExitStack, cases: Sequence[Case], work: Work, threads: int, frames: int, scratch: Path
) -> list[Child]:
    """One process after another; they end with ``stack``."""
    return [stack.enter_context(Child(case, work, threads, frames, scratch)) for case in cases]
