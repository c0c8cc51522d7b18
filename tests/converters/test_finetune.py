"""Fine-tuning learns, is seeded, keeps its best epoch, and refuses what it cannot honour."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from vmeg_edge.converters import checkpoint
from vmeg_edge.converters.architectures.known import network
from vmeg_edge.converters.architectures.network import Network
from vmeg_edge.converters.architectures.resnet import ResNetConfig
from vmeg_edge.converters.architectures.vgg import VGGConfig
from vmeg_edge.converters.finetune import Epoch, best_of, finetune, record_of, save_classifier
from vmeg_edge.converters.record import KEY
from vmeg_edge.converters.training.augmentation import Augmentation
from vmeg_edge.converters.training.recipe import Guidance, Optimizer, Schedule, Stretch
from vmeg_edge.converters.training.scoring import logits_of, scores

from training_frames import SIZE, made_examples, quick_recipe, tiny_vit
from vmeg_edge.errors import UsageError

TRAIN = made_examples(48)
VALIDATION = made_examples(16, first=48)


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    """Steps this small are slower on two."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def same(first: Network, second: Network) -> bool:
    ours, theirs = first.state_dict(), second.state_dict()
    return all(torch.equal(ours[name], theirs[name]) for name in ours)


def resnet() -> Network:
    made = network(ResNetConfig(image_size=SIZE, kind="basic", blocks=(1, 1, 1, 1), width=8))
    made.initialise(0)
    return made


def vgg() -> Network:
    made = network(VGGConfig(image_size=SIZE, convolutions=(1, 1, 1), widths=(8, 8, 16), hidden=32, pooled=4))
    made.initialise(0)
    return made


@pytest.mark.parametrize("make", [tiny_vit, resnet, vgg])
def test_every_family_learns_what_can_be_learnt(make: Any) -> None:
    recipe = quick_recipe(12, drop_path=0.0, optimizer=Optimizer(learning_rate=3e-3, layer_decay=1.0))
    done = finetune(make(), TRAIN, VALIDATION, recipe)
    assert done.best.f1 == 1.0
    assert done.history[0].train_loss > 2 * done.history[-1].train_loss
    assert not done.network.training
    assert scores(logits_of(done.network, VALIDATION), VALIDATION).f1 == 1.0


def test_the_same_seed_gives_the_same_weights_and_another_others() -> None:
    recipe = quick_recipe(2, drop_path=0.2, augmentation=Augmentation())
    first, again = (finetune(tiny_vit(), TRAIN, VALIDATION, recipe) for _ in range(2))
    other = finetune(tiny_vit(), TRAIN, VALIDATION, replace(recipe, seed=4))
    assert same(first.network, again.network)
    assert not same(first.network, other.network)


def test_nobody_elses_random_numbers_or_weights_are_touched() -> None:
    model = tiny_vit()
    torch.manual_seed(5)
    wanted = torch.rand(1)
    torch.manual_seed(5)
    finetune(model, TRAIN, VALIDATION, quick_recipe(1, drop_path=0.2))
    assert torch.equal(torch.rand(1), wanted)
    assert same(model, tiny_vit())


def test_the_best_epoch_is_kept_and_not_the_last() -> None:
    """A rate that ruins what was learnt: the network that comes back is the better one from before."""
    wild = quick_recipe(8, optimizer=Optimizer(learning_rate=0.5, layer_decay=1.0, clip=100.0), drop_path=0.0)
    done = finetune(tiny_vit(), TRAIN, VALIDATION, wild)
    found = scores(logits_of(done.network, VALIDATION), VALIDATION)
    assert (found.f1, found.loss) == (done.best.f1, pytest.approx(done.best.validation_loss, rel=1e-5))
    assert done.best == best_of(done.history)


def epoch(number: int, f1: float, loss: float) -> Epoch:
    return Epoch(number, 32, 1e-3, 1.0, loss, 0.5, f1, 0.1)


def test_ties_go_to_the_lower_loss_and_then_to_the_first() -> None:
    history = (epoch(1, 0.5, 0.1), epoch(2, 0.9, 0.4), epoch(3, 0.9, 0.3), epoch(4, 0.9, 0.3))
    assert best_of(history).epoch == 3


def test_patience_ends_a_run_that_gets_no_better() -> None:
    still = quick_recipe(20, schedule=Schedule(epochs=20, warmup_epochs=0, batch=8, patience=2, last_share=1.0))
    still = replace(still, optimizer=Optimizer(learning_rate=1e-12))
    done = finetune(tiny_vit(), TRAIN, VALIDATION, still)
    assert [epoch.epoch for epoch in done.history] == [1, 2, 3]
    assert done.best.epoch == 1


def test_training_grows_through_image_sizes_and_the_best_is_of_the_last() -> None:
    recipe = quick_recipe(2, smaller_first=(Stretch(16, 3, 2e-3),))
    done = finetune(tiny_vit(), TRAIN, VALIDATION, recipe)
    assert [epoch.image_size for epoch in done.history] == [16, 16, 16, 32, 32]
    assert done.best.epoch in (4, 5)
    assert done.network.config.image_size == 32
    rates = [epoch.learning_rate for epoch in done.history]
    assert rates[2] < rates[1] < rates[0]
    assert rates[3] > rates[4]


