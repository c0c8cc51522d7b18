"""Every frame of every case as a CSV table, for those who want to look for themselves."""

from __future__ import annotations

import csv
import os

from vmeg_edge.bench.report import BenchReport
from vmeg_edge.outputs import PendingFile

_FIGURES = ("preprocess_ms", "infer_ms", "explain_ms", "decide_ms", "end_to_end_ms")
COLUMNS = ("case", "round", "frame", "at_s", *_FIGURES, "late")


def write_csv(report: BenchReport, path: str | os.PathLike[str]) -> None:
    """Write one row a frame after warm-up, in the order of the cases and of their scoring; ``late`` is 0 or 1.

    Where there are several models, the column ``model`` comes first. The file appears whole or not at all. Raises
    `OutputError`.
    """
    with PendingFile(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        several = len(report.models) > 1
        writer.writerow(("model", *COLUMNS) if several else COLUMNS)
        for case in report.cases:
            samples = case.samples
            columns = [getattr(samples, name) for name in _FIGURES]
            late = [int(value) for value in samples.late]
            for row in zip(samples.round, samples.frame, samples.at_s, *columns, late, strict=True):
                writer.writerow((case.model, case.name, *row) if several else (case.name, *row))
