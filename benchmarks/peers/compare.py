"""Peers side by side: the same frames, model and threads, in one interleaved run, each checked against the reference.

``python benchmarks/peers/compare.py --out benchmarks/results/peers [--work DIR] [--rounds N] [--quick]``
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import tempfile
from contextlib import ExitStack
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

import benchmark_app
import numpy as np
import report
from cases import Work, runnable
from peak.measure import processor
from prepare import FRAMES, QUICK_FRAMES, prepare
from rounds import open_all, run
from truth import agreement, truths

from vmeg_edge.backends import cache_folder
from vmeg_edge.processors import processors, usable_processors

ROUNDS, SAMPLES, APP_RUNS, APP_S = 14, 5, 3, 10
QUICK_ROUNDS, QUICK_SAMPLES, QUICK_APP_RUNS, QUICK_APP_S = 3, 2, 1, 2
VERSIONS = ("vmeg-edge", "openvino", "onnxruntime", "torch", "grad-cam", "nncf", "numpy", "opencv-python-headless")


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def conditions(work: Work, threads: int, frames: int) -> dict[str, Any]:
    """What the figures depend on."""
    int8 = json.loads((work.bundle("int8") / "manifest.json").read_text(encoding="utf-8"))
    sys.path.append(str(work.grad_cam))  # for its version alone
    versions = {name: version(name) for name in VERSIONS}
    sys.path.remove(str(work.grad_cam))
    return {
        "processor": processor(),
        **processors().to_json(),
        "load_1min": os.getloadavg()[0],
        "threads": threads,
        "python": platform.python_version(),
        "versions": versions,
        "model": "ViT-B/16 at 224x224, 2 classes, seeded weights, none trained",
        "int8": {name: artefact["recipe"] for name, artefact in int8["artefacts"].items()},
        "frames": f"{frames} phantoms, 1920x1080 RGB, whole frame stretched to 224x224 by the nearest pixel",
        "ratios": "median over rounds of the ratio of a round's medians (5th to 95th percentile of the rounds)",
        "reference": "torch float32; the heat map by a full SVD in float64",
    }


def compare(out: Path, work: Work, threads: int, rounds: int, *, quick: bool) -> None:
    """Everything; ``peers.json``, ``peers.md`` and ``peers.png`` in ``out``."""
    out.mkdir(parents=True, exist_ok=True)
    frames = QUICK_FRAMES if quick else FRAMES
    setting = conditions(work, threads, frames)
    say("the reference")
    expected = truths(work, np.load(work.frames)[:frames])
    runs, seconds = (QUICK_APP_RUNS, QUICK_APP_S) if quick else (APP_RUNS, APP_S)
    after = {round((index + 1) * rounds / runs) - 1 for index in range(runs)}
    hints = ["f32", *(["bf16"] if any(case.bfloat16 for case in runnable()) else [])]
    app: dict[str, list[float]] = {hint: [] for hint in hints}

    def between(index: int) -> None:
        say(f"round {index + 1} of {rounds}")
        if index in after:
            for precision, medians in app.items():
                medians.append(benchmark_app.run(work.model("int8", "openvino"), threads, seconds, precision))

    with tempfile.TemporaryDirectory() as scratch, ExitStack() as stack:
        cases = runnable()
        say(f"opening {len(cases)} peers")
        children = open_all(stack, cases, work, threads, frames, Path(scratch))
        results = run(children, rounds, QUICK_SAMPLES if quick else SAMPLES, between)
    rows = report.rows_of(results, [agreement(one.case, one.answers, expected) for one in results])
    promised = report.targets_of(results)
    report.draw(rows, setting["processor"], threads, out / "peers.png")
    document = {
        "conditions": setting,
        "peers": [row.to_json() for row in rows],
        "benchmark_app_ms": app,
        "targets": [asdict(target) | {"met": target.met} for target in promised],
    }
    (out / "peers.json").write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    text = report.markdown(setting, rows, promised, app)
    (out / "peers.md").write_text(text + "\n", encoding="utf-8")
    print(text)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder for the JSON, the table and the plot")
    parser.add_argument("--work", type=Path, help="folder that keeps models and grad-cam (default: the user's cache)")
    parser.add_argument("--threads", type=int, default=usable_processors(), help="default: affinity and CPU quota")
    parser.add_argument("--rounds", type=int, help=f"default: {ROUNDS}, with --quick {QUICK_ROUNDS}")
    parser.add_argument("--calibration", default="phantoms", help="frames for int8, as vmeg-edge convert takes them")
    parser.add_argument("--quick", action="store_true", help="few frames and rounds, to see that all works")
    parser.add_argument("--prepare", action="store_true", help="make what the run needs, and stop")
    arguments = parser.parse_args()
    if arguments.rounds is not None and arguments.rounds < 1:
        parser.error("--rounds must be 1 or more")
    work = Work((arguments.work or cache_folder() / "peers").resolve())
    prepare(work, arguments.calibration)
    if not arguments.prepare:
        rounds = arguments.rounds or (QUICK_ROUNDS if arguments.quick else ROUNDS)
        compare(arguments.out, work, arguments.threads, rounds, quick=arguments.quick)


if __name__ == "__main__":
    main()
