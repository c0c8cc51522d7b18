"""A frame is refused when no later step could give its pixels a meaning."""

from __future__ import annotations

import numpy as np
import pytest

from vmeg_edge.errors import FrameError
from vmeg_edge.frames import Frame, Region


@pytest.mark.parametrize(
    ("pixels", "words"),
    [
        (np.zeros((32, 32), np.uint16), "uint16; scale them to 8 bits"),
        (np.zeros((32, 32), np.float32), "float32; scale"),
        (np.zeros((32, 32, 4), np.uint8), "shape 32x32x4"),
        (np.zeros((32,), np.uint8), "shape 32"),
        (np.zeros((2, 32, 32, 3), np.uint8), "shape 2x32x32x3"),
        (np.zeros((1, 1), np.uint8), "1x1 pixels; each side must be 16 to 16384"),
        (np.zeros((16, 65535), np.uint8), "65535x16 pixels"),
        ([[0]], "list; pass a NumPy uint8 array"),
    ],
)
def test_pixels_without_meaning_are_refused(pixels: np.ndarray, words: str) -> None:
    with pytest.raises(FrameError, match=words):
        Frame(pixels, source="probe")


def test_grey_and_rgb_of_any_strides_are_taken() -> None:
    base = np.zeros((40, 60, 3), np.uint8)
    assert (Frame(base[::-1, ::2]).width, Frame(base[::-1, ::2]).height) == (30, 40)
    assert Frame(base[..., 0].T).height == 60


@pytest.mark.parametrize(
    "region", [Region(0, 0, 33, 32), Region(-1, 0, 8, 8), Region(0, 0, 0, 8), Region(30, 30, 3, 3)]
)
def test_a_region_outside_the_frame_is_refused(region: Region) -> None:
    with pytest.raises(FrameError, match="beyond the frame"):
        Frame(np.zeros((32, 32), np.uint8), region=region)
