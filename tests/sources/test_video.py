"""Video: counts, colours, time stamps, and files that hold less than they announce."""

from __future__ import annotations

import os
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from shared_data import shared_data
from vmeg_edge.errors import SourceError
from vmeg_edge.frames import Frame, LostFrame
from vmeg_edge.sources import open_source
from vmeg_edge.sources.isobmff import read_movie

Entries = Callable[..., list[Any]]
Maker = Callable[..., Path]

PARENTS = (b"moov", b"trak", b"mdia", b"minf", b"stbl", b"edts")


def edit_box(data: bytes, kind: bytes, payload: bytes) -> bytes:
    """Replace one box below moov, and grow or shrink the boxes around it (moov must come last)."""
    place = data.index(kind) - 4
    (size,) = struct.unpack_from(">I", data, place)
    changed = bytearray(data[:place] + struct.pack(">I", 8 + len(payload)) + kind + payload + data[place + size :])
    for parent in PARENTS:
        start = changed.find(parent, 0) - 4
        while start >= 0:
            (length,) = struct.unpack_from(">I", changed, start)
            if start < place < start + length:
                struct.pack_into(">I", changed, start, length + 8 + len(payload) - size)
                break
            start = changed.find(parent, start + 8) - 4
    return bytes(changed)


@pytest.mark.parametrize(
    ("name", "count", "announced", "fps", "side", "last_s"),
    [
        ("Reg_Image_182340_crop.mp4", 309, 309, 37.1096, 400, 8.29974),
        ("Reg_Image_18122_crop.mp4", 187, 187, 19.1031, 208, 9.73665),
        ("Cov_convex_volpecelli_sonographic_v1.mov", 403, 403, 39.0, 450, 10.30769),
        ("Cov_recommendations_lightbeam_mov6.mov", 309, 309, 29.97003, 538, 10.27693),
        ("Reg_recommendations_alines_mov1.mov", 180, 180, 18.0, 322, 9.94444),
        ("Reg_pat1Image_132943.mpeg", 280, None, 25.0, 370, 11.16),
    ],
)
def test_real_cines_give_every_frame_with_its_time(
    name: str, count: int, announced: int | None, fps: float, side: int, last_s: float
) -> None:
    with open_source(shared_data("us_video", name)) as source:
        assert source.frame_count == announced
        assert source.fps == pytest.approx(fps, abs=1e-3)
        times: list[float] = []
        for index, frame in enumerate(source):
            assert isinstance(frame, Frame)
            assert frame.index == index
            assert frame.pixels.shape == (side, side, 3)
            assert frame.pixels.dtype == np.uint8
            assert frame.captured_s is not None
            times.append(frame.captured_s)
    assert len(times) == count
    assert times[0] == 0.0
    assert times[-1] == pytest.approx(last_s, abs=1e-4)
    assert np.diff(times) == pytest.approx(1 / fps, abs=1e-3)


@pytest.mark.parametrize(("suffix", "codec"), [("mp4", "mp4v"), ("avi", "MJPG"), ("mov", "mp4v"), ("mkv", "mp4v")])
def test_colours_are_rgb_and_frames_in_order(
    entries: Entries, tmp_path: Path, make_video: Maker, suffix: str, codec: str
) -> None:
    frames = entries(make_video(tmp_path / f"v.{suffix}", frames=12, codec=codec))
    assert len(frames) == 12
    for index, frame in enumerate(frames):
        red, green, blue = frame.pixels.reshape(-1, 3).mean(0)
        assert red == pytest.approx(8 * index, abs=6)
        assert max(green, blue) < 12


def test_only_sample_tables_count_as_an_exact_number(tmp_path: Path, make_video: Maker) -> None:
    with open_source(make_video(tmp_path / "v.avi", frames=7, codec="MJPG")) as source:
        assert source.frame_count is None
    with open_source(make_video(tmp_path / "v.mp4", frames=7)) as source:
        assert source.frame_count == 7


