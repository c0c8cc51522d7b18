"""Damaged and hostile files: only VmegError comes out, one line, and nothing on standard error."""

from __future__ import annotations

import io
import os
import random
import subprocess
import sys
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from shared_data import shared_data
from vmeg_edge.errors import VmegError
from vmeg_edge.frames import Frame, LostFrame
from vmeg_edge.sources import open_source

Maker = Callable[..., Path]

MAGICS = [
    b"\x89PNG\r\n\x1a\n",
    b"\xff\xd8\xff\xe0",
    b"BM" + bytes(12) + b"\x28\0\0\0",
    b"II*\0\x08\0\0\0",
    b"MM\0*\0\0\0\x08",
    b"RIFF\xff\xff\0\0WEBPVP8L",
    b"RIFF\xff\xff\0\0AVI LIST",
    b"P5 64 64 255\n",
    b"\0\0\0\x18ftypisom\0\0\0\0",
    b"\0\0\x01\0moov\0\0\0\x6cmvhd",
    b"\x1a\x45\xdf\xa3",
    b"\0\0\x01\xba",
    b"\0\0\x01\xb3",
    bytes(128) + b"DICM",
    bytes(128) + b"DICM\x02\0\x10\0UI\x14\x001.2.840.10008.1.2.1\0",
    b"\x08\0\x05\0CS\x0a\0ISO_IR 100",
    b"ObjectType = Image\nNDims = 3\n",
    b"NDims = 3\nDimSize = 64 64 9\nElementType = MET_UCHAR\nCompressedData = True\nElementDataFile = LOCAL\n",
]

hostile = settings(
    max_examples=40,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)


@pytest.fixture(scope="module", name="samples")
def samples_fixture(
    tmp_path_factory: pytest.TempPathFactory, make_video: Maker, make_dicom: Maker, make_mha: Maker, ramp: Any
) -> dict[str, bytes]:
    """One small sound file of each kind."""
    folder = tmp_path_factory.mktemp("samples")
    cine = (np.arange(4 * 20 * 30) % 251).astype(np.uint8).reshape(4, 20, 30)
    samples = {}
    for form in ("PNG", "JPEG", "BMP", "TIFF", "WEBP", "PPM"):
        buffer = io.BytesIO()
        Image.fromarray(ramp).save(buffer, form)
        samples[form] = buffer.getvalue()
    samples["MP4"] = make_video(folder / "v.mp4", frames=6).read_bytes()
    samples["AVI"] = make_video(folder / "v.avi", frames=6, codec="MJPG").read_bytes()
    samples["MHA raw"] = make_mha(folder / "a.mha", cine).read_bytes()
    lines = tuple(f"Seq_Frame000{i}_Timestamp = {i}" for i in range(4))
    samples["MHA zlib"] = make_mha(folder / "b.mha", cine, compress="zlib", lines=lines).read_bytes()
    samples["DICOM raw"] = make_dicom(folder / "a.dcm", cine, FrameTimeVector=[0, 10, 10, 10]).read_bytes()
    jpegs = [cv2.imencode(".jpg", picture)[1].tobytes() for picture in cine]
    path = make_dicom(folder / "b.dcm", cine, syntax="1.2.840.10008.1.2.4.50", fragments=jpegs)
    samples["DICOM JPEG"] = path.read_bytes()
    return samples


KINDS = [
    *("PNG", "JPEG", "BMP", "TIFF", "WEBP", "PPM", "MP4", "AVI"),
    *("MHA raw", "MHA zlib", "DICOM raw", "DICOM JPEG"),
]


def drain(path: Path) -> int:
    """Read a file to its end, if it opens at all; the number of frames. Anything but VmegError fails."""
    good = 0
    message = ""
    try:
        with open_source(path) as source:
            for index, entry in enumerate(source):
                assert entry.index == index
                if isinstance(entry, Frame):
                    good += 1
                else:
                    assert isinstance(entry, LostFrame)
                    assert entry.reason
                    assert "\n" not in entry.reason
                if index > 5000:
                    break
    except VmegError as error:
        message = str(error)
    assert message.isprintable()  # which holds for one line only
    return good


@pytest.fixture(name="silent")
def silent_fixture(capfd: pytest.CaptureFixture[str]) -> Iterator[None]:
    """Fail the test when anything was written on standard error, by a C library too."""
    capfd.readouterr()
    yield
    assert capfd.readouterr().err == ""


@pytest.mark.filterwarnings("error", "ignore::vmeg_edge.sources.base.SourceWarning")
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.usefixtures("silent")
def test_a_file_cut_anywhere(tmp_path: Path, samples: dict[str, bytes], kind: str) -> None:
    whole = samples[kind]
    path = tmp_path / "hostile"
    path.write_bytes(whole)
    assert drain(path) == (1 if len(kind) < 5 and kind not in ("MP4", "AVI") else 4 if " " in kind else 6)

    @hostile
    @given(st.integers(0, len(whole) - 1))
    def cut(length: int) -> None:
        path.write_bytes(whole[:length])
        drain(path)

    cut()


