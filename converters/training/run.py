"""A training run, epoch by epoch: everything that the next epoch starts from is here, and on disk after each."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, replace
from functools import cached_property
from typing import cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from vmeg_edge.errors import UsageError

from ..architectures.known import AnyConfig
from ..architectures.known import network as build
from ..architectures.network import Network
from ..architectures.vit_state import interpolate_positions
from .batches import Batch, batches, drawn
from .device import mixed_precision
from .distillation import Teacher, agreements, merging
from .examples import Examples, Progress
from .guidance import Guide
from .optimizer import adamw, rate_at, set_rate
from .recipe import Recipe, Stretch
from .run_state import Epoch, RunState
from .scoring import Agreement, logits_of, scores


@dataclass(frozen=True, eq=False)
class Finetuned:
    """A run's result: ``network`` has the ``best`` epoch's weights, in evaluation mode, on the CPU.

    Where a teacher was learnt from, ``network`` merges tokens, and ``start`` is how far it agreed before any epoch.
    """

    network: Network
    history: tuple[Epoch, ...]
    best: Epoch
    start: Agreement | None = None


class Run:
    """A run between two epochs: everything that the next one starts from."""

    def __init__(
        self, network: Network, train: Examples, validation: Examples, recipe: Recipe, device: torch.device
    ) -> None:
        """Stand before the first epoch."""
        self.train, self.validation, self.recipe, self.device = train, validation, recipe, device
        self.origin = network
        self.teacher = None
        if recipe.distillation is not None:
            self.origin = merging(network, recipe.distillation.tokens)
            self.teacher = Teacher(network, recipe.distillation, device)
        self.mixed = mixed_precision(recipe.precision, device)
        # Measured on two cores with AVX-512: a convolutional network's step takes 7 to 26 % less with channels last.
        self.layout = torch.contiguous_format if network.family == "vit" else torch.channels_last
        self.stretches = recipe.stretches(network.config.image_size)
        self.history: tuple[Epoch, ...] = ()
        self.best: dict[str, Tensor] = {}
        self.guide = None
        if recipe.guidance is not None:
            torch.manual_seed(recipe.seed)
            self.guide = Guide(network, recipe.guidance).to(device)
        self.batch = min(recipe.schedule.batch, len(train))
        frames = recipe.schedule.epoch_frames or len(train)
        self.steps = max(1, round(frames / self.batch))
        self.weights = None
        if recipe.balance == "weights":
            counts = np.bincount(train.targets, minlength=len(train.labels))
            self.weights = torch.tensor(len(train) / (len(counts) * counts), dtype=torch.float32, device=device)
        self._enter(self.stretches[0], network.state_dict())

    @cached_property
    def start(self) -> Agreement | None:
        """How far the student agrees with its teacher before it has learnt anything."""
        if self.teacher is None:
            return None
        student = merging(self.teacher.network, self.teacher.weights.tokens)
        return agreements(self.teacher.network, [student], self.validation, batch=self.batch)[0]

    @property
    def done(self) -> bool:
        """Whether every epoch has run, or the last stretch's patience has."""
        own = self.own_history
        left = sum(stretch.epochs for stretch in self.stretches) - len(self.history)
        patience = self.recipe.schedule.patience
        return left == 0 or (patience is not None and bool(own) and own[-1].epoch - best_of(own).epoch >= patience)

    @property
    def own_history(self) -> tuple[Epoch, ...]:
        """The epochs at the network's own image size: the last stretch's."""
        return self.history[sum(stretch.epochs for stretch in self.stretches[:-1]) :]

    def epoch(self, progress: Progress) -> Epoch:
        """Run the next epoch."""
        number = len(self.history)
        stretch, place = self._where(number)
        if place == 0 and number > 0:
            self._enter(stretch, self.network.state_dict())
        started = time.monotonic()
        seed = int(np.random.SeedSequence([self.recipe.seed, number]).generate_state(1, np.uint64)[0] >> 1)
        torch.manual_seed(seed)
        loss, rate = self._learn(stretch, place, seed, progress)
        if not math.isfinite(loss):
            raise UsageError(f"training diverged in epoch {number + 1} (its loss is {loss}); lower the learning rate")
        found = scores(logits_of(self.network, self.validation, batch=self.batch), self.validation)
        agreement = None
        if self.teacher is not None:
            (agreement,) = agreements(self.teacher.network, [self.network], self.validation, batch=self.batch)
        seconds = round(time.monotonic() - started, 3)
        figures = (found.loss, found.accuracy, found.f1)
        made = Epoch(number + 1, stretch.image_size, rate, loss, *figures, seconds, agreement)
        self.history = (*self.history, made)
        if self.own_history and best_of(self.own_history) is made:
            self.best = {name: value.detach().cpu().clone() for name, value in self.network.state_dict().items()}
        return made

    def state(self) -> RunState:
        """What a later run would go on from."""
        guide = {} if self.guide is None else self.guide.state_dict()
        return RunState(self.network.state_dict(), self.optimizer.state_dict(), guide, self.best, self.history)

    def take_up(self, state: RunState) -> None:
        """Stand where another run stood."""
        self.history, self.best = state.history, state.best
        self._enter(self._where(len(self.history) - 1)[0], state.network)
        if self.guide is not None:
            self.guide.load_state_dict(state.guide)
        self.optimizer.load_state_dict(state.optimizer)

    def result(self) -> Finetuned:
        """The best epoch's network."""
        return Finetuned(self.origin.with_state(self.best), self.history, best_of(self.own_history), self.start)

    def _where(self, number: int) -> tuple[Stretch, int]:
        """The stretch that epoch ``number`` (from 0) belongs to, and its place in it."""
        for stretch in self.stretches:
            if number < stretch.epochs:
                return stretch, number
            number -= stretch.epochs
        raise AssertionError("no such epoch")

    def _enter(self, stretch: Stretch, state: dict[str, Tensor]) -> None:
        """Start a stretch: the network at its image size, and an optimizer that has seen nothing."""
        self.network = _at_size(self.origin, stretch.image_size, self.recipe.drop_path, state).to(self.device)
        self.network.to(memory_format=self.layout)  # type: ignore[call-overload]  # torch's stubs leave it out
        if self.guide is not None:
            self.guide.attach(self.network)
        self.optimizer = adamw(self.network, self.guide, self.recipe.optimizer)

    def _learn(self, stretch: Stretch, place: int, seed: int, progress: Progress) -> tuple[float, float]:
        """Run an epoch's steps; the mean loss and the last step's rate."""
        recipe, schedule = self.recipe, self.recipe.schedule
        generator = torch.Generator(self.device).manual_seed(seed)
        number = len(self.history)
        order = drawn(self.train.targets, number, self.steps * self.batch, recipe.balance, recipe.seed)
        every = sum(s.epochs for s in self.stretches)
        total = torch.zeros((), device=self.device)
        rate = 0.0
        self.network.train()
        dealt = batches(
            self.train,
            order,
            self.batch,
            stretch.image_size,
            self.device,
            ranges=recipe.augmentation,
            generator=generator,
        )
        for step, batch in enumerate(dealt):
            at = place * self.steps + step
            warmup = round(schedule.warmup_epochs * self.steps)
            rate = rate_at(at, stretch.epochs * self.steps, warmup, stretch.learning_rate, schedule.last_share)
            set_rate(self.optimizer, rate)
            total += self._step(batch)
            note = f"epoch {number + 1}" + (f", {self.history[-1].headline}" if self.history else "")
            progress("training", number * self.steps + step + 1, every * self.steps, note)
        return float(total) / self.steps, rate

    def _step(self, batch: Batch) -> Tensor:
        recipe = self.recipe
        pixels = batch.pixels.contiguous(memory_format=self.layout)
        mixed = torch.autocast(self.device.type, torch.bfloat16, enabled=self.mixed)
        with mixed:
            logits, activations = self.network(pixels)
        loss = functional.cross_entropy(
            logits.float(), batch.targets, weight=self.weights, label_smoothing=recipe.label_smoothing
        )
        if self.teacher is not None:
            with mixed:
                loss = self.teacher.loss(pixels, logits, activations) + self.teacher.weights.label_weight * loss
        learning = list(self.network.parameters())
        if self.guide is not None and batch.coverage is not None and batch.widths_mm is not None:
            loss = loss + self.guide.loss(activations, self.network.grid, batch.coverage, batch.widths_mm)
            learning += self.guide.parameters()
        self.optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(learning, recipe.optimizer.clip)
        self.optimizer.step()
        return loss.detach()


def best_of(history: tuple[Epoch, ...]) -> Epoch:
    """The epoch of the highest rank; among equals, the first."""
    return max(history, key=lambda epoch: epoch.rank)


def _at_size(origin: Network, image_size: int, drop_path: float, state: dict[str, Tensor]) -> Network:
    """The network at another image size with these weights, a ViT's positions interpolated."""
    config = replace(cast("AnyConfig", origin.config), image_size=image_size)
    made = build(config, cam_layer=origin.cam_layer, drop_path=drop_path)
    state = {name: value.detach().clone() for name, value in state.items()}
    if "pos_embed" in state:
        state["pos_embed"] = interpolate_positions(state["pos_embed"], made.grid[0])
    made.load_state_dict(state)
    return made
