"""A state on disk is whole, opens without running code, and belongs to one run."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from vmeg_edge.converters.finetune import finetune
from vmeg_edge.converters.training.run_state import discard, identity_of, load

from training_frames import made_examples, quick_recipe, tiny_vit
from vmeg_edge.errors import CheckpointError, UsageError


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("run") / "c.pt.state"
    finetune(tiny_vit(), made_examples(16), made_examples(8, first=16), quick_recipe(1), state=path)
    return path.read_bytes()


@pytest.fixture
def state(written: bytes, tmp_path: Path) -> Path:
    path = tmp_path / "c.pt.state"
    path.write_bytes(written)
    return path


def test_a_state_holds_no_code(state: Path) -> None:
    content = torch.load(state, weights_only=True)
    assert set(content) == {"vmeg_edge_training", "identity", "history", "network", "optimizer", "guide", "best"}


@pytest.mark.parametrize(
    ("part", "words"),
    [
        ("recipe", "recipe: seed (then 3, now 4)"),
        ("rate", "recipe: optimizer.learning_rate (then 0.002, now 0.003)"),
        ("train", "frames to train on differ"),
        ("validation", "frames for validation differ"),
        ("weights", "starting weights differ"),
    ],
)
def test_a_state_of_another_run_is_refused_and_says_what_differs(state: Path, part: str, words: str) -> None:
    model, train, validation, recipe = tiny_vit(), made_examples(16), made_examples(8, first=16), quick_recipe(1)
    match part:
        case "recipe":
            recipe = replace(recipe, seed=4)
        case "rate":
            recipe = replace(recipe, optimizer=replace(recipe.optimizer, learning_rate=0.003))
        case "train":
            train = train.at(range(12))
        case "validation":
            validation = validation.at(range(4))
        case "weights":
            model = tiny_vit(1)
    with pytest.raises(UsageError) as caught:
        finetune(model, train, validation, recipe, state=state)
    assert words in str(caught.value)
    assert "--force" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("content", [b"", b"no zip", "cut"])
def test_a_damaged_state_is_refused(state: Path, content: bytes | str) -> None:
    whole = state.read_bytes()
    state.write_bytes(whole[: len(whole) // 2] if isinstance(content, str) else content)
    given = identity_of(tiny_vit(), made_examples(16), made_examples(8, first=16), quick_recipe(1))
    with pytest.raises(CheckpointError, match="no whole training state"):
        load(state, given)


def test_discarding_takes_what_a_kill_has_left_and_nothing_else(state: Path) -> None:
    left = state.with_name(".c.pt-x1y2z3w4.state")
    others = [state.with_name(name) for name in (".d.pt-x1y2z3w4.state", ".c.pt-mine.state")]
    for path in (left, *others):
        path.write_bytes(b"half")
    discard(state)
    assert set(state.parent.iterdir()) == set(others)
    discard(state)