def test_time_stamps_are_the_streams_own_where_the_rate_varies(
    entries: Entries, tmp_path: Path, make_video: Maker
) -> None:
    data = make_video(tmp_path / "v.mp4", frames=12, fps=25.0).read_bytes()
    start = data.index(b"stts") + 4
    entries_in_table, count, step = struct.unpack_from(">III", data, start + 4)
    assert (entries_in_table, count) == (1, 12)
    # The first six frames last half as long, the others half as long again: the whole stays as long as it was.
    table = struct.pack(">IIIIII", 0, 2, 6, step // 2, 6, step + step // 2)
    (tmp_path / "w.mp4").write_bytes(edit_box(data, b"stts", table))
    times = [frame.captured_s for frame in entries(tmp_path / "w.mp4")]
    assert np.diff(times) == pytest.approx([0.02] * 6 + [0.06] * 5, abs=1e-6)


def test_frames_that_sample_tables_announce_and_the_data_lack_are_lost(
    entries: Entries, tmp_path: Path, make_video: Maker
) -> None:
    data = make_video(tmp_path / "v.mp4", frames=40).read_bytes()
    media, movie = data.index(b"mdat") - 4, data.index(b"moov") - 4
    (length,) = struct.unpack_from(">I", data, media)
    damaged = bytearray(data)
    damaged[media + length // 2 : movie] = bytes(movie - media - length // 2)  # the second half is zeros
    (tmp_path / "w.mp4").write_bytes(damaged)
    got = entries(tmp_path / "w.mp4")
    assert [entry.index for entry in got] == list(range(40))
    lost = [entry for entry in got if isinstance(entry, LostFrame)]
    assert 10 < len(lost) < 40
    assert all(f"only {40 - len(lost)} of 40 frames decode" in entry.reason for entry in lost)
    assert all(isinstance(entry, Frame) for entry in got[: 40 - len(lost)])


def test_an_edit_list_that_cuts_frames_away_leaves_no_exact_count(tmp_path: Path, make_video: Maker) -> None:
    path = make_video(tmp_path / "v.mp4", frames=20)
    data = path.read_bytes()
    version, count, duration, first = struct.unpack_from(">IIIi", data, data.index(b"elst") + 4)
    assert (version, count) == (0, 1)
    assert read_movie(path).samples == 20
    box = struct.pack(">IIIiHH", 0, 1, duration // 2, first, 1, 0)
    (tmp_path / "w.mp4").write_bytes(edit_box(data, b"elst", box))
    assert read_movie(tmp_path / "w.mp4").samples is None
    with open_source(tmp_path / "w.mp4") as source:
        assert source.frame_count is None
        assert all(isinstance(entry, Frame) for entry in source)


def test_an_announcement_beyond_belief_is_refused(tmp_path: Path, make_video: Maker) -> None:
    data = bytearray(make_video(tmp_path / "v.mp4", frames=5).read_bytes())
    struct.pack_into(">I", data, data.index(b"stsz") + 12, 2_000_000_000)
    (tmp_path / "w.mp4").write_bytes(data)
    assert "announces 2000000000 frames" in refusal(tmp_path / "w.mp4")


def refusal(path: Path) -> str:
    """The message of a refusal."""
    with pytest.raises(SourceError) as caught:
        open_source(path)
    assert "\n" not in str(caught.value)
    assert path.name in str(caught.value)
    return str(caught.value)


def test_a_recording_cut_before_its_header_is_refused_in_one_line_and_in_silence(
    tmp_path: Path, make_video: Maker, capfd: pytest.CaptureFixture[str]
) -> None:
    data = make_video(tmp_path / "v.mp4", frames=40).read_bytes()
    capfd.readouterr()
    for share in (0.02, 0.4, 0.9):
        (tmp_path / "cut.mp4").write_bytes(data[: int(len(data) * share)])
        assert "no movie header (moov)" in refusal(tmp_path / "cut.mp4")
    assert capfd.readouterr().err == ""


def test_a_video_without_one_frame_is_refused(tmp_path: Path, make_video: Maker) -> None:
    data = bytearray(make_video(tmp_path / "v.mp4", frames=10).read_bytes())
    media, movie = data.index(b"mdat") + 4, data.index(b"moov") - 4
    data[media:movie] = bytes(movie - media)
    (tmp_path / "w.mp4").write_bytes(data)
    assert "no video that can be decoded" in refusal(tmp_path / "w.mp4")


def test_frames_are_decoded_one_at_a_time() -> None:
    """Taking three frames of a cine costs a small part of taking all: nothing is read ahead."""
    import time

    path = shared_data("us_video", "Cov_convex_volpecelli_sonographic_v1.mov")
    with open_source(path) as source:
        began = time.process_time()
        entries = iter(source)
        for _ in range(3):
            next(entries)
        three_s = time.process_time() - began
        rest = sum(1 for _ in entries)
        all_s = time.process_time() - began
    assert rest == 400
    assert three_s < all_s / 5


def test_ffmpeg_is_silent_about_a_damaged_cine_in_a_fresh_process(tmp_path: Path) -> None:
    data = bytearray(shared_data("us_video", "Reg_pat1Image_132943.mpeg").read_bytes())
    for place in range(5000, len(data), 3001):
        data[place : place + 8] = b"\xff" * 8
    (tmp_path / "damaged.mpeg").write_bytes(data)
    code = (
        "import sys\n"
        "from vmeg_edge.sources import open_source\n"
        "with open_source(sys.argv[1]) as source: print(sum(1 for _ in source))\n"
    )
    root = Path(__file__).resolve().parents[2]
    command = [sys.executable, "-c", code, str(tmp_path / "damaged.mpeg")]
    environment = {key: value for key, value in os.environ.items() if not key.startswith("OPENCV")}
    ran = subprocess.run(command, capture_output=True, text=True, cwd=root, env=environment, check=True)
    assert ran.stderr == ""
    assert int(ran.stdout) > 100
