"""Identical is exact, near-identical is measured from where the still began."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from vmeg_edge.frames import Disconnected
from vmeg_edge.live import StillDetector


def test_one_changed_pixel_anywhere_is_not_identical() -> None:
    picture = np.random.default_rng(0).integers(0, 256, (480, 640, 3), np.uint8)
    for at in [(0, 0, 0), (479, 639, 2), (100, 333, 1)]:
        detector = StillDetector(0.25)
        assert detector.observe(picture).change == np.inf
        assert detector.observe(picture.copy()).identical
        changed = picture.copy()
        changed[at] ^= 1
        likeness = detector.observe(changed)
        assert not likeness.identical
        assert likeness.change < 0.25


def test_change_is_the_mean_of_the_levels_from_the_stills_first_frame() -> None:
    detector = StillDetector(2.5)
    picture = np.full((64, 64), 100, np.uint8)
    changes = [detector.observe(picture + level).change for level in (0, 1, 2, 3, 4, 5)]
    assert changes == [np.inf, 1, 2, 3, 1, 2]  # at 3 a new still begins, so a slow drift is no still


def test_another_size_or_a_gap_is_like_nothing_before() -> None:
    detector = StillDetector(1)
    picture = np.zeros((64, 64), np.uint8)
    detector.observe(picture)
    larger = detector.observe(np.zeros((64, 65), np.uint8))
    assert (larger.identical, larger.change) == (False, np.inf)
    grey = detector.observe(np.zeros((64, 65, 3), np.uint8))
    assert (grey.identical, grey.change) == (False, np.inf)
    detector.likeness(Disconnected("unplugged"))
    assert detector.observe(np.zeros((64, 65, 3), np.uint8)).change == np.inf


@settings(max_examples=40, deadline=None)
@given(st.integers(16, 300), st.integers(16, 300), st.integers(0, 255), st.integers(0, 255))
def test_change_is_the_difference_for_any_size(height: int, width: int, one: int, other: int) -> None:
    detector = StillDetector(255)
    detector.observe(np.full((height, width), one, np.uint8))
    likeness = detector.observe(np.full((height, width), other, np.uint8))
    assert likeness.change == abs(one - other)
    assert likeness.identical == (one == other)


def test_any_strides_are_compared() -> None:
    picture = np.random.default_rng(0).integers(0, 200, (100, 90, 3), np.uint8)
    for view in (picture[:, ::-1], np.asfortranarray(picture), picture[::2, ::3], picture[..., 0], picture[:, :40]):
        detector = StillDetector(1.0)
        detector.observe(view)
        again = detector.observe(view.copy())
        assert (again.identical, again.change) == (True, 0)
        assert detector.observe(view + 2).change == 2


def test_without_a_limit_every_frame_is_new() -> None:
    detector = StillDetector(None)
    picture = np.zeros((64, 64), np.uint8)
    assert [detector.observe(picture).identical for _ in range(3)] == [False] * 3
