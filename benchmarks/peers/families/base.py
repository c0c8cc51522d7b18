"""What a peer is: opened once in a process of its own, then asked for one frame after another."""

from __future__ import annotations

import math
from typing import Any, Protocol, TypeAlias

import cv2
import numpy as np
import numpy.typing as npt

Pixels: TypeAlias = npt.NDArray[np.uint8]
Map: TypeAlias = npt.NDArray[np.float32]

SIDE, GRID = 224, 14
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class Peer(Protocol):
    """``versions`` and ``settings`` go into the report."""

    versions: dict[str, str]
    settings: str

    def prepare(self, frame: Pixels) -> Any:
        """What is done ahead of the clock: nothing, but for raw inference."""

    def score(self, item: Any) -> tuple[float, Map | None]:
        """Timed: the positive class's probability, and the heat map where the peer makes one."""


def resized(frame: Pixels) -> Pixels:
    """The whole frame stretched to ``[224, 224, 3]``: the interpolation that picks the pixels that Pillow picks."""
    return np.asarray(cv2.resize(frame, (SIDE, SIDE), interpolation=cv2.INTER_NEAREST_EXACT), dtype=np.uint8)


def positive(logits: Any) -> float:
    """Softmax over two classes, of the second."""
    return 1.0 / (1.0 + math.exp(float(logits[0]) - float(logits[1])))
