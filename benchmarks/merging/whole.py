"""From a 1080p frame to score and heat map, ViT-B/16 in int8 on OpenVINO: peers, fewer tokens, and the floor.

``python benchmarks/merging/whole.py --work FOLDER [--checkpoint vit.pt] [--tokens 16 --tokens 17] [--out FOLDER]``

The bundles are conversions of one checkpoint, without merging and with so many tokens a block, kept in the work folder
(some minutes). Every case takes its turn in each round, on the same frames and as many threads. The peer is OpenVINO
with NNCF's model and OpenCV's resize, without a heat map. A merging bundle runs once more on a narrow sector.

Without a checkpoint the weights are random: the times are those of the shapes. What such weights say hangs on every
token, so the gate is lifted for them, for the timing alone.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from importlib.metadata import version
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

sys.path.insert(0, str(Path(__file__).parents[1]))

from peak.measure import processor

import vmeg_edge
from vmeg_edge import parity
from vmeg_edge.frames import Frame, Pixels
from vmeg_edge.kernels import describe
from vmeg_edge.manifest import DecisionRule
from vmeg_edge.phantom import phantoms
from vmeg_edge.processors import processors
from vmeg_edge.sector import LEARNT_FROM
from vmeg_edge.silence import silence

with silence():
    import openvino as ov

FRAMES = 12
WARM_UP = LEARNT_FROM + 4
SIZES = (143, 111, 95)
Turn = Callable[[Frame], object]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True, help="folder for the bundles")
    parser.add_argument("--checkpoint", type=Path, help="a ViT's; random weights without")
    parser.add_argument("--tokens", type=int, action="append", help="--reduce-tokens; may be repeated [16, 17]")
    parser.add_argument("--rounds", type=int, default=120, help=f"turns each, {WARM_UP} more of them uncounted")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--out", type=Path, help="folder for whole.json and whole.md")
    arguments = parser.parse_args()
    whole, merged = bundles(arguments.work, arguments.checkpoint, arguments.tokens or [16, 17])
    frames = {"phantoms": large(wide=True), "a narrow sector": large(wide=False)}
    with ExitStack() as stack:
        turns: dict[str, tuple[str, Turn]] = {"raw": ("phantoms", raw(whole, arguments.threads))}
        for bundle in (whole, *merged):
            scorer = opened(stack, bundle, arguments.threads, "off")
            merge = [r for r in scorer.manifest.merge if r]
            name = f"vmeg-edge, {sum(merge)} tokens merged in {len(merge)} blocks" if merge else "vmeg-edge"
            turns[name] = ("phantoms", scorer.score)
            if scorer.manifest.artefacts["openvino"].sized:
                sized = opened(stack, bundle, arguments.threads, "auto")
                turns[f"{name}, by sector"] = ("a narrow sector", sized.score)
        times = raced(turns, frames, arguments.rounds)
        tokens = {name: getattr(turn(frames[kind][0]), "tokens", None) for name, (kind, turn) in turns.items()}
    rows = [figures(name, samples, times["raw"], tokens[name]) for name, samples in times.items()]
    content = {
        "conditions": conditions(arguments.threads, arguments.rounds),
        "rows": rows,
    }
    page = table(rows)
    print(page)
    if arguments.out:
        arguments.out.mkdir(parents=True, exist_ok=True)
        (arguments.out / "whole.json").write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
        said = "\n".join(f"- {key}: {value}" for key, value in content["conditions"].items())
        (arguments.out / "whole.md").write_text(f"# A whole frame\n\n{said}\n\n{page}\n", encoding="utf-8")


def bundles(work: Path, checkpoint: Path | None, tokens: list[int]) -> tuple[Path, list[Path]]:
    """The conversion without merging and those with, made where the folder lacks them."""
    from vmeg_edge.converters.architectures.vit import ViT, ViTConfig
    from vmeg_edge.converters.bundle_from_model import Quantization, convert
    from vmeg_edge.converters.finetune import save_classifier
    from vmeg_edge.converters.origin import Training
    from vmeg_edge.converters.record import Record

    work.mkdir(parents=True, exist_ok=True)
    if checkpoint is None:
        parity.MERGED_COSINES, parity.GATES["int8"] = (-1.0, -1.0), (1.0, None)
        checkpoint = work / "vit.pt"
        if not checkpoint.exists():
            model = ViT(ViTConfig())
            model.initialise(0)
            half, labels = (0.5, 0.5, 0.5), ("normal", "ventriculomegaly")
            spec = Record(image_size=224, resize="nearest", mean=half, std=half, labels=labels, positive=labels[1])
            save_classifier(model, spec, checkpoint)
    made = []
    for merge in (0, *tokens):
        path = work / f"r{merge}.vmeg"
        if not path.exists():
            done = convert(
                checkpoint,
                path,
                targets=("openvino",),
                precision="int8",
                training=Training(decision=DecisionRule(temperature=1.0, threshold=0.5, abstain=(0.25, 0.75))),
                quantization=Quantization(("phantoms",), calibration_frames=32, validation_frames=16),
                reduce_tokens=merge or "off",
                sector_tokens=SIZES if merge else (),
                plane_gate=False,
                report=lambda line: print(line, file=sys.stderr, flush=True),
            )
            done.check()
        made.append(path)
    return made[0], made[1:]


def large(*, wide: bool) -> list[Frame]:
    """Phantoms as 1920x1080 RGB; not ``wide``: all but the middle three fifths of the width is black."""
    made = []
    for index, one in enumerate(phantoms(7, FRAMES)):
        picture = cv2.resize(one.frame.pixels, (1920, 1080), interpolation=cv2.INTER_LINEAR)
        picture = np.repeat(picture[..., None], 3, axis=2) if picture.ndim == 2 else picture
        if not wide:
            picture[:, :384] = picture[:, 1536:] = 0
        made.append(Frame(np.ascontiguousarray(picture), index=index, source="1080p"))
    return made


def opened(stack: ExitStack, bundle: Path, threads: int, sector: str) -> vmeg_edge.Scorer:
    return stack.enter_context(vmeg_edge.load(bundle, backend="openvino", threads=threads, sector=sector, cache=False))


def raw(bundle: Path, threads: int) -> Turn:
    """OpenVINO's own API, tuned for latency, on the model that NNCF made; no heat map."""
    options = {
        "INFERENCE_PRECISION_HINT": "f32",
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_NUM_THREADS": threads,
    }
    request = ov.Core().compile_model(bundle / "model.xml", "CPU", options).create_infer_request()

    def turn(frame: Frame) -> npt.NDArray[np.float32]:
        pixels: Pixels = cv2.resize(frame.pixels, (224, 224), interpolation=cv2.INTER_NEAREST)
        request.infer({"pixels": pixels[None]}, share_inputs=True)
        logits = request.get_tensor("logits").data[0]
        shifted = np.exp(logits - logits.max())
        return np.asarray(shifted / shifted.sum())

    return turn


