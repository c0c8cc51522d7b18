"""Stills: colours, depth, alpha, orientation, and pictures that must be refused."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image

from shared_data import shared_data
from vmeg_edge.errors import SourceError
from vmeg_edge.frames import Frame
from vmeg_edge.sources import open_source

Entries = Callable[..., list[Any]]


def pillow(array: Any, form: str, mode: str | None = None, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image = Image.fromarray(array)
    (image if mode is None else image.convert(mode)).save(buffer, form, **options)
    return buffer.getvalue()


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def bomb_png(width: int, height: int) -> bytes:
    """A sound PNG header over almost no data."""
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


@pytest.mark.parametrize("name", ["Patient00724_Plane3_2_of_3.jpg", "Patient00710_Plane3_2_of_6.jpg"])
def test_a_real_jpeg_has_pillows_colours(entries: Entries, name: str) -> None:
    path = shared_data("fetal_brain", "normal", name)
    (frame,) = entries(path)
    expected = np.asarray(Image.open(path).convert("RGB"))
    assert frame.pixels.shape == (256, 256, 3)
    assert np.abs(frame.pixels.astype(int) - expected).max() <= 3  # two decoders' rounding
    assert frame.captured_s is None
    assert frame.spacing_mm is None


def test_every_hc18_still_is_grey_and_equal_to_pillows(entries: Entries) -> None:
    paths = sorted(shared_data("fetal_head_hc18").glob("*.png"))
    assert len(paths) == 64
    for path in paths[::8]:
        (frame,) = entries(path)
        assert frame.pixels.ndim == 2
        np.testing.assert_array_equal(frame.pixels, np.asarray(Image.open(path).convert("L")))


@pytest.mark.parametrize("form", ["PNG", "BMP", "TIFF", "PPM"])
def test_colour_is_rgb_in_every_lossless_format(entries: Entries, tmp_path: Path, ramp: Any, form: str) -> None:
    path = tmp_path / "still"
    path.write_bytes(pillow(ramp, form))
    (frame,) = entries(path)
    np.testing.assert_array_equal(frame.pixels, ramp)
    assert frame.pixels.dtype == np.uint8


@pytest.mark.parametrize(("form", "options"), [("JPEG", {"quality": 95}), ("WEBP", {"lossless": True})])
def test_colour_is_rgb_in_jpeg_and_webp(
    entries: Entries, tmp_path: Path, ramp: Any, form: str, options: dict[str, Any]
) -> None:
    path = tmp_path / "still"
    path.write_bytes(pillow(ramp, form, **options))
    (frame,) = entries(path)
    expected = np.asarray(Image.open(path).convert("RGB"))
    assert np.abs(frame.pixels.astype(int) - expected).max() <= 3


@pytest.mark.parametrize("form", ["PNG", "BMP", "TIFF", "PPM", "JPEG"])
def test_grey_stays_two_dimensional(entries: Entries, tmp_path: Path, ramp: Any, form: str) -> None:
    path = tmp_path / "still"
    path.write_bytes(pillow(ramp, form, "L"))
    (frame,) = entries(path)
    assert frame.pixels.shape == (48, 64)
    expected = np.asarray(Image.open(path))
    assert np.abs(frame.pixels.astype(int) - expected).max() <= (2 if form == "JPEG" else 0)


@pytest.mark.parametrize("form", ["PNG", "TIFF"])
@pytest.mark.parametrize("mode", ["1", "P"])
def test_bilevel_and_palette_pictures_look_as_pillow_shows_them(
    entries: Entries, tmp_path: Path, ramp: Any, form: str, mode: str
) -> None:
    path = tmp_path / "still"
    path.write_bytes(pillow(ramp, form, mode))
    (frame,) = entries(path)
    shown = Image.open(path).convert("L" if frame.pixels.ndim == 2 else "RGB")
    np.testing.assert_array_equal(frame.pixels, np.asarray(shown))


@pytest.mark.parametrize("form", ["PNG", "TIFF", "WEBP"])
def test_an_opaque_alpha_channel_is_dropped(entries: Entries, tmp_path: Path, ramp: Any, form: str) -> None:
    rgba = np.dstack([ramp, np.full(ramp.shape[:2], 255, np.uint8)])
    path = tmp_path / "still"
    path.write_bytes(pillow(rgba, form, lossless=True))
    (frame,) = entries(path)
    np.testing.assert_array_equal(frame.pixels, ramp)


def test_alpha_that_hides_something_is_composited_on_black(entries: Entries, tmp_path: Path, ramp: Any) -> None:
    alpha = np.arange(64, dtype=np.uint8)[None, :].repeat(48, 0) * 4
    path = tmp_path / "still.png"
    path.write_bytes(pillow(np.dstack([ramp, alpha]), "PNG"))
    (frame,) = entries(path)
    expected = np.rint(ramp * (alpha[..., None] / 255.0))
    assert np.abs(frame.pixels - expected).max() <= 1
    assert frame.pixels[:, 0].max() == 0


def test_the_exif_orientation_of_a_jpeg_is_honoured(entries: Entries, tmp_path: Path) -> None:
    picture = np.zeros((48, 64, 3), np.uint8)
    picture[:24, :32] = 255
    exif = Image.Exif()
    exif[0x0112] = 6  # a viewer turns it by 90 degrees clockwise
    path = tmp_path / "still.jpg"
    path.write_bytes(pillow(picture, "JPEG", quality=95, exif=exif))
    (frame,) = entries(path)
    assert frame.pixels.shape == (64, 48, 3)
    assert frame.pixels[8, 40].min() > 240  # the bright corner is now at the top right
    assert frame.pixels[8, 8].max() < 15


@pytest.mark.parametrize(
    ("dtype", "extension", "said"),
    [(np.uint16, ".png", "16 bits"), (np.uint16, ".tiff", "16 bits"), (np.float32, ".tiff", "32 bits")],
)
def test_more_than_8_bits_are_refused_with_the_mend(tmp_path: Path, dtype: Any, extension: str, said: str) -> None:
    path = tmp_path / f"deep{extension}"
    path.write_bytes(cv2.imencode(extension, np.full((32, 32), 300, dtype))[1].tobytes())
    with pytest.raises(SourceError, match=f"deep.*{said}.*scale it to 8 bits"):
        open_source(path)


@pytest.mark.parametrize("form", ["JPEG", "TIFF"])
def test_cmyk_is_refused_since_its_colours_are_a_guess(tmp_path: Path, ramp: Any, form: str) -> None:
    path = tmp_path / "still"
    path.write_bytes(pillow(ramp, form, "CMYK"))
    with pytest.raises(SourceError, match=r"CMYK .*save it as RGB"):
        open_source(path)


def test_a_tiff_of_several_pages_is_refused(tmp_path: Path, ramp: Any) -> None:
    page = Image.fromarray(ramp)
    page.save(tmp_path / "pages.tif", save_all=True, append_images=[page])
    with pytest.raises(SourceError, match="several pages"):
        open_source(tmp_path / "pages.tif")


@pytest.mark.parametrize(("width", "height"), [(1, 1), (15, 64), (65_535, 20), (16_385, 16)])
def test_sides_that_no_frame_may_have_are_one_line_that_names_the_file(tmp_path: Path, width: int, height: int) -> None:
    path = tmp_path / "odd.png"
    path.write_bytes(cv2.imencode(".png", np.zeros((height, width), np.uint8))[1].tobytes())
    with pytest.raises(SourceError) as caught:
        open_source(path)
    assert str(caught.value).startswith(f"{path}: a frame of {width}x{height} pixels")
    assert "\n" not in str(caught.value)


def test_a_decompression_bomb_is_refused_from_its_header(tmp_path: Path) -> None:
    path = tmp_path / "bomb.png"
    for width, height in [(16_384, 16_384), (2_000_000_000, 2_000_000_000)]:
        path.write_bytes(bomb_png(width, height))
        with pytest.raises(SourceError, match=f"{width}x{height}"):
            open_source(path)


@pytest.mark.parametrize("form", ["PNG", "JPEG", "BMP", "TIFF", "WEBP", "PPM"])
def test_a_picture_cut_short_is_refused_and_never_half_shown(
    tmp_path: Path, ramp: Any, form: str, capfd: pytest.CaptureFixture[str]
) -> None:
    whole = pillow(np.kron(ramp, np.ones((4, 4, 1), np.uint8)), form)
    path = tmp_path / "cut"
    for share in (0.1, 0.5, 0.9, 0.98):
        path.write_bytes(whole[: int(len(whole) * share)])
        with pytest.raises(SourceError, match="cut"):
            open_source(path)
    assert capfd.readouterr().err == ""


def test_the_pixels_may_be_written_to(entries: Entries, tmp_path: Path, ramp: Any) -> None:
    path = tmp_path / "still.png"
    path.write_bytes(pillow(ramp, "PNG"))
    (frame,) = entries(path)
    assert isinstance(frame, Frame)
    frame.pixels[0, 0] = 0


def test_a_jpeg_whose_middle_is_damaged_is_refused_though_its_decoder_makes_a_picture(
    entries: Entries, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    whole = bytearray(shared_data("fetal_brain", "normal", "Patient00724_Plane3_2_of_3.jpg").read_bytes())
    middle = len(whole) // 2
    whole[middle : middle + 12] = b"\xff\xd9" * 6  # markers where coded data should be
    path = tmp_path / "still.jpg"
    path.write_bytes(whole)
    capfd.readouterr()
    with pytest.raises(SourceError, match="damaged"):
        entries(path)
    assert capfd.readouterr().err == ""
