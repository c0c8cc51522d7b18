"""Phantoms: the ground truth is what is drawn, in millimetres, and the same seed draws the same pixels."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from vmeg_edge.errors import UsageError
from vmeg_edge.phantom import PhantomCine, cine, phantom, phantoms
from vmeg_edge.phantom.anatomy import Pose, sample_anatomy, sample_scanner
from vmeg_edge.phantom.render import render

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(autouse=True)
def _drawn_each_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Drawing is what is tested here, so that no phantom comes from another test."""
    monkeypatch.setattr("vmeg_edge.phantom.render", render)
    monkeypatch.setattr(cine, "render", render)


def _level(width_mm: float, seed: int = 3) -> tuple:
    """A head that lies level in the middle, so that rows of pixels run along the midline."""
    rng = np.random.default_rng(seed)
    scanner = sample_scanner(rng)
    anatomy = sample_anatomy(rng, width_mm)
    pose = Pose(lateral_mm=0.0, depth_mm=scanner.depth_mm * 0.54, rotation_rad=0.0, mirrored=False)
    return anatomy, scanner, pose


@pytest.mark.parametrize("width_mm", [5.0, 8.0, 10.0, 13.0, 15.5])
def test_the_mask_has_the_atrial_width_in_millimetres(width_mm: float) -> None:
    anatomy, scanner, pose = _level(width_mm)
    made = render(anatomy, scanner, pose)
    spacing = made.frame.spacing_mm
    assert spacing is not None
    atrium_mm = anatomy.ventricle_position * anatomy.occipitofrontal_mm / 2
    column = round((made.frame.width - 1) / 2 + atrium_mm / spacing[1])
    middle = round(0.02 * made.frame.height + (pose.depth_mm + 3.0) / spacing[0])
    far_side = made.ventricles[middle:, column]
    assert far_side.sum() * spacing[0] == pytest.approx(width_mm, abs=2 * spacing[0] + 0.2)


def test_the_ventricle_is_darker_than_the_brain_around_it() -> None:
    anatomy, scanner, pose = _level(14.0)
    anatomy = replace(anatomy, choroid_fill=0.01)
    made = render(anatomy, replace(scanner, shadows=(), haze_db=-80.0), pose)
    rows, columns = np.nonzero(made.ventricles)
    inside = np.median(made.frame.pixels[rows, columns])
    box = made.frame.pixels[rows.min() : rows.max(), columns.min() : columns.max()]
    around = np.median(box[~made.ventricles[rows.min() : rows.max(), columns.min() : columns.max()]])
    assert inside < 0.7 * around


def test_the_label_follows_the_ten_millimetre_rule() -> None:
    anatomy, scanner, pose = _level(9.99)
    assert not render(anatomy, scanner, pose).dilated
    assert render(replace(anatomy, atrial_width_mm=10.0), scanner, pose).dilated
    assert [phantom(1, i).dilated for i in range(20)] == [phantom(1, i).atrial_width_mm >= 10 for i in range(20)]


def test_the_same_seed_draws_the_same_pixels_and_others_differ() -> None:
    first, again, other = phantom(4, 2), phantom(4, 2), phantom(5, 2)
    assert np.array_equal(first.frame.pixels, again.frame.pixels)
    assert first.atrial_width_mm == again.atrial_width_mm
    assert (first.frame.pixels != other.frame.pixels).mean() > 0.5


def test_another_processor_draws_the_same_picture_but_for_rounding(tmp_path: Path) -> None:
    """Vector instructions round a sum in another order, so that few pixels differ, and by a level."""
    code = (
        "import sys, numpy as np; from vmeg_edge.phantom import phantoms; "
        "np.save(sys.argv[1], np.stack([made.frame.pixels for made in phantoms(4, 4)]))"
    )
    classes = {
        "lowest": {"NPY_DISABLE_CPU_FEATURES": " ".join(_dispatched()), "OPENCV_CPU_DISABLE": "AVX2,FP16,AVX,SSE4.2"},
        "none of OpenCV's": {"OPENCV_CPU_DISABLE": "AVX2,FP16,AVX,SSE4.2,SSE4.1"},
    }
    here = np.stack([made.frame.pixels for made in phantoms(4, 4)]).astype(int)
    for name, forced in classes.items():
        command = [sys.executable, "-c", code, str(tmp_path / "drawn.npy")]
        subprocess.run(command, env=os.environ | forced, cwd=ROOT, check=True, capture_output=True)
        apart = np.abs(np.load(tmp_path / "drawn.npy") - here)
        assert (apart > 0).mean() < 1e-3, name
        assert (apart > 2).mean() < 1e-5, name


def _dispatched() -> list[str]:
    """The instruction sets above its baseline that NumPy found here; those that it did not find cannot be left out."""
    from numpy._core import _multiarray_umath as core

    return [name for name in core.__cpu_dispatch__ if core.__cpu_features__[name]]


def test_a_set_holds_both_classes_with_a_gap_between_them() -> None:
    widths = np.array([made.atrial_width_mm for made in phantoms(9, 60)])
    assert 15 < (widths >= 10).sum() < 45
    assert not ((widths > 9.2) & (widths < 10.8)).any()


def test_the_region_holds_the_sector_and_every_ventricle() -> None:
    for made in phantoms(2, 12):
        region = made.frame.region
        assert region is not None
        inside = made.ventricles[region.y : region.y + region.height, region.x : region.x + region.width]
        assert inside.sum() == made.ventricles.sum() > 200


def test_a_cine_moves_a_little_from_frame_to_frame_and_changes_its_head() -> None:
    made = list(PhantomCine((6.0, 13.0), frames=12).phantoms())
    assert [p.dilated for p in made] == [False] * 6 + [True] * 6
    assert [p.frame.captured_s for p in made] == pytest.approx([i / 20 for i in range(12)])
    steps = [np.abs(a.frame.pixels.astype(int) - b.frame.pixels).mean() for a, b in pairwise(made)]
    within = steps[:5] + steps[6:]
    assert min(within) > 0.5
    assert steps[5] > 1.5 * max(within)


def test_the_screen_says_that_it_is_simulated() -> None:
    made = phantom(1, 0).frame
    corner = made.pixels[:40, : made.width // 4]
    assert (corner > 100).sum() > 30


@pytest.mark.parametrize(("widths", "frames"), [((), 10), ((6.0, 13.0), 1)])
def test_a_cine_without_a_frame_a_head_is_refused(widths: tuple[float, ...], frames: int) -> None:
    with pytest.raises(UsageError, match="a frame a head"):
        PhantomCine(widths, frames=frames)
