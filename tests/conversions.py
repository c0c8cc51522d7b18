"""A conversion that several tests read, and where its bundle lies."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from vmeg_edge.converters.bundle_from_model import Conversion

ALL_TARGETS = ("onnxruntime", "openvino", "tensorrt")


@dataclass(frozen=True)
class Made:
    """A conversion and where its bundle lies; the bundle is only read."""

    path: Path
    done: Conversion
    said: tuple[str, ...]
