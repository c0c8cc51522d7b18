"""One model a system on this device: converted to float32 and int8, with parity, size and interleaved latency."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from vmeg_edge.converters.bundle_from_model import Conversion, Quantization, convert
from vmeg_edge.converters.origin import Training
from vmeg_edge.converters.training.examples import Progress

from vmeg_edge.backends import why_unusable
from vmeg_edge.bench import held, machine
from vmeg_edge.bench.plan import CaseSpec, Plan
from vmeg_edge.bench.report import BenchReport
from vmeg_edge.bench.run import bench
from vmeg_edge.bench.statistics import percentile
from vmeg_edge.manifest import DecisionRule, Precision
from vmeg_edge.parity import Scores, compare
from vmeg_edge.processors import processors
from vmeg_edge.results import Decision

from .systems import Size

PRECISIONS: tuple[Precision, ...] = ("float32", "int8")
BACKENDS = ("onnxruntime", "openvino")
# The gate lets no decision flip outside the band; int8 may move a probability by 0.05.
RULE = DecisionRule(
    temperature=1.0, threshold=0.5, abstain=(0.45, 0.55), origin="chosen by hand for the benchmark, not fitted"
)


@dataclass(frozen=True)
class Subject:
    """A bundle on one backend: what a row of a table is about."""

    system: str
    precision: str
    backend: str
    bundle: Path

    @property
    def name(self) -> str:
        """How tables and files name it."""
        return f"{self.system} {self.precision} {self.backend}"


def converted(source: Path, out: Path, precision: Precision, calibration: Sequence[str]) -> dict[str, Any]:
    """Write the bundle ``out`` for every engine whose gate passes; its parity rows, and what failed, as plain data.

    An engine that the conversion left out, since its int8 gains nothing on this processor, is not among ``backends``.

    ``source`` is a checkpoint for float32 and the float32 bundle for int8, so that both have one orientation of the
    heat map: each conversion of a checkpoint fits its own, on the frames that it has.
    """
    targets = tuple(name for name in BACKENDS if why_unusable(name) is None)
    done = _convert(source, out, precision, calibration, targets)
    rows, left = list(done.rows), tuple(name for name in targets if name not in done.failed)
    if done.failed and left:
        done = _convert(source, out, precision, calibration, left)
    return {
        "bundle": "" if done.failed else out.name,
        "digest": done.digest,
        "backends": [] if done.failed else list(done.manifest.artefacts),
        "rows": [row.to_json() for row in rows],
        "warnings": list(done.warnings),
    }


def _convert(
    source: Path, out: Path, precision: Precision, calibration: Sequence[str], targets: Sequence[str]
) -> Conversion:
    return convert(
        source,
        out,
        targets=targets,
        precision=precision,
        quantization=Quantization(sources=tuple(calibration)) if precision == "int8" else None,
        training=None if source.is_dir() else Training(decision=RULE),
        plane_gate=False,
        replace=True,
    )


def subjects(conversions: Mapping[str, Mapping[Precision, Mapping[str, Any]]], folder: Path) -> list[Subject]:
    """Every bundle that was written, on every backend that it is for, by system and precision."""
    return [
        Subject(system, precision, backend, folder / made["bundle"])
        for system, by_precision in conversions.items()
        for precision, made in by_precision.items()
        for backend in made["backends"]
    ]


def latency(all_subjects: Sequence[Subject], size: Size, progress: Progress) -> BenchReport:
    """Time whole frames on every subject with `vmeg_edge.bench`, in one run whose cases take turns."""
    frames = held.gather(held.PHANTOMS)
    threads = processors().usable
    cases = [CaseSpec(subject.bundle, subject.backend, threads=threads) for subject in all_subjects]
    plan = Plan(iterations=size.timed_frames, rounds=size.timed_rounds)

    def tell(stage: str, done: int, total: int) -> None:
        progress(f"bench: {stage}", done, total, "")

    return bench(plan, cases, frames, progress=tell)


def timings(report: BenchReport, all_subjects: Sequence[Subject]) -> dict[str, dict[str, Any]]:
    """By a subject's name, what its case says; the report's cases are in the subjects' order."""
    return {
        subject.name: {
            **turns_of(case.samples.round, case.samples.end_to_end_ms),
            "artefact_mb": case.artefact_mb,
            "peak_rss_mb": case.memory.peak_rss_mb,
            "verdict": case.verdict.word,
            "verdict_reasons": list(case.verdict.reasons),
        }
        for subject, case in zip(all_subjects, report.cases, strict=True)
    }


def turns_of(rounds: Sequence[int], samples_ms: Sequence[float]) -> dict[str, Any]:
    """The median of all samples, and of the turns with the lowest and the highest median."""
    turns: dict[int, list[float]] = {}
    for turn, sample in zip(rounds, samples_ms, strict=True):
        turns.setdefault(turn, []).append(sample)
    medians = [percentile(turn, 50) for turn in turns.values()]
    return {
        "samples": len(samples_ms),
        "p50_ms": percentile(samples_ms, 50),
        "lowest_turn_p50_ms": min(medians),
        "highest_turn_p50_ms": max(medians),
    }


def agreement(reference: Mapping[str, Any], other: Mapping[str, Any]) -> dict[str, Any]:
    """What one subject said of the test frames against what another said, in the terms of parity."""
    return compare(_scores(reference), _scores(other)).to_json()


def _scores(said: Mapping[str, Any]) -> Scores:
    p = np.asarray(said["probabilities"], np.float64)
    decisions: list[Decision] = ["suspected" if value >= 0.5 else "normal" for value in p]
    return Scores(p, decisions, np.asarray(said["maps"], np.float64))


def environment() -> dict[str, Any]:
    """The machine and the software."""
    return machine.environment(processors()).model_dump(mode="json")
