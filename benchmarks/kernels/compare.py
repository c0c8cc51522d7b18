"""Times the kernels against Pillow, OpenCV and NumPy's SVD in one interleaved run, and checks what it times."""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

# One BLAS thread unless the caller says otherwise; read when NumPy is imported.
os.environ["OPENBLAS_NUM_THREADS"] = os.environ.get("OPENBLAS_NUM_THREADS", "1")

import cv2
import numpy as np
import numpy.typing as npt
import PIL
from PIL import Image

from vmeg_edge import kernels
from vmeg_edge.frames import Region
from vmeg_edge.kernels import Implementation, Method

WARM_UP = 3
SIDE = 224
BUDGETS_MS = {"resize nearest": 0.1, "resize bilinear": 0.6, "eigencam decay": 0.3, "eigencam relu": 0.3}
FILTERS: dict[Method, Image.Resampling] = {
    "nearest": Image.Resampling.NEAREST,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
}
CV2_FILTERS: dict[Method, dict[str, int]] = {
    "nearest": {"cv2 INTER_NEAREST": cv2.INTER_NEAREST},
    "bilinear": {"cv2 INTER_LINEAR": cv2.INTER_LINEAR, "cv2 INTER_AREA": cv2.INTER_AREA},
    "bicubic": {"cv2 INTER_CUBIC": cv2.INTER_CUBIC},
}

Work = Callable[[], object]


@dataclass(frozen=True)
class Figure:
    """One contestant's time at one task, in milliseconds over ``samples`` runs."""

    task: str
    who: str
    p50_ms: float
    min_ms: float
    samples: int


def resize_tasks(implementations: list[Implementation]) -> dict[str, dict[str, Work]]:
    """A speckled frame, as an ultrasound device would show it: structure, noise, and black around it."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[0:1080, 0:1920]
    fan = np.hypot(x - 960, y + 100) < 1000
    grey = (fan * (60 + 50 * np.sin(x / 90) * np.cos(y / 70)) * rng.rayleigh(0.8, x.shape)).clip(0, 255)
    frame = np.repeat(grey.astype(np.uint8)[..., np.newaxis], 3, axis=2)
    frame[..., 1] //= 2  # channels that differ, so that a swap is found
    picture = Image.fromarray(frame)
    region = Region(0, 0, 1920, 1080)
    tasks: dict[str, dict[str, Work]] = {}
    for method, pillow_filter in FILTERS.items():
        expected = np.asarray(picture.resize((SIDE, SIDE), pillow_filter))
        works: dict[str, Work] = {}
        for implementation in implementations:
            out = np.empty((SIDE, SIDE, 3), np.uint8)

            ours = partial(implementation.resize, frame, region, SIDE, SIDE, method, out)
            ours()
            if not np.array_equal(out, expected):
                sys.exit(f"resize {method}: {implementation.isa} differs from Pillow")
            works[f"vmeg-edge {implementation.isa}"] = ours
        works["Pillow"] = partial(picture.resize, (SIDE, SIDE), pillow_filter)
        for name, flag in CV2_FILTERS[method].items():
            works[name] = partial(cv2.resize, frame, (SIDE, SIDE), interpolation=flag)
        tasks[f"resize {method}"] = works
    return tasks


def activation_sets() -> dict[str, npt.NDArray[np.float32]]:
    """Activations [196, 768] whose leading gap is wide (decay), ordinary (relu) and narrow (noise)."""
    rng = np.random.default_rng(1)
    left, _ = np.linalg.qr(rng.standard_normal((196, 195)))
    right, _ = np.linalg.qr(rng.standard_normal((768, 195)))
    noise = rng.standard_normal((196, 768))
    structure = rng.standard_normal((196, 6)) * [6, 4, 3, 2, 1, 1] @ rng.standard_normal((6, 768)) / 3
    sets = {"decay": left / np.arange(1, 196) @ right.T, "relu": np.maximum(structure + noise, 0), "noise": noise}
    return {name: a.astype(np.float32) for name, a in sets.items()}


def svd(a: npt.NDArray[np.float32], full: bool) -> object:
    """What Eigen-CAM is usually made with."""
    return np.linalg.svd(a - a.mean(axis=0), full_matrices=full)


def eigencam_tasks(implementations: list[Implementation]) -> dict[str, dict[str, Work]]:
    """Every implementation's map is held against the one from a float64 SVD."""
    tasks: dict[str, dict[str, Work]] = {}
    for name, a in activation_sets().items():
        centred = a.astype(np.float64) - a.mean(axis=0, dtype=np.float64)
        scores = centred @ np.linalg.svd(centred, full_matrices=False)[2][0]
        hot = np.maximum(scores * np.sign((scores**3).sum()), 0)
        expected = hot / hot.max()
        works: dict[str, Work] = {}
        for implementation in implementations:
            found = implementation.eigencam(a, None)
            error = 1.0 if found is None else float(np.abs(found[0] - expected).max())
            if error > 1e-5:
                sys.exit(f"eigencam {name}: {implementation.isa} is {error:.1e} from the SVD's map")
            works[f"vmeg-edge {implementation.isa}"] = partial(implementation.eigencam, a, None)
        works["numpy svd, full"] = partial(svd, a, full=True)
        works["numpy svd, thin"] = partial(svd, a, full=False)
        tasks[f"eigencam {name}"] = works
    return tasks


