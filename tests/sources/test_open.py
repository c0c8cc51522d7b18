"""open_source: content decides, not the name; one line says what is wrong."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from shared_data import shared_data
from vmeg_edge.errors import SourceError
from vmeg_edge.frames import Frame, Region
from vmeg_edge.sources import open_source
from vmeg_edge.sources.base import KINDS

Maker = Callable[..., Path]


def refusal(path: Any, **options: Any) -> str:
    """The message of a refused path: one line that names the file."""
    with pytest.raises(SourceError) as caught:
        open_source(path, **options)
    message = str(caught.value)
    assert "\n" not in message
    assert os.path.basename(path) in message
    return message


@pytest.mark.parametrize(
    ("parts", "kind"),
    [
        (("fetal_brain", "normal", "Patient00724_Plane3_2_of_3.jpg"), "image"),
        (("us_video", "Reg_pat1Image_132943.mpeg"), "video"),
        (("us_video", "Cov_recommendations_lightbeam_mov6.mov"), "video"),
        (("dicom_us", "US1_UNCI.dcm"), "dicom"),
        (("plus_mha", "SpinePhantomFreehand.igs.mha"), "metaimage"),
    ],
)
def test_content_decides_whatever_the_file_is_called(tmp_path: Path, parts: tuple[str, ...], kind: str) -> None:
    disguised = tmp_path / "frames.txt"
    disguised.write_bytes(shared_data(*parts).read_bytes())
    with open_source(str(disguised)) as source:
        assert source.kind == kind
        assert isinstance(next(iter(source)), Frame)


def test_a_text_file_named_mp4_is_refused_with_the_formats_that_are_understood(tmp_path: Path) -> None:
    path = tmp_path / "cine.mp4"
    path.write_text("not a film at all\n")
    message = refusal(path)
    assert all(kind.formats in message for kind in KINDS)


def test_missing_empty_and_useless_paths_are_refused(tmp_path: Path) -> None:
    assert "no such file" in refusal(tmp_path / "absent.png")
    (tmp_path / "empty.dcm").touch()
    assert "empty" in refusal(tmp_path / "empty.dcm")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "labels.csv").write_text("a,b\n")
    assert "nothing that can be read" in refusal(tmp_path / "folder")
    with pytest.raises(SourceError, match="cannot be opened"):
        open_source("nul\0byte.png")


@pytest.mark.skipif(not hasattr(socket, "AF_UNIX"), reason="needs named pipes")
def test_a_pipe_is_refused_and_does_not_block(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.png")
    assert "neither a file nor a folder" in refusal(tmp_path / "pipe.png")


def test_control_characters_of_a_file_name_stay_out_of_the_message(tmp_path: Path) -> None:
    path = tmp_path / "a\x1b[31m\nb.png"
    path.write_text("text")
    with pytest.raises(SourceError) as caught:
        open_source(path)
    assert str(caught.value).isprintable()


def test_a_name_outside_ascii_opens(tmp_path: Path, ramp: Any) -> None:
    path = tmp_path / "Ärzte 超音波.png"
    path.write_bytes(cv2.imencode(".png", ramp)[1].tobytes())
    with open_source(path) as source:
        (frame,) = source
    assert isinstance(frame, Frame)
    assert frame.source == str(path)


def test_each_iteration_starts_afresh_and_a_closed_source_says_so(tmp_path: Path, make_video: Maker) -> None:
    source = open_source(make_video(tmp_path / "v.mp4", frames=5))
    for _ in range(3):
        assert [entry.index for entry in source] == [0, 1, 2, 3, 4]
    abandoned = iter(source)
    next(abandoned)
    assert [entry.index for entry in source] == [0, 1, 2, 3, 4]
    source.close()
    source.close()
    with pytest.raises(SourceError, match="closed"):
        iter(source)


def test_a_fixed_region_overrides_the_files_own_and_silences_its_warning(
    recwarn: pytest.WarningsRecorder,
) -> None:
    fixed = Region(10, 20, 100, 90)
    for name in ("OBXXXX1A_rle_2frame.dcm", "examples_ybr_color.dcm"):
        with open_source(shared_data("dicom_us", name), region=fixed) as source:
            assert {entry.region for entry in source if isinstance(entry, Frame)} == {fixed}
    assert not recwarn.list


def test_a_fixed_region_beyond_the_frame_is_refused_at_opening(tmp_path: Path, make_video: Maker) -> None:
    message = refusal(make_video(tmp_path / "v.mp4"), region=Region(0, 0, 65, 48))
    assert "64x48" in message


def test_a_missing_extra_is_answered_with_its_install_command(monkeypatch: pytest.MonkeyPatch) -> None:
    path = shared_data("dicom_us", "US1_UNCI.dcm")
    monkeypatch.setitem(__import__("sys").modules, "pydicom", None)
    for target in (path, path.parent):
        assert refusal(target).endswith('pip install "vmeg-edge[dicom]"')


def test_opening_imports_only_the_reader_that_is_needed() -> None:
    import subprocess
    import sys

    code = (
        "import sys, vmeg_edge.sources as s; print([m for m in ('cv2', 'pydicom', 'numpy.f2py') if m in sys.modules])"
    )
    root = Path(__file__).resolve().parents[2]
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=root, check=True)
    assert ran.stdout.strip() == "[]"


def test_a_file_that_vanishes_between_two_iterations_is_one_line(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(cv2.imencode(".png", np.zeros((32, 32), np.uint8))[1].tobytes())
    source = open_source(path)
    list(source)
    path.unlink()
    with pytest.raises(SourceError, match="cannot be read"):
        list(source)
