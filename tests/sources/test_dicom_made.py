"""DICOM objects made for one question each: depth, palettes, times, regions, damage."""

from __future__ import annotations

import io
import logging
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from vmeg_edge.errors import SourceError
from vmeg_edge.frames import Frame, LostFrame, Region
from vmeg_edge.sources import SourceWarning, open_source

pydicom = pytest.importorskip("pydicom")

Entries = Callable[..., list[Any]]
Maker = Callable[..., Path]
JPEG = "1.2.840.10008.1.2.4.50"


@pytest.fixture(scope="module", name="cine")
def cine_fixture() -> Any:
    """uint8 [6, 20, 30]."""
    return (np.arange(6 * 20 * 30) * 7 % 251).astype(np.uint8).reshape(6, 20, 30)


def jpeg(picture: Any) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, "JPEG", quality=95)
    return buffer.getvalue()


def region(**changes: Any) -> Any:
    item = pydicom.Dataset()
    values = {
        "RegionSpatialFormat": 1,
        "RegionDataType": 1,
        "RegionFlags": 0,
        "RegionLocationMinX0": 2,
        "RegionLocationMinY0": 1,
        "RegionLocationMaxX1": 21,
        "RegionLocationMaxY1": 18,
        "PhysicalUnitsXDirection": 3,
        "PhysicalUnitsYDirection": 3,
        "PhysicalDeltaX": 0.02,
        "PhysicalDeltaY": 0.03,
    }
    for keyword, value in {**values, **changes}.items():
        setattr(item, keyword, value)
    return item


def refusal(path: Path) -> str:
    with pytest.raises(SourceError) as caught:
        open_source(path)
    message = str(caught.value)
    assert "\n" not in message
    assert "SECRET" not in message
    assert path.name in message
    return message


def test_monochrome_is_grey_as_stored_and_monochrome1_inverted(
    entries: Entries, tmp_path: Path, make_dicom: Maker, cine: Any
) -> None:
    for photometric, expected in (("MONOCHROME2", cine), ("MONOCHROME1", 255 - cine)):
        frames = entries(make_dicom(tmp_path / "g.dcm", cine, PhotometricInterpretation=photometric))
        np.testing.assert_array_equal(np.stack([frame.pixels for frame in frames]), expected)


def test_8_bits_stored_in_16_are_grey(entries: Entries, tmp_path: Path, make_dicom: Maker, cine: Any) -> None:
    frames = entries(make_dicom(tmp_path / "g.dcm", cine.astype(np.uint16), BitsStored=8, HighBit=7))
    np.testing.assert_array_equal(np.stack([frame.pixels for frame in frames]), cine)


def test_16_bits_without_a_window_are_refused_with_the_mend(tmp_path: Path, make_dicom: Maker, cine: Any) -> None:
    message = refusal(make_dicom(tmp_path / "g.dcm", cine.astype(np.uint16)))
    assert "grey of 16 bits" in message
    assert "(0028,1050)" in message


@pytest.mark.parametrize("rescale", [{}, {"RescaleSlope": "2", "RescaleIntercept": "-1000"}])
@pytest.mark.parametrize(("centre", "width"), [(2048, 4096), (900, 500), (300.5, 1)])
def test_a_window_maps_deep_grey_as_pydicom_does(
    entries: Entries, tmp_path: Path, make_dicom: Maker, centre: float, width: float, rescale: dict[str, str]
) -> None:
    from pydicom.pixels.processing import apply_modality_lut, apply_windowing

    deep = np.linspace(0, 4095, 600).astype(np.uint16).reshape(1, 20, 30)
    path = make_dicom(
        tmp_path / "g.dcm", deep, BitsStored=12, HighBit=11, WindowCenter=centre, WindowWidth=width, **rescale
    )
    dataset = pydicom.dcmread(path)
    shown = apply_windowing(apply_modality_lut(deep[0], dataset), dataset)
    low, high = shown.min(), shown.max()
    (frame,) = entries(path)
    assert frame.pixels.dtype == np.uint8
    expected = 255 * (shown - low) / (high - low)
    assert np.abs(frame.pixels - expected).max() <= 1


