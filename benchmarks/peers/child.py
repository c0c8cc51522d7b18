"""One peer's process: opens it, answers every frame once, then times a slice for each line that it is sent."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
from cases import CASES, Work

WARM_UP = 3


def resident_mb() -> float:
    """``VmRSS`` of this process, in MB (1e6 bytes)."""
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    return next(int(line.split()[1]) * 1024 / 1e6 for line in lines if line.startswith("VmRSS:"))


def main() -> None:
    spec: dict[str, Any] = json.loads(sys.argv[1])
    work = Work(Path(spec["work"]))
    frames = np.load(work.frames)[: spec["frames"]]
    peer = CASES[spec["case"]].open(work, spec["threads"])
    items = [peer.prepare(frame) for frame in frames]
    answers = [peer.score(item) for item in items]
    maps = [heat for _, heat in answers if heat is not None]
    np.savez(spec["answers"], probabilities=[p for p, _ in answers], maps=np.stack(maps) if maps else np.empty(0))
    for index in range(WARM_UP):
        peer.score(items[index % len(items)])
    print(json.dumps({"versions": peer.versions, "settings": peer.settings}), flush=True)
    turn = 0
    for line in sys.stdin:
        count = int(line)
        samples = []
        for _ in range(1 + count):
            item = items[turn % len(items)]
            turn += 1
            began = time.perf_counter()
            peer.score(item)
            samples.append((time.perf_counter() - began) * 1e3)
        print(json.dumps({"samples_ms": samples[1:], "resident_mb": resident_mb()}), flush=True)


if __name__ == "__main__":
    main()