def raced(turns: dict[str, tuple[str, Turn]], frames: dict[str, list[Frame]], rounds: int) -> dict[str, np.ndarray]:
    """Milliseconds of each case's turns, another one beginning each round."""
    names = list(turns)
    times: dict[str, list[float]] = {name: [] for name in names}
    for number in range(rounds + WARM_UP):
        first = number % len(names)
        for name in names[first:] + names[:first]:
            kind, turn = turns[name]
            frame = frames[kind][number % FRAMES]
            started = time.perf_counter()
            turn(frame)
            if number >= WARM_UP:
                times[name].append((time.perf_counter() - started) * 1e3)
    return {name: np.array(samples) for name, samples in times.items()}


def figures(name: str, samples: np.ndarray, of_raw: np.ndarray, tokens: int | None) -> dict[str, object]:
    return {
        "case": name,
        "tokens": tokens,
        "p50_ms": round(float(np.median(samples)), 2),
        "p95_ms": round(float(np.percentile(samples, 95)), 2),
        "times_as_fast_as_raw": round(float(np.median(of_raw / samples)), 3),
    }


def table(rows: list[dict[str, object]]) -> str:
    lines = ["| case | tokens | p50 ms | p95 ms | times as fast as raw |", "|---|--:|--:|--:|--:|"]
    for row in rows:
        tokens = "all" if row["tokens"] is None else row["tokens"]
        name = "OpenVINO and NNCF, no heat map" if row["case"] == "raw" else row["case"]
        lines.append(f"| {name} | {tokens} | {row['p50_ms']} | {row['p95_ms']} | {row['times_as_fast_as_raw']:.2f} |")
    return "\n".join(lines)


def conditions(threads: int, rounds: int) -> dict[str, object]:
    """What the figures depend on."""
    return {
        "processor": processor(),
        "cpu_flags": ", ".join(flags()),
        "ONEDNN_MAX_CPU_ISA": os.environ.get("ONEDNN_MAX_CPU_ISA", "not set"),
        "kernels": describe()["isa"],
        **processors().to_json(),
        "threads": threads,
        "rounds": rounds,
        "python": platform.python_version(),
        **{name: version(name) for name in ("vmeg-edge", "openvino", "nncf", "numpy", "opencv-python-headless")},
        "model": "ViT-B/16 at 224x224, random weights: the times are those of the shapes",
        "frames": f"{FRAMES} phantoms, 1920x1080 RGB",
    }


def flags() -> list[str]:
    """What of the processor decides int8's speed."""
    known = ("avx2", "avx_vnni", "avx512f", "avx512_vnni", "amx_int8", "amx_bf16")
    text = Path("/proc/cpuinfo").read_text(encoding="utf-8") if Path("/proc/cpuinfo").is_file() else ""
    found = set(text.partition("flags")[2].partition("\n")[0].split())
    return [name for name in known if name in found]


if __name__ == "__main__":
    main()
