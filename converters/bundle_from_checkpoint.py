"""A checkpoint file to a bundle folder: exported, oriented, held against the torch reference, written whole."""

from __future__ import annotations

import io
import json
import platform
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from os import PathLike
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch

from vmeg_edge._version import __version__
from vmeg_edge.backends import open_backend
from vmeg_edge.bench.statistics import percentile
from vmeg_edge.bundle import DIRECTION, GOLDEN, PARITY, sha256_of, write_bundle
from vmeg_edge.decide import judge, probabilities
from vmeg_edge.errors import ParityError, UsageError
from vmeg_edge.explain import heat_map
from vmeg_edge.frames import Region
from vmeg_edge.golden import Golden
from vmeg_edge.manifest import (
    Architecture,
    Artefact,
    DecisionRule,
    Explanation,
    Input,
    Manifest,
    Precision,
    ResizeMethod,
)
from vmeg_edge.manifest import Checkpoint as CheckpointEntry
from vmeg_edge.parity import Parity, Scores, compare, gate

from . import checkpoint as checkpoints
from .architectures.vit import Pool
from .frames import cropped, golden_frames, parity_frames, tensors_of
from .onnx_from_checkpoint import export, reference
from .orientation import fit_direction

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
DEFAULT_LABELS = ("normal", "ventriculomegaly")
DEFAULT_RULE = DecisionRule(temperature=1.0, threshold=0.5)


Report = Callable[[str], None]


@dataclass(frozen=True)
class Training:
    """What the trainer knows and the weights do not say: input, labels, and where the probability is cut.

    The defaults are USF-MAE's evaluation transform: nearest, 224 by 224, ImageNet's mean and deviation.
    """

    labels: tuple[str, ...] | None = None
    positive: str | None = None
    resize: ResizeMethod = "nearest"
    mean: tuple[float, float, float] = IMAGENET_MEAN
    std: tuple[float, float, float] = IMAGENET_STD
    decision: DecisionRule = DEFAULT_RULE
    trained_on: Literal["phantoms"] | None = None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Weights:
    """How to read the checkpoint: the options of `checkpoint.load`, and Eigen-CAM's layer."""

    head: Path | None = None
    new_head: int | None = None
    pool: Pool | None = None
    image_size: int | None = None
    heads: int | None = None
    seed: int = 0
    cam_layer: str | None = None


@dataclass(frozen=True)
class Conversion:
    """What a conversion made: the bundle's digest and manifest, and one row of figures an artefact."""

    path: Path
    digest: str
    manifest: Manifest
    rows: tuple[Row, ...]


@dataclass(frozen=True)
class Row:
    """One artefact's line in the table: its size, its speed on this machine, and its parity."""

    target: str
    precision: Precision
    size_mb: float
    p50_ms: float
    parity: Parity

    def to_json(self) -> dict[str, Any]:
        """The row for ``parity.json``."""
        return {
            "target": self.target,
            "precision": self.precision,
            "size_mb": round(self.size_mb, 3),
            "p50_ms": round(self.p50_ms, 3),
            **self.parity.to_json(),
        }


def convert(
    path: str | PathLike[str],
    out: str | PathLike[str],
    *,
    weights: Weights | None = None,
    training: Training | None = None,
    golden: str | PathLike[str] | None = None,
    frames: str | PathLike[str] | None = None,
    replace: bool = False,
    report: Report = lambda _: None,
) -> Conversion:
    """Convert the checkpoint at ``path`` into the bundle ``out``, float32 for ONNX Runtime.

    Parity with the torch reference is measured on phantom frames, and on up to 64 frames spread over ``frames``
    where that source is given. The golden frames in the bundle are phantoms unless ``golden`` names a source.
    ``report`` is told each step in a line.

    Raises `CheckpointError`, `UsageError`, `SourceError`, `OutputError`, or `ParityError` when the gate fails; in
    every case no bundle is written.
    """
    weights, training = weights or Weights(), training or Training()
    source = Path(path)
    report(f"reading {source.name}")
    read = checkpoints.load(
        source,
        head=weights.head,
        new_head=weights.new_head,
        pool=weights.pool,
        image_size=weights.image_size,
        heads=weights.heads,
        seed=weights.seed,
    )
    model = read.model(cam_layer=weights.cam_layer)
    manifest = _manifest(source, Path(out), read, model.cam_layer, training, golden)

    report(f"exporting {read.config.name} at {read.config.image_size} pixels to ONNX")
    with tempfile.TemporaryDirectory() as scratch:
        onnx_path = Path(scratch) / "model.onnx"
        export(model, onnx_path, mean=training.mean, std=training.std)
        files = {"model.onnx": onnx_path.read_bytes()}

    pictures = golden_frames(golden)
    everything = [*pictures, *parity_frames(frames, phantoms=golden is None)]
    report(f"scoring {len(everything)} frames with the torch reference")
    tensors = tensors_of(everything, manifest.input)
    logits, activations = reference(model, mean=training.mean, std=training.std)(tensors)
    direction = fit_direction(list(activations))
    truth = _scores(logits, activations, manifest, direction)

    report("measuring parity on ONNX Runtime")
    row = _measure("onnxruntime", manifest, files, tensors, truth, direction)
    failures = gate(row.parity, row.precision)
    if failures:
        raise ParityError(
            f"{source}: no bundle was written, since float32 on ONNX Runtime fails: {'; '.join(failures)}"
        )

    keep = Golden(
        tuple(cropped(frame) for frame in pictures),
        np.asarray(logits[: len(pictures)], dtype=np.float32),
        np.asarray(truth.heat_maps[: len(pictures)], dtype=np.float32),
    )
    files[GOLDEN] = keep.to_bytes()
    if direction is not None:
        files[DIRECTION] = _npy(direction)
    files[PARITY] = _parity_file(manifest, (row,), len(everything), frames is not None)
    digest = write_bundle(out, manifest, files, replace=replace)
    return Conversion(Path(out), digest, manifest, (row,))


