"""The saliency loss by cases whose answer is known, and what guidance needs."""

from __future__ import annotations

import pytest
import torch
from vmeg_edge.converters.training.guidance import Guide, needs_ground_truth, saliency_loss
from vmeg_edge.converters.training.recipe import Guidance

from training_frames import tiny_vit
from vmeg_edge.errors import UsageError


def test_features_that_tell_the_finding_alone_have_no_saliency_loss() -> None:
    coverage = torch.tensor([[1.0, 0.0, 0.0, 0.0], [0.0, 0.5, 0.5, 0.0]])
    activations = coverage[:, :, None] * torch.tensor([3.0, -4.0]) + 7
    assert float(saliency_loss(activations, coverage, 0.4)) == pytest.approx(0, abs=1e-5)


def test_a_finding_that_holds_little_of_the_variance_costs() -> None:
    coverage = torch.tensor([[1.0, 0.0, 1.0, 0.0]])
    loud = torch.tensor([[10.0, 10.0, -10.0, -10.0]])  # uncorrelated with the coverage
    activations = torch.stack([coverage, loud], dim=2)
    assert float(saliency_loss(activations, coverage, 0.4)) == pytest.approx(2 * (0.4 - 1 / 401), abs=1e-3)


def test_one_position_is_no_reason_for_a_nan() -> None:
    assert bool(torch.isfinite(saliency_loss(torch.ones(2, 1, 4), torch.ones(2, 1), 0.4)))


def test_the_guide_reads_along_and_its_losses_reach_the_network() -> None:
    model = tiny_vit()
    guide = Guide(model, Guidance())
    guide.attach(model)
    _, activations = model(torch.rand(3, 3, 32, 32))
    loss = guide.loss(activations, model.grid, torch.rand(3, 2, 2), torch.tensor([6.0, 9.0, 12.0]))
    loss.backward()
    assert model.blocks[0].norm1.weight.grad is not None
    assert guide.width.weight.grad is not None
    with pytest.raises(AssertionError, match="attach"):
        Guide(model, Guidance()).loss(activations, model.grid, torch.rand(3, 2, 2), torch.ones(3))


def test_frames_without_ground_truth_are_refused() -> None:
    with pytest.raises(UsageError, match="guidance needs frames with coverage and widths"):
        needs_ground_truth(None, None)
