"""A recipe is data: it prints as JSON, refuses what cannot be honoured, and fits the network that it is for."""

from __future__ import annotations

import json
from typing import Any

import pytest
from vmeg_edge.converters.architectures.known import network
from vmeg_edge.converters.architectures.resnet import ResNetConfig
from vmeg_edge.converters.architectures.vgg import VGGConfig
from vmeg_edge.converters.training.demo_recipe import recipe as demo_recipe
from vmeg_edge.converters.training.plan import changed
from vmeg_edge.converters.training.recipe import Optimizer, Recipe, Schedule, Stretch, default_recipe

from training_frames import tiny_vit
from vmeg_edge.errors import UsageError


def test_a_recipe_is_written_down_whole() -> None:
    said = json.loads(demo_recipe(5).to_json())
    assert said["seed"] == 5
    assert said["guidance"]["saliency_share"] == 0.4
    assert said["smaller_first"] == [{"image_size": 112, "epochs": 10, "learning_rate": 1.5e-3}]


def test_stretches_end_at_the_networks_own_size() -> None:
    recipe = demo_recipe()
    assert recipe.stretches(224) == (Stretch(112, 10, 1.5e-3), Stretch(224, 8, 6e-4))


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Optimizer(learning_rate=0), "learning rate"),
        (lambda: Optimizer(layer_decay=1.5), "layer decay"),
        (lambda: Schedule(epochs=0), "1 epoch or more"),
        (lambda: Schedule(batch=1), "a batch of 2"),
        (lambda: Schedule(patience=0), "patience"),
        (lambda: Recipe(drop_path=1.0), "drop path"),
        (lambda: Recipe(balance="luck"), "balance is 'luck'"),
        (lambda: Recipe(precision="int8"), "precision is 'int8'"),
    ],
)
def test_what_cannot_be_honoured_is_refused(make: Any, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        make()


@pytest.mark.parametrize("from_scratch", [False, True])
def test_every_family_can_honour_its_default(from_scratch: bool) -> None:
    for config in (
        ResNetConfig(image_size=32, kind="basic", blocks=(1, 1, 1, 1), width=4),
        VGGConfig(image_size=32, convolutions=(1, 1), widths=(4, 4), hidden=8, pooled=4),
    ):
        recipe = default_recipe(network(config), from_scratch=from_scratch)
        network(config, drop_path=recipe.drop_path)
        assert recipe.optimizer.layer_decay == 1
    recipe = default_recipe(tiny_vit(), from_scratch=from_scratch)
    assert recipe.drop_path == 0.1
    assert recipe.optimizer.layer_decay == (1 if from_scratch else 0.75)


def test_changes_reach_the_part_that_they_are_in() -> None:
    recipe = changed(Recipe(), {"epochs": 3, "weight_decay": 0.1, "drop_path": 0.2, "patience": None}, 9)
    assert (recipe.schedule.epochs, recipe.optimizer.weight_decay, recipe.drop_path, recipe.seed) == (3, 0.1, 0.2, 9)
    assert recipe.schedule.patience == 10


def test_a_batch_alone_changes_the_rate_in_proportion() -> None:
    assert changed(Recipe(), {"batch": 64}, 0).optimizer.learning_rate == pytest.approx(2.5e-4)
    assert changed(Recipe(), {"batch": 64, "learning_rate": 1e-3}, 0).optimizer.learning_rate == 1e-3
