"""What `test_silence.py` listens to: everything that the product does, each in a process and namespaces of its own.

    python tests/silence_runs.py FOLDER          # all of them, a report FOLDER/NAME.json each
    python tests/silence_runs.py FOLDER NAME     # one of them, in this process: no namespace, no report

An uploader is a thread of the process that holds the engine, so each of them stays on for a while after its work.
ONNX Runtime asks for its maker's host about nine seconds after it is loaded.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np

ROOT = Path(__file__).resolve().parents[1]
STAYS_S = 35.0
AT_ONCE = 6
NOT_INSTALLED = 77
_LABELS = ("normal", "ventriculomegaly")


def _sdk(folder: Path, backend: str) -> int:
    """Import, load, score and stream, as a maker's own application does."""
    import vmeg_edge

    bundle = Path(vmeg_edge.__file__).with_name("demo.vmeg")
    with vmeg_edge.load(bundle, backend=backend) as scorer:
        scorer.score(np.zeros((224, 224), np.uint8))
        scored = sum(1 for _ in vmeg_edge.stream(folder / "pictures", scorer))
    return 0 if scored else 1


def _tensorrt(_: Path) -> int:
    """Build an engine: what can be done without a GPU."""
    import vmeg_edge
    from vmeg_edge.backends import availability
    from vmeg_edge.backends.tensorrt_engine import build_engine, engine_library, is_rtx

    if not availability("tensorrt").usable or not is_rtx(engine_library()):
        return NOT_INSTALLED
    model = Path(vmeg_edge.__file__).with_name("demo.vmeg") / "model.onnx"
    return 0 if build_engine(engine_library(), model.read_bytes(), capabilities=("8.9",)) else 1


def _command(*words: object) -> int:
    from vmeg_edge.cli import run

    return run([str(word) for word in words])


def _tiny_checkpoint(folder: Path) -> Path:
    """A ViT of two blocks."""
    import torch

    sys.path.insert(0, str(ROOT / "tests"))
    from checkpoints import make_classifier_state_dict

    path = folder / "tiny.pth"
    torch.save({"model": make_classifier_state_dict(dim=64, depth=2, image_size=64)}, path)
    return path


RUNS: dict[str, Callable[[Path], int]] = {
    "onnxruntime": lambda folder: _sdk(folder, "onnxruntime"),
    "openvino": lambda folder: _sdk(folder, "openvino"),
    "tensorrt": _tensorrt,
    "convert": lambda folder: _command(
        *("convert", _tiny_checkpoint(folder), "--out", folder / "tiny.vmeg", "--precision", "int8"),
        *("--target", "onnxruntime", "--target", "openvino", "--calibration", folder / "pictures", "--no-plane-gate"),
    ),
    "finetune": lambda folder: _command(
        *("finetune", folder / "labels.csv", "--encoder", _tiny_checkpoint(folder), "--epochs", 1, "--batch", 8),
        *("--out", folder / "tuned.pt", "--curves", folder / "curves.png"),
    ),
    "evaluate": lambda folder: _command(
        *("evaluate", folder / "labels.csv", "--resamples", 20, "--plot", folder / "evaluation.png"),
    ),
    "bench": lambda folder: _command(
        *("bench", "--frames", folder / "pictures", "--iterations", 4, "--rounds", 1, "--threads", 1),
        *("--json", folder / "bench.json"),
    ),
    "stream": lambda folder: _command(
        *("stream", f"replay:{folder / 'cine.avi'}", "--isolate", "--serve", "127.0.0.1:8080"),
        *("--out", folder / "stream.jsonl", "--record", folder / "recorded"),
    ),
    "score": lambda folder: _command(
        *("score", folder / "cine.avi", "--out", folder / "score.jsonl", "--overlay", folder / "overlay.mp4"),
    ),
    "demo": lambda folder: _command("demo", "--frames", 4, "--out", folder / "demo"),
    "verify": lambda _: _command("verify"),
    "info": lambda _: _command("info"),
}


def _make_inputs(folder: Path) -> None:
    """Forty small pictures with a label each, and the first ten as a cine."""
    pictures = folder / "pictures"
    pictures.mkdir(parents=True)
    drawn = np.random.default_rng(16)
    lines = ["path,label,patient"]
    cine = cv2.VideoWriter(str(folder / "cine.avi"), cv2.VideoWriter_fourcc(*"MJPG"), 20.0, (64, 64))
    for place in range(40):
        picture = drawn.integers(0, 90, (64, 64, 3), dtype=np.uint8)
        picture[8:24, 8:24] += 140 * np.uint8(place % 2)
        cv2.imwrite(str(pictures / f"{place:02}.png"), picture)
        lines.append(f"pictures/{place:02}.png,{_LABELS[place % 2]},p{place}")
        if place < 10:
            cine.write(picture)
    cine.release()
    (folder / "labels.csv").write_text("\n".join(lines) + "\n")


def _listen_to(folder: Path, name: str) -> None:
    own = folder / name  # what a run writes is found in a folder of its own, beside the inputs
    _make_inputs(own)
    probe = [sys.executable, str(ROOT / "benchmarks" / "silence.py"), "--allow", str(own), "--"]
    command = [*probe, sys.executable, str(Path(__file__).resolve()), str(own), name]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    (folder / f"{name}.json").write_text(done.stdout)


def main(folder: Path, name: str | None = None) -> int:
    """Run all of them beside one another, or one."""
    if name is not None:
        code = RUNS[name](folder)
        sys.stdout.flush()
        time.sleep(0 if code == NOT_INSTALLED else STAYS_S)
        return code
    os.nice(10)
    with ThreadPoolExecutor(AT_ONCE) as pool:
        list(pool.map(lambda run: _listen_to(folder, run), RUNS))
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]).resolve(), *sys.argv[2:]))
