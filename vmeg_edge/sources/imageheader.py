"""Sides and colour model of a still, from its header alone: what a decoder should not be trusted with."""

from __future__ import annotations

import re
import struct
import zlib
from dataclasses import dataclass

_PNM = re.compile(rb"P([1-6])((?:\s+|#[^\n]*\n)+)(\d{1,9})((?:\s+|#[^\n]*\n)+)(\d{1,9})")
# TIFF 6.0: tag -> field; types SHORT (3) and LONG (4) hold them.
_TIFF_TAGS = {256: "width", 257: "height", 262: "photometric", 277: "samples"}
_JPEG_LS = 0xF7  # start of frame of ITU-T T.87, laid out like JPEG's
_SEPARATED = 5  # TIFF PhotometricInterpretation of CMYK


@dataclass(frozen=True)
class ImageHeader:
    """Pixels of width and height; ``problem`` is why the still must be refused, where it must.

    ``samples`` a pixel are read where DICOM wraps the format: JPEG, JPEG-LS and JPEG 2000.
    """

    width: int
    height: int
    problem: str | None = None
    jpeg: bool = False
    samples: int | None = None


def read_header(data: bytes) -> ImageHeader | None:
    """The header of a PNG, JPEG, JPEG-LS, JPEG 2000 codestream, BMP, TIFF, WebP or PNM.

    ``None`` where it makes no sense.
    """
    try:
        if data[:4] == b"\x89PNG":
            return _png(data)
        if data[:2] == b"\xff\xd8":
            return _jpeg(data)
        if data[:2] == b"BM":
            return _bmp(data)
        if data[:4] == b"RIFF":
            return _webp(data)
        if data[:2] in (b"II", b"MM"):
            return _tiff(data)
        if data[:4] == b"\xff\x4f\xff\x51":
            return _codestream(data)
        return _pnm(data)
    except (struct.error, IndexError):
        return None


def _png(data: bytes) -> ImageHeader | None:
    """ISO/IEC 15948; every chunk's checksum is verified, since libpng prints where we want to raise."""
    width, height = struct.unpack_from(">II", data, 16)
    start, view, kind = 8, memoryview(data), b""
    while kind != b"IEND":
        (length,) = struct.unpack_from(">I", data, start)
        kind = data[start + 4 : start + 8]
        (checksum,) = struct.unpack_from(">I", data, start + 8 + length)
        if zlib.crc32(view[start + 4 : start + 8 + length]) != checksum:
            return None
        start += 12 + length
    return ImageHeader(width, height)


def _jpeg(data: bytes) -> ImageHeader | None:
    """ITU-T T.81, B.2: walk the markers to the start of frame."""
    start = 2
    while True:
        if data[start] != 0xFF:
            return None
        marker = data[start + 1]
        if marker == 0xFF:  # fill byte
            start += 1
        elif marker == 0x01 or 0xD0 <= marker <= 0xD7:  # stand-alone
            start += 2
        elif marker == _JPEG_LS or (0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC)):
            precision, height, width, components = struct.unpack_from(">BHHB", data, start + 4)
            problem = None
            if precision != 8:
                problem = f"a JPEG of {precision} bits a sample; scale it to 8 bits"
            elif components not in (1, 3):
                problem = "a CMYK JPEG, whose colours depend on its maker; save it as RGB"
            return ImageHeader(width, height, problem, jpeg=True, samples=components)
        elif marker in (0xD9, 0xDA):
            return None
        else:
            start += 2 + int.from_bytes(data[start + 2 : start + 4], "big")


def _codestream(data: bytes) -> ImageHeader:
    """A bare JPEG 2000 codestream, as DICOM wraps it (ITU-T T.800, A.5.1)."""
    x, y, left, top = struct.unpack_from(">IIII", data, 8)
    (samples,) = struct.unpack_from(">H", data, 40)
    return ImageHeader(x - left, y - top, samples=samples)


def _bmp(data: bytes) -> ImageHeader:
    (size,) = struct.unpack_from("<I", data, 14)
    width, height = struct.unpack_from("<HH" if size == 12 else "<ii", data, 18)
    return ImageHeader(abs(width), abs(height))  # a negative height means rows from the top


def _webp(data: bytes) -> ImageHeader | None:
    """RFC 9649: lossy, lossless and extended."""
    kind = data[12:16]
    if kind == b"VP8 " and data[23:26] == b"\x9d\x01\x2a":
        width, height = struct.unpack_from("<HH", data, 26)
        return ImageHeader(width & 0x3FFF, height & 0x3FFF)
    if kind == b"VP8L":
        (bits,) = struct.unpack_from("<I", data, 21)
        return ImageHeader((bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1)
    if kind == b"VP8X":
        if data[20] & 0x02:
            problem = "an animated WebP; save its pictures one by one"
            return ImageHeader(_u24(data, 24) + 1, _u24(data, 27) + 1, problem)
        return ImageHeader(_u24(data, 24) + 1, _u24(data, 27) + 1)
    return None


def _u24(data: bytes, start: int) -> int:
    return int.from_bytes(data[start : start + 3], "little")


def _tiff(data: bytes) -> ImageHeader | None:
    """TIFF 6.0, first directory."""
    order = "<" if data[:2] == b"II" else ">"
    (directory,) = struct.unpack_from(order + "I", data, 4)
    (count,) = struct.unpack_from(order + "H", data, directory)
    found: dict[str, int] = {}
    for entry in range(count):
        start = directory + 2 + 12 * entry
        tag, kind, _ = struct.unpack_from(order + "HHI", data, start)
        if tag in _TIFF_TAGS and kind in (3, 4):
            (found[_TIFF_TAGS[tag]],) = struct.unpack_from(order + ("H" if kind == 3 else "I"), data, start + 8)
    (following,) = struct.unpack_from(order + "I", data, directory + 2 + 12 * count)
    if "width" not in found or "height" not in found:
        return None
    problem = None
    if found.get("photometric") == _SEPARATED:
        problem = "a CMYK TIFF, whose colours depend on its maker; save it as RGB"
    elif found.get("samples", 1) not in (1, 3, 4):
        problem = f"a TIFF of {found['samples']} samples a pixel; save it as grey or RGB"
    elif following:
        problem = "a TIFF of several pages; save them one by one, in a folder"
    return ImageHeader(found["width"], found["height"], problem)


def _pnm(data: bytes) -> ImageHeader | None:
    match = _PNM.match(data[:1024])
    return None if match is None else ImageHeader(int(match[3]), int(match[5]))
