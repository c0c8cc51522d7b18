"""AdamW with layer-wise rates, and the rate of each step."""

from __future__ import annotations

import math

import torch
from torch import nn

from ..architectures.network import Network
from .recipe import Optimizer

_WITHOUT_DECAY = ("cls_token", "pos_embed")


def adamw(network: Network, guide: nn.Module | None, how: Optimizer) -> torch.optim.AdamW:
    """One group a stage, with and without weight decay; a group's ``scale`` is its share of the highest rate."""
    groups: dict[tuple[int, bool], list[nn.Parameter]] = {}
    last = network.stages - 1
    for name, parameter in network.named_parameters():
        decays = parameter.ndim > 1 and name not in _WITHOUT_DECAY
        groups.setdefault((network.stage_of(name), decays), []).append(parameter)
    if guide is not None:
        for parameter in guide.parameters():
            groups.setdefault((last, parameter.ndim > 1), []).append(parameter)
    return torch.optim.AdamW(
        [
            {
                "params": parameters,
                "weight_decay": how.weight_decay if decays else 0.0,
                "scale": how.layer_decay ** (last - stage),
            }
            for (stage, decays), parameters in sorted(groups.items(), key=lambda item: item[0])
        ],
        lr=how.learning_rate,
        betas=how.betas,
    )


def set_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """Give every group its share of ``rate``."""
    for group in optimizer.param_groups:
        group["lr"] = rate * group["scale"]


def rate_at(step: int, steps: int, warmup: int, highest: float, last_share: float) -> float:
    """The rate of ``step`` (from 0) of ``steps``: a line up over ``warmup`` steps, then a half cosine down."""
    if step < warmup:
        return highest * (step + 1) / (warmup + 1)
    place = (step - warmup) / max(steps - warmup, 1)
    return highest * (last_share + (1 - last_share) * 0.5 * (1 + math.cos(math.pi * place)))
