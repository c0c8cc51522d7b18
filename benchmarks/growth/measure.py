"""Latency, memory and frames a second as input, model, batch and streams grow, beside the arithmetic floor.

``python benchmarks/growth/measure.py --out benchmarks/results/growth [--work MODELS] [--quick]``
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

import bundles
import models
import plots
import report
from figures import Row, row_of, work_of
from models import Model
from peak import measure as peaks
from points import Point, all_series
from turns import Result, run

from vmeg_edge.processors import processors, usable_processors

LAYERS = Path(__file__).with_name("layers.py")
PROFILE_S, QUICK_PROFILE_S = 20, 3
PEAK_REPETITIONS = 8
VERSIONS = ("openvino", "onnxruntime", "nncf", "torch", "onnx", "numpy")


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def file_of(point: Point) -> Path:
    """What the point's process opens; made when it is not there yet."""
    if point.streams:
        return bundles.make(point.model)
    target = point.model.file(point.engine, point.precision, point.batch)
    if not target.exists():
        from batches import make

        make(point.model.file(point.engine, point.precision), target, point.batch)
    return target


def profile_of(model: Model, threads: int, seconds: float) -> dict[str, Any]:
    """`layers.profile` in a process of its own."""
    command = [sys.executable, str(LAYERS), str(model.file("openvino", "int8")), str(model.frames)]
    command += [str(threads), str(seconds)]
    found: dict[str, Any] = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout)
    return found


def conditions(threads: int) -> dict[str, Any]:
    """What the figures depend on."""
    return {
        "processor": peaks.processor(),
        **processors().to_json(),
        "memory_gb": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9, 1),
        "load_1min": os.getloadavg()[0],
        "threads": threads,
        "python": platform.python_version(),
        "versions": {name: version(name) for name in VERSIONS},
        "openvino_options": "INFERENCE_PRECISION_HINT f32, PERFORMANCE_HINT LATENCY",
        "onnxruntime_options": "no spinning, sequential",
        "weights": "seeded, none trained",
        "frames": f"{models.FRAMES} phantoms; the last of them are timed, and held against torch in float32",
        "percentile": "p50",
    }


def entry(row: Row, result: Result) -> dict[str, Any]:
    """A row for the JSON file, its samples included."""
    point = row.point
    madds, in_int8 = work_of(point)
    figures = {key: value for key, value in asdict(row).items() if key != "point"}
    return {
        "model": point.model.name,
        "engine": point.engine,
        "engine_version": result.version,
        "precision": point.precision,
        "batch": point.batch,
        "streams": point.streams,
        "threads": point.threads,
        **figures,
        "madds": asdict(madds),
        "madds_in_int8": in_int8,
        "rounds": result.rounds,
        "fps_of_turns": result.fps,
        "samples_ms": [round(ms, 3) for ms in result.samples_ms],
        "streams_samples_ms": [[round(ms, 3) for ms in samples] for samples in result.streams_ms],
    }


def measure(out: Path, work: Path, threads: int, *, quick: bool) -> None:
    """Everything: four series with the peak before and after each, and the profile; tables, plots, JSON in ``out``."""
    out.mkdir(parents=True, exist_ok=True)
    planned = all_series(work, threads, quick=quick)
    models.make_all(dict.fromkeys(model for series in planned for model in series.models))
    files = {point: file_of(point) for series in planned for point in series.points}
    setting = conditions(threads)
    alone, together = [], []
    results: dict[str, list[Result]] = {}
    for series in planned:
        alone.append(peaks.measure(1, repetitions=PEAK_REPETITIONS))
        together.append(peaks.measure(threads, repetitions=PEAK_REPETITIONS))
        say(f"{series.title}: {len(series.points)} points, {series.seconds:.0f} s")
        results[series.name] = run({point: files[point] for point in series.points}, series.seconds)
    model = planned[0].points[0].model
    profile = profile_of(model, threads, QUICK_PROFILE_S if quick else PROFILE_S)
    together.append(peaks.measure(threads, repetitions=PEAK_REPETITIONS))
    peak = peaks.pooled(together)
    rows = {name: [row_of(result, peak) for result in found] for name, found in results.items()}

    lines = ["# Cost as work grows", "", *(f"- {key}: {value}" for key, value in setting.items())]
    lines += ["", "## The processor's peak", "", peaks.table([peaks.pooled(alone), peak])]
    for series in planned:
        plots.draw(series, rows[series.name], out / f"{series.name}.png")
        lines += ["", f"## {series.title[0].upper()}{series.title[1:]}", "", report.table(series, rows[series.name])]
        lines += ["", f"![{series.title}]({series.name}.png)"]
    lines += ["", "## The share of the peak, and what stands between", "", report.peak_section(model, profile, peak)]
    document = {
        "conditions": setting,
        "peaks": [peaks.pooled(alone).to_json(), peak.to_json()],
        **{name: [entry(*pair) for pair in zip(rows[name], found, strict=True)] for name, found in results.items()},
        "profile": profile | {"model": model.name, "shares": report.shares(model, profile, peak)},
    }
    (out / "growth.json").write_text(json.dumps(document, indent=1) + "\n")
    (out / "growth.md").write_text("\n".join(lines) + "\n")
    print("\n".join(lines))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder for growth.json, growth.md and the plots")
    parser.add_argument("--work", type=Path, help="folder that keeps the models (default: a temporary one)")
    parser.add_argument("--threads", type=int, default=usable_processors(), help="default: affinity and CPU quota")
    parser.add_argument("--quick", action="store_true", help="the smallest models for seconds, to see that all works")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        work = arguments.work or Path(scratch)
        measure(arguments.out, work.resolve(), arguments.threads, quick=arguments.quick)


if __name__ == "__main__":
    main()
