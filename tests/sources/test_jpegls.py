"""JPEG-LS: both readers give one picture, and a frame that asks for more than its object is lost, not decoded."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from shared_data import shared_data
from vmeg_edge.errors import SourceError
from vmeg_edge.frames import Frame, LostFrame
from vmeg_edge.sources import open_source

pydicom = pytest.importorskip("pydicom")

Entries = Callable[..., list[Any]]
Maker = Callable[..., Path]
LOSSLESS, NEAR_LOSSLESS = "1.2.840.10008.1.2.4.80", "1.2.840.10008.1.2.4.81"
READERS = {"pyjpegls": "jpeg_ls", "imagecodecs": "imagecodecs"}

# Encoded by pyjpegls 1.5.1 (CharLS 2.4.2) from the pictures that `ramp` and `deep` make.
CODESTREAMS = {
    "grey": (
        "/9j/9wALCAAQABgBAREA/9oACAEBAAAAAIKFeFe1af3d27u7v/9JX/9/L/9/9f9//v9//3//f/9//3//f/9//3//f/9//3//f/9//3//f/9/"
        "/3//f/9/4P/Z"
    ),
    "by plane": (
        "/9j/9wARCAAQABgDAREAAhEAAxEA/9oACAEBAAAAAIKFeFe1af3d27u7v/9JX/9/L/9/9f9//v9//3//f/9//3//f/9//3//f/9//3//f/9/"
        "/3//f/9//3//f/9/4P/aAAgBAgAAAAD/cAsr/3/g3/9/5n//f6X/f/6H/3//X/9//P9//yv/f/0f/3/o/3//d/9//z//f/v/f/8f/3/5/3/+"
        "/9oACAEDAAAAAJV6+1fbf/9/omlX/30T/3/+3/9/5P9//y//f/X/f/6//3//f/9//3//f/9//3//f/9//3//f/9//3//fv/Z"
    ),
    "by line": (
        "/9j/9wARCAAQABgDAREAAhEAAxEA/9oADAMBAAIAAwAAAQCChXhXtWn93du7u7//f/tXzM0xCEIRmZmZmZJK/3/4DURE22222lVVImlX/30v"
        "/3/wNVVVVf9T/3/+v/9/xn//f+//f/P/f/6X/3/8/3//P/9/6H//f9//f+//f/9f/3/3/3/7/3//Z/9//f9//3//f6v/f/9//3//f/9R/3//"
        "f/9//3//aP9//3//f/9//37/f/9//3//f/9+/3//f/9//3//fv9//3//f/9//3z/f/9//3//f/98/3//f/9/wP/Z"
    ),
    "by sample": (
        "/9j/9wARCAAQABgDAREAAhEAAxEA/9oADAMBAAIAAwAAAgCDRwWK+4Wl+W5Xqefz+fz+fz+fx6PR6PR6PR6PSAAABSIkmklLrrve973vc7u7"
        "u7JIGTd3d3d3d3f/f/93Rm//f/9//3//f+ylP/9//3//f/9/6hf/f/9//3//f/31/3//f/9//3//PL//f/9//3//f/V//3//f/9//3/0f/9/"
        "/3//f/9/9H//f/9//3//f/7/f/9//3//f/9+/3//f/9//3//fv9//3//f/9//3z/f/9//3//f/98/3//f/9//3//YP/Z"
    ),
    "deep": (
        "/9j/9wALDAAQABgBAREA/9oACAEBAAAAAINYaw1lSU5SpGkKPo6jaMouiqJoih6GoWhKDoKgdq1Y20ywus1jGLWtalKUpS1azKqqqqqqqqqq"
        "qqqxYqqqoiJJJJJJJNtpJJJJJJJJKrTSqqqqqqqyyqr/f/DD/3/913//f7LP/3/61/9//GP/f/4x/3//DH//f7W//3/a3/9/7P/Z"
    ),
    "near": (
        "/9j/9wALCAAQABgBAREA/9oACAEBAAMAALf7/vrd9V//f3//f/9//3//f/9//3//f/9//3//f/9//3//f/9//3//f/9//3//f/9//3//fv/Z"
    ),
}


def ramp() -> Any:
    """RGB uint8 [16, 24, 3] in which no two channels are alike."""
    y, x = np.mgrid[0:16, 0:24]
    return np.stack([9 * x, 11 * y, 3 * x + 2 * y], axis=-1).astype(np.uint8)


def codestream(name: str) -> bytes:
    return base64.b64decode(CODESTREAMS[name])


def write(make_dicom: Maker, path: Path, data: bytes, shape: tuple[int, ...], **elements: Any) -> Path:
    dtype = np.uint16 if "WindowWidth" in elements else np.uint8
    syntax = elements.pop("syntax", LOSSLESS)
    return make_dicom(path, np.zeros(shape, dtype), syntax=syntax, fragments=[data], **elements)


@pytest.fixture(name="reader", params=READERS)
def reader_fixture(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Each installed reader in turn, the other one hidden."""
    pytest.importorskip(READERS[request.param], reason=f"{request.param} has no wheel for this Python version")
    for name in set(READERS) - {request.param}:
        module = {"pyjpegls": "pydicom.pixels.decoders.pyjpegls", "imagecodecs": "vmeg_edge.sources.jpegls"}[name]
        monkeypatch.setattr(f"{module}.is_available", lambda _syntax: False)
    return str(request.param)


