"""Calibration, control and validation never share a frame, a cine or a series; the choice depends on pixels alone."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from vmeg_edge.converters import calibration
from vmeg_edge.converters.calibration import Sets, digest, gather

from shared_data import shared_data
from vmeg_edge.errors import SourceError, UsageError
from vmeg_edge.manifest import Input

SPEC = Input(width=32, height=32, resize="bilinear", mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))


def stills(folder: Path, count: int, *, seed: int = 0, name: str = "{:03d}.png") -> Path:
    folder.mkdir(exist_ok=True)
    rng = np.random.default_rng(seed)
    for index in range(count):
        small = rng.integers(0, 256, (6, 6), dtype=np.uint8)
        cv2.imwrite(str(folder / name.format(index)), cv2.resize(small, (64, 64), interpolation=cv2.INTER_CUBIC))
    return folder


def marks(tensors: np.ndarray) -> set[bytes]:
    return {tensor.tobytes() for tensor in tensors}


def assert_apart(sets: Sets) -> None:
    parts = [marks(sets.calibration), marks(sets.control), marks(sets.validation)]
    assert not parts[0] & parts[1]
    assert not parts[0] & parts[2]
    assert not parts[1] & parts[2]


def test_the_three_parts_share_no_frame(tmp_path: Path) -> None:
    sets = gather([stills(tmp_path / "s", 60)], SPEC)
    assert_apart(sets)
    assert (len(sets.calibration), len(sets.control), len(sets.validation)) == (30, 10, 20)
    assert sets.sources == ("s",)
    entry = sets.entry()
    assert (entry.frames, entry.validation_frames) == (30, 20)
    assert entry.sha256 == digest(sets.calibration)
    assert entry.validation_sha256 == digest(sets.validation)


def test_the_choice_depends_on_pixels_not_on_names_order_or_place(tmp_path: Path) -> None:
    first = gather([stills(tmp_path / "a", 50)], SPEC, calibration_frames=12, validation_frames=8)
    moved = tmp_path / "elsewhere"
    moved.mkdir()
    for place, path in enumerate(sorted((tmp_path / "a").iterdir(), reverse=True)):
        shutil.copy(path, moved / f"renamed-{place:03d}-x.png")
    second = gather([moved], SPEC, calibration_frames=12, validation_frames=8)
    assert marks(first.calibration) == marks(second.calibration)
    assert marks(first.validation) == marks(second.validation)
    again = gather([tmp_path / "a"], SPEC, calibration_frames=12, validation_frames=8)
    assert again.entry() == first.entry()


def test_a_series_and_a_cine_lie_on_one_side(tmp_path: Path) -> None:
    folder = tmp_path / "series"
    for patient in range(12):
        stills(folder, 4, seed=patient, name=f"p{patient:02d}_{{}}_of_4.png")
    sides: dict[str, set[str]] = {}
    owner = {}
    for path in folder.iterdir():
        tensor = gather([path], SPEC).calibration[0]
        owner[tensor.tobytes()] = path.name[:3]
    sets = gather([folder], SPEC)
    for side, tensors in (("cal", sets.calibration), ("ctl", sets.control), ("val", sets.validation)):
        for tensor in tensors:
            sides.setdefault(owner[tensor.tobytes()], set()).add(side)
    assert len(sides) == 12
    assert all(len(where) == 1 for where in sides.values())


def test_one_cine_is_cut_in_time(tmp_path: Path) -> None:
    path = str(tmp_path / "cine.avi")
    writer = cv2.VideoWriter(path, cv2.VideoWriter.fourcc(*"MJPG"), 20, (64, 64))
    for level in range(100):
        writer.write(np.full((64, 64, 3), 20 + 2 * level, np.uint8))
    writer.release()
    sets = gather([path], SPEC)
    assert_apart(sets)
    levels = [sorted(int(t.mean()) for t in part) for part in (sets.calibration, sets.control, sets.validation)]
    assert levels[0][-1] < levels[1][0]
    assert levels[1][-1] < levels[2][0]


def test_spread_takes_the_odd_frames_where_the_first_ones_would_not(tmp_path: Path) -> None:
    folder = tmp_path / "s"
    folder.mkdir()
    for index in range(90):  # nearly all dark, a few bright
        level = 220 if index % 30 == 29 else 10 + index % 7
        picture = np.full((64, 64), level, np.uint8)
        picture[0, index % 64] = 99 + index
        cv2.imwrite(str(folder / f"{index:03d}.png"), picture)
    tensors = np.stack([gather([path], SPEC).calibration[0] for path in sorted(folder.iterdir())])
    chosen = calibration._spread_out(tensors, 6)
    assert len(chosen) == 6
    assert sum(tensor.mean() > 150 for tensor in chosen) >= 1
    assert sum(tensor.mean() > 150 for tensor in tensors[:6]) == 0


def test_the_same_pixels_count_once(tmp_path: Path) -> None:
    folder = stills(tmp_path / "s", 20)
    for path in list(folder.iterdir()):
        shutil.copy(path, folder / f"copy-{path.name}")
    sets = gather([folder, folder], SPEC)
    assert_apart(sets)
    assert len(sets.calibration) + len(sets.control) + len(sets.validation) == 20


def test_too_few_or_all_alike_is_a_warning_that_says_what_to_add(tmp_path: Path) -> None:
    sets = gather([stills(tmp_path / "one", 1)], SPEC)
    assert len(sets.calibration) == 1
    assert len(sets.validation) == 0
    assert np.array_equal(sets.control, sets.calibration)
    assert any("1 different frames" in line and "at least 31" in line for line in sets.warnings)
    folder = tmp_path / "alike"
    folder.mkdir()
    for index in range(120):
        picture = np.full((64, 64), 100, np.uint8)
        picture[index % 64, index // 2] = 101
        cv2.imwrite(str(folder / f"{index:03d}.png"), picture)
    warnings = gather([folder], SPEC).warnings
    assert any("all alike" in line and "other patients" in line for line in warnings)
    assert gather([stills(tmp_path / "enough", 200)], SPEC).warnings == ()


def test_a_corrupt_frame_among_good_ones_is_named_and_left_out(tmp_path: Path) -> None:
    folder = stills(tmp_path / "s", 40)
    (folder / "020.png").write_bytes((folder / "020.png").read_bytes()[:60])
    sets = gather([folder], SPEC)
    assert len(sets.calibration) + len(sets.control) + len(sets.validation) == 39
    assert any("1 frames could not be read" in line for line in sets.warnings)


def test_memory_is_bounded_by_a_sample_that_does_not_depend_on_order(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calibration, "_CANDIDATES", 10)
    tensors = np.random.default_rng(0).integers(0, 256, (200, 4, 4, 3), dtype=np.uint8)
    kept = []
    for order in (range(200), reversed(range(200))):
        pool = calibration._Pool()
        for index in order:
            pool.add(str(index), tensors[index])
            assert len(pool._kept) < 20
        kept.append(marks(np.concatenate(pool.groups())))
    assert kept[0] == kept[1]
    assert len(kept[0]) == 10


def test_sources_of_every_kind_serve_together() -> None:
    sets = gather(
        [
            "phantoms",
            shared_data("fetal_head_hc18"),
            shared_data("us_video", "Reg_Image_18122_crop.mp4"),
            shared_data("dicom_us", "examples_ybr_color.dcm"),
            shared_data("plus_mha", "SpinePhantomFreehand.igs.mha"),
        ],
        SPEC,
    )
    assert_apart(sets)
    assert len(sets.calibration) == 128
    assert sets.sources[0] == "phantoms"
    assert not any("/" in source for source in sets.sources)


def test_no_source_no_frames_and_no_such_file_are_errors(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="--calibration"):
        gather([], SPEC)
    with pytest.raises(SourceError, match="nowhere"):
        gather([tmp_path / "nowhere"], SPEC)
    with pytest.raises(UsageError, match="at least 1"):
        gather(["phantoms"], SPEC, calibration_frames=0)


def test_int8_without_frames_is_refused(vmeg_edge: Callable, demo_bundle: Path, tmp_path: Path) -> None:
    ran = vmeg_edge("convert", demo_bundle, "--out", tmp_path / "x.vmeg", "--precision", "int8")
    assert ran.code == 2
    assert "--calibration SOURCE" in ran.error
    assert not (tmp_path / "x.vmeg").exists()
