"""Candidates against the reference, in clinical units; and against one another, in milliseconds."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from vmeg_edge.backends import Backend
from vmeg_edge.bench.statistics import percentile
from vmeg_edge.decide import judge, probabilities
from vmeg_edge.manifest import Manifest, Proof
from vmeg_edge.parity import Parity, Scores, compare, gate

from .answers import answers_of
from .candidate import Candidate
from .emulation import scored_as
from .feeds import Feed, pixels_alone

Tensors = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float32]

ROUNDS = 20

Status = Literal["kept", "passed", "failed"]


@dataclass(frozen=True, eq=False)
class Row:
    """One candidate's line in the table.

    ``p50_ms`` is the median of `ROUNDS` interleaved inferences on this machine and ``float_p50_ms`` that of the same
    engine in float32, in the same run; both ``None`` where the engine cannot run here, or where the artefact is for
    other processors. ``failures`` are the gate's; ``ran_as`` are the classes of processors that its engine was held to.
    """

    candidate: Candidate
    parity: Parity
    logits: Floats
    failures: tuple[str, ...]
    status: Status = "passed"
    p50_ms: float | None = None
    float_p50_ms: float | None = None
    ran_as: tuple[str, ...] = ()

    @property
    def proofs(self) -> dict[str, Proof]:
        """How the candidate was proven, by class of processors; empty where the processor has no part in it.

        Whether a processor has 16-bit floats is not in its class: such a candidate is proven where it ran.
        """
        found = self.candidate.slot.proofs(simulated=self.candidate.stand_in is not None, ran_as=self.ran_as)
        if self.candidate.artefact.float_precision == "float32":
            return found
        return {name: proof for name, proof in found.items() if proof == "run"}

    @property
    def size_mb(self) -> float:
        """The artefact's files, in megabytes of 10^6 bytes."""
        return sum(len(data) for data in self.candidate.files.values()) / 1e6

    @property
    def remark(self) -> str:
        """What must be said beside the figures: not faster than float, or not run on its engine."""
        if self.candidate.proof:
            return self.candidate.proof
        if self.p50_ms is None or self.float_p50_ms is None:
            return ""
        ratio = self.float_p50_ms / self.p50_ms
        if self.candidate.tokens is not None:
            return f"{ratio:.2f}x as fast as the whole model on this machine"
        if ratio <= 1.0:
            return f"not faster than float32 on this machine ({ratio:.2f}x)"
        return f"{ratio:.2f}x as fast as float32 on this machine"

    def to_json(self) -> dict[str, Any]:
        """The row for ``parity.json``."""
        artefact = self.candidate.artefact
        return {
            "target": self.candidate.target,
            "slot": self.candidate.slot.name,
            "proven": dict(self.proofs),
            "precision": artefact.precision,
            "float_precision": artefact.float_precision,
            "recipe": self.candidate.recipe,
            "tokens": self.candidate.tokens,
            "status": self.status,
            "failures": list(self.failures),
            "size_mb": round(self.size_mb, 3),
            "p50_ms": None if self.p50_ms is None else round(self.p50_ms, 3),
            "float32_p50_ms": None if self.float_p50_ms is None else round(self.float_p50_ms, 3),
            "timed_rounds": ROUNDS,
            "float_layers": list(artefact.float_layers),
            "remark": self.remark,
            **self.parity.to_json(),
        }


@dataclass(frozen=True, eq=False)
class Bar:
    """What candidates are held against: frames as ``tensors``, the reference's ``truth`` on them, the map's sign.

    ``reduced`` says that they compute with fewer tokens than the reference; ``feed`` makes a model's inputs of a frame.
    """

    manifest: Manifest
    tensors: Tensors
    truth: Scores
    direction: Floats | None = None
    baselines: Mapping[str, Candidate] = field(default_factory=dict)
    reduced: bool = False
    feed: Feed = pixels_alone


def measure(candidates: Sequence[Candidate], bar: Bar) -> list[Row]:
    """Hold every candidate against the bar, then time those for this machine, interleaved with float32 on their engine.

    A candidate for other processors that OpenVINO can be held to runs as each of them, too.
    """
    rows = [_held_to_classes(_row(candidate, bar), bar) for candidate in candidates]
    timed = {f"{i}": row.candidate for i, row in enumerate(rows) if _timed(row.candidate)}
    floats = {
        f"float {target}": bar.baselines[target]
        for target in dict.fromkeys(c.target for c in timed.values())
        if target in bar.baselines
    }
    times = _race({**timed, **floats}, bar)
    return [
        replace(row, p50_ms=times[f"{i}"], float_p50_ms=times.get(f"float {row.candidate.target}"))
        if f"{i}" in timed
        else row
        for i, row in enumerate(rows)
    ]


