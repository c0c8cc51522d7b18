"""Train the embedded demo model on phantoms: one seeded command, under thirty minutes on two cores.

A ViT of width 192 with 4 blocks learns at 112 pixels first and at 224 after that (progressive resizing, so that
most images are cheap). Three further losses shape its features: the patch tokens predict how much of each patch is
ventricle; the direction in which the ventricles stand out is made to lead their variance, so that Eigen-CAM, which
shows the leading direction, shows ventricles; and a third output of the head, cut off afterwards, predicts the
atrial width.
"""

from __future__ import annotations

import math
import multiprocessing
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional

from vmeg_edge.manifest import Input
from vmeg_edge.outputs import PendingFile
from vmeg_edge.phantom import phantom
from vmeg_edge.preprocess import Preprocessor

from .architectures.vit import ViT, ViTConfig
from .architectures.vit_state import interpolate_positions

MEAN = (0.25, 0.25, 0.25)
STD = (0.25, 0.25, 0.25)
INPUT = Input(width=224, height=224, resize="bilinear", mean=MEAN, std=STD)
CONFIG = ViTConfig(image_size=224, dim=192, depth=4, heads=3, classes=2, pool="mean")
LABELS = ("normal", "ventriculomegaly")

TRAINING_SEED = 7
TEST_SEED = 1007

_WIDTH_CENTRE_MM, _WIDTH_SCALE_MM = 9.0, 3.0


@dataclass(frozen=True)
class Phase:
    """A stretch of training at one image size: how many images it sees, and its highest learning rate."""

    image_size: int
    images: int
    learning_rate: float


@dataclass(frozen=True)
class Recipe:
    """Everything that decides what the training run learns."""

    phantoms: int = 12_000
    phases: tuple[Phase, ...] = (Phase(112, 32_000, 1.5e-3), Phase(224, 26_000, 6e-4))
    batch: int = 64
    seed: int = TRAINING_SEED
    weight_decay: float = 0.05
    mask_weight: float = 3.0
    saliency_weight: float = 1.0
    saliency_share: float = 0.4


@dataclass(frozen=True, eq=False)
class PhantomSet:
    """``images`` uint8 ``[n, 224, 224]``; ``coverage`` float32 ``[n, 14, 14]``; ``widths_mm`` float32 ``[n]``."""

    images: npt.NDArray[np.uint8]
    coverage: npt.NDArray[np.float32]
    widths_mm: npt.NDArray[np.float32]


Progress = Callable[[str, int, int, str], None]


def render_set(seed: int, count: int, progress: Progress, *, workers: int) -> PhantomSet:
    """Render ``count`` phantoms through the runtime's own preprocessing, in ``workers`` processes."""
    grid = CONFIG.grid
    images = np.empty((count, INPUT.height, INPUT.width), dtype=np.uint8)
    coverage = np.empty((count, grid, grid), dtype=np.float32)
    widths = np.empty(count, dtype=np.float32)
    with multiprocessing.get_context("spawn").Pool(workers) as pool:
        rendered = pool.imap(partial(_example, seed), range(count), chunksize=32)
        for index, (image, share, width_mm) in enumerate(rendered):
            images[index], coverage[index], widths[index] = image, share, width_mm
            progress("phantoms", index + 1, count, "")
    return PhantomSet(images, coverage, widths)


def _example(seed: int, index: int) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.float32], float]:
    """(image, share of each patch that is ventricle, atrial width) of one phantom."""
    cv2.setNumThreads(1)
    made = phantom(seed, index)
    preprocess = Preprocessor(INPUT)
    image = preprocess(made.frame)[0, :, :, 0].copy()
    region = preprocess.region_of(made.frame)
    inside = made.ventricles[region.y : region.y + region.height, region.x : region.x + region.width]
    share = cv2.resize(inside.astype(np.float32), (CONFIG.grid, CONFIG.grid), interpolation=cv2.INTER_AREA)
    return image, np.asarray(share, dtype=np.float32), made.atrial_width_mm


def train(recipe: Recipe, data: PhantomSet, progress: Progress) -> ViT:
    """Train on ``data`` and return the classifier, whose two logits are normal and dilated."""
    torch.manual_seed(recipe.seed)
    rng = np.random.default_rng(recipe.seed)
    mask_head = nn.Linear(CONFIG.dim, 1)
    model = _fresh(recipe.phases[0].image_size)
    for phase in recipe.phases:
        model = _at_size(phase.image_size, model)
        _run_phase(phase, recipe, model, mask_head, data, rng, progress)
    return _without_width_output(model)


def _fresh(image_size: int) -> ViT:
    """An untrained model with three outputs: two logits and the atrial width."""
    model = ViT(_with_size(image_size, classes=3))
    with torch.no_grad():
        model.pos_embed.copy_(_sinusoids(model.config))
    return model


def _at_size(image_size: int, previous: ViT) -> ViT:
    """A model for this image size, with the weights learnt so far and its positions interpolated."""
    model = ViT(_with_size(image_size, classes=3))
    state = previous.state_dict()
    state["pos_embed"] = interpolate_positions(state["pos_embed"], model.config.grid)
    model.load_state_dict(state)
    return model


def _with_size(image_size: int, classes: int) -> ViTConfig:
    return ViTConfig(
        image_size=image_size,
        dim=CONFIG.dim,
        depth=CONFIG.depth,
        heads=CONFIG.heads,
        classes=classes,
        pool=CONFIG.pool,
    )