@pytest.mark.usefixtures("reader")
@pytest.mark.parametrize("interleave", ["by plane", "by line", "by sample"])
def test_colour_is_one_picture_however_its_samples_are_interleaved(
    tmp_path: Path, make_dicom: Maker, entries: Entries, interleave: str
) -> None:
    (frame,) = entries(write(make_dicom, tmp_path / "c.dcm", codestream(interleave), (1, 16, 24, 3)))
    np.testing.assert_array_equal(frame.pixels, ramp())


@pytest.mark.usefixtures("reader")
def test_grey_is_exact_and_near_lossless_grey_within_its_allowance(
    tmp_path: Path, make_dicom: Maker, entries: Entries
) -> None:
    grey = ramp()[:, :, 0]
    (frame,) = entries(write(make_dicom, tmp_path / "g.dcm", codestream("grey"), (1, 16, 24)))
    np.testing.assert_array_equal(frame.pixels, grey)
    path = write(make_dicom, tmp_path / "n.dcm", codestream("near"), (1, 16, 24), syntax=NEAR_LOSSLESS)
    (frame,) = entries(path)
    assert np.abs(frame.pixels.astype(int) - grey).max() == 3


@pytest.mark.usefixtures("reader")
def test_twelve_bits_pass_through_the_window(tmp_path: Path, make_dicom: Maker, entries: Entries) -> None:
    y, x = np.mgrid[0:16, 0:24]
    path = write(
        *(make_dicom, tmp_path / "d.dcm", codestream("deep"), (1, 16, 24)),
        BitsStored=12,
        HighBit=11,
        WindowCenter=2048,
        WindowWidth=4096,
    )
    (frame,) = entries(path)
    np.testing.assert_array_equal(frame.pixels, np.rint((150 * x + 13 * y) * 255 / 4095).astype(np.uint8))


@pytest.mark.usefixtures("reader")
def test_a_real_cine_is_the_same_with_either_reader(entries: Entries) -> None:
    """Ten lossless frames of a palette cine; the digest is of pyjpegls 1.5.1's pixels, and integers all the way."""
    frames = entries(shared_data("dicom_us", "palette-multiframe-jpeg-ls.dcm"))
    digest = hashlib.sha256(b"".join(frame.pixels.tobytes() for frame in frames)).hexdigest()
    assert digest == "ba26059215d83528d28829c060f9b07775e70e286d642b2ac307a9799330428f"


@pytest.mark.usefixtures("reader")
def test_damage_costs_one_frame(tmp_path: Path, make_dicom: Maker, entries: Entries) -> None:
    good = codestream("grey")
    path = make_dicom(
        tmp_path / "x.dcm",
        np.zeros((3, 16, 24), np.uint8),
        syntax=LOSSLESS,
        fragments=[good, good[:50] + b"\0" * 2, good],
    )
    kinds = [type(entry) for entry in entries(path)]
    assert kinds == [Frame, LostFrame, Frame]


@pytest.mark.usefixtures("reader")
def test_a_frame_of_more_samples_than_its_object_is_not_decoded(
    tmp_path: Path, make_dicom: Maker, entries: Entries
) -> None:
    """A frame header of a few bytes may ask for 255 samples a pixel, which the decoder would allocate."""
    data = bytearray(codestream("by sample"))
    data[data.index(b"\xff\xf7") + 9] = 255
    path = make_dicom(
        *(tmp_path / "x.dcm", np.zeros((2, 16, 24, 3), np.uint8)),
        syntax=LOSSLESS,
        fragments=[codestream("by sample"), bytes(data)],
    )
    _, lost = entries(path)
    assert "255 samples a pixel, not 3" in lost.reason


def test_without_a_reader_the_refusal_names_the_encoding_and_the_install_command(
    tmp_path: Path, make_dicom: Maker, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in ("pydicom.pixels.decoders.pyjpegls", "vmeg_edge.sources.jpegls"):
        monkeypatch.setattr(f"{module}.is_available", lambda _syntax: False)
    path = write(make_dicom, tmp_path / "x.dcm", codestream("grey"), (1, 16, 24))
    with pytest.raises(SourceError, match=r'JPEG-LS Lossless .*pip install "vmeg-edge\[dicom\]"$'):
        open_source(path)
