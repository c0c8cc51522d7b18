"""What one frame could save the next: a whole result that is shown again, and what of a ViT can be kept exactly."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import cv2
import numpy as np
import numpy.typing as npt
import torch
from trained import Floats, Images, Said, Trained, normalised
from vmeg_edge.converters.architectures.network import Network
from vmeg_edge.converters.architectures.vit import CHANNELS, ViTConfig
from vmeg_edge.converters.token_reduction import arithmetic

from vmeg_edge.decide import probabilities
from vmeg_edge.parity import compare

DARK = 8
STEPS = 10


@dataclass(frozen=True)
class Skips:
    """One cine whose frames are not scored while every patch is within ``levels`` of the last scored frame.

    ``max_abs_dp`` is between what is shown and what the frame's own score would be; ``map_cosine_min`` likewise.
    """

    levels: int
    frames: int
    skipped: int
    max_abs_dp: float
    flips: int
    flips_outside_band: int
    map_cosine_min: float


def changes(images: Images, patch: int) -> npt.NDArray[np.uint8]:
    """The largest change of a level in each patch since the frame before, ``[n - 1, rows, columns]``."""
    return np.stack([_by_patch(cv2.absdiff(after, before), patch) for before, after in pairwise(images)])


def dark(images: Images, patch: int) -> npt.NDArray[np.bool_]:
    """The patches ``[rows, columns]`` that no frame lights beyond `DARK`."""
    return _by_patch(images.max(axis=0), patch) <= DARK


def at_border(patches: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """Those that hang together, side by side, with one at the picture's border."""
    _, parts = cv2.connectedComponents(patches.astype(np.uint8), connectivity=4)
    edge = np.unique(np.concatenate([parts[0], parts[-1], parts[:, 0], parts[:, -1]]))
    return patches & np.isin(parts, edge)


def skips(images: Images, said: Said, trained: Trained, levels: int) -> Skips:
    """Walk through the cine; ``said`` is what the network says of each frame."""
    shown, scored = [0], 0
    for place in range(1, len(images)):
        if int(cv2.absdiff(images[place], images[scored]).max()) > levels:
            scored = place
        shown.append(scored)
    manifest = trained.manifest
    parity = compare(said.scores(manifest), Said(said.logits[shown], said.maps[shown]).scores(manifest))
    return Skips(
        levels=levels,
        frames=len(images),
        skipped=len(images) - len(set(shown)),
        max_abs_dp=parity.max_abs_dp,
        flips=parity.flips,
        flips_outside_band=parity.flips_outside_band,
        map_cosine_min=parity.heatmap_cosine_min,
    )


def pushed(network: Network, images: Images, trained: Trained, levels: int) -> Floats:
    """``[n]``: how far ``levels`` a pixel can move the probability, as far as gradient ascent finds.

    Projected ascent on the sign of the gradient (Madry et al., ICLR 2018, arXiv 1706.06083), up and down, all three
    channels by the same: the picture stays grey where it is. A lower bound of the worst, so of any constant too.
    """
    spec, place = trained.manifest.input, trained.manifest.positive_index
    levels_a_unit = 255 * torch.tensor(spec.std).reshape(1, 3, 1, 1)
    first = normalised(images, spec)
    lowest, highest = (normalised(np.full_like(images[:1], level), spec) for level in (0, 255))
    with torch.inference_mode():
        start = probabilities(network(first)[0].numpy(), trained.manifest.decision.temperature)[:, place]
    worst = np.zeros(len(images), np.float64)
    step = max(1, round(levels / 4))
    for way in (1.0, -1.0):
        shift = torch.zeros(len(images), 1, *first.shape[2:])
        for _ in range(STEPS):
            shift.requires_grad_(True)
            logits = network((first + shift / levels_a_unit).clamp(lowest, highest))[0]
            margin = 2 * logits[:, place] - logits.sum(dim=1)  # of the positive class over the others
            (gradient,) = torch.autograd.grad(margin.sum(), shift)
            shift = (shift.detach() + way * step * gradient.sign()).clamp(-levels, levels)
        with torch.inference_mode():
            logits = network((first + shift / levels_a_unit).clamp(lowest, highest))[0]
        moved = probabilities(logits.numpy(), trained.manifest.decision.temperature)[:, place]
        worst = np.maximum(worst, np.abs(moved - start))
    return worst.astype(np.float32)


def exact_share(config: ViTConfig, unchanged: Sequence[float]) -> float:
    """The share of a network's multiply-adds that unchanged patches let it keep, the mean over frames.

    ``unchanged`` is each frame's share of patches with the very bits of the frame before. A patch's embedding and its
    queries, keys and values in the first block depend on it alone, and the product of a query and a key on two; from
    the first softmax on, everything depends on everything. The class token's own never change.
    """
    patches, dim = config.grid**2, config.dim
    qkv = 3 * dim**2
    kept = 0.0
    for share in unchanged:
        same = share * patches
        kept += same * (CHANNELS * config.patch**2 * dim + qkv) + qkv + (1 + same) ** 2 * dim
    return kept / len(unchanged) / arithmetic(config, ())


def _by_patch(picture: Images, patch: int) -> Images:
    """The largest value in each patch, over channels too."""
    rows, columns = picture.shape[0] // patch, picture.shape[1] // patch
    found: Images = picture.reshape(rows, patch, columns, patch, -1).max(axis=(1, 3, 4))
    return found