@pytest.mark.parametrize(
    ("elements", "said"),
    [
        ({"PixelRepresentation": 1}, "with sign"),
        ({"PhotometricInterpretation": "HSV"}, "HSV"),
        ({"PhotometricInterpretation": "RGB"}, "1 samples"),
        ({"BitsStored": 4}, "4 bits"),
        ({"Rows": 8, "Columns": 75}, "75x8"),
        ({"Rows": 60_000, "Columns": 60_000}, "60000x60000"),
        ({"NumberOfFrames": 2_000_000_000}, "2000000000 frames"),
    ],
)
def test_what_cannot_be_shown_without_guessing_is_refused(
    tmp_path: Path, make_dicom: Maker, cine: Any, elements: dict[str, Any], said: str
) -> None:
    assert said in refusal(make_dicom(tmp_path / "g.dcm", cine, **elements))


@pytest.mark.parametrize("bits", [8, 16])
def test_palettes_of_8_and_16_bits_give_the_high_byte(
    entries: Entries, tmp_path: Path, make_dicom: Maker, cine: Any, bits: int
) -> None:
    ramps = [np.arange(200), np.arange(200)[::-1], np.arange(200) // 2]
    elements: dict[str, Any] = {"PhotometricInterpretation": "PALETTE COLOR"}
    for colour, table in zip(("Red", "Green", "Blue"), ramps, strict=True):
        stored = table.astype("u1") if bits == 8 else (table * 256 + 77).astype("<u2")
        elements[f"{colour}PaletteColorLookupTableDescriptor"] = [200, 10, bits]
        elements[f"{colour}PaletteColorLookupTableData"] = stored.tobytes()
    frames = entries(make_dicom(tmp_path / "p.dcm", cine, **elements))
    entry = np.clip(cine.astype(int) - 10, 0, 199)  # the first value mapped is 10
    expected = np.stack([table[entry] for table in ramps], -1)
    np.testing.assert_array_equal(np.stack([frame.pixels for frame in frames]), expected)


def test_a_damaged_palette_is_refused(tmp_path: Path, make_dicom: Maker, cine: Any) -> None:
    path = make_dicom(tmp_path / "p.dcm", cine, PhotometricInterpretation="PALETTE COLOR")
    assert "palette is damaged" in refusal(path)


@pytest.mark.parametrize(
    ("elements", "times", "fps"),
    [
        ({"FrameTime": "40"}, [0, 0.04, 0.08, 0.12, 0.16, 0.2], 25.0),
        ({"FrameTimeVector": [0, 10, 20, 30, 40, 50]}, [0, 0.01, 0.03, 0.06, 0.1, 0.15], 5 / 0.15),
        ({"FrameTimeVector": [10, 20, 30, 40, 50]}, [0, 0.01, 0.03, 0.06, 0.1, 0.15], 5 / 0.15),
        ({"FrameTimeVector": [0, 10, -20, 30, 40, 50], "FrameTime": "50"}, [i / 20 for i in range(6)], 20.0),
        ({"FrameTimeVector": [0, 10], "CineRate": "10"}, [i / 10 for i in range(6)], 10.0),
        ({"RecommendedDisplayFrameRate": "20", "CineRate": "10"}, [i / 20 for i in range(6)], 20.0),
        ({"FrameTime": "0"}, [None] * 6, None),
        ({}, [None] * 6, None),
    ],
)
def test_times_come_from_the_surest_element(
    tmp_path: Path, make_dicom: Maker, cine: Any, elements: dict[str, Any], times: list[Any], fps: float | None
) -> None:
    with open_source(make_dicom(tmp_path / "c.dcm", cine, **elements)) as source:
        got = [frame.captured_s for frame in source if isinstance(frame, Frame)]
        assert source.fps == (None if fps is None else pytest.approx(fps))
    assert got == (times if times[0] is None else pytest.approx(times))


@pytest.mark.parametrize(
    ("items", "expected", "spacing_mm"),
    [
        ([region()], Region(2, 1, 20, 18), (0.3, 0.2)),
        ([region(RegionLocationMaxX1=30, RegionLocationMaxY1=20)], Region(2, 1, 28, 19), (0.3, 0.2)),
        ([region(RegionLocationMaxX1=29, RegionLocationMaxY1=19)], Region(2, 1, 28, 19), (0.3, 0.2)),
        ([region(RegionSpatialFormat=3), region(RegionDataType=10)], None, None),
        ([region(RegionLocationMaxX1=5), region(PhysicalDeltaX=-0.05)], Region(2, 1, 20, 18), (0.3, 0.5)),
        ([region(PhysicalUnitsXDirection=4)], Region(2, 1, 20, 18), None),
        ([region(PhysicalDeltaX=0.0)], Region(2, 1, 20, 18), None),
        ([region(RegionLocationMaxX1=900), region(RegionLocationMaxX1=9)], Region(2, 1, 8, 18), (0.3, 0.2)),
    ],
)
def test_the_region_is_the_largest_tissue_that_fits(
    entries: Entries,
    tmp_path: Path,
    make_dicom: Maker,
    cine: Any,
    items: list[Any],
    expected: Region | None,
    spacing_mm: tuple[float, float] | None,
    recwarn: pytest.WarningsRecorder,
) -> None:
    path = make_dicom(tmp_path / "r.dcm", cine, SequenceOfUltrasoundRegions=pydicom.Sequence(items))
    frame = entries(path)[0]
    assert frame.region == expected
    assert frame.spacing_mm == (None if spacing_mm is None else pytest.approx(spacing_mm))
    assert not recwarn.list


@pytest.mark.parametrize("changes", [{"RegionLocationMaxX1": 31}, {"RegionLocationMinX0": 25}])
def test_a_region_beyond_the_frame_or_inside_out_is_ignored_with_a_warning(
    tmp_path: Path, make_dicom: Maker, cine: Any, changes: dict[str, int]
) -> None:
    path = make_dicom(tmp_path / "r.dcm", cine, SequenceOfUltrasoundRegions=pydicom.Sequence([region(**changes)]))
    with pytest.warns(SourceWarning, match=r"r\.dcm.*\(0018,6011\)"), open_source(path) as source:
        assert [entry.region for entry in source if isinstance(entry, Frame)] == [None] * 6


def test_without_a_region_pixel_spacing_counts(entries: Entries, tmp_path: Path, make_dicom: Maker, cine: Any) -> None:
    assert entries(make_dicom(tmp_path / "s.dcm", cine, PixelSpacing=[0.4, 0.5]))[0].spacing_mm == (0.4, 0.5)


@pytest.mark.parametrize("bot", [True, False])
@pytest.mark.parametrize("split", [1, 3])
def test_fragments_make_frames_with_and_without_an_offset_table(
    entries: Entries, tmp_path: Path, make_dicom: Maker, bot: bool, split: int
) -> None:
    from pydicom.encaps import encapsulate

    pictures = np.stack([np.full((32, 48), 40 * index, np.uint8) for index in range(6)])
    path = make_dicom(tmp_path / "j.dcm", pictures, syntax=JPEG, fragments=[jpeg(p) for p in pictures])
    dataset = pydicom.dcmread(path)
    dataset.PixelData = encapsulate([jpeg(p) for p in pictures], fragments_per_frame=split, has_bot=bot)
    dataset.save_as(path)
    frames = entries(path)
    assert len(frames) == 6
    for index, frame in enumerate(frames):
        assert np.abs(frame.pixels.astype(int) - 40 * index).max() <= 2


@pytest.mark.parametrize("bot", [True, False])
def test_frames_announced_and_not_held_are_lost(
    entries: Entries, tmp_path: Path, make_dicom: Maker, cine: Any, bot: bool
) -> None:
    for options in ({}, {"syntax": JPEG, "fragments": [jpeg(p) for p in cine], "bot": bot}):
        got = entries(make_dicom(tmp_path / "m.dcm", cine, NumberOfFrames=9, **options))
        assert [isinstance(entry, Frame) for entry in got] == [True] * 6 + [False] * 3
        assert [entry.index for entry in got] == list(range(9))
        assert "only 6 of 9 frames" in got[-1].reason


def test_a_damaged_frame_costs_no_other_and_no_patient_is_named(
    entries: Entries,
    tmp_path: Path,
    make_dicom: Maker,
    cine: Any,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
) -> None:
    fragments = [jpeg(p) for p in cine]
    fragments[0] = fragments[0][:40]
    fragments[2] = b"\xff\xd8" + bytes(60)
    fragments[3] = jpeg(np.zeros((200, 200), np.uint8))  # another size than Rows and Columns
    path = make_dicom(tmp_path / "d.dcm", cine, syntax=JPEG, fragments=fragments)
    with caplog.at_level(logging.DEBUG):
        got = entries(path)
    assert [isinstance(entry, LostFrame) for entry in got] == [True, False, True, True, False, False]
    assert "another size" in got[3].reason
    assert not [record for record in caplog.records if record.levelno >= logging.INFO]
    assert capfd.readouterr().err == ""
    assert logging.getLogger("pydicom").propagate
    assert "SECRET" not in "".join(map(repr, got))


def test_a_truncated_object_gives_its_good_frames_or_is_refused(
    entries: Entries, tmp_path: Path, make_dicom: Maker, cine: Any
) -> None:
    path = make_dicom(tmp_path / "t.dcm", cine)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) - 2 * 600 - 5])
    got = entries(path)
    assert [isinstance(entry, Frame) for entry in got] == [True] * 3 + [False] * 3
    np.testing.assert_array_equal(got[2].pixels, cine[2])
    path.write_bytes(whole[: len(whole) - 6 * 600 + 10])
    assert "only 0 of 6" in refusal(path)
    path.write_bytes(whole[: len(whole) - 6 * 600 - 20])
    refusal(path)


