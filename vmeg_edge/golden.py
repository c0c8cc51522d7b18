"""Golden frames: a few inputs with the reference's answers, stored in a bundle and run again on every load."""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from vmeg_edge.errors import ManifestError
from vmeg_edge.frames import Pixels
from vmeg_edge.manifest import Manifest

_ZIP_LIMIT = 256 << 20


@dataclass(frozen=True, eq=False)
class Golden:
    """``frames`` are uint8 pictures, already cropped to their region; the others are the float32 reference's.

    ``logits`` is float32 ``[n, classes]``; ``heat_maps`` is float32 ``[n, rows, columns]`` in 0..1.
    """

    frames: tuple[Pixels, ...]
    logits: npt.NDArray[np.float32]
    heat_maps: npt.NDArray[np.float32]

    def to_bytes(self) -> bytes:
        """The ``.npz`` file's bytes; the same content, the same bytes."""
        buffer = io.BytesIO()
        pictures: dict[str, Any] = {f"frame_{i:03d}": picture for i, picture in enumerate(self.frames)}
        np.savez_compressed(buffer, logits=self.logits, heat_maps=self.heat_maps, **pictures)
        return buffer.getvalue()


def parse_golden(data: bytes, manifest: Manifest, origin: str) -> Golden:
    """Read ``golden.npz``. Raises `ManifestError` when it does not fit the manifest."""
    try:
        with np.load(io.BytesIO(data), allow_pickle=False) as arrays:
            if sum(entry.file_size for entry in arrays.zip.infolist()) > _ZIP_LIMIT:
                raise ValueError("it inflates beyond 256 MB")
            names = sorted(name for name in arrays.files if name.startswith("frame_"))
            frames = tuple(arrays[name] for name in names)
            logits, heat_maps = arrays["logits"], arrays["heat_maps"]
    except Exception as error:
        reason = " ".join(str(error).split())
        raise ManifestError(f"{origin}: golden.npz cannot be read ({reason}); convert the checkpoint again") from None
    count = len(frames)
    if (
        count == 0
        or any(picture.dtype != np.uint8 for picture in frames)
        or logits.shape != (count, len(manifest.labels))
        or heat_maps.shape != (count, *manifest.explanation.grid)
    ):
        raise ManifestError(f"{origin}: golden.npz does not fit the manifest; convert the checkpoint again")
    return Golden(frames, logits.astype(np.float32), heat_maps.astype(np.float32))
