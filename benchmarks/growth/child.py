"""One point's process: opens its engine, checks what it says, then measures a turn for each line that it is sent.

It imports no toolchain, so that its memory is the engine's. Talks JSON, one object a line.
"""

from __future__ import annotations

import json
import sys
import threading
import time
from collections.abc import Callable
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

WARM_UP = 2
Turn = Callable[[float], dict[str, Any]]


def memory_mb(field: str) -> float:
    """``VmRSS`` (now) or ``VmHWM`` (at most so far) of this process, in MB (1e6 bytes)."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 / 1e6 for line in lines if line.startswith(f"{field}:"))


def probability(logits: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
    """Softmax over the classes, of the second."""
    exponents = np.exp(logits.astype(np.float64) - logits.max(axis=1, keepdims=True))
    return np.asarray(exponents[:, 1] / exponents.sum(axis=1))


def engine_point(spec: dict[str, Any]) -> tuple[Turn, dict[str, Any]]:
    """The engine's own API, one batch after another."""
    from engines import open_engine

    infer, version = open_engine(spec["engine"], spec["file"], spec["threads"])
    batch = spec["batch"]
    with np.load(spec["frames"]) as arrays:
        count = max(4, batch)
        pixels, truth = arrays["pixels"][-count:].copy(), arrays["logits"][-count:]
    batches = [pixels[start : start + batch] for start in range(0, count, batch)]
    logits = np.concatenate([infer(item).copy() for item in batches])

    def turn(seconds: float) -> dict[str, Any]:
        samples: list[float] = []
        ends = time.perf_counter() + seconds
        while not samples or time.perf_counter() < ends:
            began = time.perf_counter()
            infer(batches[len(samples) % len(batches)])
            samples.append((time.perf_counter() - began) * 1e3)
        return {"samples_ms": samples}

    return turn, {"version": version, "max_abs_dp": float(np.abs(probability(logits) - probability(truth)).max())}


def streams_point(spec: dict[str, Any]) -> tuple[Turn, dict[str, Any]]:
    """Scorers side by side, each in a thread of its own: frame in, score and heat map out."""
    import vmeg_edge
    from vmeg_edge.phantom import phantoms

    with np.load(spec["frames"]) as arrays:
        truth = arrays["logits"]
    frames = [item.frame for item in phantoms(seed=spec["seed"], count=len(truth))][-4:]
    scorers = [
        vmeg_edge.load(spec["file"], backend=spec["engine"], threads=spec["threads"], cache=False, self_test=False)
        for _ in range(spec["streams"])
    ]
    logits = np.stack([scorer.logits(frame) for scorer in scorers for frame in frames])
    expected = np.tile(probability(truth[-4:]), len(scorers))

    def turn(seconds: float) -> dict[str, Any]:
        samples: list[list[float]] = [[] for _ in scorers]
        line = threading.Barrier(len(scorers) + 1)
        finished = [0.0] * len(scorers)

        def stream(index: int) -> None:
            scorer, own = scorers[index], samples[index]
            line.wait()
            ends = time.perf_counter() + seconds
            while not own or time.perf_counter() < ends:
                began = time.perf_counter()
                scorer.score(frames[len(own) % len(frames)])
                own.append((time.perf_counter() - began) * 1e3)
            finished[index] = time.perf_counter()

        threads = [threading.Thread(target=stream, args=(index,)) for index in range(len(scorers))]
        for thread in threads:
            thread.start()
        line.wait()
        began = time.perf_counter()
        for thread in threads:
            thread.join()
        elapsed = max(finished) - began
        return {"samples_ms": list(chain(*samples)), "streams_ms": samples, "fps": sum(map(len, samples)) / elapsed}

    version = str(scorers[0].provenance["version"])
    return turn, {"version": version, "max_abs_dp": float(np.abs(probability(logits) - expected).max())}


def main() -> None:
    spec = json.loads(sys.argv[1])
    turn, facts = (streams_point if spec["streams"] else engine_point)(spec)
    for _ in range(WARM_UP):
        turn(0)
    print(json.dumps(facts), flush=True)
    for line in sys.stdin:
        answer = turn(float(line))
        answer |= {"resident_mb": memory_mb("VmRSS"), "peak_resident_mb": memory_mb("VmHWM")}
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
