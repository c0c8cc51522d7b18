"""What a frame allocates after warm-up: in our code alone, by Python's own count, and in pages with each engine.

``python benchmarks/allocations.py [--bundle B.vmeg]``: our code runs on activations that are in memory already, so that
no engine's buffers are counted; ``tracemalloc`` sees Python's and NumPy's memory, page faults see everybody's.
"""

from __future__ import annotations

import argparse
import json
import resource
import sys
import tracemalloc
from pathlib import Path

import numpy as np

import vmeg_edge
from vmeg_edge.backends import why_unusable
from vmeg_edge.bench import held
from vmeg_edge.bundle import open_bundle
from vmeg_edge.frames import Frame
from vmeg_edge.scorer import Scorer

DEMO = Path(vmeg_edge.__file__).parent / "demo.vmeg"
WARM_UP = 50
FRAMES = 200
LARGE_BYTES = 16 * 1024


class Canned:
    """A backend that computed once: the same logits and activations again, in the same memory."""

    def __init__(self, scorer: Scorer, frame: Frame) -> None:
        self.report = scorer.backend.report
        logits, activations = scorer.backend.infer(scorer._preprocess(frame))
        self._answer = logits.copy(), activations.copy()

    def infer(self, _pixels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return self._answer

    def close(self) -> None:
        pass


def ours(scorer: Scorer, frames: list[Frame]) -> dict[str, float | int | list[str]]:
    """Bytes that a frame leaves behind, the most that it holds at once, and any single block that is large."""
    engine = scorer.backend
    scorer.backend = Canned(scorer, frames[0])
    try:
        for index in range(WARM_UP):
            scorer.score(frames[index % len(frames)])
        tracemalloc.start()
        scorer.score(frames[0])
        peaks = np.zeros(FRAMES)
        before, _ = tracemalloc.get_traced_memory()
        for index in range(FRAMES):
            tracemalloc.reset_peak()
            start, _ = tracemalloc.get_traced_memory()
            scorer.score(frames[index % len(frames)])
            peaks[index] = tracemalloc.get_traced_memory()[1] - start
        after, _ = tracemalloc.get_traced_memory()
        kept = tracemalloc.take_snapshot()
        tracemalloc.stop()
    finally:
        scorer.backend = engine
    large = [str(t.traceback) for t in kept.traces if t.size >= LARGE_BYTES]
    return {
        "kept_bytes_a_frame": round((after - before) / FRAMES, 2),
        "held_at_once_bytes": int(np.median(peaks)),
        "blocks_above_16_kib_kept": large,
    }


def pages(scorer: Scorer, frames: list[Frame]) -> float:
    """Minor page faults a frame with the real engine: memory that is mapped anew."""
    for index in range(WARM_UP):
        scorer.score(frames[index % len(frames)])
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for index in range(FRAMES):
        scorer.score(frames[index % len(frames)])
    return (resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before) / FRAMES


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bundle", type=Path, default=DEMO)
    arguments = parser.parse_args()
    frames = list(held.gather("phantom:").frames)
    rows = {}
    for name in open_bundle(arguments.bundle).manifest.artefacts:
        if why_unusable(name) is None:
            with vmeg_edge.load(arguments.bundle, backend=name) as scorer:
                report = scorer.backend.report
                rows[f"{name} {report.version.partition('-')[0]} {report.precision}, {report.threads} threads"] = {
                    **ours(scorer, frames),
                    "page_faults_a_frame": round(pages(scorer, frames), 2),
                }
    json.dump({"frames": FRAMES, "frame": "1920x1080 RGB", "backends": rows}, sys.stdout, indent=2)
    print()


if __name__ == "__main__":
    main()
