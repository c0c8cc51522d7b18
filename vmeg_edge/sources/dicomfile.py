"""The parts of a DICOM file: the few header elements that frames need, and each frame's stored bytes."""

from __future__ import annotations

import io
import logging
import struct
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any, BinaryIO, TypeAlias

from vmeg_edge.errors import SourceError
from vmeg_edge.sources.base import NoPixelsError
from vmeg_edge.sources.filesource import size_of

if TYPE_CHECKING:
    from pydicom.dataset import Dataset
    from pydicom.uid import UID

Elements: TypeAlias = dict[str, Any]
"""Values by keyword; a sequence is a list of such. What is absent or damaged is not there."""

# Nothing that names a patient, a place or a person is ever read.
_PALETTE = tuple(
    f"{segmented}{colour}PaletteColorLookupTable{part}"
    for colour in ("Red", "Green", "Blue")
    for segmented, part in (("", "Descriptor"), ("", "Data"), ("Segmented", "Data"))
)
_KEYWORDS = (
    *("Rows", "Columns", "NumberOfFrames", "SamplesPerPixel", "PhotometricInterpretation"),
    *("PlanarConfiguration", "BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation"),
    *("WindowCenter", "WindowWidth", "VOILUTFunction", "RescaleSlope", "RescaleIntercept"),
    *("FrameTime", "FrameTimeVector", "RecommendedDisplayFrameRate", "CineRate"),
    *("SequenceOfUltrasoundRegions", "PixelSpacing"),
    *("ExtendedOffsetTable", "ExtendedOffsetTableLengths"),
    *_PALETTE,
)
_REGION_KEYWORDS = (
    *("RegionSpatialFormat", "RegionDataType", "PhysicalUnitsXDirection", "PhysicalUnitsYDirection"),
    *("PhysicalDeltaX", "PhysicalDeltaY", "RegionLocationMinX0", "RegionLocationMinY0"),
    *("RegionLocationMaxX1", "RegionLocationMaxY1"),
)
_PIXEL_DATA = (0x7FE0, 0x0010)
_FLOAT_PIXEL_DATA = ((0x7FE0, 0x0008), (0x7FE0, 0x0009))
_UNDEFINED = 0xFFFFFFFF
_ITEM = (0xFFFE, 0xE000)
# PS3.5, annex A: implicit little, explicit little and explicit big endian; every other syntax encapsulates.
_NATIVE = frozenset({"1.2.840.10008.1.2", "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.2"})
_END_OF_IMAGE = b"\xff\xd9"
_MAX_OFFSETS = 1 << 23  # bytes of an offset table: a million frames, eight bytes each

_lock = threading.Lock()


@contextmanager
def pydicom_quietly() -> Iterator[None]:
    """Keep pydicom's warnings and logged tracebacks, which may quote a header, off the screen."""
    logger = logging.getLogger("pydicom")
    # The warning filters and the logger belong to the process: one thread at a time may set them.
    with _lock, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        propagate, logger.propagate = logger.propagate, False
        try:
            yield
        finally:
            logger.propagate = propagate


class BoundedReader(io.BufferedReader):
    """A file that never asks for more memory than it has bytes, whatever length a header claims."""

    def __init__(self, raw: io.FileIO) -> None:
        """Wrap an open file."""
        super().__init__(raw)
        self._size = size_of(self)

    def read(self, size: int | None = -1, /) -> bytes:
        """Read, at most to the end of the file."""
        left = max(0, self._size - self.tell())
        return super().read(left if size is None or size < 0 else min(size, left))


@dataclass(frozen=True)
class PixelData:
    """Where the pixel data lie. ``length`` is ``None`` for encapsulated data (PS3.5, A.4)."""

    elements: Elements
    syntax: UID
    little_endian: bool
    vr: str
    offset: int
    length: int | None


def open_bounded(path: object) -> BoundedReader:
    """Open a file for reading; raises `OSError`."""
    return BoundedReader(io.FileIO(path))  # type: ignore[arg-type]


