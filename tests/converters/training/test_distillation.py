"""A student that merges tokens learns what its teacher says, and the teacher stays as it is."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from vmeg_edge.converters import checkpoint
from vmeg_edge.converters.architectures.network import Network
from vmeg_edge.converters.architectures.resnet import ResNet, ResNetConfig
from vmeg_edge.converters.architectures.vit import ViT, ViTConfig
from vmeg_edge.converters.finetune import Epoch, Finetuned, best_of, finetune, record_of, save_classifier
from vmeg_edge.converters.token_reduction import tapering
from vmeg_edge.converters.training.augmentation import Augmentation
from vmeg_edge.converters.training.distillation import (
    Teacher,
    agreements,
    before_and_after,
    further,
    likeness,
    merging,
)
from vmeg_edge.converters.training.recipe import (
    Distillation,
    Guidance,
    Optimizer,
    Recipe,
    Stretch,
    distillation_recipe,
)
from vmeg_edge.converters.training.scoring import Agreement, logits_of, positive_probability

from training_frames import made_examples, quick_recipe, sure_vit
from vmeg_edge.errors import UsageError

SIZE, TOKENS = 128, 20
TRAIN, VALIDATION = made_examples(96, size=SIZE), made_examples(48, first=96, size=SIZE)
STILL = Optimizer(learning_rate=1e-12)
CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def teacher() -> ViT:
    return sure_vit(TRAIN)


def merging_recipe(epochs: int, tokens: int, **changes: Any) -> Recipe:
    rate = Optimizer(learning_rate=2e-4, layer_decay=1.0)
    plain: dict[str, Any] = {"drop_path": 0.0, "distillation": Distillation(tokens), "optimizer": rate}
    return quick_recipe(epochs, **{**plain, **changes})


def tune(teacher: Network, epochs: int = 6, tokens: int = TOKENS, **more: Any) -> Finetuned:
    return finetune(teacher, TRAIN, VALIDATION, merging_recipe(epochs, tokens), threads=1, **more)


@pytest.fixture(scope="module")
def tuned(teacher: ViT) -> Finetuned:
    return tune(teacher)


def pixels_of(count: int) -> torch.Tensor:
    return torch.rand(count, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(0))


def test_tuning_brings_the_student_nearer_to_its_teacher(teacher: ViT, tuned: Finetuned) -> None:
    assert tuned.start is not None
    assert tuned.best.agreement is not None
    assert tuned.start.same_decisions < 0.9
    assert tuned.best.agreement.same_decisions > tuned.start.same_decisions + 0.05
    assert tuned.best.agreement.mean_abs_dp < 0.6 * tuned.start.mean_abs_dp
    assert tuned.history[-1].train_loss < 0.6 * tuned.history[0].train_loss
    assert tuned.network.config.merge == tapering(teacher.config, TOKENS) == (22, 14)
    found = agreements(merging(teacher, 0), [merging(teacher, TOKENS), tuned.network], VALIDATION)
    assert found[0].mean_abs_dp == pytest.approx(tuned.start.mean_abs_dp, rel=1e-3)
    assert found[1].mean_abs_dp == pytest.approx(tuned.best.agreement.mean_abs_dp, rel=1e-3)


def test_the_teacher_stays_as_it_is(teacher: ViT, tuned: Finetuned) -> None:
    again = sure_vit(TRAIN).state_dict()
    assert all(torch.equal(value, again[name]) for name, value in teacher.state_dict().items())
    assert teacher.config.merge == ()
    assert not torch.equal(tuned.network.state_dict()["head.weight"], again["head.weight"])


def test_an_identical_network_has_nothing_to_learn(teacher: ViT) -> None:
    pixels = pixels_of(4)
    said = merging(teacher, 0)(pixels)
    assert float(Teacher(teacher, Distillation(0), CPU).loss(pixels, *said)) == pytest.approx(0, abs=1e-6)
    (found,) = agreements(merging(teacher, 0), [merging(teacher, 0)], VALIDATION)
    assert (found.same_decisions, found.mean_abs_dp) == (1.0, 0.0)
    assert found.activation_cosine == pytest.approx(1.0, abs=1e-6)


def test_the_loss_is_the_divergence_of_softened_answers_and_the_angle_of_activations(teacher: ViT) -> None:
    pixels = pixels_of(1)
    wanted, activations = merging(teacher, 0)(pixels)
    p, q = ((logits[0] / 2).softmax(0).double() for logits in (wanted, torch.zeros(1, 2)))
    answers = 4 * float((p * (p / q).log()).sum())
    loss = Teacher(teacher, Distillation(0, temperature=2.0, answer_weight=3.0), CPU).loss
    assert float(loss(pixels, torch.zeros(1, 2), activations)) == pytest.approx(3 * answers, rel=1e-4)
    opposite = 2 * activations.mean(1, keepdim=True) - activations
    weights = Distillation(0, answer_weight=0.0, activation_weight=0.5)
    assert float(Teacher(teacher, weights, CPU).loss(pixels, wanted, opposite)) == pytest.approx(0.5 * 2, rel=1e-4)


def test_likeness_does_not_see_what_all_positions_share() -> None:
    ours = torch.tensor([[[1.0, 0.0], [-1.0, 0.0]]])
    theirs = torch.tensor([[[1.0, 1.0], [-1.0, -1.0]]])
    assert float(likeness(ours + 5, theirs - 7)) == pytest.approx(math.sqrt(0.5))


def test_teacher_and_student_see_the_same_augmented_pixels(teacher: ViT) -> None:
    """At no tokens student and teacher are one network, so that any other pixels would show in the loss."""
    recipe = merging_recipe(1, 0, augmentation=Augmentation(), optimizer=STILL)
    done = finetune(teacher, TRAIN, VALIDATION, recipe, threads=1)
    assert done.history[0].train_loss == pytest.approx(0, abs=1e-5)


def test_labels_count_as_much_as_is_asked(teacher: ViT) -> None:
    loss = {}
    for weight in (0.0, 0.5, 1.0):
        recipe = merging_recipe(1, 0, distillation=Distillation(0, label_weight=weight), optimizer=STILL)
        loss[weight] = finetune(teacher, TRAIN, VALIDATION, recipe, threads=1).history[0].train_loss
    assert loss[0.0] == pytest.approx(0, abs=1e-5)
    assert loss[0.5] > 0.1
    assert loss[1.0] == pytest.approx(2 * loss[0.5], rel=1e-3)


def test_agreement_is_counted_by_frame(teacher: ViT) -> None:
    """A student whose head says the opposite disagrees everywhere, by twice the distance from one half."""
    opposite = sure_vit(TRAIN)
    opposite.head.weight.mul_(-1)
    opposite.head.bias.mul_(-1)
    (found,) = agreements(teacher, [opposite], VALIDATION, batch=7)
    distances = np.abs(2 * positive_probability(logits_of(teacher, VALIDATION), VALIDATION) - 1)
    assert found.same_decisions == 0.0
    assert found.mean_abs_dp == pytest.approx(float(distances.mean()), rel=1e-4)
    assert found.activation_cosine == pytest.approx(1.0, abs=1e-6)


def test_measuring_leaves_the_mode_alone(teacher: ViT) -> None:
    student = sure_vit(TRAIN).train()
    agreements(teacher, [student], VALIDATION)
    assert student.training


def epoch(number: int, same: float, dp: float, f1: float) -> Epoch:
    return Epoch(number, 32, 1e-3, 1.0, 0.5, 0.5, f1, 0.1, Agreement(same, dp, 0.9))


def test_the_best_epoch_agrees_best_whatever_its_f1() -> None:
    history = (epoch(1, 0.9, 0.01, 1), epoch(2, 0.95, 0.03, 0.5), epoch(3, 0.95, 0.02, 0.4), epoch(4, 0.95, 0.02, 0.9))
    assert best_of(history).epoch == 3


def test_a_run_that_goes_on_ends_with_the_same_weights(teacher: ViT, tuned: Finetuned, tmp_path: Path) -> None:
    state = tmp_path / "c.pt.state"

    class Cut(Exception):
        pass

    def cut(epoch: Epoch) -> None:
        if epoch.epoch == 4:
            raise Cut

    with pytest.raises(Cut):
        tune(teacher, state=state, on_epoch=cut)
    resumed = tune(teacher, state=state)
    ours, theirs = resumed.network.state_dict(), tuned.network.state_dict()
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
    assert [epoch.agreement for epoch in resumed.history] == [epoch.agreement for epoch in tuned.history]
    assert resumed.start == tuned.start


def test_a_run_of_another_teacher_or_other_tokens_does_not_go_on(teacher: ViT, tmp_path: Path) -> None:
    state = tmp_path / "c.pt.state"
    tune(teacher, 1, state=state)
    with pytest.raises(UsageError, match=r"distillation.tokens \(then 20, now 10\)"):
        tune(teacher, 1, 10, state=state)
    with pytest.raises(UsageError, match="starting weights differ"):
        tune(sure_vit(TRAIN, seed=1), 1, state=state)


def test_before_and_after_are_told_for_more_tokens_too(teacher: ViT, tuned: Finetuned) -> None:
    assert further(teacher.config, 8) == [8, 12, 16]
    assert further(teacher.config, TOKENS) == [TOKENS, 25]
    assert further(teacher.config, 25) == [25]
    found = before_and_after(teacher, tuned.network, VALIDATION, [10, TOKENS], CPU)
    (before, _), (start, after) = found
    assert before.mean_abs_dp < start.mean_abs_dp
    assert after.mean_abs_dp < 0.6 * start.mean_abs_dp


@pytest.mark.parametrize(
    ("network", "words"),
    [
        (
            ViT(ViTConfig(image_size=SIZE, dim=64, depth=2, heads=1)),
            "--reduce-tokens 26: a ViT-64x2/16 at 128 pixels has 64 tokens, and can merge 25 a block in the mean of "
            "its 2; give 25 or fewer",
        ),
        (
            ViT(ViTConfig(image_size=64, dim=64, depth=1, heads=1)),
            "in the mean of its 1; give a larger image size",
        ),
        (ResNet(ResNetConfig(image_size=32, kind="basic", blocks=(1, 1, 1, 1), width=4)), "and this is a ResNet"),
    ],
)
def test_what_cannot_merge_so_much_is_refused(network: Network, words: str) -> None:
    with pytest.raises(UsageError) as caught:
        merging(network, 26)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_recipe_that_distils_has_nothing_else_to_shape_features() -> None:
    recipe = distillation_recipe(16)
    assert (recipe.schedule.epochs, recipe.optimizer.learning_rate) == (3, pytest.approx(2.5e-5))
    assert (recipe.drop_path, recipe.label_smoothing, recipe.guidance) == (0.0, 0.0, None)
    assert recipe.distillation is not None
    assert recipe.distillation.tokens == 16
    for more in ({"guidance": Guidance()}, {"smaller_first": (Stretch(64, 1, 1e-3),)}):
        with pytest.raises(UsageError, match="neither guidance nor smaller image sizes"):
            merging_recipe(1, 4, **more)
    with pytest.raises(UsageError, match="a temperature above 0"):
        Distillation(4, temperature=0.0)


def test_the_tuned_weights_are_a_classifier_like_any_other(teacher: ViT, tuned: Finetuned, tmp_path: Path) -> None:
    save_classifier(tuned.network, record_of(TRAIN), tmp_path / "c.pt")
    read = checkpoint.load(tmp_path / "c.pt")
    assert read.config == teacher.config
    assert {name: value.shape for name, value in read.state.items()} == {
        name: value.shape for name, value in teacher.state_dict().items()
    }
    said = agreements(tuned.network, [merging(read.model(), TOKENS)], VALIDATION)
    assert said[0].mean_abs_dp == 0.0


def test_bfloat16_learns_to_merge_as_well(teacher: ViT) -> None:
    recipe = merging_recipe(3, TOKENS, precision="bfloat16")  # no more: some processors emulate it
    done = finetune(teacher, TRAIN, VALIDATION, recipe, threads=1)
    assert done.start is not None
    assert done.best.agreement is not None
    assert done.best.agreement.mean_abs_dp < 0.6 * done.start.mean_abs_dp
