"""Thirty frames a second for ten minutes: ``vmeg-edge stream`` on a 1080p video, ViT-B/16 in int8 with fewer tokens.

``python benchmarks/merging/paced.py --work FOLDER --cine scan.mha [--tokens 17] [--minutes 10] [--out FOLDER]``

The video is the cine as a cart's screen shows it: scaled to the height of 1920x1080, black beside it, forwards and
backwards so that it loops without a jump. The bundle is `whole`'s, with random weights: the times are those of the
shapes. It is the command itself that runs, a replay paced like a camera that loses what is not taken in time.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from itertools import islice
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from whole import bundles, conditions

from vmeg_edge.frames import Frame
from vmeg_edge.sources import open_source

WIDTH, HEIGHT, FPS = 1920, 1080, 30
MOST_FRAMES = 150
DEADLINE_MS = 100


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True, help="folder for bundle, video and results")
    parser.add_argument("--cine", type=Path, required=True)
    parser.add_argument("--tokens", type=int, default=17, help="--reduce-tokens")
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--out", type=Path, help="folder for paced.json and paced.md")
    arguments = parser.parse_args()
    _, (bundle,) = bundles(arguments.work, None, [arguments.tokens])
    video = arguments.work / "paced.mp4"
    screen(arguments.cine, video)
    said = streamed(bundle, video, arguments.minutes * 60, arguments.threads, arguments.work / "paced.jsonl")
    content = {"conditions": about(arguments, said), "figures": figures(said, arguments.work / "paced.jsonl")}
    page = markdown(content)
    print(page)
    if arguments.out:
        arguments.out.mkdir(parents=True, exist_ok=True)
        (arguments.out / "paced.json").write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
        (arguments.out / "paced.md").write_text(page + "\n", encoding="utf-8")


def screen(cine: Path, target: Path) -> None:
    """Write the cine as a screen of 1920x1080 shows it."""
    with open_source(cine) as source:
        frames = [frame.pixels for frame in islice((f for f in source if isinstance(f, Frame)), MOST_FRAMES)]
    writer = cv2.VideoWriter(str(target), cv2.VideoWriter_fourcc(*"mp4v"), FPS, (WIDTH, HEIGHT))
    for pixels in (*frames, *frames[-2:0:-1]):
        scale = min(HEIGHT / pixels.shape[0], WIDTH / pixels.shape[1])
        shown = cv2.resize(pixels, None, fx=scale, fy=scale, interpolation=cv2.INTER_LINEAR)
        shown = np.repeat(shown[..., None], 3, axis=2) if shown.ndim == 2 else shown[..., ::-1]
        picture = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
        top, left = (HEIGHT - shown.shape[0]) // 2, (WIDTH - shown.shape[1]) // 2
        picture[top : top + shown.shape[0], left : left + shown.shape[1]] = shown
        writer.write(picture)
    writer.release()


def streamed(bundle: Path, video: Path, seconds: float, threads: int, results: Path) -> dict[str, Any]:
    """The summary that the command prints as JSON."""
    command = [sys.executable, "-m", "vmeg_edge", "stream", f"replay:{video}", "--loop", "--fps", str(FPS)]
    command += ["--duration", str(seconds), "--deadline-ms", str(DEADLINE_MS), "--bundle", str(bundle)]
    command += ["--backend", "openvino", "--threads", str(threads), "--sector", "auto", "--no-self-test"]
    ran = subprocess.run([*command, "--json", "--out", str(results)], check=True, stdout=subprocess.PIPE)
    said: dict[str, Any] = json.loads(ran.stdout)
    return said


def figures(said: dict[str, Any], results: Path) -> dict[str, Any]:
    """What was scored, dropped and late, and how old results were."""
    lines = (json.loads(line) for line in results.read_text(encoding="utf-8").splitlines())
    rows = [line for line in lines if "age_ms" in line]
    ages = np.array([row["age_ms"] for row in rows])
    infer = np.array([row["stages_ms"]["infer"] for row in rows])
    came, dropped = said["frames"], sum(said["dropped"].values())
    return {
        "seconds": said["seconds"],
        "frames_came": came,
        "scored": said["scored"],
        "scored_a_second": said["throughput_fps"],
        "late": said["late"],
        "dropped": dropped,
        "late_or_dropped": (said["late"] + dropped) / came,
        "infer_p50_ms": float(np.median(infer)),
        "infer_p95_ms": float(np.percentile(infer, 95)),
        "age_p50_ms": float(np.median(ages)),
        "age_p99_ms": float(np.percentile(ages, 99)),
        "age_max_ms": float(ages.max()),
        "tokens": {str(n): sum(row["tokens"] == n for row in rows) for n in {row["tokens"] for row in rows}},
    }


def about(arguments: argparse.Namespace, said: dict[str, Any]) -> dict[str, Any]:
    """What the figures depend on."""
    known = conditions(arguments.threads, 0)
    del known["rounds"], known["frames"]
    cine = f"{arguments.cine.name}, as a screen of {WIDTH}x{HEIGHT} shows it, {FPS} a second, MPEG-4"
    return {**known, "merge": said["provenance"]["merge"], "video": cine, "deadline_ms": DEADLINE_MS}


def markdown(content: dict[str, Any]) -> str:
    """The page."""
    lines = ["# Thirty frames a second", ""]
    for part in ("conditions", "figures"):
        lines += [f"- {key}: {_plain(value)}" for key, value in content[part].items()] + [""]
    return "\n".join(lines).rstrip()


def _plain(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


if __name__ == "__main__":
    main()
