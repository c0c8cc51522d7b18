"""What merging tokens saves, and what it costs: ViT-B/16 in int8 on OpenVINO, inference alone, interleaved.

``python benchmarks/merging/speed.py [--rounds N] [--threads N]``

Beside each schedule that is cut as well, the same tokens are thrown away instead of merged: the difference is the cost
of the merging itself. Random weights: the times are those of the shapes.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path
from unittest.mock import patch

import numpy as np
import torch
from kinds import every_second
from vmeg_edge.converters import token_reduction as reduction
from vmeg_edge.converters.architectures import vit
from vmeg_edge.converters.architectures.token_merging import Tokens
from vmeg_edge.converters.frames import tensors_of
from vmeg_edge.converters.onnx_from_checkpoint import export
from vmeg_edge.converters.openvino_from_onnx import OFF, ov, quantize

from vmeg_edge.manifest import Input
from vmeg_edge.phantom import phantoms

BASE = vit.ViTConfig()
MEAN = STD = (0.5, 0.5, 0.5)
FRAMES = 16
WARM_UP = 5
SCHEDULES = {
    "none": (),
    "12 in each block": reduction.constant(BASE, 12),
    "24 in every second": every_second(BASE, 12),
    "as many as 12, tapering": reduction.tapering(BASE, 12),
    "16": reduction.tapering(BASE, 16),
    "18": reduction.tapering(BASE, 18),
    "20": reduction.tapering(BASE, 20),
}
CUT = ("12 in each block", "24 in every second", "as many as 12, tapering")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=70, help="turns that the models take, five of them uncounted")
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    spec = Input(width=224, height=224, resize="bilinear", mean=MEAN, std=STD)
    tensors = tensors_of([made.frame for made in phantoms(7, FRAMES)], spec)
    requests = {name: request(schedule, tensors, arguments.threads) for name, schedule in SCHEDULES.items()}
    with patch.object(vit, "merged", cut_away):
        for name in CUT:
            requests[f"{name}, cut away"] = request(SCHEDULES[name], tensors, arguments.threads)
    times = raced(requests, tensors, arguments.rounds)
    print("| tokens merged a block | mean tokens | arithmetic | p50 ms | times as fast |\n|---|---|---|---|---|")
    for name, samples in times.items():
        schedule = SCHEDULES[name.removesuffix(", cut away")]
        share = reduction.arithmetic(BASE, schedule) / reduction.arithmetic(BASE, ())
        tokens = reduction.mean_tokens(BASE, schedule)
        faster = np.median(times["none"] / samples)
        print(f"| {name} | {tokens:.0f} | {share:.0%} | {np.median(samples):.1f} | {faster:.2f} |")


def request(schedule: reduction.Schedule, tensors: np.ndarray, threads: int, depth: int = 12) -> ov.InferRequest:
    """A compiled int8 ViT-B/16 that merges by ``schedule``, of its first ``depth`` blocks alone."""
    torch.manual_seed(0)
    model = vit.ViT(vit.ViTConfig(merge=schedule, depth=depth))
    model.initialise(0)
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch) / "model.onnx"
        export(model, path, mean=MEAN, std=STD)
        quantized = quantize(path, tensors[:8], smooth=OFF)
    options = {
        "INFERENCE_PRECISION_HINT": "f32",
        "INFERENCE_NUM_THREADS": threads,
        "ENABLE_CPU_PINNING": False,
        "PERFORMANCE_HINT": "LATENCY",
    }
    return ov.Core().compile_model(quantized, "CPU", options).create_infer_request()


def cut_away(tokens: Tokens, r: int) -> Tokens:
    """The last ``r`` tokens are thrown away: the arithmetic of a merge without the merge."""
    return Tokens(tokens.x[:, :-r])


def raced(requests: dict[str, ov.InferRequest], tensors: np.ndarray, rounds: int) -> dict[str, np.ndarray]:
    """Milliseconds of each model's turns, another one beginning each round."""
    names = list(requests)
    times: dict[str, list[float]] = {name: [] for name in names}
    for turn in range(rounds):
        first = turn % len(names)
        for name in names[first:] + names[:first]:
            started = time.perf_counter()
            requests[name].infer({0: tensors[turn % FRAMES][None]})
            if turn >= WARM_UP:
                times[name].append((time.perf_counter() - started) * 1e3)
    return {name: np.array(samples) for name, samples in times.items()}


if __name__ == "__main__":
    main()
