"""A camera or frame grabber (V4L2, UVC) through OpenCV."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import cv2

from vmeg_edge.errors import SourceError
from vmeg_edge.frames import Region
from vmeg_edge.sources.capture import CapturedSource
from vmeg_edge.sources.quiet import quiet_opencv


class CameraSource(CapturedSource):
    """Frames of ``device`` (a number or a path), RGB, stamped on arrival, with a driver buffer of one.

    ``size`` (width, height), ``fps`` and ``pixel_format`` (FOURCC: MJPG, YUYV, GREY) are asked of the driver; what it
    gives instead is in ``settings``. A size that it does not give raises `SourceError`: a picture of another size may
    be cropped. Raises `SourceError` when there is no such device, or another program holds it.
    """

    kind = "camera"

    def __init__(
        self,
        device: int | str,
        *,
        size: tuple[int, int] | None = None,
        fps: float | None = None,
        pixel_format: str | None = None,
        region: Region | None = None,
    ) -> None:
        """Open the device and set it up."""
        quiet_opencv()
        name = f"camera {device}"
        path = Path(f"/dev/video{device}") if isinstance(device, int) else Path(device)
        if sys.platform == "linux" and not path.exists():
            raise SourceError(f"{name}: there is no {path}; {_those_that_exist()}")
        backend = cv2.CAP_V4L2 if sys.platform == "linux" else cv2.CAP_ANY
        try:
            capture = cv2.VideoCapture(device, backend)
        except cv2.error:
            raise SourceError(f"{name}: cannot be opened; {_those_that_exist()}") from None
        if not capture.isOpened():
            capture.release()
            raise SourceError(
                f"{name}: cannot be opened: it is no capture device, another program holds it, or you may not "
                f"read it; {_those_that_exist()}"
            )
        if pixel_format is not None:
            capture.set(cv2.CAP_PROP_FOURCC, cv2.VideoWriter.fourcc(*pixel_format))
        if size is not None:
            capture.set(cv2.CAP_PROP_FRAME_WIDTH, size[0])
            capture.set(cv2.CAP_PROP_FRAME_HEIGHT, size[1])
        if fps is not None:
            capture.set(cv2.CAP_PROP_FPS, fps)
        capture.set(cv2.CAP_PROP_BUFFERSIZE, 1)
        self.settings = _settings(capture)
        given = (self.settings["width"], self.settings["height"])
        if size is not None and given != size:
            capture.release()
            raise SourceError(
                f"{name}: gives {given[0]}x{given[1]} pixels and not {size[0]}x{size[1]}; ask for what it has"
            )
        # What the driver settled on stands beside every result.
        name += f" ({given[0]}x{given[1]} {self.settings['pixel_format']}, {self.settings['fps']:g} frames/s)"
        super().__init__(capture, name, region)


def _settings(capture: cv2.VideoCapture) -> dict[str, Any]:
    """What the driver settled on."""
    code = int(capture.get(cv2.CAP_PROP_FOURCC))
    letters = "".join(chr(code >> shift & 0xFF) for shift in (0, 8, 16, 24))
    return {
        "width": int(capture.get(cv2.CAP_PROP_FRAME_WIDTH)),
        "height": int(capture.get(cv2.CAP_PROP_FRAME_HEIGHT)),
        "fps": float(capture.get(cv2.CAP_PROP_FPS)),
        "pixel_format": letters if letters.isprintable() else "",
        "buffer": int(capture.get(cv2.CAP_PROP_BUFFERSIZE)),
    }


def _those_that_exist() -> str:
    found = sorted(str(path) for path in Path("/dev").glob("video*")) if sys.platform == "linux" else []
    return f"devices here: {', '.join(found)}" if found else "no video device is there; connect it or check its driver"
