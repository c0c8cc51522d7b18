"""Cameras: refusals in one line, and the read loop on a real capture of OpenCV. No camera is needed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from vmeg_edge.errors import SourceError
from vmeg_edge.frames import Disconnected, Frame, LostFrame, Region
from vmeg_edge.sources.camera import CameraSource
from vmeg_edge.sources.capture import LiveCapture, _rgb, read_live


@pytest.fixture
def video(tmp_path: Path) -> Path:
    path = tmp_path / "a.avi"
    writer = cv2.VideoWriter(str(path), cv2.CAP_FFMPEG, cv2.VideoWriter.fourcc(*"MJPG"), 25.0, (64, 48))
    for value in range(6):
        writer.write(np.full((48, 64, 3), (0, 0, 40 * value), np.uint8))
    writer.release()
    return path


@pytest.mark.skipif(sys.platform != "linux", reason="the message names Linux devices")
@pytest.mark.parametrize("device", [97, "/dev/video97"])
def test_a_device_that_does_not_exist_is_named_with_those_that_do(device: int | str) -> None:
    with pytest.raises(SourceError, match=r"there is no /dev/video97; (devices here|no video device is there)"):
        CameraSource(device)


def test_a_file_that_is_no_device_is_refused(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "video0"
    path.write_bytes(b"x")
    with pytest.raises(SourceError, match="cannot be opened"):
        CameraSource(str(path))
    assert capfd.readouterr().err == ""


def test_the_loop_delivers_rgb_stamped_on_arrival_and_says_when_it_is_over(video: Path) -> None:
    capture = LiveCapture(cv2.VideoCapture(str(video), cv2.CAP_FFMPEG))
    items = list(read_live(capture, "camera 0", Region(0, 0, 64, 48)))
    capture.close()
    frames = [item for item in items if isinstance(item, Frame)]
    assert [frame.index for frame in frames] == list(range(6))
    reds = [int(frame.pixels[20, 20, 0]) for frame in frames]
    assert reds == pytest.approx([0, 40, 80, 120, 160, 200], abs=6)
    assert all(frame.pixels[20, 20, 2] < 8 for frame in frames)
    stamps = [frame.arrived_ns or 0 for frame in frames]
    assert stamps == sorted(stamps)
    assert frames[0].captured_s == 0.0
    assert isinstance(items[-1], Disconnected)
    assert len(items) == 7


def test_a_frame_that_a_region_does_not_fit_is_lost(video: Path) -> None:
    capture = LiveCapture(cv2.VideoCapture(str(video), cv2.CAP_FFMPEG))
    items = list(read_live(capture, "camera 0", Region(0, 0, 65, 48)))
    capture.close()
    assert [type(item) for item in items] == [LostFrame] * 6 + [Disconnected]


def test_closing_ends_the_loop_without_a_word(video: Path) -> None:
    capture = LiveCapture(cv2.VideoCapture(str(video), cv2.CAP_FFMPEG))
    items = read_live(capture, "camera 0", None)
    assert isinstance(next(items), Frame)
    capture.close()
    capture.close()
    assert list(items) == []
    assert not capture.is_open()


CLOSED_WHILE_READ = """
import sys, threading, time
import cv2
from vmeg_edge.sources.capture import LiveCapture, read_live
for turn in range(12):
    capture = LiveCapture(cv2.VideoCapture(sys.argv[1], cv2.CAP_FFMPEG))
    reader = threading.Thread(target=lambda: list(read_live(capture, "camera 0", None)))
    reader.start()
    time.sleep(0.004 * turn)
    capture.close()
    reader.join()
    assert not capture.is_open()
"""


def test_closing_under_a_read_does_not_take_the_process_along(tmp_path: Path) -> None:
    path = tmp_path / "large.avi"
    writer = cv2.VideoWriter(str(path), cv2.CAP_FFMPEG, cv2.VideoWriter.fourcc(*"MJPG"), 25.0, (1280, 720))
    picture = np.random.default_rng(0).integers(0, 255, (720, 1280, 3), np.uint8)
    for _ in range(20):
        writer.write(picture)
    writer.release()
    done = subprocess.run([sys.executable, "-c", CLOSED_WHILE_READ, str(path)], capture_output=True, check=False)
    assert (done.returncode, done.stderr) == (0, b"")


def test_grey_stays_grey_and_bgra_becomes_rgb() -> None:
    grey = np.arange(256, dtype=np.uint8).reshape(16, 16)
    assert np.array_equal(_rgb(grey), grey)
    assert np.array_equal(_rgb(grey[..., None]), grey)
    bgra = np.zeros((16, 16, 4), np.uint8)
    bgra[..., 0] = 9
    assert _rgb(bgra)[0, 0].tolist() == [0, 0, 9]
