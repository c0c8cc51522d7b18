"""Frame and manifest to the model's tensor: the region, cropped and resized as the trainer did, in uint8."""

from __future__ import annotations

import numpy as np

from vmeg_edge import kernels
from vmeg_edge.errors import FrameError
from vmeg_edge.frames import Frame, Pixels, Region
from vmeg_edge.manifest import Input


class Preprocessor:
    """Turns frames into ``pixels``, uint8 ``[1, height, width, 3]`` RGB, in one buffer that every call reuses.

    ``region`` overrides the region that frames bring with them; without either, the whole frame is taken. The
    region is stretched to the model's size. The very same code runs in conversion, calibration and live.
    """

    def __init__(self, spec: Input, region: Region | None = None) -> None:
        """Prepare for one model. The buffer is allocated here, once."""
        self.spec = spec
        self.region = region
        self._buffer: Pixels = np.empty((1, spec.height, spec.width, 3), dtype=np.uint8)

    def region_of(self, frame: Frame) -> Region:
        """The rectangle of ``frame`` that the model sees. Raises `FrameError` when it does not fit the frame."""
        region = self.region or frame.region or Region(0, 0, frame.width, frame.height)
        if not region.fits(frame.width, frame.height):
            raise FrameError(
                f"{frame.source}: the region {region.x},{region.y},{region.width},{region.height} does not fit "
                f"a frame of {frame.width}x{frame.height} pixels; give --region inside it"
            )
        return region

    def __call__(self, frame: Frame) -> Pixels:
        """The tensor of ``frame``; it is valid until the next call."""
        region = self.region_of(frame)
        kernels.resize(frame.pixels, region, self.spec.width, self.spec.height, self.spec.resize, out=self._buffer[0])
        return self._buffer
