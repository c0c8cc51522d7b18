"""Makes once, and keeps, what the peers open: checkpoint, bundles, frames, and grad-cam apart from the rest."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
from cases import INT8_BFLOAT16, OURS_BFLOAT16, Work, runnable

REPOSITORY = Path(__file__).resolve().parents[2]
GRAD_CAM = ("grad-cam==1.5.7", "ttach==0.0.3", "tqdm")
FRAMES, QUICK_FRAMES = 16, 4


def prepare(work: Work, calibration: str) -> None:
    """Whatever is missing; minutes the first time."""
    work.path.mkdir(parents=True, exist_ok=True)
    if not work.checkpoint.exists():
        _say("a ViT-B/16 with seeded weights")
        _checkpoint(work.checkpoint)
    extra = [INT8_BFLOAT16] if any(case.name == OURS_BFLOAT16 for case in runnable()) else []
    for precision in ("float32", "int8", *extra):
        if not work.bundle(precision).exists():
            _say(f"the {precision} bundle")
            _bundle(work, precision, calibration)
    if not work.frames.exists():
        _say("phantom frames")
        _frames(work.frames)
    if not work.grad_cam.exists():
        _say("grad-cam, in a folder of its own")
        _grad_cam(work.grad_cam)


def _checkpoint(path: Path) -> None:
    import torch

    sys.path.insert(0, str(REPOSITORY / "tests"))
    try:
        from checkpoints import make_classifier_state_dict
    finally:
        sys.path.pop(0)
    torch.save({"model": make_classifier_state_dict(dim=768, depth=12, image_size=224)}, path)


def _bundle(work: Work, precision: str, calibration: str) -> None:
    command = [sys.executable, "-c", "from vmeg_edge.cli import main; main()", "convert", str(work.checkpoint)]
    command += ["--out", str(work.bundle(precision)), "--precision", precision.partition("-")[0]]
    if precision == INT8_BFLOAT16:
        command += ["--float-precision", "bfloat16", "--target", "openvino"]
    else:
        command += ["--target", "onnxruntime", "--target", "openvino"]
    if precision != "float32":
        command += ["--calibration", calibration]
    if calibration != "phantoms":
        command += ["--frames", calibration]
    subprocess.run(command, check=True, stdout=sys.stderr)


def _frames(path: Path) -> None:
    from vmeg_edge.bench.held import gather

    frames = gather("phantom:").frames[:FRAMES]
    np.save(path, np.stack([frame.pixels for frame in frames]))


def _grad_cam(folder: Path) -> None:
    """Without its requirements: the environment has all that EigenCAM needs, save for what is named here."""
    command = [sys.executable, "-m", "pip", "install", "--no-deps", "--target", str(folder), *GRAD_CAM]
    subprocess.run(command, check=True, stdout=sys.stderr)


def _say(what: str) -> None:
    print(f"making {what}", file=sys.stderr, flush=True)
