"""What an opened model says of frames: logits, and heat maps as the runtime makes them."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from vmeg_edge.backends import Backend
from vmeg_edge.explain import heat_map
from vmeg_edge.frames import Region
from vmeg_edge.manifest import Manifest

from .feeds import Feed

Tensors = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float32]


def answers_of(
    backend: Backend, tensors: Tensors, feed: Feed, manifest: Manifest, direction: Floats | None
) -> tuple[Floats, Floats]:
    """Return logits ``[n, classes]`` and heat maps ``[n, h, w]`` of frames, and close the backend.

    Args:
        backend: an opened model.
        tensors: frames, uint8 ``[n, H, W, 3]``.
        feed: makes the model's inputs of a frame.
        manifest: of the model.
        direction: the map's sign, float32 ``[C]``.

    Raises:
        BackendError: the engine failed on a frame.
    """
    logits, maps = [], []
    try:
        for tensor in tensors:
            scores, seen = backend.infer(**feed(tensor))
            logits.append(scores.copy())
            maps.append(maps_of(seen[None], manifest, direction)[0])
    finally:
        backend.close()
    return np.stack(logits), np.stack(maps)


def maps_of(activations: Floats, manifest: Manifest, direction: Floats | None) -> Floats:
    """Heat maps ``[n, h, w]`` of activations ``[n, h * w, C]``."""
    region = Region(0, 0, manifest.input.width, manifest.input.height)
    grid = manifest.explanation.grid
    return np.stack([heat_map(frame, grid, region, direction).values for frame in activations])
