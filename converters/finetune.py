"""Fine-tune a network on labelled frames: seeded, stopped early, and resumable after a kill."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import torch

from vmeg_edge.errors import UsageError

from .architectures.network import Network
from .record import KEY, Record
from .threads import within_quota
from .training.device import choose_device
from .training.examples import Examples, Progress, quiet
from .training.guidance import needs_ground_truth
from .training.recipe import Recipe
from .training.run import Finetuned, Run, best_of
from .training.run_state import Epoch, durably, identity_of, load, save
from .training.scoring import Agreement

__all__ = ["Agreement", "Epoch", "Finetuned", "Recipe", "best_of", "finetune", "record_of", "save_classifier"]


def finetune(
    network: Network,
    train: Examples,
    validation: Examples,
    recipe: Recipe,
    *,
    state: str | os.PathLike[str] | None = None,
    progress: Progress = quiet,
    on_epoch: Callable[[Epoch], None] = quiet,
    on_start: Callable[[Agreement], None] = quiet,
    device: str = "auto",
    threads: int | None = None,
) -> Finetuned:
    """Train a copy of ``network`` and return it as it was after its best epoch at its own image size.

    The best epoch has the highest validation F1 of the positive class at one half; among equals, the lowest validation
    loss. With ``state``, a file, every epoch's end is kept there, and a run that finds it goes on from it: the same
    threads end with the same weights as a run without a break. The file stays when training is done.

    With the recipe's ``distillation``, ``network`` is the teacher and stays as it is: the copy merges tokens, and its
    best epoch is the one that agrees best with the teacher on the validation frames. ``on_start`` is told how far it
    agrees before the first epoch.

    ``device`` is ``auto`` (a GPU where torch sees one), or a torch device; ``threads``
    are torch's, which stay as they are without it, unless the process's CPU quota is lower (`threads.within_quota`).

    Raises `UsageError` for a recipe that this network or these frames cannot honour, for a state of another run, and
    where the loss is no longer a number; `CheckpointError` for a damaged state; `OutputError`.
    """
    _check(network, train, validation, recipe)
    if threads is None:
        within_quota()
    else:
        torch.set_num_threads(threads)
    where = choose_device(device)
    kept = None if state is None else Path(state)
    identity = {} if kept is None else identity_of(network, train, validation, recipe)
    with torch.random.fork_rng(devices=[where] if where.type == "cuda" else []):
        run = Run(network, train, validation, recipe, where)
        if kept is not None and kept.exists():
            run.take_up(load(kept, identity))
        if run.start is not None:
            on_start(run.start)
        while not run.done:
            on_epoch(run.epoch(progress))
            if kept is not None:
                save(kept, run.state(), identity)
    return run.result()


def record_of(examples: Examples, notes: tuple[str, ...] = (), *, phantoms: bool | None = None) -> Record:
    """What a checkpoint trained on ``examples`` says of itself; ``phantoms`` tells more than these frames know."""
    spec = examples.input
    return Record(
        image_size=spec.width,
        resize=spec.resize,
        mean=spec.mean,
        std=spec.std,
        labels=examples.labels,
        positive=examples.positive,
        trained_on="phantoms" if (examples.phantoms if phantoms is None else phantoms) else None,
        notes=notes,
    )


def save_classifier(network: Network, known: Examples | Record, path: str | os.PathLike[str]) -> None:
    """Write the weights with their record, whole or not at all; `convert` then needs no option. Raises `OutputError`.

    ``known`` is the record, or the examples that it is made from.
    """
    record = known if isinstance(known, Record) else record_of(known)
    weights = {name: value.detach().cpu().contiguous() for name, value in network.state_dict().items()}
    durably(Path(path), {"model": weights, KEY: record.to_text()})


def _check(network: Network, train: Examples, validation: Examples, recipe: Recipe) -> None:
    """Refuse before the first step what cannot be trained, or would be measured on what was learnt."""
    size, spec = network.config.image_size, train.input
    if (spec.width, spec.height) != (size, size):
        raise UsageError(f"the frames are {spec.width}x{spec.height} pixels and the network takes {size}x{size}")
    if network.config.classes != len(train.labels):
        raise UsageError(f"the network has {network.config.classes} classes and the frames {len(train.labels)} labels")
    if (train.labels, train.positive, spec) != (validation.labels, validation.positive, validation.input):
        raise UsageError("the frames to train on and those for validation differ in labels or input")
    for name, part in (("to train on", train), ("for validation", validation)):
        for target, label in enumerate(part.labels):
            if not (part.targets == target).any():
                raise UsageError(f"of the {len(part)} frames {name}, none is of the class {label!r}; add some")
    both = set(train.groups) & set(validation.groups)
    if both:
        raise UsageError(f"{min(both)} is among the frames to train on and those for validation; keep it in one")
    for stretch in recipe.smaller_first:
        if not 0 < stretch.image_size <= size or stretch.epochs < 1:
            raise UsageError(f"a stretch at {stretch.image_size} pixels does not come before {size} pixels")
    if recipe.guidance is not None:
        needs_ground_truth(train.coverage, train.widths_mm)
