"""Candidates against the reference, in clinical units; and against one another, in milliseconds."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from vmeg_edge.backends import Backend, open_backend, place
from vmeg_edge.bench.statistics import percentile
from vmeg_edge.decide import judge, probabilities
from vmeg_edge.explain import heat_map
from vmeg_edge.frames import Region
from vmeg_edge.manifest import Manifest
from vmeg_edge.parity import Parity, Scores, compare, gate

from .candidates import ONNX_NAME, Candidate
from .feeds import Feed, pixels_alone

Tensors = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float32]

ROUNDS = 20

Status = Literal["kept", "passed", "failed"]


@dataclass(frozen=True, eq=False)
class Row:
    """One candidate's line in the table.

    ``p50_ms`` is the median of `ROUNDS` interleaved inferences on this machine and ``float_p50_ms`` that of the same
    engine in float32, in the same run; both ``None`` where the engine cannot run here. ``failures`` are the gate's.
    """

    candidate: Candidate
    parity: Parity
    logits: Floats
    failures: tuple[str, ...]
    status: Status = "passed"
    p50_ms: float | None = None
    float_p50_ms: float | None = None

    @property
    def size_mb(self) -> float:
        """The artefact's files, in megabytes of 10^6 bytes."""
        return sum(len(data) for data in self.candidate.files.values()) / 1e6

    @property
    def remark(self) -> str:
        """What must be said beside the figures: not faster than float, or not run on its engine."""
        if self.candidate.proof:
            return f"engine not run here: its graph ran on ONNX Runtime; {self.candidate.proof}"
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
    """Hold every candidate against the bar, then time those that run here, interleaved with float32 on their engine."""
    rows = [_row(candidate, bar) for candidate in candidates]
    timed = {f"{i}": row.candidate for i, row in enumerate(rows) if row.candidate.stand_in is None}
    floats = {
        f"float {target}": bar.baselines[target]
        for target in dict.fromkeys(c.target for c in timed.values())
        if target in bar.baselines
    }
    times = _race({**timed, **floats}, bar)
    return [
        replace(row, p50_ms=times.get(f"{i}"), float_p50_ms=times.get(f"float {row.candidate.target}"))
        for i, row in enumerate(rows)
    ]


def settle(rows: Sequence[Row]) -> list[Row]:
    """Of each target's rows that passed, mark the fastest as kept (the first, where none could be timed)."""
    settled = list(rows)
    for target in dict.fromkeys(row.candidate.target for row in rows):
        passing = [i for i, row in enumerate(rows) if row.candidate.target == target and not row.failures]
        if passing:
            best = min(passing, key=lambda i: rows[i].p50_ms or 0.0)
            settled[best] = replace(rows[best], status="kept")
    return settled


def reason_for(row: Row, rows: Sequence[Row]) -> str:
    """Why this row's recipe was kept among its target's: a line for the manifest."""
    others = [other for other in rows if other is not row and other.candidate.target == row.candidate.target]
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


def maps_of(activations: Floats, manifest: Manifest, direction: Floats | None) -> Floats:
    """Heat maps ``[n, h, w]`` of activations ``[n, h * w, C]``, as the runtime makes them."""
    region = Region(0, 0, manifest.input.width, manifest.input.height)
    grid = manifest.explanation.grid
    return np.stack([heat_map(frame, grid, region, direction).values for frame in activations])


def _row(candidate: Candidate, bar: Bar) -> Row:
    backend = _opened(candidate, bar.manifest)
    logits, maps = [], []
    try:
        for tensor in bar.tensors:
            scores, seen = backend.infer(**bar.feed(tensor))
            logits.append(scores.copy())
            maps.append(maps_of(seen[None], bar.manifest, bar.direction)[0])
    finally:
        backend.close()
    said = np.stack(logits)
    parity = compare(bar.truth, judged(said, np.stack(maps), bar.manifest))
    failures = tuple(gate(parity, candidate.artefact.precision, merged=bar.reduced or bar.manifest.merged))
    return Row(candidate, parity, said, failures, "failed" if failures else "passed")


def _race(entrants: Mapping[str, Candidate], bar: Bar) -> dict[str, float]:
    """Medians in milliseconds, the entrants taking turns so that a busy machine slows all of them."""
    opened: dict[str, Backend] = {}
    times: dict[str, list[float]] = {name: [] for name in entrants}
    whole = set(bar.baselines.values())
    feeds = {name: pixels_alone if candidate in whole else bar.feed for name, candidate in entrants.items()}
    try:
        for name, candidate in entrants.items():
            opened[name] = _opened(candidate, bar.manifest)
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


def _opened(candidate: Candidate, manifest: Manifest) -> Backend:
    """The candidate on the backend that will serve it, or its stand-in on ONNX Runtime."""
    target, artefact, files = candidate.target, candidate.artefact, candidate.files
    if candidate.stand_in is not None:
        target, files = "onnxruntime", {ONNX_NAME: candidate.stand_in}
        artefact = artefact.model_copy(update={"files": (ONNX_NAME,)})
    changed = manifest.model_copy(update={"artefacts": {target: artefact}})
    return open_backend(target, changed, files, place(target))
