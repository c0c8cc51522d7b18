"""DICOM: every real encoding against pydicom's own conversion, regions, spacing and times."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from shared_data import shared_data
from vmeg_edge.frames import Frame, Region
from vmeg_edge.sources import SourceWarning, open_source
from vmeg_edge.sources.imageheader import read_header

pytest.importorskip("pydicom")

Entries = Callable[..., list[Any]]

FILES = {
    "OBXXXX1A_expb.dcm": (1, (600, 800, 3)),
    "OBXXXX1A_rle_2frame.dcm": (2, (600, 800, 3)),
    "SC_ybr_full_422_uncompressed.dcm": (1, (100, 100, 3)),
    "US1_J2KR.dcm": (1, (480, 640, 3)),
    "US1_UNCI.dcm": (1, (480, 640, 3)),
    "color-pl.dcm": (1, (120, 256, 3)),
    "examples_jpeg2k.dcm": (1, (480, 640, 3)),
    "examples_palette.dcm": (1, (350, 800, 3)),
    "examples_rgb_color.dcm": (1, (240, 320, 3)),
    "examples_ybr_color.dcm": (30, (240, 320, 3)),
    "gdcm-US-ALOKA-16.dcm": (1, (480, 640, 3)),
    "palette-multiframe-jpeg-ls.dcm": (10, (430, 600, 3)),
    "ybr422-raw.dcm": (1, (555, 800, 3)),
    "ybrFull-RLE.dcm": (1, (480, 640, 3)),
}


def by_pydicom(path: Any, frames: int) -> Any:
    """RGB uint8 [frames, rows, columns, 3] as pydicom itself converts the whole object; skips where it cannot."""
    from pydicom import dcmread
    from pydicom.pixels.decoders.base import get_decoder
    from pydicom.pixels.processing import apply_color_lut
    from pydicom.pixels.utils import pixel_array

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        dataset = dcmread(path)
        syntax = dataset.file_meta.TransferSyntaxUID
        if syntax.is_encapsulated and not get_decoder(syntax).is_available:
            pytest.skip(f"pydicom itself reads no {syntax.name} here; test_jpegls.py has its pixels")
        whole = pixel_array(dataset)  # converts YBR to RGB
        if dataset.PhotometricInterpretation == "PALETTE COLOR":
            if not dataset.original_encoding[1]:  # pydicom reads the words of a big-endian table as little endian
                for colour in ("Red", "Green", "Blue"):
                    keyword = f"{colour}PaletteColorLookupTableData"
                    setattr(dataset, keyword, np.frombuffer(getattr(dataset, keyword), ">u2").astype("<u2").tobytes())
            whole = (apply_color_lut(whole, dataset) >> 8).astype(np.uint8)
    return whole if frames > 1 else whole[None]


@pytest.mark.filterwarnings("ignore::vmeg_edge.sources.base.SourceWarning")
@pytest.mark.parametrize("name", FILES)
def test_every_encoding_has_pydicoms_own_colours(name: str) -> None:
    frames, shape = FILES[name]
    path = shared_data("dicom_us", name)
    with open_source(path) as source:
        assert source.kind == "dicom"
        assert source.frame_count == frames
        got = [entry for entry in source if isinstance(entry, Frame)]
    assert [frame.index for frame in got] == list(range(frames))
    assert {frame.pixels.shape for frame in got} == {shape}
    np.testing.assert_array_equal(np.stack([frame.pixels for frame in got]), by_pydicom(path, frames))
    assert len(np.unique(got[0].pixels)) > 10


def test_one_picture_in_two_encodings_is_one_picture(entries: Entries) -> None:
    """The big-endian palette file and the little-endian RLE one hold the same scan."""
    (big,) = entries(shared_data("dicom_us", "OBXXXX1A_expb.dcm"))
    rle = entries(shared_data("dicom_us", "OBXXXX1A_rle_2frame.dcm"))
    np.testing.assert_array_equal(big.pixels, rle[0].pixels)


def test_jpeg_2000_equals_what_openjpeg_makes_of_the_codestream(entries: Entries) -> None:
    """YBR_RCT comes out of the codestream as RGB; Pillow and OpenJPEG must agree on it."""
    from pydicom import dcmread
    from pydicom.encaps import generate_frames

    openjpeg = pytest.importorskip("openjpeg")
    path = shared_data("dicom_us", "US1_J2KR.dcm")
    codestream = next(generate_frames(dcmread(path).PixelData, number_of_frames=1))
    (frame,) = entries(path)
    np.testing.assert_array_equal(frame.pixels, openjpeg.decode(codestream))


@pytest.mark.parametrize(
    ("name", "samples"),
    [
        ("US1_J2KR.dcm", 3),
        ("examples_ybr_color.dcm", 3),
        ("palette-multiframe-jpeg-ls.dcm", 1),
    ],  # JPEG 2000, JPEG, JPEG-LS
)
def test_samples_a_pixel_are_read_before_a_decoder_allocates_them(name: str, samples: int) -> None:
    from pydicom import dcmread
    from pydicom.encaps import generate_frames

    dataset = dcmread(shared_data("dicom_us", name))
    frame = next(generate_frames(dataset.PixelData, number_of_frames=int(dataset.get("NumberOfFrames", 1))))
    header = read_header(frame)
    assert header is not None
    assert header.samples == samples == dataset.SamplesPerPixel


@pytest.mark.parametrize(
    ("name", "region", "spacing_mm"),
    [
        # x 120 to 800 of 800 columns: the exclusive reading of a maximum that overshoots by one pixel.
        ("OBXXXX1A_expb.dcm", Region(120, 60, 680, 459), 0.2622879),
        ("gdcm-US-ALOKA-16.dcm", Region(32, 24, 304, 392), 0.3826531),  # the first of two equal halves
        ("ybr422-raw.dcm", Region(184, 75, 616, 480), 0.0616),  # inclusive: 799 is the last column
        ("ybrFull-RLE.dcm", Region(84, 48, 400, 368), 0.0953679),
    ],
)
def test_regions_and_millimetres_of_real_files(entries: Entries, name: str, region: Region, spacing_mm: float) -> None:
    frame = entries(shared_data("dicom_us", name))[0]
    assert frame.region == region
    assert frame.spacing_mm == pytest.approx((spacing_mm, spacing_mm), abs=1e-6)


def test_a_region_that_lies_is_ignored_with_one_warning_that_names_it() -> None:
    path = shared_data("dicom_us", "examples_ybr_color.dcm")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        with open_source(path) as source:
            got = list(source) + list(source)
    assert [warning.category for warning in caught] == [SourceWarning]
    message = str(caught[0].message)
    assert "\n" not in message
    assert "examples_ybr_color.dcm" in message
    assert "(0018,6011)" in message
    assert "x 84 to 595, y 31 to 414" in message
    assert len(got) == 60
    assert all(isinstance(frame, Frame) and frame.region is None and frame.spacing_mm is None for frame in got)


@pytest.mark.filterwarnings("ignore::vmeg_edge.sources.base.SourceWarning")
@pytest.mark.parametrize(
    ("name", "period_s"), [("examples_ybr_color.dcm", 0.033333), ("palette-multiframe-jpeg-ls.dcm", 0.076)]
)
def test_times_of_a_cine_come_from_frame_time(name: str, period_s: float) -> None:
    with open_source(shared_data("dicom_us", name)) as source:
        times = [frame.captured_s for frame in source if isinstance(frame, Frame)]
        assert source.fps == pytest.approx(1 / period_s)
    assert times == pytest.approx([index * period_s for index in range(len(times))])


def test_a_single_frame_and_a_cine_without_a_rate_have_no_time(recwarn: pytest.WarningsRecorder) -> None:
    for name in ("US1_UNCI.dcm", "OBXXXX1A_rle_2frame.dcm"):
        with open_source(shared_data("dicom_us", name)) as source:
            assert {frame.captured_s for frame in source if isinstance(frame, Frame)} == {None}
            assert source.fps is None
    assert not recwarn.list