def read_pixel_data(file: BoundedReader, name: str) -> PixelData:
    """Parse up to the pixel data (7FE0,0010).

    Raises `NoPixelsError` where a sound object has none, `SourceError` where the object is damaged.
    """
    from pydicom import dcmread
    from pydicom.uid import (
        DeflatedExplicitVRLittleEndian,
        ExplicitVRBigEndian,
        ExplicitVRLittleEndian,
        ImplicitVRLittleEndian,
    )

    try:
        with pydicom_quietly():
            dataset = dcmread(file, stop_before_pixels=True, force=True, specific_tags=list(_KEYWORDS))
            syntax = dataset.file_meta.get("TransferSyntaxUID")
            implicit, little = dataset.original_encoding
            elements = _values(dataset, _KEYWORDS)
    except Exception as error:  # pydicom raises many kinds on damaged bytes
        # Its message may quote the header, so it stays out of ours.
        raise SourceError(f"{name}: damaged DICOM header; copy the file again") from error
    if not syntax:  # a bare data set is native, in the encoding that it was read in
        native = ExplicitVRLittleEndian if little else ExplicitVRBigEndian
        syntax = ImplicitVRLittleEndian if implicit else native
    if syntax == DeflatedExplicitVRLittleEndian:
        raise SourceError(f"{name}: a deflated DICOM file; store it as Explicit VR Little Endian")
    order = "<" if little else ">"
    start = file.tell()
    try:
        if implicit:
            group, element, length = struct.unpack(order + "HHI", file.read(8))
            vr = "OW"
        else:
            group, element, letters, length = struct.unpack(order + "HH2s2xI", file.read(12))
            vr = letters.decode("latin-1")
    except struct.error as error:
        if "Rows" in elements or start != size_of(file):
            raise SourceError(f"{name}: the file ends before its pixel data; copy it again") from error
        raise NoPixelsError(f"{name}: a DICOM object without a picture; pass an image or a cine") from error
    if (group, element) in _FLOAT_PIXEL_DATA:
        raise SourceError(f"{name}: floating-point pixel data; store them as 8-bit grey or RGB")
    if (group, element) != _PIXEL_DATA:
        raise SourceError(f"{name}: damaged DICOM header; copy the file again")
    if (length == _UNDEFINED) == (syntax in _NATIVE):
        raise SourceError(f"{name}: pixel data and transfer syntax contradict each other; copy it again")
    size = None if length == _UNDEFINED else length
    return PixelData(elements, syntax, bool(little), vr, file.tell(), size)


def _values(dataset: Dataset, keywords: tuple[str, ...]) -> Elements:
    """Convert elements now: pydicom does it at the first look, and raises many kinds where one is damaged."""
    values: Elements = {}
    for keyword in keywords:
        with suppress(Exception):
            value = dataset.get(keyword)
            if keyword == "SequenceOfUltrasoundRegions" and value is not None:
                value = [_values(item, _REGION_KEYWORDS) for item in value]
            if value is not None:
                values[keyword] = value
    return values


def native_frames(file: BinaryIO, pixels: PixelData, frame_bytes: int) -> Iterator[bytes]:
    """Each whole frame of uncompressed pixel data, read on demand."""
    left = pixels.length or 0
    place = pixels.offset
    while left >= frame_bytes:
        file.seek(place)
        data = file.read(frame_bytes)
        if len(data) < frame_bytes:
            return
        yield data
        place += frame_bytes
        left -= frame_bytes


def encapsulated_frames(file: BinaryIO, pixels: PixelData, frames: int) -> Iterator[bytes]:
    """Each whole frame of compressed pixel data (PS3.5, A.4), read on demand.

    Boundaries come from the offset table, basic or extended. Without one, a fragment is a frame, unless there
    are more fragments than frames: then a frame ends with the fragment that holds the end-of-image marker.
    """
    file.seek(pixels.offset)
    first = next(_fragments(file), None)
    if first is None:
        return
    start, table = first
    origin = start + len(table)
    offsets = _offsets(pixels.elements, table)
    file.seek(origin)
    if not offsets and frames > 1:
        count = sum(1 for _ in _fragments(file, skip=True))
        file.seek(origin)
        if count <= frames:
            yield from (data for _, data in _fragments(file))
            return
    held: list[bytes] = []
    number = 1
    for place, data in _fragments(file):
        if offsets and held and number < len(offsets) and place - 8 - origin >= offsets[number]:
            yield b"".join(held)
            held = []
            number += 1
        held.append(data)
        if not offsets and frames > 1 and _END_OF_IMAGE in data[-10:]:
            yield b"".join(held)
            held = []
    if held:
        yield b"".join(held)


def _offsets(elements: Elements, table: bytes) -> tuple[int, ...]:
    """Where each frame's first fragment begins, from the first item on; empty where that makes no sense."""
    extended = elements.get("ExtendedOffsetTable")
    if isinstance(extended, bytes) and extended:
        table, form, width = extended, "Q", 8
    else:
        form, width = "I", 4
    if len(table) > _MAX_OFFSETS:
        return ()
    offsets = struct.unpack(f"<{len(table) // width}{form}", table[: len(table) // width * width])
    rising = all(a < b for a, b in pairwise(offsets))
    return offsets if offsets and offsets[0] == 0 and rising else ()


def _fragments(file: BinaryIO, *, skip: bool = False) -> Iterator[tuple[int, bytes]]:
    """(place of the value, value) of each whole item from here on; encapsulated data are little endian."""
    size = size_of(file)
    while True:
        head = file.read(8)
        if len(head) < 8:
            return
        group, element, length = struct.unpack("<HHI", head)
        place = file.tell()
        if (group, element) != _ITEM or place + length > size:
            return
        if skip:
            file.seek(length, io.SEEK_CUR)
            yield place, b""
        else:
            data = file.read(length)
            yield place, data
            file.seek(place + length)
