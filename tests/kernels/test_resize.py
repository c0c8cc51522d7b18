"""Resize agrees with Pillow, bit for bit, whatever the geometry, the strides and the implementation."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import PIL
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from vmeg_edge import kernels
from vmeg_edge.errors import FrameError, UsageError
from vmeg_edge.frames import Pixels, Region
from vmeg_edge.kernels import Implementation, Method

FILTERS: dict[Method, Image.Resampling] = {
    "nearest": Image.Resampling.NEAREST,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
}
METHODS = tuple(FILTERS)


def pillow(crop: Pixels, width: int, height: int, method: Method) -> Pixels:
    """Pillow's resize, grey repeated. Older releases have one pass order: there the passes are asked for singly."""
    image = Image.fromarray(np.ascontiguousarray(crop))
    columns_first = image.height - height > max(0, 2 * (image.width - width))
    if int(PIL.__version__.split(".")[0]) < 13 and method != "nearest" and columns_first:
        image = image.resize((image.width, height), FILTERS[method])
    result = np.asarray(image.resize((width, height), FILTERS[method]))
    return np.repeat(result[..., np.newaxis], 3, axis=2) if result.ndim == 2 else result


def run(
    implementation: Implementation, frame: Pixels, region: Region | None, width: int, height: int, method: Method
) -> Pixels:
    out = np.full((height, width, 3), 0xA5, np.uint8)
    box = region or Region(0, 0, frame.shape[1], frame.shape[0])
    implementation.resize(frame, box, width, height, method, out)
    return out


def pixels(seed: int, height: int, width: int, grey: bool, kind: str = "noise") -> Pixels:
    rng = np.random.default_rng(seed)
    shape = (height, width) if grey else (height, width, 3)
    if kind == "extremes":
        return np.where(rng.random(shape) < 0.5, 0, 255).astype(np.uint8)
    if kind == "flat":
        return np.full(shape, rng.integers(0, 256), np.uint8)
    return rng.integers(0, 256, shape, np.uint8)


@st.composite
def geometries(draw: st.DrawFn) -> tuple[int, int, Region, int, int]:
    side = st.one_of(st.integers(1, 8), st.integers(1, 150))
    width, height = draw(side), draw(side)
    x, y = draw(st.integers(0, width - 1)), draw(st.integers(0, height - 1))
    region = Region(x, y, draw(st.integers(1, width - x)), draw(st.integers(1, height - y)))
    out_width = draw(st.one_of(st.just(region.width), side))
    out_height = draw(st.one_of(st.just(region.height), side))
    return width, height, region, out_width, out_height


@settings(max_examples=150, deadline=None, derandomize=True)
@given(
    geometry=geometries(),
    grey=st.booleans(),
    kind=st.sampled_from(["noise", "extremes", "flat"]),
    method=st.sampled_from(METHODS),
    seed=st.integers(0, 2**32 - 1),
)
def test_any_crop_and_size_equals_pillow(
    implementation: Implementation,
    geometry: tuple[int, int, Region, int, int],
    grey: bool,
    kind: str,
    method: Method,
    seed: int,
) -> None:
    width, height, region, out_width, out_height = geometry
    frame = pixels(seed, height, width, grey, kind)
    crop = frame[region.y : region.y + region.height, region.x : region.x + region.width]
    result = run(implementation, frame, region, out_width, out_height, method)
    np.testing.assert_array_equal(result, pillow(crop, out_width, out_height, method))


def strided(name: str, grey: bool) -> Pixels:
    """A view of 61x47 pixels whose memory is not laid out as its shape suggests."""
    base = pixels(7, 61, 47, grey)
    if name == "upside down":
        return base[::-1]
    if name == "mirrored":
        return base[:, ::-1]
    if name == "turned":
        return base[::-1, ::-1]
    if name == "every second row":
        return pixels(8, 122, 47, grey)[::2]
    if name == "every third column":
        return pixels(9, 61, 141, grey)[:, ::3]
    if name == "transposed":
        return np.swapaxes(pixels(10, 47, 61, grey), 0, 1)
    if name == "inside a larger one":
        return pixels(11, 90, 80, grey)[5:66, 9:56]
    if name == "bgr":
        return base if grey else base[..., ::-1]
    if name == "alpha dropped":
        return base if grey else np.random.default_rng(1).integers(0, 256, (61, 47, 4), np.uint8)[..., :3]
    if name == "planes":
        return base if grey else np.random.default_rng(2).integers(0, 256, (3, 61, 47), np.uint8).transpose(1, 2, 0)
    assert name == "one row repeated"
    repeated: Pixels = np.broadcast_to(base[:1], base.shape)
    return repeated


STRIDES = (
    "upside down",
    "mirrored",
    "turned",
    "every second row",
    "every third column",
    "transposed",
    "inside a larger one",
    "bgr",
    "alpha dropped",
    "planes",
    "one row repeated",
)


@pytest.mark.parametrize("grey", [False, True], ids=["rgb", "grey"])
@pytest.mark.parametrize("name", STRIDES)
def test_any_strides_equal_pillow(implementation: Implementation, name: str, grey: bool) -> None:
    frame = strided(name, grey)
    assert frame.shape[:2] == (61, 47)
    for method in METHODS:
        for width, height in ((20, 30), (47, 11), (13, 61), (90, 80), (40, 9)):
            result = run(implementation, frame, None, width, height, method)
            np.testing.assert_array_equal(result, pillow(frame, width, height, method))
            region = Region(3, 5, 41, 50)
            result = run(implementation, frame, region, width, height, method)
            np.testing.assert_array_equal(result, pillow(frame[5:55, 3:44], width, height, method))


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("grey", [False, True], ids=["rgb", "grey"])
@pytest.mark.parametrize(
    ("width", "height", "out_width", "out_height"),
    [
        (1920, 1080, 224, 224),
        (1080, 1920, 224, 224),
        (224, 224, 224, 224),
        (1, 1, 224, 224),
        (1, 500, 7, 3),
        (500, 1, 3, 7),
        (2000, 3, 1, 1),
        (3, 2000, 1, 1),
        (17, 19, 300, 301),
    ],
)
def test_fixed_geometries_equal_pillow(
    implementation: Implementation, method: Method, grey: bool, width: int, height: int, out_width: int, out_height: int
) -> None:
    frame = pixels(3, height, width, grey)
    result = run(implementation, frame, None, out_width, out_height, method)
    np.testing.assert_array_equal(result, pillow(frame, out_width, out_height, method))