def settle(rows: Sequence[Row]) -> list[Row]:
    """Of each slot's rows that passed, mark the fastest as kept (the first, where none could be timed)."""
    settled = list(rows)
    for slot in dict.fromkeys(row.candidate.slot for row in rows):
        passing = [i for i, row in enumerate(rows) if row.candidate.slot == slot and not row.failures]
        if passing:
            best = min(passing, key=lambda i: rows[i].p50_ms or 0.0)
            settled[best] = replace(rows[best], status="kept")
    return settled


def reason_for(row: Row, rows: Sequence[Row]) -> str:
    """Why this row's recipe was kept among its slot's: a line for the manifest."""
    others = [other for other in rows if other is not row and other.candidate.slot == row.candidate.slot]
    if not others:
        return ""
    said = []
    for other in others:
        if other.failures:
            said.append(f"{other.candidate.recipe} failed its gate")
        elif other.p50_ms is not None:
            said.append(f"{other.candidate.recipe} passed at {other.p50_ms:.1f} ms")
    took = "" if row.p50_ms is None else f" at {row.p50_ms:.1f} ms"
    return f"fastest that passed{took}; {', '.join(said)}"


def judged(logits: Floats, maps: Floats, manifest: Manifest) -> Scores:
    """Logits ``[n, classes]`` and heat maps ``[n, h, w]`` as scores under the manifest's rule."""
    rule = manifest.decision
    positive = probabilities(logits, rule.temperature)[:, manifest.positive_index]
    return Scores(positive, tuple(judge(float(p), rule)[0] for p in positive), maps, logits)


def _row(candidate: Candidate, bar: Bar) -> Row:
    opened = candidate.open(bar.manifest)
    said, maps = answers_of(opened, bar.tensors, bar.feed, bar.manifest, bar.direction)
    parity, failures = _judged(candidate, said, maps, bar)
    return Row(candidate, parity, said, failures, "failed" if failures else "passed")


def _held_to_classes(row: Row, bar: Bar) -> Row:
    """The row, once more by its engine held to each class that it is made for; a failure there is the row's."""
    candidate = row.candidate
    if row.failures or candidate.stand_in is not None:
        return row
    ran_as = []
    for one in candidate.slot.emulated:
        said, maps = scored_as(one, candidate, bar.manifest, bar.tensors, bar.direction)
        _, failures = _judged(candidate, said, maps, bar)
        if failures:
            return replace(row, failures=tuple(f"as {one.name}: {line}" for line in failures), status="failed")
        ran_as.append(one.name)
    return replace(row, ran_as=tuple(ran_as))


def _judged(candidate: Candidate, said: Floats, maps: Floats, bar: Bar) -> tuple[Parity, tuple[str, ...]]:
    parity = compare(bar.truth, judged(said, maps, bar.manifest))
    return parity, tuple(gate(parity, candidate.artefact.precision, merged=bar.reduced or bar.manifest.merged))


def _timed(candidate: Candidate) -> bool:
    return candidate.stand_in is None and candidate.slot.timed_here


def _race(entrants: Mapping[str, Candidate], bar: Bar) -> dict[str, float]:
    """Medians in milliseconds, the entrants taking turns so that a busy machine slows all of them."""
    opened: dict[str, Backend] = {}
    times: dict[str, list[float]] = {name: [] for name in entrants}
    whole = set(bar.baselines.values())
    feeds = {name: pixels_alone if candidate in whole else bar.feed for name, candidate in entrants.items()}
    try:
        for name, candidate in entrants.items():
            opened[name] = candidate.open(bar.manifest)
            opened[name].infer(**feeds[name](bar.tensors[0]))
        for turn in range(ROUNDS):
            tensor = bar.tensors[turn % len(bar.tensors)]
            for name, backend in opened.items():
                inputs = feeds[name](tensor)
                started = time.perf_counter()
                backend.infer(**inputs)
                times[name].append((time.perf_counter() - started) * 1e3)
    finally:
        for backend in opened.values():
            backend.close()
    return {name: percentile(samples, 50) for name, samples in times.items()}