def _manifest(
    source: Path,
    out: Path,
    read: checkpoints.Checkpoint,
    cam_layer: str,
    training: Training,
    golden: str | PathLike[str] | None,
) -> Manifest:
    config = read.config
    labels = training.labels or (DEFAULT_LABELS if config.classes == 2 else None)
    if labels is None:
        raise UsageError(f"{source}: the head has {config.classes} classes; name them with --labels A,B,...")
    if len(labels) != config.classes:
        raise UsageError(f"{source}: the head has {config.classes} classes, and --labels names {len(labels)}")
    positive = training.positive or labels[1]
    if positive not in labels:
        raise UsageError(f"--positive {positive!r} is not one of the labels {', '.join(labels)}")
    size = config.image_size
    return Manifest(
        schema_version=1,
        name=out.name.removesuffix(".vmeg") or "model",
        architecture=Architecture(
            family="vit",
            patch=config.patch,
            dim=config.dim,
            depth=config.depth,
            heads=config.heads,
            pool=config.pool,
            head="random" if read.head == "random" else "trained",
        ),
        input=Input(width=size, height=size, resize=training.resize, mean=training.mean, std=training.std),
        labels=labels,
        positive=positive,
        decision=training.decision,
        explanation=Explanation(layer=cam_layer, grid=(config.grid, config.grid), channels=config.dim),
        artefacts={"onnxruntime": Artefact(files=("model.onnx",), precision="float32")},
        checkpoint=CheckpointEntry(file=source.name, sha256=sha256_of(source)),
        trained_on=training.trained_on,
        tools=_tools(),
        golden_origin="phantoms" if golden is None else "frames given by the user",
        notes=training.notes,
    )


def _measure(
    target: str,
    manifest: Manifest,
    files: dict[str, bytes],
    tensors: npt.NDArray[np.uint8],
    truth: Scores,
    direction: npt.NDArray[np.float32] | None,
) -> Row:
    """Run every tensor through the backend that will serve it, with the runtime's own explanation and decision."""
    backend = open_backend(target, manifest, files)
    logits, activations, times_ms = [], [], []
    try:
        for tensor in tensors:
            started = time.perf_counter()
            scores, seen = backend.infer(tensor[None])
            times_ms.append((time.perf_counter() - started) * 1e3)
            logits.append(scores.copy())
            activations.append(seen.copy())
    finally:
        backend.close()
    candidate = _scores(np.stack(logits), np.stack(activations), manifest, direction)
    artefact = manifest.artefacts[target]
    size_mb = sum(len(files[name]) for name in artefact.files) / 1e6
    return Row(target, artefact.precision, size_mb, percentile(times_ms, 50), compare(truth, candidate))


def _scores(
    logits: npt.NDArray[np.float32],
    activations: npt.NDArray[np.float32],
    manifest: Manifest,
    direction: npt.NDArray[np.float32] | None,
) -> Scores:
    rule, explanation = manifest.decision, manifest.explanation
    positive = probabilities(logits, rule.temperature)[:, manifest.positive_index]
    region = Region(0, 0, manifest.input.width, manifest.input.height)
    maps = [heat_map(frame, explanation.grid, region, direction).values for frame in activations]
    return Scores(positive, tuple(judge(float(p), rule)[0] for p in positive), np.stack(maps), logits)


def _parity_file(manifest: Manifest, rows: tuple[Row, ...], frames: int, given: bool) -> bytes:
    content = {
        "reference": f"torch {torch.__version__} float32",
        "frames": frames,
        "frames_origin": "phantoms and frames given by the user" if given else manifest.golden_origin,
        "machine": platform.machine(),
        "artefacts": [row.to_json() for row in rows],
    }
    return (json.dumps(content, indent=2) + "\n").encode()


def _npy(array: npt.NDArray[np.float32]) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=False)
    return buffer.getvalue()


def _tools() -> dict[str, str]:
    packages = ("torch", "onnx", "onnxscript", "onnxruntime", "numpy")
    return {
        "vmeg-edge": __version__,
        "python": platform.python_version(),
        **{package: version(package) for package in packages},
    }
