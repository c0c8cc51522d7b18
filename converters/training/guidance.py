"""Losses for frames whose finding is known by place and width: they shape features, and nothing of them is kept."""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from vmeg_edge.errors import UsageError

from ..architectures.network import Network
from .recipe import Guidance

_WIDTH_CENTRE_MM, _WIDTH_SCALE_MM = 9.0, 3.0


class Guide(nn.Module):
    """Two linear readers beside a network: of the finding's share of each position, and of its width."""

    def __init__(self, network: Network, weights: Guidance) -> None:
        """Hold readers of the network's widths; `attach` before the first loss."""
        super().__init__()
        self.weights = weights
        self.mask = nn.Linear(network.channels, 1)
        self.width = nn.Linear(cast("nn.Linear", network.get_submodule(network.head_name)).in_features, 1)
        self._read: Tensor | None = None

    def attach(self, network: Network) -> None:
        """Read along whenever ``network`` runs."""

        def read(_: nn.Module, given: tuple[Any, ...]) -> None:
            self._read = given[0]

        network.get_submodule(network.head_name).register_forward_pre_hook(read)

    def loss(self, activations: Tensor, grid: tuple[int, int], coverage: Tensor, widths_mm: Tensor) -> Tensor:
        """The losses of the batch that just ran: ``activations`` ``[B, h*w, C]``, ``coverage`` ``[B, g, g]``."""
        if self._read is None:
            raise AssertionError("attach the guide before the network runs")
        wanted = functional.adaptive_avg_pool2d(coverage[:, None], grid).flatten(1)  # [B, h*w]
        activations = activations.float()
        said = self.mask(activations)[..., 0]
        width = self.width(self._read.float())[:, 0]
        weights = self.weights
        return (
            weights.mask_weight * functional.binary_cross_entropy_with_logits(said, wanted)
            + weights.width_weight * functional.smooth_l1_loss(width, (widths_mm - _WIDTH_CENTRE_MM) / _WIDTH_SCALE_MM)
            + weights.saliency_weight * saliency_loss(activations, wanted, weights.saliency_share)
        )


def saliency_loss(activations: Tensor, coverage: Tensor, share: float) -> Tensor:
    """How far the positions ``[B, n, C]`` are from telling the finding ``[B, n]`` along their leading direction.

    The direction is that of the activations' covariance with the coverage. Its projections should look like the
    coverage, and should hold at least ``share`` of the variance.
    """
    centred = activations - activations.mean(dim=1, keepdim=True)
    wanted = coverage - coverage.mean(dim=1, keepdim=True)
    direction = functional.normalize(torch.einsum("bnc,bn->bc", centred, wanted), dim=1)
    projection = torch.einsum("bnc,bc->bn", centred, direction)
    likeness = functional.cosine_similarity(projection, wanted, dim=1)
    held = projection.square().sum(dim=1) / centred.square().sum(dim=(1, 2)).clamp_min(1e-12)
    return (1 - likeness).mean() + 2 * functional.relu(share - held).mean()


def needs_ground_truth(coverage: object, widths_mm: object) -> None:
    """Raise `UsageError` where guidance was asked for and the frames do not bring what it needs."""
    if coverage is None or widths_mm is None:
        raise UsageError("guidance needs frames with coverage and widths, as phantoms have; leave it out for others")
