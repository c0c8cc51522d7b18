"""What was asked for becomes a run: the table's own parts, an encoder's own input, and no patient on two sides."""

from __future__ import annotations

from pathlib import Path

import pytest
from vmeg_edge.converters.finetune import save_classifier
from vmeg_edge.converters.training import demo_recipe, plan
from vmeg_edge.converters.training.examples import quiet

from training_frames import made_examples, tiny_vit, write_table
from vmeg_edge.errors import CheckpointError, SourceError


def test_a_tables_own_parts_are_taken() -> None:
    data = made_examples(24)
    splits = ("train",) * 12 + ("validation",) * 8 + ("test",) * 4
    train, validation, test = plan.parts("t.csv", data, splits, 0.2, 0)
    assert (train.names, validation.names) == (data.names[:12], data.names[12:20])
    assert test is not None
    assert test.names == data.names[20:]


def test_a_validation_part_is_carved_from_what_is_not_the_tests() -> None:
    data = made_examples(40)
    train, validation, test = plan.parts("t.csv", data, ("train",) * 32 + ("test",) * 8, 0.25, 0)
    assert test is not None
    assert test.names == data.names[32:]
    assert len(validation) == 8
    sides = [set(part.groups) for part in (train, validation, test)]
    assert sum(map(len, sides)) == len(set.union(*sides)) == 20
    assert plan.parts("t.csv", data, ("",) * 40, 0.25, 0)[2] is None


def test_a_table_that_leaves_nothing_to_train_on_is_refused() -> None:
    with pytest.raises(SourceError, match="leaves no frame to train on; mark some lines train"):
        plan.parts("t.csv", made_examples(8), ("validation",) * 4 + ("test",) * 4, 0.2, 0)


def test_an_encoder_brings_the_input_that_it_was_trained_with(tmp_path: Path) -> None:
    """A classifier of ours as encoder: its record says resize, mean and size; what is asked for comes first."""
    save_classifier(tiny_vit(), made_examples(4), tmp_path / "c.pt")
    table = write_table(tmp_path, patients=12)
    made = plan.from_table(table, None, None, plan.Asked(encoder=tmp_path / "c.pt"), 0.2, {}, quiet)
    assert made.train.input == made_examples(4).input
    asked = plan.Asked(encoder=tmp_path / "c.pt", resize="nearest", image_size=48, arch="vit")
    other = plan.from_table(table, None, None, asked, 0.2, {"epochs": 2}, quiet)
    assert (other.train.input.resize, other.network.config.image_size) == ("nearest", 48)
    assert other.recipe.schedule.epochs == 2
    with pytest.raises(CheckpointError, match="resnet50"):
        plan.from_table(table, None, None, plan.Asked(encoder=tmp_path / "c.pt", arch="resnet50"), 0.2, {}, quiet)


def test_the_demos_plan_is_its_recipe_and_small_tries_shorten_the_epoch() -> None:
    made = plan.demo(26, 7, 1.0, quiet)
    assert made.network.config == demo_recipe.CONFIG
    assert (len(made.train), len(made.validation), made.test) == (24, 2, None)
    assert made.recipe.schedule.epoch_frames == 24
    assert made.rule == demo_recipe.RULE
