"""Rates by stage, weight decay by kind, and the rate of every step."""

from __future__ import annotations

import pytest
import torch
from vmeg_edge.converters.architectures.known import network
from vmeg_edge.converters.architectures.resnet import ResNetConfig
from vmeg_edge.converters.training.optimizer import adamw, rate_at, set_rate
from vmeg_edge.converters.training.recipe import Optimizer

from training_frames import tiny_vit


def test_each_stage_has_the_next_ones_rate_times_the_decay_and_norms_do_not_decay() -> None:
    model = tiny_vit()
    optimizer = adamw(model, None, Optimizer(learning_rate=1.0, layer_decay=0.5, weight_decay=0.1))
    set_rate(optimizer, 0.8)
    group_of = {id(parameter): group for group in optimizer.param_groups for parameter in group["params"]}
    said = {
        name: (group_of[id(parameter)]["lr"], group_of[id(parameter)]["weight_decay"])
        for name, parameter in model.named_parameters()
    }
    assert said["head.weight"] == (0.8, 0.1)
    assert said["head.bias"] == (0.8, 0.0)
    assert said["fc_norm.weight"] == (0.8, 0.0)
    assert said["blocks.0.mlp.fc1.weight"] == (0.4, 0.1)
    assert said["blocks.0.norm1.weight"] == (0.4, 0.0)
    assert said["patch_embed.proj.weight"] == (0.2, 0.1)
    assert said["pos_embed"] == said["cls_token"] == (0.2, 0.0)


def test_every_parameter_is_in_one_group() -> None:
    model = network(ResNetConfig(image_size=32, kind="basic", blocks=(1, 1, 1, 1), width=4))
    guide = torch.nn.Linear(3, 1)
    held = [id(p) for group in adamw(model, guide, Optimizer()).param_groups for p in group["params"]]
    assert sorted(held) == sorted(id(p) for p in [*model.parameters(), *guide.parameters()])


def test_the_rate_rises_in_a_line_and_falls_in_a_half_cosine() -> None:
    rates = [rate_at(step, 110, 10, 2.0, 0.1) for step in range(110)]
    assert rates[0] == pytest.approx(2 / 11)
    assert rates[9] == pytest.approx(20 / 11)
    assert rates[10] == 2.0
    assert rates[60] == pytest.approx(2 * (0.1 + 0.9 * 0.5))
    assert rates[-1] == pytest.approx(0.2, abs=0.001)
    assert rates[10:] == sorted(rates[10:], reverse=True)
    assert rate_at(0, 10, 0, 1.0, 0.0) == 1.0
