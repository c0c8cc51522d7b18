"""The end of a run: counts, decisions, percentiles by stage, and what must be said with them."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict
from typing import Any

import numpy as np
from rich.console import Console

from vmeg_edge.bench.statistics import ENOUGH_SAMPLES, enough_samples, percentile
from vmeg_edge.cli.console import table
from vmeg_edge.live.summary import StreamSummary
from vmeg_edge.results import FrameResult

STAGES = ("decode", "preprocess", "infer", "explain", "decide", "total", "age")
_KEPT = 1 << 15


class RunReport:
    """Collects stage times of results as they come; memory is set aside at once, for the last 32,768 frames."""

    def __init__(self) -> None:
        """Start empty."""
        self._times = np.full((len(STAGES), _KEPT), np.nan)
        self._count = 0
        self._decisions: Counter[str] = Counter()
        self._notices: tuple[str, ...] = ()
        self._provenance: dict[str, Any] = {}

    def add(self, result: FrameResult) -> None:
        """Count one result."""
        for row, stage in enumerate(STAGES):
            took_ms = result.age_ms if stage == "age" else getattr(result.stages_ms, stage)
            self._times[row, self._count % _KEPT] = took_ms
        self._count += 1
        self._decisions[result.prediction.decision] += 1
        self._notices, self._provenance = result.notices, result.provenance

    def _samples(self) -> dict[str, list[float]]:
        """What is held of each stage, empty before the first result."""
        held = min(self._count, _KEPT)
        return {stage: self._times[row, :held].tolist() for row, stage in enumerate(STAGES)} if held else {}

    def to_json(self, summary: StreamSummary) -> dict[str, Any]:
        """The summary for programs; times in milliseconds, with their sample count."""
        return {
            "frames": summary.frames,
            "scored": summary.scored,
            "lost": summary.lost,
            "failed": summary.failed,
            "dropped": dict(summary.drops),
            "reused": summary.reused,
            "late": summary.late,
            "policy": summary.policy,
            "deadline_ms": summary.deadline_ms,
            "reconnects": summary.reconnects,
            "sinks": [asdict(sink) for sink in summary.sinks],
            "reasons": dict(summary.reasons),
            "seconds": round(summary.seconds, 4),
            "throughput_fps": round(summary.throughput_fps, 3),
            "decisions": dict(self._decisions),
            "stages_ms": {
                stage: {
                    "p50_ms": round(percentile(samples, 50), 4),
                    "p90_ms": round(percentile(samples, 90), 4),
                    "samples": len(samples),
                    "p90_has_enough_samples": enough_samples(len(samples), 90),
                }
                for stage, samples in self._samples().items()
            },
            "notices": list(self._notices),
            "provenance": self._provenance,
        }

    def show(self, summary: StreamSummary, console: Console, *, title: str) -> None:
        """The summary for people."""
        count = min(self._count, _KEPT)
        mark = "" if enough_samples(count, 90) else " *"
        rows = [
            (stage, f"{percentile(samples, 50):.2f}", f"{percentile(samples, 90):.2f}{mark}")
            for stage, samples in self._samples().items()
        ]
        console.print(table(title, ("stage", "p50 ms", "p90 ms"), rows))
        if mark:
            console.print(f"* {count} samples; a p90 needs {ENOUGH_SAMPLES[90.0]}")
        decisions = ", ".join(f"{name} {number}" for name, number in sorted(self._decisions.items()))
        loss = f", {summary.lost} lost" if summary.lost else ""
        loss += f", {summary.failed} failed" if summary.failed else ""
        loss += f", {summary.dropped} dropped" if summary.dropped else ""
        lines = [
            f"{summary.scored} of {summary.frames} frames scored{loss} in {summary.seconds:.2f} s: "
            f"{summary.throughput_fps:.1f} frames a second with decoding and writing",
            f"decisions: {decisions}",
        ]
        if self._provenance:
            parts = self._provenance
            lines.append(
                f"{parts['name']} ({parts['bundle'][:12]}) on {parts['backend']} {parts['version'].partition('-')[0]}, "
                f"{parts['device']}, {parts['precision']}, {parts['threads']} threads, "
                f"{parts['kernels']['implementation']} kernels {parts['kernels']['isa'] or ''}".rstrip()
            )
        if summary.reused:
            lines.append(
                f"{summary.reused} of the scored frames were identical to the one before: its result, no inference"
            )
        if summary.deadline_ms is not None:
            lines.append(f"{summary.late} results later than their deadline of {summary.deadline_ms:g} ms")
        if summary.reconnects:
            lines.append(f"{summary.reconnects} reconnects")
        lines += [
            f"{sink.name}: {sink.dropped} results dropped by a sink that fell behind"
            for sink in summary.sinks
            if sink.dropped
        ]
        lines += [f"dropped ({number}x): {reason}" for reason, number in summary.drops.most_common()]
        lines += [f"not scored ({number}x): {reason}" for reason, number in summary.reasons.most_common(5)]
        lines += self._notices
        for line in lines:
            console.print(line)