def test_pass_order_follows_the_frame(implementation: Implementation) -> None:
    frame = pixels(5, 84, 73, True)
    image = Image.fromarray(frame)
    bilinear = Image.Resampling.BILINEAR
    columns_first = np.asarray(image.resize((73, 21), bilinear).resize((43, 21), bilinear))
    rows_first = np.asarray(image.resize((30, 84), bilinear).resize((30, 21), bilinear))
    np.testing.assert_array_equal(run(implementation, frame, None, 43, 21, "bilinear")[..., 0], columns_first)
    np.testing.assert_array_equal(run(implementation, frame, None, 30, 21, "bilinear")[..., 0], rows_first)


def test_memory_behind_the_frame_is_left_alone(implementation: Implementation) -> None:
    frame = pixels(4, 100, 120, False)
    for width, height in ((31, 29), (120, 33), (33, 100), (200, 201), (1, 1)):
        guarded = np.full(height * width * 3 + 64, 0xA5, np.uint8)
        out = guarded[32:-32].reshape(height, width, 3)
        for method in METHODS:
            implementation.resize(frame, Region(0, 0, 120, 100), width, height, method, out)
            np.testing.assert_array_equal(out, pillow(frame, width, height, method))
            assert (guarded[:32] == 0xA5).all()
            assert (guarded[-32:] == 0xA5).all()


@pytest.mark.usefixtures("chosen")
def test_out_is_filled_and_returned() -> None:
    frame = pixels(6, 50, 60, False)
    out = np.zeros((20, 30, 3), np.uint8)
    assert kernels.resize(frame, None, 30, 20, "bilinear", out=out) is out
    np.testing.assert_array_equal(out, pillow(frame, 30, 20, "bilinear"))
    fresh = kernels.resize(frame, Region(10, 5, 33, 40), 30, 20, "bicubic")
    assert fresh.flags.c_contiguous
    assert fresh.flags.writeable
    np.testing.assert_array_equal(fresh, pillow(frame[5:45, 10:43], 30, 20, "bicubic"))


FRAME = np.zeros((40, 50, 3), np.uint8)


@pytest.mark.parametrize(
    ("frame", "message"),
    [
        ([[1]], "pass a NumPy uint8 array"),
        (FRAME.astype(np.float32), "scale them to 8 bits"),
        (FRAME[..., :2], "pass \\[height, width\\] or"),
        (FRAME[np.newaxis], "pass \\[height, width\\] or"),
        (FRAME[:0], "holds no pixel"),
    ],
)
@pytest.mark.usefixtures("chosen")
def test_a_frame_that_is_none_is_refused(frame: Pixels, message: str) -> None:
    with pytest.raises(FrameError, match=message):
        kernels.resize(frame, None, 8, 8, "nearest")


@pytest.mark.parametrize(
    "region",
    [Region(-1, 0, 5, 5), Region(0, -1, 5, 5), Region(46, 0, 5, 5), Region(0, 36, 5, 5), Region(0, 0, 0, 5)],
)
@pytest.mark.usefixtures("chosen")
def test_a_region_beyond_the_frame_is_refused(region: Region) -> None:
    with pytest.raises(FrameError, match="reaches beyond the frame of 50x40 pixels"):
        kernels.resize(FRAME, region, 8, 8, "bilinear")


@pytest.mark.parametrize("size", [0, -1, 16_385, 2.0, True])
@pytest.mark.usefixtures("chosen")
def test_a_size_out_of_range_is_refused(size: int) -> None:
    with pytest.raises(UsageError, match=r"^width: .*1 to 16384"):
        kernels.resize(FRAME, None, size, 8, "nearest")
    with pytest.raises(UsageError, match=r"^height: .*1 to 16384"):
        kernels.resize(FRAME, None, 8, size, "nearest")


@pytest.mark.usefixtures("chosen")
def test_an_unknown_method_is_refused() -> None:
    with pytest.raises(UsageError, match="'area' is unknown; choose one of nearest, bilinear, bicubic"):
        kernels.resize(FRAME, None, 8, 8, "area")  # type: ignore[arg-type]


def read_only() -> Pixels:
    out = np.zeros((8, 8, 3), np.uint8)
    out.flags.writeable = False
    return out


@pytest.mark.parametrize(
    ("out", "message"),
    [
        (np.zeros((8, 9, 3), np.uint8), "8x9x3 uint8; pass uint8"),
        (np.zeros((8, 8, 3), np.float32), "8x8x3 float32; pass uint8"),
        (np.zeros((8, 8, 6), np.uint8)[..., ::2], "not contiguous or not writable"),
        (read_only(), "not contiguous or not writable"),
        (FRAME.reshape(-1)[:192].reshape(8, 8, 3), "shares memory with the frame"),
    ],
)
@pytest.mark.usefixtures("chosen")
def test_an_out_that_does_not_fit_is_refused(out: npt.NDArray[np.uint8], message: str) -> None:
    with pytest.raises(FrameError, match=message):
        kernels.resize(FRAME, None, 8, 8, "nearest", out=out)
