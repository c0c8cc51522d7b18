"""The paper's protocol, for its four systems, on this machine.

``python -m benchmarks.paper --out benchmarks/results/paper [--size small|full|tiny] [--data LABELS.csv] [--work DIR]``
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import replace
from pathlib import Path

import cv2

from vmeg_edge.backends import cache_folder
from vmeg_edge.cli.progress import ProgressReport
from vmeg_edge.errors import VmegError

from .run import run
from .systems import SIZES


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.paper", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, required=True, help="folder for results.json, the tables and the pictures")
    parser.add_argument("--size", choices=SIZES, default="small", help="small: two cores; full: a GPU; tiny: a try")
    parser.add_argument("--data", type=Path, help="a table of labels instead of phantoms (path, label, patient, split)")
    parser.add_argument("--epochs", type=int, help="at most so many a fold, instead of the size's own")
    parser.add_argument("--work", type=Path, help="folder that keeps frames, folds and bundles (default: user's cache)")
    parser.add_argument("--device", default="auto", help="torch's, for training: auto, cpu, cuda")
    parser.add_argument("--time-again", action="store_true", help="measure the latency again, keeping all else")
    arguments = parser.parse_args()
    size = SIZES[arguments.size]
    if arguments.epochs is not None:
        systems = tuple(
            replace(s, recipe=replace(s.recipe, schedule=replace(s.recipe.schedule, epochs=arguments.epochs)))
            for s in size.systems
        )
        size = replace(size, systems=systems)
    cv2.setNumThreads(1)
    try:
        with ProgressReport() as progress:
            run(
                size,
                arguments.out,
                arguments.work or cache_folder() / "paper",
                progress.update,
                csv=arguments.data,
                device=arguments.device,
                time_again=arguments.time_again,
            )
    except VmegError as error:
        sys.exit(f"benchmarks.paper: {error}")
    print((arguments.out / "table.md").read_text(encoding="utf-8"))


if __name__ == "__main__":
    main()
