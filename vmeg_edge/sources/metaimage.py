"""A MetaImage picture or sequence (.mha, .mhd), as PLUS and 3D Slicer record it."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import BinaryIO

import numpy as np

from vmeg_edge.frames import Pixels, Region
from vmeg_edge.sources.filesource import Entries, FileSource, failure, size_of
from vmeg_edge.sources.metaheader import MetaHeader, MetaHeaderError, read_meta_header

_CHUNK = 1 << 16
_ANY_WRAPPER = zlib.MAX_WBITS | 32  # zlib or gzip, told by its first bytes


class MetaImageSource(FileSource):
    """Frames of a MetaImage, grey ``[H, W]`` or RGB ``[H, W, 3]``; the last dimension is time.

    ``captured_s`` is Seq_FrameNNNN_Timestamp less that of frame 0, ``None`` where either is missing. A frame
    whose ImageStatus is INVALID is lost. Pictures are turned to orientation MF, as PLUS keeps them: x grows
    towards the transducer's marked side, y away from the transducer, which so is on top. ``spacing_mm`` is
    ElementSpacing, turned along, and unknown where that is the default 1 1. Pixels are inflated or read one
    frame at a time.
    """

    kind = "metaimage"

    def __init__(self, path: Path, *, name: str, region: Region | None) -> None:
        """Read the header and the first frame; raises `SourceError`."""
        super().__init__(path, name=name, region=region)
        try:
            with path.open("rb") as file:
                self._header = read_meta_header(file)
            self._data_path = self._locate()
        except MetaHeaderError as error:
            raise self._error(str(error)) from error
        except (OSError, ValueError) as error:
            raise self._error(f"cannot be read ({failure(error)}); check the file and its folder") from error
        header = self._header
        self._check_size(header.width, header.height)
        self._check_count(header.frames)
        self.frame_count = header.frames
        first, last = header.stamps_s.get(0), header.stamps_s.get(header.frames - 1)
        if first is not None and last is not None and last > first:
            self.fps = (header.frames - 1) / (last - first)
        self._look()

    def _locate(self) -> Path:
        """The file of the pixels: the header's own, or one beside or below it."""
        named = self._header.data_file
        if named.upper() == "LOCAL":
            return self._path
        if named.split()[:1] == ["LIST"] or "%" in named or not named:
            raise MetaHeaderError("one data file a slice is not supported; save it as a single .mha")
        folder = self._path.parent.resolve()
        data = (folder / named).resolve()
        if not data.is_relative_to(folder) or data == folder:
            raise MetaHeaderError("its ElementDataFile lies outside its folder; put both files side by side")
        if not data.is_file():
            raise MetaHeaderError("the file that its ElementDataFile names is missing; put it there")
        return data

    def _entries(self) -> Entries:
        header = self._header
        zero_s = header.stamps_s.get(0) if header.frames > 1 else None  # a still has no time
        index = 0
        with self._data_path.open("rb") as file:
            file.seek(self._data_start(file))
            for data in islice(_inflated(file, header) if header.compressed else _raw(file, header), header.frames):
                if index in header.invalid:
                    yield self._lost(index, "the recorder marked its image INVALID")
                else:
                    stamp_s = header.stamps_s.get(index)
                    captured_s = None if zero_s is None or stamp_s is None else stamp_s - zero_s
                    pixels, spacing_mm = _turned(data, header)
                    yield self._frame(index, pixels, captured_s=captured_s, spacing_mm=spacing_mm)
                index += 1
        for missing in range(index, header.frames):
            yield self._lost(missing, f"announced, but only {index} of {header.frames} frames are whole; copy it again")

    def _data_start(self, file: BinaryIO) -> int:
        header = self._header
        if self._data_path == self._path and header.data_file.upper() == "LOCAL":
            return header.data_start
        if header.skip == -1:
            return max(0, size_of(file) - header.frames * header.frame_bytes)
        return max(0, header.skip)


def _raw(file: BinaryIO, header: MetaHeader) -> Iterator[bytes]:
    while len(data := file.read(header.frame_bytes)) == header.frame_bytes:
        yield data


def _inflated(file: BinaryIO, header: MetaHeader) -> Iterator[bytes]:
    """Whole frames of a zlib or gzip stream; what is damaged ends it."""
    inflate = zlib.decompressobj(_ANY_WRAPPER)
    held = bytearray()
    packed = b""
    with suppress(zlib.error):
        while not inflate.eof:
            packed = inflate.unconsumed_tail or file.read(_CHUNK)
            if not packed:
                return
            held += inflate.decompress(packed, header.frame_bytes - len(held))
            if len(held) == header.frame_bytes:
                yield bytes(held)
                held.clear()


def _turned(data: bytes, header: MetaHeader) -> tuple[Pixels, tuple[float, float] | None]:
    """A stored frame turned to MF, and (row, column) millimetres of what came out."""
    shape = (header.height, header.width) if header.channels == 1 else (header.height, header.width, 3)
    pixels = np.frombuffer(data, np.uint8).reshape(shape)
    transpose, left_right, top_bottom = header.turn
    spacing_mm = None if header.spacing is None else (header.spacing[1], header.spacing[0])
    if transpose:
        pixels = pixels.swapaxes(0, 1)
        spacing_mm = None if spacing_mm is None else (spacing_mm[1], spacing_mm[0])
    if left_right:
        pixels = pixels[:, ::-1]
    if top_bottom:
        pixels = pixels[::-1]
    # A copy: the caller may write on its frame, and bytes are read-only.
    return np.array(pixels, order="C"), spacing_mm
