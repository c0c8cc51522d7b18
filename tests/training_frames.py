"""Labelled frames that are learnt in seconds: a bright square where the finding is, over seeded noise."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import torch
from vmeg_edge.converters.architectures.known import network
from vmeg_edge.converters.architectures.network import Network
from vmeg_edge.converters.architectures.vit import ViT, ViTConfig
from vmeg_edge.converters.training.augmentation import NOTHING
from vmeg_edge.converters.training.examples import Examples
from vmeg_edge.converters.training.recipe import Optimizer, Recipe, Schedule
from vmeg_edge.converters.training.scoring import logits_of

from vmeg_edge.manifest import Input

LABELS = ("normal", "finding")
SIZE = 32


def picture(seed: int, target: int, size: int = SIZE) -> np.ndarray:
    """uint8 ``[size, size]``: noise, with a bright square in its upper left where ``target`` is 1."""
    made = np.random.default_rng([11, seed]).integers(0, 90, (size, size), dtype=np.uint8)
    if target:
        made[4:14, 4:14] += 140
    return made


def made_examples(count: int = 48, *, first: int = 0, guided: bool = False, size: int = SIZE) -> Examples:
    """``count`` frames, two a patient; each second patient has the finding."""
    places = range(first, first + count)
    targets = np.array([place // 2 % 2 for place in places], dtype=np.int64)
    images = np.stack([picture(place, int(t), size) for place, t in zip(places, targets, strict=True)])
    grid = size // 16
    coverage = np.zeros((count, grid, grid), np.float32)
    coverage[targets == 1, 0, 0] = 0.39
    return Examples(
        images=images,
        targets=targets,
        groups=tuple(f"patient {place // 2}" for place in places),
        names=tuple(f"{place}.png" for place in places),
        labels=LABELS,
        positive="finding",
        input=Input(width=size, height=size, resize="bilinear", mean=(0.25, 0.25, 0.25), std=(0.25, 0.25, 0.25)),
        coverage=coverage if guided else None,
        widths_mm=(6 + 6 * targets).astype(np.float32) if guided else None,
    )


def tiny_vit(seed: int = 0) -> Network:
    """A ViT of one block that takes these frames."""
    made = network(ViTConfig(image_size=SIZE, dim=64, depth=1, heads=1))
    made.initialise(seed)
    return made


def sure_vit(data: Examples, seed: int = 0) -> ViT:
    """An untrained ViT of two blocks with answers of its own, far apart: merging tokens changes many of them."""
    made = ViT(ViTConfig(image_size=data.input.width, dim=64, depth=2, heads=1)).eval().requires_grad_(False)
    made.initialise(seed)
    for name, value in made.named_parameters():
        if value.ndim > 1 and name not in ("cls_token", "pos_embed"):
            value.mul_(200 if name == "head.weight" else 3)
    made.head.bias.sub_(torch.from_numpy(logits_of(made, data)).mean(0))
    return made


def quick_recipe(epochs: int = 3, **changes: object) -> Recipe:
    """A recipe in float32 whose epochs take a fraction of a second, without augmentation unless ``changes`` say so."""
    plain = {
        "optimizer": Optimizer(learning_rate=2e-3, layer_decay=1.0),
        "schedule": Schedule(epochs=epochs, warmup_epochs=1, batch=8, patience=None),
        "augmentation": NOTHING,
        "precision": "float32",
        "label_smoothing": 0.0,
        "seed": 3,
    }
    return Recipe(**{**plain, **changes})  # type: ignore[arg-type]


def write_table(folder: Path, patients: int = 10, *, split: bool = False, size: int = 40) -> Path:
    """A CSV with two PNGs a patient; with ``split``, the last fifth of each class is the test's."""
    lines = ["path,label,patient" + (",split" if split else "")]
    for place in range(2 * patients):
        patient = place // 2
        target = patient % 2
        cv2.imwrite(str(folder / f"{place}.png"), picture(place, target, size))
        side = "test" if patient >= patients * 0.8 else "train"
        lines.append(f"{place}.png,{LABELS[target]},p{patient}" + (f",{side}" if split else ""))
    table = folder / "labels.csv"
    table.write_text("\n".join(lines) + "\n")
    return table
