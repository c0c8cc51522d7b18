"""What a file is, told by its first bytes and never by its name."""

from __future__ import annotations

import re

HEAD_BYTES = 4096

_STILL_BRANDS = frozenset({b"avif", b"avis", b"heic", b"heix", b"heim", b"heis", b"mif1", b"msf1"})
_VIDEO_STARTS = (
    b"\x1a\x45\xdf\xa3",  # Matroska, WebM (EBML)
    b"\x00\x00\x01\xba",  # MPEG program stream
    b"\x00\x00\x01\xb3",  # MPEG-1/2 elementary stream
    b"\x00\x00\x01\xb0",  # MPEG-4 part 2 elementary stream
    b"\x30\x26\xb2\x75\x8e\x66\xcf\x11",  # ASF, WMV
    b"FLV\x01",
    b"OggS",
)
_QUICKTIME_BOXES = frozenset({b"moov", b"mdat", b"wide", b"free", b"skip", b"pnot"})
_PNM = re.compile(rb"P[1-6](?:\s|#)")
_META_LINE = re.compile(rb"\A\s*[A-Za-z][A-Za-z0-9_]*[ \t]*=")
_META_DIMS = re.compile(rb"(?:\A|\n)\s*NDims[ \t]*=")
# Explicit value representations that may open a data set (PS3.5, 6.2).
_FIRST_VRS = frozenset({b"UL", b"UI", b"CS", b"DA", b"TM", b"LO", b"SH", b"DT", b"OB", b"SQ"})
_TS_PACKET = 188


def is_dicom(head: bytes) -> bool:
    """The DICM prefix (PS3.10, 7.1), or a bare data set that opens with group 0002 or 0008."""
    if head[128:132] == b"DICM":
        return True
    if len(head) < 16:
        return False
    if head[:2] in (b"\x02\x00", b"\x08\x00"):  # little endian
        element = int.from_bytes(head[2:4], "little")
        length = int.from_bytes(head[4:8], "little")
        # An implicit data set has no letters to tell it by: ask for a known first element and a short value.
        implicit = element in (0x0000, 0x0001, 0x0005, 0x0008, 0x0016) and 0 < length <= 256
        return head[4:6] in _FIRST_VRS or (implicit and length % 2 == 0)
    return head[:2] == b"\x00\x08" and head[4:6] in _FIRST_VRS  # big endian, always explicit


def is_image(head: bytes) -> bool:
    """PNG, JPEG, BMP, TIFF (not BigTIFF), WebP or PNM."""
    return (
        head.startswith((b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"II*\x00", b"MM\x00*"))
        or (head[:4] == b"RIFF" and head[8:12] == b"WEBP")
        or (head[:2] == b"BM" and int.from_bytes(head[14:18], "little") in (12, 40, 52, 56, 64, 108, 124))
        or _PNM.match(head) is not None
    )


def is_quicktime(head: bytes) -> bool:
    """An ISO base media file (MP4) or QuickTime, but no still in that clothing (HEIC, AVIF)."""
    if head[4:8] == b"ftyp":
        return head[8:12] not in _STILL_BRANDS
    return head[4:8] in _QUICKTIME_BOXES


def is_video(head: bytes) -> bool:
    """A container or stream that FFmpeg knows as video."""
    return (
        is_quicktime(head)
        or head.startswith(_VIDEO_STARTS)
        or (head[:4] == b"RIFF" and head[8:11] == b"AVI")
        or (len(head) > 2 * _TS_PACKET and head[0 : 2 * _TS_PACKET + 1 : _TS_PACKET] == b"GGG")
    )


def is_metaimage(head: bytes) -> bool:
    """Lines of ``Key = Value`` with an ``NDims`` among the first of them."""
    return _META_LINE.match(head) is not None and _META_DIMS.search(head) is not None
