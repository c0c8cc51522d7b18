"""A trained ViT under the demo's decision rule, and what it says of frames in float32 torch, heat maps included."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from vmeg_edge.converters import checkpoint as checkpoints
from vmeg_edge.converters.answers import maps_of
from vmeg_edge.converters.architectures.network import Network
from vmeg_edge.converters.architectures.vit import ViTConfig
from vmeg_edge.converters.frames import golden_frames, parity_frames, tensors_of
from vmeg_edge.converters.measure import judged
from vmeg_edge.converters.onnx_from_checkpoint import reference
from vmeg_edge.converters.orientation import fit_direction
from vmeg_edge.converters.token_reduction import Schedule
from vmeg_edge.converters.training.demo_recipe import RULE

import vmeg_edge
from vmeg_edge.bundle import open_bundle, sha256_of
from vmeg_edge.cli.options import DEMO_BUNDLE
from vmeg_edge.kernels import describe
from vmeg_edge.manifest import PHANTOMS_ONLY, RESEARCH_USE_ONLY, Explanation, Input, Manifest
from vmeg_edge.parity import Scores
from vmeg_edge.processors import processors

Images = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Said:
    """Logits float32 ``[n, classes]`` and heat maps float32 ``[n, h, w]``."""

    logits: Floats
    maps: Floats

    def first(self, count: int) -> Said:
        """What was said of the first frames."""
        return Said(self.logits[:count], self.maps[:count])

    def scores(self, manifest: Manifest) -> Scores:
        """Under the manifest's rule."""
        return judged(self.logits, self.maps, manifest)


@dataclass(frozen=True, eq=False)
class Trained:
    """A checkpoint ready to be scored; ``direction`` orients its heat maps as `convert` would."""

    name: str
    sha256: str
    checkpoint: checkpoints.Checkpoint
    manifest: Manifest
    direction: Floats | None

    @property
    def config(self) -> ViTConfig:
        """Its shape."""
        return vit_config(self.checkpoint)

    def network(self, schedule: Schedule = ()) -> Network:
        """The float32 network, its tokens merged by ``schedule``."""
        return replace(self.checkpoint, config=replace(self.config, merge=schedule)).model()

    @property
    def notices(self) -> tuple[str, ...]:
        """What must be said wherever its scores are shown."""
        record = self.checkpoint.record
        simulated = record is not None and record.trained_on == "phantoms"
        return (*((PHANTOMS_ONLY,) if simulated else ()), RESEARCH_USE_ONLY)


def read(path: Path) -> Trained:
    """Read a ViT's checkpoint that says itself how its frames were made."""
    read_ = checkpoints.load(path)
    record, config = read_.record, vit_config(read_)
    if record is None:
        raise SystemExit(f"{path}: does not say how its frames were made; give a checkpoint of vmeg-edge finetune")
    size = config.image_size
    spec = Input(width=size, height=size, resize=record.resize, mean=record.mean, std=record.std)
    network = read_.model()
    explanation = Explanation(layer=network.cam_layer, grid=network.grid, channels=network.channels)
    manifest = open_bundle(DEMO_BUNDLE).manifest.model_copy(
        update={
            "name": path.stem,
            "architecture": config.entry("trained"),
            "input": spec,
            "labels": record.labels,
            "positive": record.positive,
            "decision": RULE,
            "explanation": explanation,
        }
    )
    frames = tensors_of([*golden_frames(None), *parity_frames(None, phantoms=True)], spec)
    direction = fit_direction(list(reference(network, mean=spec.mean, std=spec.std)(frames)[1]))
    return Trained(path.stem, sha256_of(path), read_, manifest, direction)


def vit_config(read_: checkpoints.Checkpoint) -> ViTConfig:
    """The shape of a checkpoint that must be a ViT's."""
    if not isinstance(read_.config, ViTConfig):
        raise SystemExit(f"{read_.source}: is no ViT, and only a ViT has tokens")
    return read_.config


def normalised(images: Images, spec: Input) -> Tensor:
    """uint8 ``[n, H, W]`` or ``[n, H, W, 3]`` as training saw it: float32 ``[n, 3, H, W]``."""
    x = torch.from_numpy(np.ascontiguousarray(images)).float()
    x = x[:, None].expand(-1, 3, -1, -1) if images.ndim == 3 else x.permute(0, 3, 1, 2)
    mean, std = (torch.tensor(values).reshape(1, 3, 1, 1) for values in (spec.mean, spec.std))
    return (x / 255 - mean) / std


def said_of(network: Network, images: Images, trained: Trained, batch: int, title: str = "") -> Said:
    """Score every frame; only logits and maps are kept, since the activations of 10,000 frames are many gigabytes."""
    logits, maps = [], []
    with torch.inference_mode():
        for start in progress(range(0, len(images), batch), title):
            scores, activations = network(normalised(images[start : start + batch], trained.manifest.input))
            logits.append(scores.numpy())
            maps.append(maps_of(activations.numpy(), trained.manifest, trained.direction))
    return Said(np.concatenate(logits), np.concatenate(maps))


def progress(steps: range, title: str) -> Iterator[int]:
    """The steps, with a line to stderr every half minute where there is a title."""
    started = told = time.monotonic()
    for done, step in enumerate(steps):
        yield step
        if title and time.monotonic() - told > 30:
            told = time.monotonic()
            print(f"{title}: {done + 1}/{len(steps)}, {told - started:.0f} s", file=sys.stderr, flush=True)


def set_threads(count: int) -> None:
    """``count`` for torch; OpenCV has one, and so stays out of its way."""
    torch.set_num_threads(count)
    cv2.setNumThreads(1)


def conditions() -> dict[str, Any]:
    """What the figures depend on."""
    return {
        "vmeg_edge": vmeg_edge.__version__,
        "torch": torch.__version__,
        "torch_threads": torch.get_num_threads(),
        "precision": "float32, no autocast",
        "numpy": np.__version__,
        **processors().to_json(),
        "cpu_features": describe()["cpu_features"],
    }
