"""What is converted: a checkpoint, or a bundle whose float32 model is taken again; each with its float32 reference."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass, replace
from os import PathLike
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
import torch

from vmeg_edge.backends import open_backend, place
from vmeg_edge.bundle import GOLDEN, open_bundle, sha256_of
from vmeg_edge.errors import UsageError
from vmeg_edge.gate import GateArrays
from vmeg_edge.golden import Golden, parse_golden
from vmeg_edge.loading import direction_of, plane_gate_of
from vmeg_edge.manifest import Artefact, DecisionRule, Explanation, Input, Manifest, ResizeMethod
from vmeg_edge.manifest import Checkpoint as CheckpointEntry

from . import checkpoint as checkpoints
from .architectures.network import Network
from .architectures.vit import Pool, ViT, ViTConfig
from .onnx_from_checkpoint import Reference, export, reference
from .token_reduction import Schedule, fitting
from .tools import tool_versions

Tensors = npt.NDArray[np.uint8]

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
DEFAULT_LABELS = ("normal", "ventriculomegaly")
DEFAULT_RULE = DecisionRule(temperature=1.0, threshold=0.5)


@dataclass(frozen=True)
class Training:
    """What the trainer knows and the weights do not say: input, labels, and where the probability is cut.

    ``None`` is what the checkpoint's own record says; where it has none, USF-MAE's evaluation transform: nearest,
    ImageNet's mean and deviation, and for two classes normal and ventriculomegaly, the second being positive.
    """

    labels: tuple[str, ...] | None = None
    positive: str | None = None
    resize: ResizeMethod | None = None
    mean: tuple[float, float, float] | None = None
    std: tuple[float, float, float] | None = None
    decision: DecisionRule = DEFAULT_RULE
    trained_on: Literal["phantoms"] | None = None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Weights:
    """How to read the checkpoint: the options of `checkpoint.load`, and Eigen-CAM's layer."""

    arch: str | None = None
    head: Path | None = None
    new_head: int | None = None
    pool: Pool | None = None
    image_size: int | None = None
    heads: int | None = None
    seed: int = 0
    cam_layer: str | None = None


@dataclass(frozen=True, eq=False)
class Merging:
    """A ViT whose tokens can be merged: the float32 reference that merges by a schedule, and its ONNX file."""

    model: ViT
    spec: Input

    @property
    def config(self) -> ViTConfig:
        """The model's shape."""
        return self.model.config

    def reference(self, schedule: Schedule) -> Reference:
        """What the merging model says."""
        return reference(self._by(schedule), mean=self.spec.mean, std=self.spec.std)

    def onnx(self, schedule: Schedule, sector: int = 0) -> bytes:
        """The merging model's ONNX file; with ``sector`` tokens that its patches share, as far as it can merge then."""
        return _exported(self._by(schedule, sector), self.spec)

    def _by(self, schedule: Schedule, sector: int = 0) -> ViT:
        config = replace(self.model.config, sector=sector)
        with torch.device("meta"):
            made = ViT(replace(config, merge=fitting(config, schedule)), cam_layer=self.model.cam_layer)
        made.load_state_dict(self.model.state_dict(), assign=True)
        return made.eval().requires_grad_(False)


@dataclass(frozen=True, eq=False)
class Origin:
    """A float32 model ready to be converted.

    ``manifest`` speaks of the float32 ONNX alone; ``onnx`` is that model's bytes. ``reference`` takes uint8
    ``[n, H, W, 3]`` and gives logits and activations; ``reference_name`` says what it runs on. A bundle brings its
    ``golden`` frames, its heat map's ``direction`` and its plane gate along; a ViT's checkpoint can have its tokens
    merged.
    """

    manifest: Manifest
    onnx: bytes
    reference: Reference
    reference_name: str
    golden: Golden | None = None
    direction: npt.NDArray[np.float32] | None = None
    plane_gate: GateArrays | None = None
    merging: Merging | None = None


