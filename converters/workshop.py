"""What candidates are made from."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Literal, TypeAlias

import onnx

from vmeg_edge.errors import UsageError
from vmeg_edge.manifest import Manifest

from .calibration import Sets
from .control import Control
from .feeds import Feed, pixels_alone
from .linear_layers import is_transformer
from .ranges import Ranges

FloatPrecision: TypeAlias = Literal["float32", "float16", "bfloat16"]
Report: TypeAlias = Callable[[str], None]


@dataclass(frozen=True, eq=False)
class Workshop:
    """The float32 ONNX file, its manifest, a folder to work in, and for int8 the frames and the control.

    ``float_precision`` is what OpenVINO may compute in beside int8; ``feed`` makes the model's inputs of a frame.
    """

    model: Path
    manifest: Manifest
    scratch: Path
    sets: Sets | None = None
    control: Control | None = None
    report: Report = field(default=lambda _: None)
    float_precision: FloatPrecision = "float32"
    feed: Feed = pixels_alone

    @cached_property
    def transformer(self) -> bool:
        """Whether recipes for transformers fit this model."""
        return is_transformer(onnx.load(self.model, load_external_data=False).graph)

    @cached_property
    def ranges(self) -> Ranges:
        """The ranges of its activations over the calibration frames, measured once for every recipe."""
        sets, _ = self.for_int8()
        return Ranges(self.model, sets.calibration, self.scratch, self.feed)

    def for_int8(self) -> tuple[Sets, Control]:
        """Frames and control. Raises `UsageError` where there are none."""
        if self.sets is None or self.control is None:
            raise UsageError("int8 is calibrated on frames; give --calibration SOURCE (stills, a cine, a folder)")
        return self.sets, self.control
