"""A DICOM still or cine, decoded frame by frame through ``pydicom.pixels``."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from vmeg_edge.frames import Frame, LostFrame, Region
from vmeg_edge.sources.dicomfile import (
    encapsulated_frames,
    native_frames,
    open_bounded,
    pydicom_quietly,
    read_pixel_data,
)
from vmeg_edge.sources.dicommeta import read_geometry, read_timing
from vmeg_edge.sources.dicompixels import UnsupportedPixelsError, read_module, renderer
from vmeg_edge.sources.filesource import Entries, FileSource
from vmeg_edge.sources.imageheader import read_header
from vmeg_edge.sources.jpegls import SYNTAXES as _JPEG_LS
from vmeg_edge.sources.jpegls import find_decoder as find_jpeg_ls_decoder

# Transfer syntaxes that the extra brings decoders for (PS3.6, table A-1): baseline and extended JPEG,
# JPEG-LS, JPEG 2000, High-Throughput JPEG 2000, RLE.
_DECODABLE_WITH_EXTRA = frozenset(
    f"1.2.840.10008.1.2.{leaf}"
    for leaf in ("4.50", "4.51", "4.80", "4.81", "4.90", "4.91", "4.201", "4.202", "4.203", "5")
)
_MPEG = tuple(f"1.2.840.10008.1.2.4.10{leaf}" for leaf in range(10))


class DicomSource(FileSource):
    """Frames of a DICOM object, grey ``[H, W]`` or RGB ``[H, W, 3]``, with time, region and spacing.

    ``frame_count`` is Number of Frames (0028,0008). Frames that are announced and missing, or that do not
    decode, come as lost frames; frames beyond the announced number are not read. How times, the ultrasound
    region and millimetres are read is told in `dicommeta`, how pixels become 8 bits in `dicompixels`. Only
    the elements that those need are read, so that no patient's data can appear in a message.
    """

    kind = "dicom"

    def __init__(self, path: Path, *, name: str, region: Region | None) -> None:
        """Read the header and decode the first frame; raises `SourceError`."""
        super().__init__(path, name=name, region=region)
        try:
            with open_bounded(path) as file:
                self._pixels = read_pixel_data(file, self.name)
        except OSError as error:
            raise self._error(f"cannot be read ({error.strerror}); check the file and its folder") from error
        elements = self._pixels.elements
        try:
            self._module = read_module(elements)
            self._check_size(self._module.columns, self._module.rows)
            self._render = renderer(self._module, elements, little_endian=self._pixels.little_endian)
        except UnsupportedPixelsError as error:
            raise self._error(str(error)) from error
        self._check_count(self._module.frames)
        self.frame_count = self._module.frames
        self._timing = read_timing(elements, self._module.frames)
        self.fps = self._timing.fps
        self._geometry = read_geometry(elements, self._module.columns, self._module.rows)
        self._decoder = self._find_decoder()
        self._look()
        if self._geometry.ignored is not None and region is None:
            self._warn_once(self._geometry.ignored)

    def _find_decoder(self) -> Any:
        from pydicom.pixels.decoders.base import get_decoder

        syntax = self._pixels.syntax
        try:
            with pydicom_quietly():
                decoder = find_jpeg_ls_decoder(syntax) if syntax in _JPEG_LS else get_decoder(syntax)
        except NotImplementedError as error:
            what = "video inside DICOM" if syntax.startswith(_MPEG) else f"transfer syntax {syntax}"
            raise self._error(f"{what} is not supported; store it as Explicit VR Little Endian") from error
        if not decoder.is_available:
            if syntax in _DECODABLE_WITH_EXTRA:
                raise self._error(f'no decoder for {syntax.name} is installed; pip install "vmeg-edge[dicom]"')
            raise self._error(f"{syntax.name} is not supported; store it as Explicit VR Little Endian")
        return decoder

    def _entries(self) -> Entries:
        frames = self._module.frames
        index = 0
        with open_bounded(self._path) as file:
            stored: Iterator[bytes]
            if self._pixels.length is None:
                stored = encapsulated_frames(file, self._pixels, frames)
            else:
                stored = native_frames(file, self._pixels, self._module.frame_bytes)
            for data in islice(stored, frames):
                yield self._decode(index, data)
                index += 1
        for missing in range(index, frames):
            yield self._lost(missing, f"announced, but the file holds only {index} of {frames} frames; copy it again")

    def _decode(self, index: int, data: bytes) -> Frame | LostFrame:
        """One frame's stored bytes, decoded on their own so that a damaged frame costs no other."""
        from pydicom.encaps import encapsulate

        module = self._module
        encapsulated = self._pixels.length is None
        header = read_header(data) if encapsulated else None
        # A decoder allocates what the codestream asks for, which may be more than the object's own header.
        if header is not None and (header.width, header.height) != (module.columns, module.rows):
            return self._lost(index, "the compressed frame is of another size than its header says")
        if header is not None and header.samples not in (None, module.samples):
            return self._lost(index, f"the compressed frame has {header.samples} samples a pixel, not {module.samples}")
        try:
            with pydicom_quietly():
                decoded, told = self._decoder.as_array(
                    encapsulate([data], has_bot=False) if encapsulated else data,
                    index=0,
                    number_of_frames=1,
                    rows=module.rows,
                    columns=module.columns,
                    samples_per_pixel=module.samples,
                    photometric_interpretation=module.photometric,
                    planar_configuration=module.planar,
                    bits_allocated=module.allocated,
                    bits_stored=module.stored,
                    pixel_representation=int(module.signed),
                    pixel_keyword="PixelData",
                    pixel_vr=self._pixels.vr,
                )
        except Exception:  # pydicom and its plugins raise many kinds on damaged bytes
            return self._lost(index, "the frame cannot be decoded; it is damaged or cut short")
        if module.samples == 3 and told["photometric_interpretation"] != "RGB":
            return self._lost(index, f"its colours stay {told['photometric_interpretation']}; store it as RGB")
        pixels = np.ascontiguousarray(self._render(decoded))
        return self._frame(
            index,
            pixels,
            captured_s=self._timing.at(index),
            spacing_mm=self._geometry.spacing_mm,
            region=self._geometry.region,
        )
