"""Patients are never torn apart, every class is on every side, and what cannot be split is refused in one line."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from vmeg_edge.converters.training.splits import carve, group_folds

from vmeg_edge.errors import UsageError


@st.composite
def frames(draw: st.DrawFn) -> tuple[np.ndarray, list[str]]:
    """Targets of two or three classes and groups of any sizes, some of them with frames of several classes."""
    groups = draw(st.lists(st.integers(0, 12), min_size=2, max_size=60))
    classes = draw(st.integers(2, 3))
    targets = draw(st.lists(st.integers(0, classes - 1), min_size=len(groups), max_size=len(groups)))
    return np.array(targets, dtype=np.int64), [f"patient {group}" for group in groups]


@settings(max_examples=150, deadline=None)
@given(frames(), st.integers(2, 5), st.integers(0, 3))
def test_no_group_straddles_folds(made: tuple[np.ndarray, list[str]], folds: int, seed: int) -> None:
    targets, groups = made
    try:
        found = group_folds(targets, groups, folds, seed)
    except UsageError:
        return
    assert sorted(place for _, held_out in found for place in held_out) == list(range(len(targets)))
    home: dict[str, int] = {}
    for number, (train, held_out) in enumerate(found):
        assert {groups[place] for place in train}.isdisjoint(groups[place] for place in held_out)
        assert sorted([*train, *held_out]) == list(range(len(targets)))
        for side in (train, held_out):
            assert set(targets[side]) == set(targets)
        for place in held_out:
            assert home.setdefault(groups[place], number) == number


@settings(max_examples=100, deadline=None)
@given(frames(), st.sampled_from([0.1, 0.2, 0.34, 0.5]), st.integers(0, 3))
def test_a_validation_part_takes_whole_groups_and_every_class(
    made: tuple[np.ndarray, list[str]], share: float, seed: int
) -> None:
    targets, groups = made
    try:
        train, validation = carve(targets, groups, share, seed)
    except UsageError:
        return
    assert {groups[place] for place in train}.isdisjoint(groups[place] for place in validation)
    assert sorted([*train, *validation]) == list(range(len(targets)))
    assert set(targets[train]) == set(targets[validation]) == set(targets)


def test_the_same_seed_splits_alike_and_another_differently() -> None:
    targets = np.arange(40, dtype=np.int64) % 2
    groups = [str(place // 4) for place in range(40)]
    first, again, other = (group_folds(targets, groups, 5, seed) for seed in (1, 1, 2))
    assert all(np.array_equal(a[1], b[1]) for a, b in zip(first, again, strict=True))
    assert not all(np.array_equal(a[1], b[1]) for a, b in zip(first, other, strict=True))


def test_a_share_is_about_what_was_asked_for() -> None:
    targets = np.arange(200, dtype=np.int64) % 2
    groups = [str(place) for place in range(200)]
    assert len(carve(targets, groups, 0.2, 0)[1]) == 40
    assert len(carve(targets, groups, 1 / 13, 0)[1]) in (15, 16)


@pytest.mark.parametrize(
    ("targets", "groups", "folds", "words"),
    [
        ([1, 1, 1, 1], "abcd", 2, "every frame is of one class, 'vm'; training needs two"),
        ([0, 1, 0, 1], "aabb", 3, "2 groups (patients or series) cannot fill 3 folds"),
        ([0, 0, 0, 0, 0, 1], "abcdef", 3, "none of the class 'vm' on one of its sides: 1 groups hold it"),
        ([0, 1, 0, 0, 0, 0], "aabbcc", 3, "none of the class 'vm'"),
        ([0, 1], "ab", 1, "1 folds are no split"),
        ([0, 1], "ab", 2, "no class has 2 frames"),
    ],
)
def test_what_cannot_be_split_is_refused(targets: list[int], groups: str, folds: int, words: str) -> None:
    with pytest.raises(UsageError) as caught:
        group_folds(np.array(targets), list(groups), folds, 0, ("normal", "vm"))
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_validation_part_that_cannot_hold_every_class_is_refused() -> None:
    with pytest.raises(UsageError, match="cannot hold every class"):
        carve(np.array([0] * 6 + [1, 1]), list("abcdefgg"), 0.2, 0)
    with pytest.raises(UsageError, match=r"the share for validation is 0\.6"):
        carve(np.array([0, 1, 0, 1]), list("abcd"), 0.6, 0)