def _run_phase(
    phase: Phase,
    recipe: Recipe,
    model: ViT,
    mask_head: nn.Linear,
    data: PhantomSet,
    rng: np.random.Generator,
    progress: Progress,
) -> None:
    weights = [*model.parameters(), *mask_head.parameters()]
    optimizer = torch.optim.AdamW(weights, weight_decay=recipe.weight_decay, betas=(0.9, 0.99))
    steps = phase.images // recipe.batch
    model.train()
    running = math.nan
    for step, (pixels, coverage, widths) in enumerate(_batches(phase, recipe.batch, steps, data, rng)):
        for group in optimizer.param_groups:
            group["lr"] = _learning_rate(phase.learning_rate, step, steps)
        outputs, activations = model(pixels)
        dilated = (widths >= 10.0).long()
        loss = (
            functional.cross_entropy(outputs[:, :2], dilated, label_smoothing=0.02)
            + recipe.mask_weight * functional.binary_cross_entropy_with_logits(mask_head(activations)[..., 0], coverage)
            + functional.smooth_l1_loss(outputs[:, 2], (widths - _WIDTH_CENTRE_MM) / _WIDTH_SCALE_MM)
            + recipe.saliency_weight * _saliency_loss(activations, coverage, recipe.saliency_share)
        )
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(weights, 1.0)
        optimizer.step()
        right = float((outputs[:, :2].argmax(1) == dilated).float().mean())
        running = right if math.isnan(running) else 0.95 * running + 0.05 * right
        progress(f"{phase.image_size} px", step + 1, steps, f"training accuracy {running:.3f}")
    model.eval()


def _saliency_loss(activations: Tensor, coverage: Tensor, share: float) -> Tensor:
    """How far the tokens ``[B, n, C]`` are from telling ventricle ``[B, n]`` along their leading direction.

    The direction is that of the tokens' covariance with the coverage. Its projections should look like the coverage,
    and should hold at least ``share`` of the tokens' variance.
    """
    centred = activations - activations.mean(dim=1, keepdim=True)
    wanted = coverage - coverage.mean(dim=1, keepdim=True)
    direction = functional.normalize(torch.einsum("bnc,bn->bc", centred, wanted), dim=1)
    projection = torch.einsum("bnc,bc->bn", centred, direction)
    likeness = functional.cosine_similarity(projection, wanted, dim=1)
    held = projection.square().sum(dim=1) / centred.square().sum(dim=(1, 2))
    return (1 - likeness).mean() + 2 * functional.relu(share - held).mean()


def _learning_rate(highest: float, step: int, steps: int) -> float:
    """Linear warm-up over 60 steps, then a half cosine down to a twentieth."""
    cosine = 0.5 * (1 + math.cos(math.pi * step / steps))
    return highest * min(1.0, (step + 1) / 60) * (0.05 + 0.95 * cosine)


def _batches(
    phase: Phase, batch: int, steps: int, data: PhantomSet, rng: np.random.Generator
) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """(normalised float32 ``[B, 3, S, S]``, coverage ``[B, h*w]``, widths ``[B]``): flipped, gain and offset varied."""
    order = np.array([], dtype=np.int64)
    mean, std = MEAN[0], STD[0]
    for _ in range(steps):
        if len(order) < batch:
            order = rng.permutation(len(data.widths_mm))
        chosen, order = order[:batch], order[batch:]
        pixels = torch.from_numpy(data.images[chosen]).float()[:, None]
        coverage = torch.from_numpy(data.coverage[chosen])[:, None]
        flipped = torch.from_numpy(rng.random(batch) < 0.5)
        pixels[flipped] = pixels[flipped].flip(3)
        coverage[flipped] = coverage[flipped].flip(3)
        gain = torch.from_numpy(rng.uniform(0.8, 1.2, (batch, 1, 1, 1))).float()
        offset = torch.from_numpy(rng.uniform(-10, 10, (batch, 1, 1, 1))).float()
        pixels = (pixels * gain + offset).clamp(0, 255)
        shrink = CONFIG.image_size // phase.image_size
        if shrink > 1:
            pixels = functional.avg_pool2d(pixels, shrink)
            coverage = functional.avg_pool2d(coverage, shrink)
        normalised = ((pixels / 255 - mean) / std).expand(-1, 3, -1, -1)
        yield normalised, coverage.flatten(1), torch.from_numpy(data.widths_mm[chosen])


def _sinusoids(config: ViTConfig) -> Tensor:
    """Fixed two-dimensional sine-cosine positions as a start (Vaswani et al. 2017; MAE's choice), ``[1, 1+h*w, C]``."""
    quarter = config.dim // 4
    places = np.arange(config.grid) * (CONFIG.grid / config.grid)
    angles = np.outer(places, 1 / 10_000 ** (np.arange(quarter) / quarter))
    waves = np.concatenate([np.sin(angles), np.cos(angles)], axis=1)
    rows, columns = np.repeat(waves, config.grid, axis=0), np.tile(waves, (config.grid, 1))
    patches = np.concatenate([rows, columns], axis=1)
    return torch.tensor(np.concatenate([np.zeros((1, config.dim)), patches]), dtype=torch.float32)[None]


def _without_width_output(model: ViT) -> ViT:
    """The classifier alone: the head's third row, which predicted the atrial width, is cut off."""
    classifier = ViT(_with_size(model.config.image_size, classes=2))
    state = model.state_dict()
    state["head.weight"], state["head.bias"] = state["head.weight"][:2], state["head.bias"][:2]
    classifier.load_state_dict(state)
    return classifier.eval()


def save_checkpoint(model: ViT, path: Path) -> None:
    """Write ``{"model": state dict}``, the layout of MAE's fine-tuned checkpoints. Raises `OutputError`."""
    with PendingFile(path) as temporary:
        torch.save({"model": model.state_dict()}, temporary)
