"""The end of a run: counts, decisions, percentiles by stage, and what must be said with them."""

from __future__ import annotations

from collections import Counter
from typing import Any

from rich.console import Console

from vmeg_edge.bench.statistics import ENOUGH_SAMPLES, enough_samples, percentile
from vmeg_edge.cli.console import table
from vmeg_edge.live.summary import StreamSummary
from vmeg_edge.results import FrameResult

STAGES = ("decode", "preprocess", "infer", "explain", "decide", "total")
_KEPT = 1 << 16


class RunReport:
    """Collects stage times of results as they come; memory is bounded by the last 65,536 frames."""

    def __init__(self) -> None:
        """Start empty."""
        self._stages: dict[str, list[float]] = {stage: [] for stage in STAGES}
        self._decisions: Counter[str] = Counter()
        self._notices: tuple[str, ...] = ()
        self._provenance: dict[str, Any] = {}

    def add(self, result: FrameResult) -> None:
        """Count one result."""
        for stage, samples in self._stages.items():
            if len(samples) == _KEPT:
                del samples[: _KEPT // 2]
            samples.append(getattr(result.stages_ms, stage))
        self._decisions[result.prediction.decision] += 1
        self._notices, self._provenance = result.notices, result.provenance

    def to_json(self, summary: StreamSummary) -> dict[str, Any]:
        """The summary for programs; times in milliseconds, with their sample count."""
        return {
            "frames": summary.frames,
            "scored": summary.scored,
            "lost": summary.lost,
            "failed": summary.failed,
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
                for stage, samples in self._stages.items()
                if samples
            },
            "notices": list(self._notices),
            "provenance": self._provenance,
        }

    def show(self, summary: StreamSummary, console: Console, *, title: str) -> None:
        """The summary for people."""
        count = len(self._stages["total"])
        mark = "" if enough_samples(count, 90) else " *"
        rows = [
            (stage, f"{percentile(samples, 50):.2f}", f"{percentile(samples, 90):.2f}{mark}")
            for stage, samples in self._stages.items()
            if samples
        ]
        console.print(table(title, ("stage", "p50 ms", "p90 ms"), rows))
        if mark:
            console.print(f"* {count} samples; a p90 needs {ENOUGH_SAMPLES[90.0]}")
        decisions = ", ".join(f"{name} {number}" for name, number in sorted(self._decisions.items()))
        loss = f", {summary.lost} lost" if summary.lost else ""
        loss += f", {summary.failed} failed" if summary.failed else ""
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
        lines += [f"not scored ({number}x): {reason}" for reason, number in summary.reasons.most_common(5)]
        lines += self._notices
        for line in lines:
            console.print(line)
