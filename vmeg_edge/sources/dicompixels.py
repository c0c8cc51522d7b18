"""From the stored values of a DICOM frame to 8-bit grey or RGB."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from vmeg_edge.frames import Pixels
from vmeg_edge.sources.dicomfile import Elements, pydicom_quietly

Stored: TypeAlias = npt.NDArray[Any]
Render: TypeAlias = Callable[[Stored], Pixels]

_GREY = ("MONOCHROME1", "MONOCHROME2")
_COLOUR = ("RGB", "YBR_FULL", "YBR_FULL_422", "YBR_RCT", "YBR_ICT")


class UnsupportedPixelsError(ValueError):
    """Pixels that cannot become 8-bit grey or RGB without guessing; the message says the mend."""


@dataclass(frozen=True)
class PixelModule:
    """The Image Pixel module (PS3.3, C.7.6.3), checked."""

    rows: int
    columns: int
    frames: int
    samples: int
    photometric: str
    planar: int
    allocated: int
    stored: int
    signed: bool

    @property
    def frame_bytes(self) -> int:
        """Bytes of one uncompressed frame; YBR_FULL_422 stores four samples for each two pixels."""
        samples = 2 if self.photometric == "YBR_FULL_422" else self.samples
        return self.rows * self.columns * samples * self.allocated // 8


def read_module(elements: Elements) -> PixelModule:
    """Read and check the module; raises `UnsupportedPixelsError`."""
    samples = _integer(elements, "SamplesPerPixel")
    allocated = _integer(elements, "BitsAllocated")
    photometric = str(elements.get("PhotometricInterpretation", "")).strip().upper()
    module = PixelModule(
        rows=_integer(elements, "Rows"),
        columns=_integer(elements, "Columns"),
        frames=max(1, _integer(elements, "NumberOfFrames", 1)),
        samples=samples,
        photometric=photometric,
        planar=_integer(elements, "PlanarConfiguration", 0),
        allocated=allocated,
        stored=_integer(elements, "BitsStored", allocated),
        signed=_integer(elements, "PixelRepresentation", 0) == 1,
    )
    expected = {**dict.fromkeys((*_GREY, "PALETTE COLOR"), 1), **dict.fromkeys(_COLOUR, 3)}
    if expected.get(photometric) != samples:
        raise UnsupportedPixelsError(
            f"photometric interpretation {photometric or '(none)'} with {samples} samples a pixel is not "
            "supported; store it as MONOCHROME2 or RGB"
        )
    if allocated not in (8, 16) or not 8 <= module.stored <= allocated or module.planar not in (0, 1):
        raise UnsupportedPixelsError(
            f"pixels of {module.stored} bits in {allocated} are not supported; store them in 8 bits"
        )
    return module


def renderer(module: PixelModule, elements: Elements, *, little_endian: bool) -> Render:
    """How decoded frames of this object become `Pixels`; raises `UnsupportedPixelsError`.

    Colour of 8 bits is used as decoded. Grey of 8 bits too (a window is the viewer's choice), inverted for
    MONOCHROME1. Grey of more bits needs a linear window, Window Center and Width (0028,1050), (0028,1051):
    the first one, after the rescale (0028,1053), (0028,1052), by PS3.3, C.11.2.1.2. A palette gives RGB; of
    16-bit entries the high byte counts, or the low one where no entry uses the high one.
    """
    if module.photometric == "PALETTE COLOR":
        table = _palette(module, elements, little_endian=little_endian)
        return lambda stored: table[stored & (len(table) - 1)]
    if module.samples == 3:
        if module.stored != 8:
            raise UnsupportedPixelsError(f"colour of {module.stored} bits a sample; store it in 8 bits")
        return lambda stored: stored.astype(np.uint8, copy=False)
    inverted = module.photometric == "MONOCHROME1"
    to_grey = _narrow if module.stored == 8 and not module.signed else _windowed(module, elements)
    return (lambda stored: 255 - to_grey(stored)) if inverted else to_grey


def _narrow(stored: Stored) -> Pixels:
    return stored.astype(np.uint8, copy=False)


def _windowed(module: PixelModule, elements: Elements) -> Render:
    centre, width = _real(elements, "WindowCenter"), _real(elements, "WindowWidth")
    shape = str(elements.get("VOILUTFunction") or "LINEAR")
    if centre is None or width is None or width < 1 or shape != "LINEAR":
        raise UnsupportedPixelsError(
            f"grey of {module.stored} bits{' with sign' if module.signed else ''} without a linear window; "
            "set Window Center and Width (0028,1050), (0028,1051), or scale it to 8 bits"
        )
    slope = _real(elements, "RescaleSlope")
    slope = 1.0 if slope is None else slope
    intercept = _real(elements, "RescaleIntercept") or 0.0

    def to_grey(stored: Stored) -> Pixels:
        values = stored.astype(np.float64) * slope + intercept
        if width == 1:  # the formula's limits meet: a step
            return np.where(values > centre - 0.5, 255, 0).astype(np.uint8)
        fraction = (values - (centre - 0.5)) / (width - 1) + 0.5
        return np.rint(255 * np.clip(fraction, 0, 1)).astype(np.uint8)

    return to_grey


def _palette(module: PixelModule, elements: Elements, *, little_endian: bool) -> Pixels:
    """RGB for each stored value, uint8 ``[2**stored, 3]`` (PS3.3, C.7.6.3.1.5, C.7.6.3.1.6 and C.7.9.2)."""
    from pydicom.dataset import Dataset, FileMetaDataset
    from pydicom.pixels.processing import apply_color_lut
    from pydicom.uid import ExplicitVRBigEndian, ExplicitVRLittleEndian

    if module.signed:
        raise UnsupportedPixelsError("a palette with signed pixels is not supported; store it as RGB")
    try:
        entries, first, bits = (int(value) for value in elements["RedPaletteColorLookupTableDescriptor"])
        entries = entries or 1 << 16
        if not 0 < entries <= 1 << 16 or bits not in (8, 16):
            raise ValueError("descriptor out of range")
        with pydicom_quietly():
            dataset = Dataset()
            dataset.file_meta = FileMetaDataset()
            dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian if little_endian else ExplicitVRBigEndian
            for keyword, value in elements.items():
                if "PaletteColorLookupTable" not in keyword:
                    continue
                words = not little_endian and not keyword.startswith("Segmented") and len(value) == 2 * entries
                # pydicom reads the words of a plain table as little endian, whatever they are.
                setattr(dataset, keyword, np.frombuffer(value, ">u2").astype("<u2").tobytes() if words else value)
            # Only over the table's own entries: beyond them pydicom wraps around where the table has 8 bits.
            table = apply_color_lut(np.arange(first, first + entries, dtype=np.int32), dataset)
    except Exception as error:  # pydicom raises many kinds on damaged tables
        raise UnsupportedPixelsError("its colour palette is damaged; store it as RGB") from error
    table = table[:, :3]
    if table.dtype != np.uint8:
        table = table >> 8 if bits == 16 and table.max() > 255 else np.minimum(table, 255)
    # Values below the first one mapped take the first entry, values beyond the table the last.
    entry = np.clip(np.arange(1 << module.stored) - first, 0, entries - 1)
    return np.ascontiguousarray(table[entry], dtype=np.uint8)


def _integer(elements: Elements, keyword: str, default: int | None = None) -> int:
    if keyword not in elements and default is not None:
        return default
    try:
        return int(elements[keyword])
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise UnsupportedPixelsError(f"{keyword} is missing or damaged; copy the file again") from error


def _real(elements: Elements, keyword: str) -> float | None:
    """The first value of an element, ``None`` where it is absent, damaged or not finite."""
    value: Any = elements.get(keyword)
    if value is not None and not isinstance(value, str) and hasattr(value, "__iter__"):
        value = next(iter(value), None)
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        return None
    return number if np.isfinite(number) else None
