"""What augmentation does to a frame, by value, and that the finding's place moves with the picture."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d
from vmeg_edge.converters.training.augmentation import NOTHING, Augmentation, augment

from vmeg_edge.errors import UsageError


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.fixture
def frames() -> Tensor:
    return torch.rand(8, 1, 32, 48, generator=seeded(5)) * 255


def test_without_ranges_nothing_changes(frames: Tensor) -> None:
    coverage = torch.rand(8, 2, 2)
    pixels, moved = augment(frames.clone(), coverage, NOTHING, seeded())
    assert torch.equal(pixels, frames)
    assert moved is not None
    assert torch.equal(moved, coverage)


def test_a_flip_is_exact_and_takes_the_coverage_along(frames: Tensor) -> None:
    coverage = torch.rand(8, 2, 3)
    pixels, moved = augment(frames.clone(), coverage, replace(NOTHING, flip=1.0), seeded())
    assert torch.equal(pixels, frames.flip(3))
    assert moved is not None
    assert torch.equal(moved, coverage.flip(2))


def test_half_of_the_frames_are_flipped_by_default() -> None:
    ramp = torch.linspace(0, 255, 16).expand(2000, 1, 4, 16).clone()
    pixels, _ = augment(ramp, None, replace(NOTHING, flip=0.5), seeded())
    flipped = (pixels[:, 0, 0, 0] > pixels[:, 0, 0, -1]).float().mean()
    assert float(flipped) == pytest.approx(0.5, abs=0.04)


def test_a_turn_by_almost_nothing_and_a_crop_of_all_are_the_identity(frames: Tensor) -> None:
    pixels, _ = augment(frames.clone(), None, replace(NOTHING, rotation_deg=1e-6), seeded())
    assert torch.allclose(pixels, frames, atol=0.05)


def test_resampling_is_that_of_torchs_own_grid() -> None:
    """A crop and a flip at once, against `affine_grid` for the same draw."""
    frames = torch.rand(1, 1, 20, 28, generator=seeded(1)) * 255
    ranges = replace(NOTHING, flip=1.0, smallest_crop=0.5)
    draw = seeded(4)
    torch.rand(1, generator=draw)  # the flip
    torch.rand(1, generator=draw)  # the angle, of a range that is empty
    side = torch.rand(1, generator=draw) * 0.5 + 0.5
    x, y = ((torch.rand(1, generator=draw) * 2 - 1) * (1 - side) for _ in range(2))
    places = torch.tensor([[[-float(side), 0.0, float(x)], [0.0, float(side), float(y)]]])
    grid = torch.nn.functional.affine_grid(places, [1, 1, 20, 28], align_corners=False)
    wanted = torch.nn.functional.grid_sample(frames, grid, align_corners=False)
    assert torch.allclose(augment(frames.clone(), None, ranges, seeded(4))[0], wanted, atol=1e-3)


def test_the_coverage_moves_with_the_picture() -> None:
    """A bright blob's own patch shares, taken after the move, are what the moved coverage says."""
    picture = torch.zeros(24, 1, 128, 128)
    picture[:, :, 20:60, 40:90] = 255
    coverage = adaptive_avg_pool2d(picture / 255, 8)[:, 0]
    ranges = Augmentation(flip=0.5, rotation_deg=15, smallest_crop=0.8, gain=0, offset=0, gamma=0, speckle=0)
    pixels, moved = augment(picture, coverage, ranges, seeded(2))
    assert moved is not None
    shares = adaptive_avg_pool2d(pixels / 255, 8)[:, 0]
    assert not torch.allclose(centres(shares), centres(coverage), atol=0.5)
    assert torch.allclose(centres(shares), centres(moved), atol=0.15)
    assert float(torch.corrcoef(torch.stack([moved.flatten(), shares.flatten()]))[0, 1]) > 0.95


def centres(shares: Tensor) -> Tensor:
    """The centre of mass (row, column) of each ``[B, g, g]``, in patches."""
    places = torch.arange(shares.shape[1]) + 0.5
    whole = shares.sum(dim=(1, 2))
    return torch.stack([(shares.sum(2) * places).sum(1) / whole, (shares.sum(1) * places).sum(1) / whole], dim=1)


def test_speckle_keeps_the_mean_and_grows_with_the_level() -> None:
    grey = torch.cat([torch.full((64, 1, 64, 64), 60.0), torch.full((64, 1, 64, 64), 120.0)])
    pixels, _ = augment(grey, None, replace(NOTHING, speckle=0.2), seeded())
    dark, bright = pixels[:64], pixels[64:]
    assert float(dark.mean()) == pytest.approx(60, rel=0.01)
    assert float(bright.mean()) == pytest.approx(120, rel=0.01)
    assert float(bright.std() / dark.std()) == pytest.approx(2, rel=0.15)


def test_gain_and_offset_stay_in_their_ranges() -> None:
    grey = torch.full((500, 1, 2, 2), 100.0)
    gained, _ = augment(grey.clone(), None, replace(NOTHING, gain=0.25), seeded())
    assert 80 <= float(gained.min()) < 83
    assert 122 < float(gained.max()) <= 125
    shifted, _ = augment(grey.clone(), None, replace(NOTHING, offset=20.0), seeded())
    assert 80 <= float(shifted.min()) < 82
    assert 118 < float(shifted.max()) <= 120


def test_gamma_keeps_black_and_white() -> None:
    ends = torch.tensor([0.0, 128.0, 255.0]).expand(50, 1, 1, 3).clone()
    pixels, _ = augment(ends, None, replace(NOTHING, gamma=0.5), seeded())
    assert torch.equal(pixels[..., 0], torch.zeros(50, 1, 1))
    assert torch.allclose(pixels[..., 2], torch.full((50, 1, 1), 255.0))
    assert float(pixels[..., 1].std()) > 5


def test_levels_stay_within_a_byte_and_the_same_generator_gives_the_same(frames: Tensor) -> None:
    loud = Augmentation(rotation_deg=20, smallest_crop=0.7, gain=1.0, offset=80, gamma=1.0, speckle=0.5)
    first, again, other = (augment(frames.clone(), None, loud, seeded(seed))[0] for seed in (1, 1, 2))
    assert float(first.min()) >= 0
    assert float(first.max()) <= 255
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


@pytest.mark.parametrize(
    "wrong", [{"flip": 2.0}, {"smallest_crop": 0.0}, {"rotation_deg": 270.0}, {"speckle": -0.1}, {"gain": -1.0}]
)
def test_a_range_that_means_nothing_is_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(UsageError, match="augmentation: "):
        Augmentation(**wrong)
