"""The paper's protocol: grouped folds, early stopping inside each, six metrics on what was held out and on the test."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from vmeg_edge.converters import checkpoint
from vmeg_edge.converters.architectures.known import network
from vmeg_edge.converters.architectures.network import Network
from vmeg_edge.converters.architectures.vit import ViTConfig
from vmeg_edge.converters.evaluation import METRICS, point_metrics
from vmeg_edge.converters.finetune import finetune, save_classifier
from vmeg_edge.converters.training.examples import Examples, Progress
from vmeg_edge.converters.training.run_state import discard
from vmeg_edge.converters.training.scoring import logits_of, positive_probability
from vmeg_edge.converters.training.splits import carve, group_folds

from .data import SPLIT_SEED, Data
from .store import Store
from .systems import Size, System

THRESHOLD = 0.5


@dataclass(frozen=True)
class Spread:
    """A figure over the folds' models: its mean and its standard deviation (of a sample), ``n`` of them defined."""

    n: int
    mean: float | None
    sd: float | None


def spread_of(values: Sequence[float | None]) -> Spread:
    """Mean and standard deviation of what is defined; one alone has no deviation."""
    held = [value for value in values if value is not None]
    if not held:
        return Spread(0, None, None)
    return Spread(len(held), float(np.mean(held)), float(np.std(held, ddof=1)) if len(held) > 1 else None)


def six(truth: npt.NDArray[np.bool_], probabilities: npt.NDArray[np.float64]) -> dict[str, float | None]:
    """The paper's six metrics at one half; ``None`` where one is undefined."""
    found = point_metrics(truth, probabilities, THRESHOLD)
    return {name: found[name] if np.isfinite(found[name]) else None for name in METRICS}


def cross_validate(
    size: Size, data: Data, store: Store, encoder: Path, progress: Progress, *, device: str = "auto"
) -> dict[str, list[dict[str, Any]]]:
    """Every system's folds, in order; those that the store holds are not run again."""
    labelled = data.labelled
    folds = group_folds(labelled.targets, labelled.groups, size.folds, SPLIT_SEED, labelled.labels)
    results: dict[str, list[dict[str, Any]]] = {system.key: [] for system in size.systems}
    for number, (rest, held_out) in enumerate(folds, 1):
        for system in size.systems:
            name = piece(system, number)

            def make(
                system: System = system,
                number: int = number,
                rest: npt.NDArray[np.intp] = rest,
                held_out: npt.NDArray[np.intp] = held_out,
            ) -> dict[str, Any]:
                parts = (labelled.at(rest), labelled.at(held_out), data.test)
                return _fold(size, system, number, parts, store, encoder, progress, device)

            results[system.key].append(store.kept(name, make))
            progress("folds", sum(map(len, results.values())), size.folds * len(size.systems), name)
    return results


def piece(system: System, fold: int) -> str:
    """A fold's name in the store; its model lies beside it, with the ending ``.pt``."""
    return f"{system.key}-fold-{fold}"


def start(system: System, encoder: Path, classes: int, seed: int) -> Network:
    """The network before its first step: the encoder's checkpoint with a new head, or seeded weights."""
    if system.pretrained and isinstance(system.config, ViTConfig):
        pool = system.config.pool
        return checkpoint.load(encoder, new_head=classes, pool=pool, heads=system.config.heads, seed=seed).model()
    made = network(replace(system.config, classes=classes))
    made.initialise(seed)
    return made


def chosen(folds: Sequence[Mapping[str, Any]]) -> int:
    """The fold whose carved validation F1 is the best, the first of equals: its model goes to the device."""
    return int(max(folds, key=lambda fold: (fold["validation_f1"], -fold["fold"]))["fold"])


def _fold(
    size: Size,
    system: System,
    number: int,
    parts: tuple[Examples, Examples, Examples],
    store: Store,
    encoder: Path,
    progress: Progress,
    device: str,
) -> dict[str, Any]:
    """Train on what the fold leaves, less a part for early stopping, and score what was held out and the test."""
    rest, held_out, test = parts
    inner, watched = carve(rest.targets, rest.groups, size.validation_share, SPLIT_SEED + number, rest.labels)
    train, validation = rest.at(inner), rest.at(watched)
    began = time.monotonic()
    state = store.path(f"{piece(system, number)}.state")

    def tell(stage: str, done: int, total: int, note: str = "") -> None:
        progress(f"{system.key} {number}/{size.folds}: {stage}", done, total, note)

    done = finetune(
        start(system, encoder, len(rest.labels), number),
        train,
        validation,
        replace(system.recipe, seed=number),
        state=state,
        progress=tell,
        device=device,
    )
    save_classifier(done.network, train, store.path(f"{piece(system, number)}.pt"))
    discard(state)
    result: dict[str, Any] = {
        "system": system.key,
        "fold": number,
        "frames": {"train": len(train), "validation": len(validation), "held_out": len(held_out), "test": len(test)},
        "validation_f1": done.best.f1,
        "best_epoch": done.best.epoch,
        "history": [asdict(epoch) for epoch in done.history],
    }
    for name, part in (("held_out", held_out), ("test", test)):
        p = positive_probability(logits_of(done.network, part), part)
        result[name] = six(part.positives, p)
    result["seconds"] = round(time.monotonic() - began, 1)
    return result


def summary(folds: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, dict[str, Any]]]:
    """Mean and deviation of each metric over the folds' models: on their own held-out frames, and on the test."""
    return {
        part: {name: asdict(spread_of([fold[part][name] for fold in folds])) for name in METRICS}
        for part in ("held_out", "test")
    }
