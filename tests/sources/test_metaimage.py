"""MetaImage: real PLUS recordings, both wrappers, orientation, times, and headers that lie."""

from __future__ import annotations

import sys
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from shared_data import shared_data
from vmeg_edge.errors import SourceError
from vmeg_edge.frames import Frame, LostFrame
from vmeg_edge.sources import open_source

Entries = Callable[..., list[Any]]
Maker = Callable[..., Path]


@pytest.fixture(scope="module", name="cine")
def cine_fixture() -> Any:
    """uint8 [5, 20, 30], every element different from its neighbours."""
    return (np.arange(5 * 20 * 30) * 7 % 251).astype(np.uint8).reshape(5, 20, 30)


@pytest.mark.parametrize(
    ("name", "frames", "shape", "last_s"),
    [
        ("BkCurvilinearScanConvertedData.igs.mha", 1, (400, 600), None),
        ("SpinePhantomFreehand.igs.mha", 21, (616, 820), 1.845),
        ("UltrasonixCurvilinearScanConvertedData.igs.mha", 5, (616, 820), 1.04),
        ("WaterTankBottomTranslationVideoBuffer.igs.mha", 201, (616, 820), 17.417343),
    ],
)
def test_real_recordings_equal_their_bytes(name: str, frames: int, shape: tuple[int, int], last_s: Any) -> None:
    path = shared_data("plus_mha", name)
    data = path.read_bytes()
    mark = b"ElementDataFile = LOCAL"
    body = data[data.index(b"\n", data.index(mark)) + 1 :]
    whole = zlib.decompress(body) if b"CompressedData = True" in data else body
    expected = np.frombuffer(whole, np.uint8).reshape(frames, *shape)
    with open_source(path) as source:
        assert source.frame_count == frames
        last = None
        for index, frame in enumerate(source):
            assert isinstance(frame, Frame)
            np.testing.assert_array_equal(frame.pixels, expected[index])  # all are MFA: as stored
            assert frame.spacing_mm is None  # ElementSpacing is the default 1 1
            last = frame
    assert last is not None
    assert last.index == frames - 1
    assert last.captured_s == (None if last_s is None else pytest.approx(last_s, abs=1e-6))


@pytest.mark.parametrize("compress", ["", "zlib", "gzip"])
@pytest.mark.parametrize("data_file", ["LOCAL", "pixels.raw"])
def test_raw_zlib_and_gzip_local_and_external_hold_the_same_frames(
    entries: Entries, tmp_path: Path, make_mha: Maker, cine: Any, compress: str, data_file: str
) -> None:
    frames = entries(make_mha(tmp_path / "s.mhd", cine, compress=compress, data_file=data_file))
    np.testing.assert_array_equal(np.stack([frame.pixels for frame in frames]), cine)


def test_three_channels_are_rgb(entries: Entries, tmp_path: Path, make_mha: Maker, ramp: Any) -> None:
    (frame,) = entries(make_mha(tmp_path / "s.mha", ramp[None]))
    np.testing.assert_array_equal(frame.pixels, ramp)


@pytest.mark.parametrize("third", ["", "A", "D"])
@pytest.mark.parametrize(
    ("orientation", "stored_from_mf"),
    [
        ("MF", lambda a: a),
        ("MN", lambda a: a[::-1]),
        ("UF", lambda a: a[:, ::-1]),
        ("UN", lambda a: a[::-1, ::-1]),
        ("FM", lambda a: a.T),  # x is depth, y the marked side
        ("NM", lambda a: a[::-1].T),
        ("FU", lambda a: a[:, ::-1].T),
        ("NU", lambda a: a[::-1, ::-1].T),
    ],
)
def test_pictures_are_turned_with_the_transducer_on_top(
    entries: Entries, tmp_path: Path, make_mha: Maker, cine: Any, orientation: str, stored_from_mf: Any, third: str
) -> None:
    stored = np.ascontiguousarray(stored_from_mf(cine[0]))[None]
    lines = (f"UltrasoundImageOrientation = {orientation}{third}", "ElementSpacing = 0.2 0.3 1")
    (frame,) = entries(make_mha(tmp_path / "s.mha", stored, lines=lines))
    np.testing.assert_array_equal(frame.pixels, cine[0])
    assert frame.spacing_mm == ((0.2, 0.3) if orientation[0] in "FN" else (0.3, 0.2))


def test_times_count_from_the_first_frame_and_invalid_frames_are_lost(
    entries: Entries, tmp_path: Path, make_mha: Maker, cine: Any
) -> None:
    lines = (
        *(f"Seq_Frame000{i}_Timestamp = {100 + i / 4}" for i in (0, 1, 3, 4)),
        "Seq_Frame0001_ImageStatus = INVALID",
        "Seq_Frame0002_ImageStatus = OK",
    )
    path = make_mha(tmp_path / "s.mha", cine, lines=lines)
    got = entries(path)
    assert [entry.index for entry in got] == list(range(5))
    assert isinstance(got[1], LostFrame)
    assert "INVALID" in got[1].reason
    assert [got[i].captured_s for i in (0, 2, 3, 4)] == [0.0, None, 0.75, 1.0]
    np.testing.assert_array_equal(got[2].pixels, cine[2])
    with open_source(path) as source:
        assert source.fps == 4.0