def from_checkpoint(source: Path, name: str, weights: Weights, training: Training, golden_origin: str) -> Origin:
    """Read a checkpoint and export it. Raises `CheckpointError` or `UsageError`."""
    read = checkpoints.load(
        source,
        arch=weights.arch,
        head=weights.head,
        new_head=weights.new_head,
        pool=weights.pool,
        image_size=weights.image_size,
        heads=weights.heads,
        seed=weights.seed,
    )
    model = read.model(cam_layer=weights.cam_layer)
    manifest = _manifest(source, name, read, model, training, golden_origin)
    spec = manifest.input
    truth = reference(model, mean=spec.mean, std=spec.std)
    merging = Merging(model, spec) if isinstance(model, ViT) else None
    return Origin(manifest, _exported(model, spec), truth, f"torch {torch.__version__} float32", merging=merging)


def from_bundle(source: str | PathLike[str], name: str) -> Origin:
    """Take a bundle's float32 model for ONNX Runtime again, and its golden frames.

    Raises `BundleError`, or `UsageError` where the bundle holds no float32 model.
    """
    bundle = open_bundle(source)
    held = bundle.manifest.artefacts.get("onnxruntime")
    if held is None or held.precision != "float32":
        raise UsageError(
            f"{bundle.path}: holds no float32 model for ONNX Runtime to start from; give the checkpoint, or a bundle "
            "that was converted with --precision float32"
        )
    if bundle.manifest.merged:
        raise UsageError(
            f"{bundle.path}: its model merges tokens, and what is converted is held against one that merges none; give "
            "the checkpoint, or a bundle that was converted with --reduce-tokens off"
        )
    data = bundle.read(held.files[0])
    backend = open_backend("onnxruntime", bundle.manifest, {held.files[0]: data}, place("onnxruntime"))

    def truth(tensors: Tensors) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
        logits, activations = [], []
        for tensor in tensors:
            scores, seen = backend.infer(tensor[None])
            logits.append(scores.copy())
            activations.append(seen.copy())
        return np.stack(logits), np.stack(activations)

    manifest = bundle.manifest.model_copy(
        update={"name": name, "artefacts": {"onnxruntime": held}, "calibration": None}
    )
    golden = parse_golden(bundle.read(GOLDEN), manifest, str(bundle.path))
    direction = direction_of(bundle)
    gate = plane_gate_of(bundle)
    said = f"ONNX Runtime {backend.report.version} float32, of the bundle {bundle.digest[:12]}"
    return Origin(manifest, data, truth, said, golden, direction, None if gate is None else gate.arrays)


def _exported(model: Network, spec: Input) -> bytes:
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as scratch:
        path = Path(scratch) / "model.onnx"
        export(model, path, mean=spec.mean, std=spec.std)
        return path.read_bytes()


def _manifest(
    source: Path,
    name: str,
    read: checkpoints.Checkpoint,
    model: Network,
    training: Training,
    golden_origin: str,
) -> Manifest:
    config, record = read.config, read.record
    said = None if record is None or read.head != "checkpoint" else record
    labels = training.labels or (said.labels if said is not None else None)
    labels = labels or (DEFAULT_LABELS if config.classes == 2 else None)
    if labels is None:
        raise UsageError(f"{source}: the head has {config.classes} classes; name them with --labels A,B,...")
    if len(labels) != config.classes:
        raise UsageError(f"{source}: the head has {config.classes} classes, and --labels names {len(labels)}")
    positive = training.positive or (said.positive if said is not None and said.positive in labels else labels[1])
    if positive not in labels:
        raise UsageError(f"--positive {positive!r} is not one of the labels {', '.join(labels)}")
    spec = Input(
        width=config.image_size,
        height=config.image_size,
        resize=training.resize or (record.resize if record is not None else "nearest"),
        mean=training.mean or (record.mean if record is not None else IMAGENET_MEAN),
        std=training.std or (record.std if record is not None else IMAGENET_STD),
    )
    return Manifest(
        schema_version=1,
        name=name,
        architecture=config.entry("random" if read.head == "random" else "trained"),
        input=spec,
        labels=labels,
        positive=positive,
        decision=training.decision,
        explanation=Explanation(layer=model.cam_layer, grid=model.grid, channels=model.channels),
        artefacts={"onnxruntime": Artefact(files=("model.onnx",), precision="float32")},
        checkpoint=CheckpointEntry(file=source.name, sha256=sha256_of(source)),
        trained_on=training.trained_on or (said.trained_on if said is not None else None),
        tools=tool_versions(),
        golden_origin=golden_origin,
        notes=(*(said.notes if said is not None else ()), *training.notes),
    )
