"""What every frame source promises, and the table of the kinds of file that can be one."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import TracebackType
from typing import Protocol

from vmeg_edge.errors import SourceError
from vmeg_edge.frames import Disconnected, Frame, LostFrame
from vmeg_edge.sources import sniff

MAX_PIXELS = 1 << 26
"""The largest picture that is decoded (8192x8192): a small file may not claim gigabytes of memory."""

MAX_FRAMES = 1_000_000
"""The longest recording that is believed (nine hours at 30 frames a second): more is a damaged header."""


class SourceWarning(UserWarning):
    """Something in a source that was ignored so that its frames could be delivered."""


class NoPixelsError(SourceError):
    """A sound DICOM object that holds no picture (a report, a DICOMDIR): a folder skips it in silence."""


class Source(Protocol):
    """Frames from one place, one by one.

    ``name`` is what messages call it, ``kind`` one of "image", "folder", "video", "dicom", "metaimage".
    ``frame_count`` is the announced number of frames, ``None`` where the container gives no exact figure;
    ``fps`` is frames a second, ``None`` where unknown.

    Each ``iter()`` starts at the first frame and holds one frame at a time. A frame that was announced
    and cannot be delivered comes as a `LostFrame`, so that ``index`` stays the place in the recording. A ``live``
    source blocks until its next frame, sets ``arrived_ns``, says `Disconnected` when its signal is gone, and ends when
    `close` is called from another thread.
    """

    @property
    def name(self) -> str:
        """What messages call it."""

    @property
    def kind(self) -> str:
        """Which reader it is."""

    @property
    def frame_count(self) -> int | None:
        """Announced frames, ``None`` where there is no exact figure."""

    @property
    def fps(self) -> float | None:
        """Frames a second, ``None`` where unknown."""

    @property
    def live(self) -> bool:
        """Whether frames come at their own pace and do not wait for whoever reads them."""

    def __iter__(self) -> Iterator[Frame | LostFrame | Disconnected]:
        """Deliver from the first frame on; raises `SourceError` when reading breaks off altogether."""

    def close(self) -> None:
        """Let go of files; iterating afterwards raises `SourceError`."""

    def __enter__(self) -> Source:
        """Return itself."""

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close."""


@dataclass(frozen=True)
class Kind:
    """One kind of file: how it is told, what reads it, and what that needs.

    ``sniff`` sees the first `sniff.HEAD_BYTES` bytes. ``requirement`` is the package that must be importable,
    ``extra`` the extra of vmeg-edge that brings it. ``extensions`` only decide whether an unreadable file in
    a folder counts as a lost frame; they never decide what a file is.
    """

    kind: str
    formats: str
    module: str
    opener: str
    sniff: Callable[[bytes], bool]
    extensions: frozenset[str]
    requirement: str | None = None
    extra: str | None = None


# In the order of asking: the surest signatures first.
KINDS: tuple[Kind, ...] = (
    Kind(
        kind="dicom",
        formats="DICOM",
        module="vmeg_edge.sources.dicom",
        opener="DicomSource",
        sniff=sniff.is_dicom,
        extensions=frozenset({".dcm", ".dicom"}),
        requirement="pydicom",
        extra="dicom",
    ),
    Kind(
        kind="image",
        formats="PNG, JPEG, BMP, TIFF, WebP or PNM images",
        module="vmeg_edge.sources.images",
        opener="ImageSource",
        sniff=sniff.is_image,
        extensions=frozenset({".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp", ".pgm", ".ppm", ".pnm"}),
    ),
    Kind(
        kind="video",
        formats="MP4, QuickTime, AVI, Matroska or MPEG video",
        module="vmeg_edge.sources.video",
        opener="VideoSource",
        sniff=sniff.is_video,
        extensions=frozenset({".mp4", ".m4v", ".mov", ".avi", ".mkv", ".webm", ".mpg", ".mpeg", ".ts", ".wmv", ".flv"}),
    ),
    Kind(
        kind="metaimage",
        formats="MetaImage",
        module="vmeg_edge.sources.metaimage",
        opener="MetaImageSource",
        sniff=sniff.is_metaimage,
        extensions=frozenset({".mha", ".mhd"}),
    ),
)

UNDERSTOOD = "; ".join(kind.formats for kind in KINDS)