@pytest.mark.parametrize("implicit", [True, False])
def test_a_bare_data_set_without_preamble_is_recognised(
    entries: Entries, tmp_path: Path, make_dicom: Maker, cine: Any, implicit: bool
) -> None:
    dataset = pydicom.dcmread(make_dicom(tmp_path / "b.dcm", cine))
    path = tmp_path / "bare"
    del dataset.file_meta, dataset.preamble
    dataset.save_as(path, implicit_vr=implicit, little_endian=True, enforce_file_format=False)
    assert path.read_bytes()[:2] == b"\x08\x00"
    frames = entries(path)
    np.testing.assert_array_equal(np.stack([frame.pixels for frame in frames]), cine)


@pytest.mark.parametrize(
    ("syntax", "said"),
    [
        ("1.2.840.10008.1.2.4.70", "Explicit VR Little Endian"),  # JPEG Lossless: only GPL or GDCM decoders
        ("1.2.840.10008.1.2.4.102", "video inside DICOM"),
        ("1.2.3.4", "1.2.3.4"),
    ],
)
def test_syntaxes_without_a_free_decoder_are_refused(
    tmp_path: Path, make_dicom: Maker, cine: Any, syntax: str, said: str
) -> None:
    from pydicom.pixels.decoders.base import JPEGLosslessSV1Decoder

    if syntax.endswith(".70") and JPEGLosslessSV1Decoder.is_available:
        pytest.skip("this machine has a decoder for JPEG Lossless")
    path = make_dicom(tmp_path / "x.dcm", cine, syntax=JPEG, fragments=[jpeg(p) for p in cine])
    path.write_bytes(path.read_bytes().replace(JPEG.encode(), syntax.encode().ljust(len(JPEG), b"\0")[: len(JPEG)]))
    if len(syntax) > len(JPEG):
        dataset = pydicom.dcmread(tmp_path / "x.dcm")
        dataset.file_meta.TransferSyntaxUID = pydicom.uid.UID(syntax)
        dataset.save_as(path)
    assert said in refusal(path)


