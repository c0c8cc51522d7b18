"""Augmentation of ultrasound frames, a whole batch at a time: what a probe and a sonographer's knobs would vary."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from vmeg_edge.errors import UsageError


@dataclass(frozen=True)
class Augmentation:
    """How far each thing varies from frame to frame; the defaults are mild, since a frame must keep its label.

    ``flip`` is the chance of a mirror image; ``rotation_deg`` the largest turn either way; ``smallest_crop`` the
    smallest side of a random crop, as a share of the frame's (1 crops nothing). ``speckle`` is the largest standard
    deviation of multiplicative noise. Grey levels are raised to a power within ``gamma``, times a ``gain``, plus up to
    ``offset`` levels either way; powers and gains are drawn from 1 / (1 + x) to 1 + x.
    """

    flip: float = 0.5
    rotation_deg: float = 10.0
    smallest_crop: float = 0.85
    gain: float = 0.2
    offset: float = 10.0
    gamma: float = 0.2
    speckle: float = 0.1

    def __post_init__(self) -> None:
        """Refuse ranges that mean nothing."""
        if not 0 <= self.flip <= 1 or not 0 < self.smallest_crop <= 1 or not 0 <= self.rotation_deg <= 180:
            raise UsageError("augmentation: flip is 0 to 1, smallest_crop above 0 to 1, rotation_deg 0 to 180")
        if min(self.gain, self.offset, self.gamma, self.speckle) < 0:
            raise UsageError("augmentation: gain, offset, gamma and speckle are 0 or more")


NOTHING = Augmentation(0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 0.0)


def augment(
    pixels: Tensor, coverage: Tensor | None, ranges: Augmentation, generator: torch.Generator
) -> tuple[Tensor, Tensor | None]:
    """Vary float32 ``pixels`` ``[B, C, H, W]`` of 0..255; ``coverage`` ``[B, g, g]`` follows the geometry.

    ``generator`` lies on the device of ``pixels``; the same one gives the same result.
    """
    pixels, coverage = _moved(pixels, coverage, ranges, generator)
    return _shaded(pixels, ranges, generator), coverage


def _moved(
    pixels: Tensor, coverage: Tensor | None, ranges: Augmentation, generator: torch.Generator
) -> tuple[Tensor, Tensor | None]:
    """Flip, turn and crop in one resampling; where only flips are asked for, they are exact."""
    count = len(pixels)
    flipped = _uniform(count, 0, 1, pixels, generator) < ranges.flip
    if ranges.rotation_deg == 0 and ranges.smallest_crop == 1:
        keep = flipped.view(-1, 1, 1, 1)
        pixels = torch.where(keep, pixels.flip(3), pixels)
        return pixels, None if coverage is None else torch.where(keep[:, 0], coverage.flip(2), coverage)
    turn = math.pi / 180 * ranges.rotation_deg
    angle = _uniform(count, -turn, turn, pixels, generator)
    side = _uniform(count, ranges.smallest_crop, 1, pixels, generator)
    x, y = (_uniform(count, -1, 1, pixels, generator) * (1 - side) for _ in range(2))
    mirror = torch.where(flipped, -1.0, 1.0)
    cos, sin = side * torch.cos(angle), side * torch.sin(angle)
    # Rows of the map from where a pixel goes to where it is taken from, in the frame's coordinates of -1 to 1.
    places = torch.stack([torch.stack([cos * mirror, -sin, x], 1), torch.stack([sin * mirror, cos, y], 1)], 1)
    pixels = _resampled(pixels, places)
    return pixels, None if coverage is None else _resampled(coverage[:, None], places)[:, 0]


def _resampled(planes: Tensor, places: Tensor) -> Tensor:
    count, _, height, width = planes.shape
    across, down = (_centres(side, planes.device) for side in (width, height))
    grid = planes.new_empty(count, height, width, 2)
    for axis in range(2):  # by hand: `affine_grid` takes longer than the resampling itself
        by_x, by_y, shift = (places[:, axis, column, None, None] for column in range(3))
        torch.add(by_x * across.view(1, 1, -1), by_y * down.view(1, -1, 1) + shift, out=grid[..., axis])
    return functional.grid_sample(planes, grid, mode="bilinear", padding_mode="zeros", align_corners=False)


def _centres(side: int, device: torch.device) -> Tensor:
    """Pixel centres along a side, in -1..1."""
    return (torch.arange(side, device=device) * 2 + 1) / side - 1


def _shaded(pixels: Tensor, ranges: Augmentation, generator: torch.Generator) -> Tensor:
    """Speckle, gamma, gain and offset, within 0..255."""
    count = len(pixels)
    if ranges.speckle:
        spread = _uniform(count, 0, ranges.speckle, pixels, generator).view(-1, 1, 1, 1)
        noise = torch.randn(pixels.shape, generator=generator, device=pixels.device)
        pixels = pixels * noise.mul_(spread).add_(1)
    if ranges.gamma:
        power = _factor(count, ranges.gamma, pixels, generator)
        pixels = pixels.clamp(0, 255).div_(255).pow_(power).mul_(255)
    if ranges.gain or ranges.offset:
        gain = _factor(count, ranges.gain, pixels, generator)
        offset = _uniform(count, -ranges.offset, ranges.offset, pixels, generator).view(-1, 1, 1, 1)
        pixels = pixels * gain + offset
    return pixels.clamp(0, 255)


def _factor(count: int, most: float, like: Tensor, generator: torch.Generator) -> Tensor:
    """``[B, 1, 1, 1]`` from 1 / (1 + most) to 1 + most, as often above 1 as below."""
    return _uniform(count, -1, 1, like, generator).mul(math.log1p(most)).exp().view(-1, 1, 1, 1)


def _uniform(count: int, low: float, high: float, like: Tensor, generator: torch.Generator) -> Tensor:
    return torch.rand(count, generator=generator, device=like.device) * (high - low) + low
