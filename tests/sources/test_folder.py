"""A folder: natural order, every kind chained, what cannot be decoded counted as lost."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from shared_data import shared_data
from vmeg_edge.errors import SourceError
from vmeg_edge.frames import Frame, LostFrame, Region
from vmeg_edge.sources import open_source

Entries = Callable[..., list[Any]]
Maker = Callable[..., Path]


def still(path: Path, level: int = 0, shape: tuple[int, ...] = (32, 32)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(cv2.imencode(".png", np.full(shape, level, np.uint8))[1].tobytes())
    return path


def test_the_fetal_brain_stills_come_whole_and_in_order(entries: Entries) -> None:
    folder = shared_data("fetal_brain")
    frames = entries(folder)
    assert [frame.index for frame in frames] == list(range(97))
    assert all(isinstance(frame, Frame) for frame in frames)
    assert sum(frame.source.startswith("normal/") for frame in frames) == 65
    with open_source(folder) as source:
        assert source.frame_count == 97
        assert source.kind == "folder"


def test_order_is_natural_and_names_are_relative(entries: Entries, tmp_path: Path) -> None:
    for place, name in enumerate(["1.png", "2.png", "10.png", "b/9.png", "b/010.png", "B/11.png"]):
        still(tmp_path / name, level=place)
    frames = entries(tmp_path)
    assert [frame.source for frame in frames] == ["1.png", "2.png", "10.png", "b/9.png", "b/010.png", "B/11.png"]
    assert [int(frame.pixels[0, 0]) for frame in frames] == list(range(6))


def test_a_folder_chains_every_kind_and_its_index_runs_on(
    entries: Entries, tmp_path: Path, make_video: Maker, make_mha: Maker, make_dicom: Maker
) -> None:
    still(tmp_path / "a.png")
    make_video(tmp_path / "b.mp4", frames=4)
    make_dicom(tmp_path / "c.dcm", np.zeros((3, 32, 32), np.uint8))
    make_mha(tmp_path / "d.mha", np.zeros((2, 32, 32), np.uint8))
    (tmp_path / "labels.csv").write_text("path,label\n")
    (tmp_path / ".DS_Store").write_bytes(b"\0" * 64)
    (tmp_path / "._a.png").write_bytes(b"\0\5\x16\7")
    got = entries(tmp_path)
    assert [entry.index for entry in got] == list(range(10))
    assert [entry.source for entry in got] == ["a.png"] + ["b.mp4"] * 4 + ["c.dcm"] * 3 + ["d.mha"] * 2
    with open_source(tmp_path) as source:
        assert source.frame_count is None


def test_the_whole_of_the_shared_dicom_folder_is_one_recording(entries: Entries) -> None:
    with pytest.warns(UserWarning, match="does not fit"):
        got = entries(shared_data("dicom_us"))
    assert len(got) == 11 + 2 + 30 + 10
    assert all(isinstance(entry, Frame) for entry in got)


def test_files_that_look_like_pictures_and_are_none_are_lost_frames(entries: Entries, tmp_path: Path) -> None:
    still(tmp_path / "1.png")
    (tmp_path / "2.png").write_bytes((tmp_path / "1.png").read_bytes()[:60])
    (tmp_path / "3.jpg").write_text("text")
    (tmp_path / "4.bmp").touch()
    (tmp_path / "5.png").write_bytes(cv2.imencode(".png", np.zeros((32, 32), np.uint16))[1].tobytes())
    still(tmp_path / "6.png", shape=(1, 1))
    still(tmp_path / "7.png")
    got = entries(tmp_path)
    lost = [entry for entry in got if isinstance(entry, LostFrame)]
    assert [entry.index for entry in got] == list(range(7))
    assert [entry.source for entry in lost] == ["2.png", "3.jpg", "4.bmp", "5.png", "6.png"]
    assert "cut short" in lost[0].reason
    assert "no known format" in lost[1].reason
    assert "16 bits" in lost[3].reason
    assert "1x1" in lost[4].reason
    assert all(entry.source not in entry.reason for entry in lost)


def test_a_folder_of_damaged_pictures_only_is_refused(tmp_path: Path) -> None:
    (tmp_path / "1.png").write_bytes(still(tmp_path / "x.png").read_bytes()[:60])
    (tmp_path / "x.png").unlink()
    with pytest.raises(SourceError, match="cut short"):
        open_source(tmp_path)


def test_dicom_objects_without_a_picture_are_skipped(entries: Entries, tmp_path: Path, make_dicom: Maker) -> None:
    from pydicom import dcmread

    make_dicom(tmp_path / "image.dcm", np.zeros((1, 32, 32), np.uint8))
    report = dcmread(tmp_path / "image.dcm")
    for keyword in ("PixelData", "Rows", "Columns"):
        delattr(report, keyword)
    report.save_as(tmp_path / "report.dcm")
    assert [entry.source for entry in entries(tmp_path)] == ["image.dcm"]
    with pytest.raises(SourceError, match="without a picture"):
        open_source(tmp_path / "report.dcm")


@pytest.mark.skipif(os.name == "nt", reason="links need rights on Windows")
def test_links_are_followed_loops_and_dead_ends_are_not(entries: Entries, tmp_path: Path) -> None:
    outside = still(tmp_path / "outside" / "z.png")
    folder = tmp_path / "folder"
    still(folder / "a.png")
    (folder / "link.png").symlink_to(outside)
    (folder / "loop").symlink_to(folder)
    (folder / "dead.png").symlink_to(tmp_path / "nowhere.png")
    os.mkfifo(folder / "pipe.png")
    assert [entry.source for entry in entries(folder)] == ["a.png", "link.png"]


def test_a_fixed_region_is_held_against_each_picture(entries: Entries, tmp_path: Path) -> None:
    still(tmp_path / "1.png", shape=(64, 64))
    still(tmp_path / "2.png", shape=(32, 32))
    region = Region(0, 0, 40, 40)
    fits, lost = entries(tmp_path, region)
    assert fits.region == region
    assert "reaches beyond the frame of 32x32" in lost.reason


def test_a_damaged_file_costs_no_other(entries: Entries, tmp_path: Path, make_video: Maker) -> None:
    whole = make_video(tmp_path / "a.mp4", frames=3).read_bytes()
    (tmp_path / "b.mp4").write_bytes(whole[: whole.index(b"moov") + 100])
    still(tmp_path / "c.png")
    got = entries(tmp_path)
    assert [type(entry).__name__ for entry in got] == ["Frame"] * 3 + ["LostFrame", "Frame"]
    assert "moov" in got[3].reason