def measure(tasks: dict[str, dict[str, Work]], rounds: int) -> list[Figure]:
    """Let the contestants of a task take turns; one that takes over 10 ms runs a quarter as often."""
    figures = []
    for task, works in tasks.items():
        samples: dict[str, list[float]] = {who: [] for who in works}
        for turn in range(-WARM_UP, rounds):
            for who, work in works.items():
                if turn % 4 and samples[who] and min(samples[who]) > 10:
                    continue
                began = time.perf_counter()
                work()
                if turn >= 0:
                    samples[who].append((time.perf_counter() - began) * 1e3)
        figures += [Figure(task, who, statistics.median(ms), min(ms), len(ms)) for who, ms in samples.items()]
    return figures


def processor() -> str:
    """The processor's name, where the system tells."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def conditions() -> dict[str, Any]:
    """What the figures depend on."""
    return {
        "processor": processor(),
        "cpus": os.cpu_count(),
        "load_1min": os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
        "kernels": kernels.describe(),
        "threads": {
            "vmeg-edge": 1,
            "Pillow": 1,
            "cv2": cv2.getNumThreads(),
            "BLAS": int(os.environ["OPENBLAS_NUM_THREADS"]),
        },
        "versions": {
            "python": platform.python_version(),
            "numpy": np.__version__,
            "Pillow": PIL.__version__,
            "cv2": cv2.__version__,
        },
    }


def report(figures: list[Figure], setting: dict[str, Any], current: str) -> None:
    """Print a table a task: times, and how many times as long as ours; then the budgets."""
    for key, value in setting.items():
        print(f"{key}: {value}")
    ours = {figure.task: figure for figure in figures if figure.who == current}
    task = ""
    for figure in figures:
        if figure.task != task:
            task = figure.task
            print(f"\n{task:<28}{'p50_ms':>10}{'min_ms':>10}{'x p50':>9}{'x min':>9}{'samples':>9}")
        base = ours[task]
        ratios = f"{figure.p50_ms / base.p50_ms:>9.2f}{figure.min_ms / base.min_ms:>9.2f}"
        print(f"  {figure.who:<26}{figure.p50_ms:>10.3f}{figure.min_ms:>10.3f}{ratios}{figure.samples:>9}")
    print(f"\nbudgets ({current}, minimum)")
    for name, budget in BUDGETS_MS.items():
        found = ours[name].min_ms
        verdict = "met" if found <= budget else f"missed by a factor of {found / budget:.2f}"
        print(f"  {name:<26}{found:>10.3f} of {budget} ms: {verdict}")


def main() -> None:
    """Run, print, and write the file that was asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=60, help="how often each contestant runs (default 60)")
    parser.add_argument("--json", type=Path, help="write the figures to this file too")
    arguments = parser.parse_args()
    cv2.setNumThreads(1)
    implementations = [kernels.choose("native", isa) for isa in reversed(kernels.choose().isa_available)]
    setting = conditions()
    tasks = resize_tasks(implementations) | eigencam_tasks(implementations)
    figures = measure(tasks, arguments.rounds)
    report(figures, setting, f"vmeg-edge {implementations[0].isa}")
    if arguments.json is not None:
        document = {"conditions": setting, "budgets_ms": BUDGETS_MS, "figures": [asdict(f) for f in figures]}
        arguments.json.write_text(json.dumps(document, indent=2) + "\n")


if __name__ == "__main__":
    main()
