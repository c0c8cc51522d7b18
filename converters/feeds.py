"""What a model is fed for one tensor: the pixels, and for a sized model the home of each patch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from vmeg_edge.sector import fitted

Tensors = npt.NDArray[np.uint8]
Feed: TypeAlias = Callable[[Tensors], dict[str, Any]]
"""From uint8 ``[H, W, 3]`` to the model's inputs by name, each with a batch of one."""


def pixels_alone(tensor: Tensors) -> dict[str, Any]:
    """For a model that has a token for each patch."""
    return {"pixels": tensor[None]}


def by_sector(tokens: int, grid: tuple[int, int]) -> Feed:
    """For a model of ``tokens``: the frame as it fits, and its home (`sector.fitted`)."""

    def feed(tensor: Tensors) -> dict[str, Any]:
        pixels, home = fitted(tensor[None], tokens, grid)
        return {"pixels": pixels, "home": home}

    return feed


def seen_by(feed: Feed, tensors: Tensors) -> Tensors:
    """The pixels that a model sees of ``tensors``, uint8 ``[n, H, W, 3]``: what its reference must score."""
    return np.concatenate([feed(tensor)["pixels"] for tensor in tensors])
