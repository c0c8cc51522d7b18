"""Small files of every kind, made for a test, and a list of what a source delivers."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import pytest

from vmeg_edge.frames import Frame, LostFrame, Region
from vmeg_edge.sources import open_source

Array = npt.NDArray[Any]


def _entries(path: Path, region: Region | None = None) -> list[Frame | LostFrame]:
    with open_source(path, region=region) as source:
        return list(source)


@pytest.fixture(name="entries")
def entries_fixture() -> Callable[..., list[Frame | LostFrame]]:
    """Everything that a path delivers."""
    return _entries


@pytest.fixture(scope="session", name="ramp")
def ramp_fixture() -> Array:
    """An RGB picture uint8 [48, 64, 3] in which no two channels, rows or columns are alike."""
    y, x = np.mgrid[0:48, 0:64]
    return np.stack([4 * x, 5 * y, (3 * x + 2 * y) % 256], axis=-1).astype(np.uint8)


def _video(path: Path, frames: int = 12, fps: float = 25.0, codec: str = "mp4v") -> Path:
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*codec), fps, (64, 48))
    for index in range(frames):
        picture = np.zeros((48, 64, 3), np.uint8)
        picture[:, :, 2] = 8 * index % 256  # BGR: red grows
        writer.write(picture)
    writer.release()
    return path


@pytest.fixture(scope="session", name="make_video")
def make_video_fixture() -> Callable[..., Path]:
    """Write a video whose red channel tells the frame's index: 8 levels a frame."""
    return _video


def _dicom(
    path: Path,
    pixels: Array,
    *,
    syntax: str = "1.2.840.10008.1.2.1",
    fragments: list[bytes] | None = None,
    bot: bool = True,
    **elements: Any,
) -> Path:
    """``pixels`` is [frames, rows, columns(, 3)]; with ``fragments`` its shape alone counts."""
    from pydicom.dataset import FileDataset, FileMetaDataset
    from pydicom.encaps import encapsulate
    from pydicom.uid import UID, generate_uid

    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = UID("1.2.840.10008.5.1.4.1.1.3.1")
    meta.MediaStorageSOPInstanceUID = generate_uid()
    meta.TransferSyntaxUID = UID(syntax)
    dataset = FileDataset(str(path), {}, file_meta=meta, preamble=b"\0" * 128)
    dataset.SOPClassUID = meta.MediaStorageSOPClassUID
    dataset.SOPInstanceUID = meta.MediaStorageSOPInstanceUID
    dataset.PatientName = "SECRET^PATIENT"
    dataset.Modality = "US"
    dataset.NumberOfFrames, dataset.Rows, dataset.Columns = pixels.shape[:3]
    dataset.SamplesPerPixel = 3 if pixels.ndim == 4 else 1
    dataset.PhotometricInterpretation = "RGB" if pixels.ndim == 4 else "MONOCHROME2"
    if pixels.ndim == 4:
        dataset.PlanarConfiguration = 0
    dataset.BitsAllocated = dataset.BitsStored = 8 * pixels.dtype.itemsize
    dataset.HighBit = dataset.BitsStored - 1
    dataset.PixelRepresentation = 0
    for keyword, value in elements.items():
        setattr(dataset, keyword, value)
    if fragments is None:
        dataset.PixelData = pixels.tobytes()
    else:
        dataset.PixelData = encapsulate(fragments, has_bot=bot)
        dataset["PixelData"].is_undefined_length = True
    dataset["PixelData"].VR = "OB" if dataset.BitsAllocated == 8 else "OW"
    dataset.save_as(path, enforce_file_format=True)
    return path


@pytest.fixture(scope="session", name="make_dicom")
def make_dicom_fixture() -> Callable[..., Path]:
    """Write a DICOM object; keyword arguments are elements by keyword."""
    return _dicom


def _mha(
    path: Path,
    pixels: Array,
    *,
    compress: str = "",
    lines: tuple[str, ...] = (),
    size: str = "",
    data_file: str = "LOCAL",
    kind: str = "MET_UCHAR",
) -> Path:
    """``pixels`` is [frames, height, width(, 3)] uint8."""
    frames, height, width = pixels.shape[:3]
    data = pixels.tobytes()
    if compress:
        packer = zlib.compressobj(wbits=31 if compress == "gzip" else 15)
        data = packer.compress(data) + packer.flush()
    header = [
        "ObjectType = Image",
        "NDims = 3",
        "BinaryData = True",
        f"CompressedData = {bool(compress)}",
        f"DimSize = {size or f'{width} {height} {frames}'}",
        f"ElementNumberOfChannels = {pixels.shape[3] if pixels.ndim == 4 else 1}",
        f"ElementType = {kind}",
        *lines,
        f"ElementDataFile = {data_file}",
        "",
    ]
    local = data if data_file == "LOCAL" else b""
    path.write_bytes("\n".join(header).encode() + local)
    if not local and "/" not in data_file:
        path.with_name(data_file).write_bytes(data)
    return path


@pytest.fixture(scope="session", name="make_mha")
def make_mha_fixture() -> Callable[..., Path]:
    """Write a MetaImage sequence."""
    return _mha