def test_guidance_makes_the_activations_tell_the_finding_and_leaves_nothing_behind() -> None:
    train, validation = made_examples(48, guided=True), made_examples(16, first=48, guided=True)
    done = finetune(tiny_vit(), train, validation, quick_recipe(15, guidance=Guidance(), drop_path=0.0))
    assert set(done.network.state_dict()) == set(tiny_vit().state_dict())
    with_finding = validation.at(np.flatnonzero(validation.targets))
    pixels = torch.from_numpy(with_finding.images).float()[:, None].expand(-1, 3, -1, -1) / 255
    activations = done.network((pixels - 0.25) / 0.25)[1]
    centred = activations - activations.mean(1, keepdim=True)
    leading = torch.linalg.svd(centred, full_matrices=False)[2][:, 0]
    projected = torch.einsum("bnc,bc->bn", centred, leading).abs()
    assert bool((projected.argmax(1) == 0).all())


def test_classes_are_evened_out_by_weights_or_by_draws() -> None:
    rare = TRAIN.at([*np.flatnonzero(TRAIN.targets == 0), *np.flatnonzero(TRAIN.targets == 1)[:4]])
    mean_probability = {}
    for balance in ("none", "weights", "sampling"):
        recipe = quick_recipe(4, balance=balance, optimizer=Optimizer(learning_rate=1e-3, layer_decay=1.0))
        done = finetune(tiny_vit(), rare, VALIDATION, recipe)
        mean_probability[balance] = float(torch.from_numpy(logits_of(done.network, VALIDATION)).softmax(1)[:, 1].mean())
    assert mean_probability["none"] < 0.45
    assert mean_probability["weights"] > mean_probability["none"] + 0.05
    assert mean_probability["sampling"] > mean_probability["none"] + 0.05


def test_bfloat16_learns_as_well() -> None:
    done = finetune(tiny_vit(), TRAIN, VALIDATION, quick_recipe(10, precision="bfloat16", drop_path=0.0))
    assert done.best.f1 == 1.0
    assert {value.dtype for value in done.network.state_dict().values()} == {torch.float32}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("size", "the frames are 48x48 pixels and the network takes 32x32"),
        ("one class", "of the 24 frames to train on, none is of the class 'finding'"),
        ("no positive to validate on", "of the 8 frames for validation, none is of the class 'finding'"),
        ("a patient on both sides", "patient 0 is among the frames to train on and those for validation"),
        ("guidance", "guidance needs frames with coverage and widths"),
        ("bigger first", "a stretch at 64 pixels does not come before 32 pixels"),
        ("device", "torch cannot train on the device 'abacus'"),
        ("drop path of a VGG", "a VGG has no residual branch"),
        ("classes", "the network has 3 classes and the frames 2 labels"),
        ("diverges", "training diverged in epoch 1"),
    ],
)
def test_what_cannot_be_trained_is_refused_in_one_line(change: str, words: str) -> None:
    model, train, validation, recipe, device = tiny_vit(), TRAIN, VALIDATION, quick_recipe(1), "auto"
    match change:
        case "size":
            train = made_examples(48, size=48)
        case "one class":
            train = train.at(np.flatnonzero(train.targets == 0))
        case "no positive to validate on":
            validation = validation.at(np.flatnonzero(validation.targets == 0))
        case "a patient on both sides":
            validation = made_examples(16)
        case "guidance":
            recipe = replace(recipe, guidance=Guidance())
        case "bigger first":
            recipe = replace(recipe, smaller_first=(Stretch(64, 1, 1e-3),))
        case "device":
            device = "abacus"
        case "drop path of a VGG":
            model = vgg()
        case "classes":
            model = network(replace(model.config, classes=3))
        case "diverges":
            torch.nn.init.constant_(model.head.weight, float("nan"))
    with pytest.raises(UsageError) as caught:
        finetune(model, train, validation, recipe, device=device)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_classifier_says_all_that_its_conversion_needs(tmp_path: Path) -> None:
    model = tiny_vit()
    save_classifier(model, record_of(TRAIN, ("a note",)), tmp_path / "c.pt")
    content = torch.load(tmp_path / "c.pt", weights_only=True)
    assert set(content) == {"model", KEY}
    read = checkpoint.load(tmp_path / "c.pt")
    assert same(read.model(), model)
    assert read.record is not None
    assert (read.record.labels, read.record.positive) == (("normal", "finding"), "finding")
    assert (read.record.image_size, read.record.resize, read.record.mean) == (32, "bilinear", (0.25, 0.25, 0.25))
    assert (read.record.notes, read.record.trained_on) == (("a note",), None)
    save_classifier(model, made_examples(4, guided=True), tmp_path / "p.pt")
    phantom = checkpoint.load(tmp_path / "p.pt").record
    assert phantom is not None
    assert phantom.trained_on == "phantoms"