def test_a_missing_decoder_is_answered_with_the_install_command(
    tmp_path: Path, make_dicom: Maker, cine: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pydicom.pixels.decoders.base import JPEGBaseline8BitDecoder

    monkeypatch.setattr(JPEGBaseline8BitDecoder, "_available", {})
    path = make_dicom(tmp_path / "x.dcm", cine, syntax=JPEG, fragments=[jpeg(p) for p in cine])
    assert refusal(path).endswith('pip install "vmeg-edge[dicom]"')


@pytest.mark.skipif(sys.platform == "win32", reason="needs getrusage")
def test_memory_stays_flat_over_a_long_cine(tmp_path: Path, make_dicom: Maker) -> None:
    """1,500 frames of 512x512, 393 MB on disk as a sparse file."""
    import resource

    frames, side = 1500, 512
    path = make_dicom(tmp_path / "long.dcm", np.zeros((1, side, side), np.uint8), NumberOfFrames=frames)
    whole = path.read_bytes()
    start = len(whole) - side * side
    head = whole[: start - 4] + (frames * side * side).to_bytes(4, "little")
    with path.open("wb") as file:
        file.write(head)
        file.truncate(start + frames * side * side)
    with open_source(path) as source:
        entries = iter(source)
        next(entries)
        before_kb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        good = 1 + sum(isinstance(entry, Frame) for entry in entries)
        grown_kb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before_kb
    assert good == frames
    assert grown_kb < 30_000