@pytest.mark.filterwarnings("error", "ignore::vmeg_edge.sources.base.SourceWarning")
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.usefixtures("silent")
def test_a_file_with_bytes_changed(tmp_path: Path, samples: dict[str, bytes], kind: str) -> None:
    whole = samples[kind]
    path = tmp_path / "hostile"
    # Headers lie in front in most kinds, behind in MP4: half of the changes go to each end.
    front = st.integers(0, min(len(whole), 1500) - 1)
    back = st.integers(max(0, len(whole) - 1500), len(whole) - 1)

    @hostile
    @given(st.lists(st.tuples(st.one_of(front, back), st.integers(0, 255)), min_size=1, max_size=6))
    def change(changes: list[tuple[int, int]]) -> None:
        data = bytearray(whole)
        for place, value in changes:
            data[place] = value
        path.write_bytes(data)
        drain(path)

    change()


@pytest.mark.filterwarnings("error", "ignore::vmeg_edge.sources.base.SourceWarning")
@pytest.mark.parametrize("magic", MAGICS, ids=range(len(MAGICS)))
@pytest.mark.usefixtures("silent")
def test_noise_behind_a_signature(tmp_path: Path, magic: bytes) -> None:
    path = tmp_path / "hostile"

    @settings(hostile, max_examples=25)
    @given(st.integers(0, 2**32), st.integers(0, 4000))
    def noise(seed: int, length: int) -> None:
        path.write_bytes(magic + random.Random(seed).randbytes(length))
        drain(path)

    noise()


@pytest.mark.filterwarnings("error", "ignore::vmeg_edge.sources.base.SourceWarning")
@pytest.mark.parametrize(
    "name", ["examples_ybr_color.dcm", "OBXXXX1A_rle_2frame.dcm", "palette-multiframe-jpeg-ls.dcm"]
)
@pytest.mark.usefixtures("silent")
def test_real_dicom_cut_and_changed(tmp_path: Path, name: str) -> None:
    whole = shared_data("dicom_us", name).read_bytes()
    path = tmp_path / "hostile.dcm"
    chance = random.Random(7)
    for _ in range(12):
        path.write_bytes(whole[: chance.randrange(len(whole))])
        drain(path)
        data = bytearray(whole)
        for _ in range(4):
            data[chance.randrange(3000)] = chance.randrange(256)
        path.write_bytes(data)
        drain(path)


def test_a_dicom_cut_in_its_pixels_keeps_the_frames_before(tmp_path: Path) -> None:
    whole = shared_data("dicom_us", "palette-multiframe-jpeg-ls.dcm").read_bytes()
    path = tmp_path / "cut.dcm"
    path.write_bytes(whole[: len(whole) * 2 // 3])
    with open_source(path) as source:
        entries = list(source)
    good = sum(isinstance(entry, Frame) for entry in entries)
    assert 4 <= good <= 8
    assert len(entries) == 10
    assert all(isinstance(entry, Frame) for entry in entries[:good])


@pytest.mark.usefixtures("silent")
def test_a_zlib_bomb_costs_one_frame_of_memory(tmp_path: Path) -> None:
    """256 MB of zeros behind a header of one frame."""
    packer = zlib.compressobj(1)
    path = tmp_path / "bomb.mha"
    with path.open("wb") as file:
        file.write(b"ObjectType = Image\nNDims = 3\nCompressedData = True\nDimSize = 64 64 1\n")
        file.write(b"ElementType = MET_UCHAR\nElementDataFile = LOCAL\n")
        for _ in range(256):
            file.write(packer.compress(bytes(1 << 20)))
        file.write(packer.flush())
    assert drain(path) == 1


def test_no_message_or_frame_tells_a_patients_name(tmp_path: Path, samples: dict[str, bytes]) -> None:
    path = tmp_path / "hostile"
    said = []
    for place in range(140, 900, 3):
        data = bytearray(samples["DICOM raw"])
        data[place] ^= 0xFF
        path.write_bytes(data)
        try:
            with open_source(path) as source:
                said += [repr(entry) for entry in source if isinstance(entry, LostFrame)]
        except VmegError as error:
            said.append(f"{error} {error.__cause__ if isinstance(error.__cause__, VmegError) else ''}")
    assert len(said) > 20
    assert not any("SECRET" in line for line in said)


@pytest.mark.skipif(os.name == "nt", reason="needs an address space limit")
def test_little_memory_is_one_line_not_a_crash(tmp_path: Path) -> None:
    path = tmp_path / "large.png"
    path.write_bytes(cv2.imencode(".png", np.zeros((8192, 8192), np.uint8))[1].tobytes())
    code = (
        "import resource, sys, numpy, cv2\n"
        "from vmeg_edge.errors import SourceError\n"
        "from vmeg_edge.sources import open_source\n"
        "import vmeg_edge.sources.opening, vmeg_edge.sources.images\n"
        "used = int(open('/proc/self/statm').read().split()[0]) * resource.getpagesize()\n"
        "resource.setrlimit(resource.RLIMIT_AS, (used + 20_000_000, used + 20_000_000))\n"
        "try: open_source(sys.argv[1])\n"
        "except SourceError as error: print(type(error).__name__)\n"
    )
    root = Path(__file__).resolve().parents[2]
    if not Path("/proc/self/statm").exists():
        pytest.skip("needs /proc")
    ran = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True, cwd=root)
    assert ran.stdout.strip() == "SourceError", ran.stderr
