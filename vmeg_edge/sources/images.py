"""One still: PNG, JPEG, BMP, TIFF, WebP or PNM of 8 bits."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path

import cv2
import numpy as np

from vmeg_edge.frames import Pixels, Region
from vmeg_edge.sources.filesource import Entries, FileSource, failure
from vmeg_edge.sources.imageheader import read_header
from vmeg_edge.sources.quiet import libjpeg_heard, quiet_opencv

_DAMAGED = "cannot be decoded; the picture is damaged or cut short, copy it again"
MAX_BYTES = 1 << 30


class ImageSource(FileSource):
    """A still as one frame, without a capture time.

    Grey stays ``[H, W]``, colour is RGB ``[H, W, 3]``. An opaque alpha channel is dropped; one that hides
    anything is composited on black, the background of an ultrasound screen. The EXIF orientation of a JPEG
    is honoured, as a viewer does; other formats come as stored. 16 bits, floats, CMYK, several pages and
    animation raise `SourceError`, since each could be read in more than one way.
    """

    kind = "image"

    def __init__(self, path: Path, *, name: str, region: Region | None) -> None:
        """Decode the still; raises `SourceError`."""
        super().__init__(path, name=name, region=region)
        self.frame_count = 1
        quiet_opencv()
        self._look()

    def _entries(self) -> Entries:
        if self._path.stat().st_size > MAX_BYTES:
            raise self._error(f"a picture file of more than {MAX_BYTES} bytes; save it smaller")
        # Read by Python and decoded from memory: cv2.imread fails on paths that are not ASCII on Windows.
        data = self._path.read_bytes()
        header = read_header(data)
        if header is None:
            raise self._error(_DAMAGED)
        self._check_size(header.width, header.height)
        if header.problem is not None:
            raise self._error(header.problem)
        # Only JPEG: its orientation is turned by every flag but UNCHANGED, and it has no alpha to lose.
        flags = cv2.IMREAD_ANYCOLOR | cv2.IMREAD_ANYDEPTH if header.jpeg else cv2.IMREAD_UNCHANGED
        heard: list[bytes] = []
        try:
            with libjpeg_heard() if header.jpeg else nullcontext(heard) as heard:
                decoded = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
        except cv2.error as error:
            raise self._error(f"{_DAMAGED} ({failure(error)})") from error
        # OpenCV returns None where its stubs promise an array.
        if not isinstance(decoded, np.ndarray) or heard:
            raise self._error(_DAMAGED)
        yield self._frame(0, self._rgb(decoded))

    def _rgb(self, decoded: np.ndarray) -> Pixels:
        """OpenCV's grey, BGR or BGRA as grey or RGB."""
        if decoded.dtype != np.uint8:
            bits = decoded.dtype.itemsize * 8
            raise self._error(f"a picture of {bits} bits a sample ({decoded.dtype}); scale it to 8 bits")
        if decoded.ndim == 2:
            return decoded
        if decoded.shape[2] == 3:
            return np.asarray(cv2.cvtColor(decoded, cv2.COLOR_BGR2RGB), np.uint8)
        if decoded.shape[2] != 4:
            raise self._error(f"a picture of {decoded.shape[2]} channels; save it as grey or RGB")
        rgba = np.asarray(cv2.cvtColor(decoded, cv2.COLOR_BGRA2RGBA), np.uint8)
        colour, alpha = rgba[..., :3], rgba[..., 3:]
        if alpha.min() == 255:
            return np.ascontiguousarray(colour)
        # Over black, to the nearest level: (c * a + 127) / 255.
        return ((colour.astype(np.uint16) * alpha + 127) // 255).astype(np.uint8)
