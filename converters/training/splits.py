"""Splits that keep a patient on one side: folds for cross-validation, and a part for validation.

Both are scikit-learn's `StratifiedGroupKFold`: whole groups, dealt out so that each fold has its share of each class.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
from sklearn.model_selection import StratifiedGroupKFold

from vmeg_edge.errors import UsageError

Places: TypeAlias = npt.NDArray[np.intp]
Targets: TypeAlias = npt.NDArray[np.int64]


def group_folds(
    targets: Targets, groups: Sequence[str], folds: int, seed: int, labels: Sequence[str] = ()
) -> list[tuple[Places, Places]]:
    """(places to train on, places held out) of each of ``folds``; every frame is held out once, no group straddles.

    ``labels`` gives the classes their names in messages. Raises `UsageError` for one class alone, for fewer groups
    than folds, and where a fold would hold, or leave to train on, none of a class.
    """
    made = _dealt(targets, groups, folds, seed, labels)
    for number, sides in enumerate(made, 1):
        absent = _absent(targets, sides)
        if absent is not None:
            name = _name(absent, labels)
            held = len({group for group, target in zip(groups, targets, strict=True) if target == absent})
            raise UsageError(
                f"fold {number} of {folds} has none of the class {name} on one of its sides: {held} groups hold it; "
                "choose fewer folds, another seed, or add patients"
            )
    return made


def carve(
    targets: Targets, groups: Sequence[str], share: float, seed: int, labels: Sequence[str] = ()
) -> tuple[Places, Places]:
    """(places to train on, places for validation): about ``share`` of the frames, taken as one fold of 1 in N.

    Raises `UsageError` where no such part has every class on both sides.
    """
    if not 0 < share <= 0.5:
        raise UsageError(f"the share for validation is {share:g}; give one above 0 and at most 0.5")
    folds = min(max(2, round(1 / share)), max(2, len(set(groups))))
    for sides in _dealt(targets, groups, folds, seed, labels):
        if _absent(targets, sides) is None:
            return sides
    raise UsageError(
        f"a validation part of 1 in {folds} cannot hold every class and leave every class to train on; "
        "give a larger share, another seed, a column 'split', or add patients"
    )


def _dealt(
    targets: Targets, groups: Sequence[str], folds: int, seed: int, labels: Sequence[str]
) -> list[tuple[Places, Places]]:
    if folds < 2:
        raise UsageError(f"{folds} folds are no split; give 2 or more")
    classes = np.unique(targets)
    if len(classes) < 2:
        only = _name(int(classes[0]), labels) if len(classes) else "none"
        raise UsageError(f"every frame is of one class, {only}; training needs two")
    different = len(set(groups))
    if different < folds:
        raise UsageError(f"{different} groups (patients or series) cannot fill {folds} folds; add patients")
    splitter = StratifiedGroupKFold(n_splits=folds, shuffle=True, random_state=seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a rare class is what the callers check for, and say in one line
        try:
            made = list(splitter.split(np.zeros(len(targets)), targets, np.asarray(groups, dtype=object)))
        except ValueError:
            raise UsageError(f"no class has {folds} frames, one for each of {folds} parts; add frames") from None
    return [(np.asarray(train), np.asarray(held_out)) for train, held_out in made]


def _absent(targets: Targets, sides: tuple[Places, Places]) -> int | None:
    """A class that one side has none of."""
    for target in np.unique(targets):
        if not all((targets[places] == target).any() for places in sides):
            return int(target)
    return None


def _name(target: int, labels: Sequence[str]) -> str:
    return repr(labels[target]) if target < len(labels) else f"number {target}"
