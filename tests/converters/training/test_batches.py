"""What an epoch draws follows from seed and epoch alone, and a batch is what the runtime would feed the network."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from vmeg_edge.converters.training.batches import batches, drawn, normalised, resized

from training_frames import made_examples
from vmeg_edge.manifest import Input

CPU = torch.device("cpu")


def test_every_frame_is_drawn_once_before_any_comes_again() -> None:
    targets = np.zeros(10, np.int64)
    dealt = np.concatenate([drawn(targets, epoch, 4, "none", 1) for epoch in range(5)])
    assert sorted(dealt[:10]) == sorted(dealt[10:]) == list(range(10))
    assert list(drawn(targets, 1, 10, "weights", 1)) != list(drawn(targets, 2, 10, "weights", 1))


def test_an_epoch_draws_the_same_whatever_came_before() -> None:
    targets = np.arange(10) % 2
    for balance in ("none", "sampling"):
        assert np.array_equal(drawn(targets, 7, 6, balance, 3), drawn(targets, 7, 6, balance, 3))
        assert not np.array_equal(drawn(targets, 7, 6, balance, 3), drawn(targets, 7, 6, balance, 4))


def test_sampling_draws_a_rare_class_as_often() -> None:
    targets = np.array([0] * 95 + [1] * 5)
    share = np.mean(targets[drawn(targets, 0, 4000, "sampling", 0)])
    assert share == pytest.approx(0.5, abs=0.03)


def test_a_batch_is_normalised_pixels_and_their_targets() -> None:
    data = made_examples(6)
    data = replace(data, input=Input(width=32, height=32, resize="bilinear", mean=(0.1, 0.2, 0.3), std=(0.2, 0.4, 0.5)))
    first, second = batches(data, np.array([5, 0, 3]), 2, 32, CPU)
    assert first.targets.tolist() == [data.targets[5], data.targets[0]]
    assert second.pixels.shape == (1, 3, 32, 32)
    wanted = (data.images[5][None].astype(np.float64) / 255 - np.array([[[0.1]], [[0.2]], [[0.3]]])) / np.array(
        [[[0.2]], [[0.4]], [[0.5]]]
    )
    assert np.allclose(first.pixels[0].numpy(), wanted, atol=1e-5)


def test_one_mean_for_all_channels_says_the_same_as_three() -> None:
    levels = torch.rand(2, 1, 8, 8) * 255
    same = normalised(levels, made_examples(2).input)
    assert torch.allclose(same, ((levels / 255 - 0.25) / 0.25).expand(-1, 3, -1, -1), atol=1e-5)


def test_colour_keeps_its_channels() -> None:
    data = made_examples(2)
    colour = np.stack([data.images, data.images // 2, data.images // 4], axis=3)
    (batch,) = batches(replace(data, images=colour), np.arange(2), 2, 32, CPU)
    red, green = ((batch.pixels[:, channel] * 0.25 + 0.25) * 255 for channel in (0, 1))
    assert torch.allclose(red, torch.from_numpy(data.images).float(), atol=1e-3)
    assert torch.allclose(green, torch.from_numpy(data.images // 2).float(), atol=1e-3)


def test_a_smaller_image_is_the_mean_of_what_it_covers() -> None:
    levels = torch.arange(16.0).reshape(1, 1, 4, 4)
    assert resized(levels, 2).flatten().tolist() == [2.5, 4.5, 10.5, 12.5]
    assert resized(levels, 4) is levels