@pytest.mark.parametrize("compress", ["", "zlib", "gzip"])
def test_frames_cut_off_are_lost_and_the_others_come(
    entries: Entries, tmp_path: Path, make_mha: Maker, compress: str
) -> None:
    noise = np.random.default_rng(3).integers(0, 256, (10, 40, 40), np.uint8)
    path = make_mha(tmp_path / "s.mha", noise, compress=compress)
    path.write_bytes(path.read_bytes()[:-6000])
    got = entries(path)
    good = [entry for entry in got if isinstance(entry, Frame)]
    assert 5 <= len(good) <= 6
    np.testing.assert_array_equal(np.stack([frame.pixels for frame in good]), noise[: len(good)])
    assert [entry.index for entry in got] == list(range(10))
    assert f"only {len(good)} of 10" in got[-1].reason


def test_without_one_whole_frame_the_file_is_refused(tmp_path: Path, make_mha: Maker, cine: Any) -> None:
    path = make_mha(tmp_path / "s.mha", cine)
    path.write_bytes(path.read_bytes()[: -cine.nbytes + 100])
    with pytest.raises(SourceError, match="only 0 of 5"):
        open_source(path)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"size": "64 48 2000000000"}, "2000000000 frames"),
        ({"size": "2000000000 2000000000 1"}, "each side must be"),
        ({"size": "0 48 1"}, "DimSize"),
        ({"size": "sixty 48 1"}, "DimSize"),
        ({"kind": "MET_USHORT"}, "MET_UCHAR"),
        ({"lines": ("ElementNumberOfChannels = 4",)}, "4 channels"),
        ({"lines": ("BinaryData = False",)}, "BinaryData"),
        ({"lines": ("UltrasoundImageOrientation = XX",)}, "orientation XX"),
        ({"data_file": "../outside.raw"}, "outside its folder"),
        ({"data_file": "/etc/hostname"}, "outside its folder"),
        ({"data_file": "slice%03d.raw/x"}, "one data file a slice"),
        ({"data_file": "absent/x.raw"}, "missing"),
    ],
)
def test_headers_that_cannot_be_honoured_are_refused(
    tmp_path: Path, make_mha: Maker, ramp: Any, options: dict[str, Any], said: str
) -> None:
    (tmp_path / "outside.raw").write_bytes(bytes(100_000))
    (tmp_path / "in").mkdir()
    path = make_mha(tmp_path / "in" / "s.mha", ramp[None, ..., 0], **options)
    with pytest.raises(SourceError, match=said) as caught:
        open_source(path)
    assert "\n" not in str(caught.value)


@pytest.mark.skipif(sys.platform == "win32", reason="links need rights on Windows")
def test_external_data_may_not_leave_the_folder_through_a_link(tmp_path: Path, make_mha: Maker, cine: Any) -> None:
    (tmp_path / "in").mkdir()
    path = make_mha(tmp_path / "in" / "s.mhd", cine, data_file="pixels.raw")
    (tmp_path / "in" / "pixels.raw").rename(tmp_path / "secret.raw")
    (tmp_path / "in" / "pixels.raw").symlink_to(tmp_path / "secret.raw")
    with pytest.raises(SourceError, match="outside its folder"):
        open_source(path)


def test_a_header_without_end_is_refused_early(tmp_path: Path) -> None:
    path = tmp_path / "s.mha"
    with path.open("wb") as file:
        file.write(b"ObjectType = Image\nNDims = 3\n")
        file.truncate(2 << 30)  # a sparse file of 2 GiB, all zeros
    with pytest.raises(SourceError, match="header is longer"):
        open_source(path)
    line = b"Seq_Frame0000_Note = " + b"x" * 60_000 + b"\n"
    path.write_bytes(b"ObjectType = Image\nNDims = 3\n" + line * 600)
    with pytest.raises(SourceError, match="header is longer"):
        open_source(path)


@pytest.mark.skipif(sys.platform == "win32", reason="needs getrusage")
def test_memory_stays_flat_over_a_long_compressed_sequence(tmp_path: Path) -> None:
    """2,000 frames of 512x512, 524 MB inflated from a file of half a megabyte."""
    import resource

    frames, side = 2000, 512
    packer = zlib.compressobj(1)
    path = tmp_path / "long.mha"
    with path.open("wb") as file:
        file.write(
            f"ObjectType = Image\nNDims = 3\nCompressedData = True\nDimSize = {side} {side} {frames}\n"
            "ElementType = MET_UCHAR\nElementDataFile = LOCAL\n".encode()
        )
        blank = bytes(side * side)
        for _ in range(frames):
            file.write(packer.compress(blank))
        file.write(packer.flush())
    with open_source(path) as source:
        entries = iter(source)
        next(entries)
        before_kb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        count = 1 + sum(1 for _ in entries)
        grown_kb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before_kb
    assert count == frames
    assert grown_kb < 30_000
