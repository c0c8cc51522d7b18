"""The sector: which patches lie outside it, what they share, and when a model of fewer tokens may score a frame."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import pytest

from vmeg_edge.errors import UsageError
from vmeg_edge.sector import (
    DARK,
    LEARNT_FROM,
    REGISTERS,
    Sector,
    SectorWatch,
    brightest_of,
    fitted,
    read_sector,
)

GRID = (6, 6)
Levels = npt.NDArray[np.uint8]


def picture(lit: npt.ArrayLike, level: int = 100) -> Levels:
    """uint8 ``[1, 96, 96, 3]`` with one bright pixel in each lit patch."""
    made = np.zeros((1, 96, 96, 3), np.uint8)
    for row, column in np.argwhere(np.asarray(lit)):
        made[0, 16 * row + 5, 16 * column + 9, 1] = level
    return made


def fan(width: int = 2) -> npt.NDArray[np.bool_]:
    """Lit patches, narrow at the top and all across at the bottom."""
    lit = np.zeros(GRID, np.bool_)
    for row in range(6):
        half = min(3, width // 2 + row // 2)
        lit[row, 3 - half : 3 + half] = True
    return lit


def test_brightest_is_each_patchs_highest_level() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (1, 96, 128, 3), dtype=np.uint8)
    found = brightest_of(pixels, (6, 8))
    for row in range(6):
        for column in range(8):
            patch = pixels[0, 16 * row : 16 * row + 16, 16 * column : 16 * column + 16]
            assert found[row, column] == patch.max()


@pytest.mark.parametrize(("level", "inside"), [(DARK, 0), (DARK + 1, 1)])
def test_dark_is_at_most_eight(level: int, inside: int) -> None:
    lit = np.zeros(GRID, np.bool_)
    lit[2, 2] = True
    assert Sector.seen(brightest_of(picture(lit, level), GRID)).inside.sum() == inside


def test_a_dark_ventricle_inside_keeps_its_tokens() -> None:
    lit = fan(6)
    lit[3, 2:4] = False
    assert Sector.seen(brightest_of(picture(lit), GRID)).inside[3, 2:4].all()
    lit[3, :2] = False  # joined to the edge by dark patches: outside
    assert not Sector.seen(brightest_of(picture(lit), GRID)).inside[3, :4].any()
    lit = fan(6)
    lit[0, 0] = lit[1, 1] = False  # touching at a corner alone
    assert Sector.seen(brightest_of(picture(lit), GRID)).inside[1, 1]


def test_every_patch_has_a_home_and_every_token_a_patch() -> None:
    sector = Sector(fan())
    own = int(sector.inside.sum())
    assert sector.needs == own + REGISTERS
    for tokens in range(sector.needs, 37):
        home = sector.home(tokens)
        assert home.dtype == np.int32
        assert home.shape == (1, 36)
        assert sorted(set(home[0])) == list(range(tokens))
        assert len(set(home[0, sector.inside.ravel()])) == own
        assert not set(home[0, sector.inside.ravel()]) & set(home[0, ~sector.inside.ravel()])
    for tokens in (sector.needs - 1, 37):
        with pytest.raises(UsageError, match=f"needs {sector.needs} tokens of 36, and the model has {tokens}"):
            sector.home(tokens)


def test_where_little_is_outside_it_shares_nothing() -> None:
    inside = np.ones(GRID, np.bool_)
    inside[0, :2] = False
    assert Sector(inside).needs == 36


def test_fitting_leaves_what_fits_and_blackens_from_the_edge_in() -> None:
    pixels = picture(fan())
    same, home = fitted(pixels, 30, GRID)
    assert same is pixels
    np.testing.assert_array_equal(home, Sector(fan()).home(30))
    full = picture(np.ones(GRID))
    before = full.copy()
    less, home = fitted(full, 20, GRID)
    np.testing.assert_array_equal(full, before)
    sector = Sector.seen(brightest_of(less, GRID))
    assert sector.needs <= 20
    assert sector.inside[2:4, 2:4].all()
    assert not sector.inside[0, 0]
    np.testing.assert_array_equal(home, sector.home(20))
    with pytest.raises(UsageError, match="sees nothing"):
        fitted(full, REGISTERS, GRID)


def test_a_geometry_is_learnt_before_a_smaller_model_scores() -> None:
    watch = SectorWatch((28, 32), GRID)
    for _ in range(LEARNT_FROM):
        assert watch.choose(picture(fan()), "a") is None
    chosen = watch.choose(picture(fan()), "a")
    assert chosen is not None
    assert chosen[0] == min(s for s in (28, 32) if s >= Sector(fan()).needs)
    np.testing.assert_array_equal(chosen[1], Sector(fan()).home(chosen[0]))


def test_learning_takes_every_frame_into_account() -> None:
    watch = SectorWatch((28, 32), GRID)
    early = fan()
    early[0, 0] = True
    for number in range(LEARNT_FROM):
        watch.choose(picture(early if number == 3 else fan()), "a")
    chosen = watch.choose(picture(fan()), "a")
    assert chosen is not None
    np.testing.assert_array_equal(chosen[1], Sector(early).home(chosen[0]))


def test_what_lights_up_outside_has_a_token_in_that_very_frame() -> None:
    watch = SectorWatch((28, 32), GRID)
    for _ in range(LEARNT_FROM + 1):
        watch.choose(picture(fan()), "a")
    lit = fan()
    lit[1, 0] = True
    for _ in range(3):  # and keeps it, though it goes dark again
        chosen = watch.choose(picture(lit), "a")
        assert chosen is not None
        assert (chosen[1][0] == chosen[1][0, 6]).sum() == 1
        lit[1, 0] = False


def test_a_frame_that_no_size_fits_goes_to_the_whole_model_and_learning_starts_again() -> None:
    watch = SectorWatch((28,), GRID)
    for _ in range(LEARNT_FROM + 1):
        watch.choose(picture(fan()), "a")
    assert watch.choose(picture(np.ones(GRID)), "a") is None
    for _ in range(LEARNT_FROM):
        assert watch.choose(picture(fan()), "a") is None
    assert watch.choose(picture(fan()), "a") is not None


def test_another_geometry_is_learnt_afresh() -> None:
    watch = SectorWatch((28,), GRID)
    for _ in range(LEARNT_FROM + 1):
        watch.choose(picture(fan()), "a")
    turned = fan()[::-1]
    for _ in range(LEARNT_FROM):
        assert watch.choose(picture(turned), "b") is None
    chosen = watch.choose(picture(turned), "b")
    assert chosen is not None
    np.testing.assert_array_equal(chosen[1], Sector(turned).home(28))


def test_a_known_sector_serves_from_the_first_frame_and_grows() -> None:
    watch = SectorWatch((28, 32), GRID, Sector(fan()))
    chosen = watch.choose(picture(np.zeros(GRID)), "a")
    assert chosen is not None
    assert chosen[0] == 28
    np.testing.assert_array_equal(chosen[1], Sector(fan()).home(28))
    assert watch.choose(picture(np.ones(GRID)), "a") is None
    assert watch.choose(picture(fan()), "a") is not None


def test_a_sector_is_read_from_a_picture(tmp_path: Path) -> None:
    mask = np.zeros((480, 640), np.uint8)
    mask[200:, 250:400] = 255
    cv2.imwrite(str(tmp_path / "mask.png"), mask)
    sector = read_sector(tmp_path / "mask.png", GRID)
    expected = np.zeros(GRID, np.bool_)
    expected[2:, 2:4] = True
    np.testing.assert_array_equal(sector.inside, expected)
    cv2.imwrite(str(tmp_path / "black.png"), mask * 0)
    (tmp_path / "text.png").write_text("no picture")
    for name, says in (("black", "black all over"), ("text", "no picture that can be read"), ("none", "no picture")):
        with pytest.raises(UsageError, match=says):
            read_sector(tmp_path / f"{name}.png", GRID)
