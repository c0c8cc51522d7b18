"""The order in which frames are drawn, and a batch of them as the network takes it.

Nothing here holds a state: what epoch ``k`` draws follows from the seed and ``k`` alone, so a run that goes on after a
kill draws what it would have drawn.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional

from vmeg_edge.manifest import Input

from .augmentation import Augmentation, augment
from .examples import Examples
from .recipe import Balance

Places = npt.NDArray[np.intp]


@dataclass(frozen=True, eq=False)
class Batch:
    """``pixels`` normalised float32 ``[B, 3, S, S]``; ``targets`` ``[B]``; what phantoms know beside, or ``None``."""

    pixels: Tensor
    targets: Tensor
    coverage: Tensor | None
    widths_mm: Tensor | None


def drawn(targets: npt.NDArray[np.int64], epoch: int, count: int, balance: Balance, seed: int) -> Places:
    """The places that ``epoch`` draws, ``count`` of them.

    Frames are dealt from one shuffled pass after another; with ``sampling`` each class is as likely, with replacement.
    """
    if balance == "sampling":
        share = 1 / np.bincount(targets)[targets]
        rng = np.random.default_rng([seed, 1, epoch])
        return np.asarray(rng.choice(len(targets), count, p=share / share.sum()), dtype=np.intp)
    first, last = epoch * count, (epoch + 1) * count
    passes = range(first // len(targets), (last - 1) // len(targets) + 1)
    dealt = np.concatenate([np.random.default_rng([seed, 0, number]).permutation(len(targets)) for number in passes])
    start = first - passes[0] * len(targets)
    return dealt[start : start + count].astype(np.intp)


def batches(
    data: Examples,
    order: Places,
    size: int,
    image_size: int,
    device: torch.device,
    *,
    ranges: Augmentation | None = None,
    generator: torch.Generator | None = None,
) -> Iterator[Batch]:
    """``order`` cut into batches of ``size``, on ``device``, at ``image_size``, varied where ``ranges`` are given."""
    for start in range(0, len(order), size):
        chosen = order[start : start + size]
        pixels = torch.from_numpy(data.images[chosen]).to(device).float()
        pixels = pixels[:, None] if pixels.ndim == 3 else pixels.permute(0, 3, 1, 2)
        coverage = None if data.coverage is None else torch.from_numpy(data.coverage[chosen]).to(device)
        if ranges is not None and generator is not None:
            pixels, coverage = augment(pixels, coverage, ranges, generator)
        yield Batch(
            normalised(resized(pixels, image_size), data.input),
            torch.from_numpy(data.targets[chosen]).to(device),
            coverage,
            None if data.widths_mm is None else torch.from_numpy(data.widths_mm[chosen]).to(device),
        )


def resized(pixels: Tensor, side: int) -> Tensor:
    """``[B, C, H, W]`` to ``[B, C, side, side]``, each pixel the mean of those it covers."""
    return pixels if tuple(pixels.shape[2:]) == (side, side) else functional.adaptive_avg_pool2d(pixels, side)


def normalised(pixels: Tensor, spec: Input) -> Tensor:
    """Levels 0..255 of one or three channels to what the network takes, ``[B, 3, S, S]``."""
    scale = [1 / (255 * std) for std in spec.std]
    shift = [-mean / std for mean, std in zip(spec.mean, spec.std, strict=True)]
    if len(set(scale)) == len(set(shift)) == 1:
        return (pixels * scale[0]).add_(shift[0]).expand(-1, 3, -1, -1).contiguous()
    first, factor = (torch.tensor(values, device=pixels.device).view(1, 3, 1, 1) for values in (shift, scale))
    return torch.addcmul(first, pixels, factor)
