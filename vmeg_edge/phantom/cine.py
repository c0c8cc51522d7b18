"""A cine of phantoms: the probe drifts over one head after another, and the speckle moves with the tissue."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np

from vmeg_edge.errors import UsageError
from vmeg_edge.frames import Frame
from vmeg_edge.phantom.anatomy import Pose, sample_anatomy, sample_pose, sample_scanner
from vmeg_edge.phantom.render import Phantom, render

DEMO_WIDTHS_MM = (6.5, 13.5)


class PhantomCine:
    """A source of phantom frames, one head for each atrial width, ``frames`` in all, at ``fps``.

    The heads share one scanner. The same arguments give the same pixels. Raises `UsageError`.
    """

    kind = "phantom"
    live = False

    def __init__(
        self,
        widths_mm: Sequence[float] = DEMO_WIDTHS_MM,
        *,
        frames: int = 120,
        fps: float = 20.0,
        seed: int = 2,
        width: int = 800,
        height: int = 600,
    ) -> None:
        """Draw the heads and the scanner; frames are rendered one by one while iterating."""
        if frames < len(widths_mm) or not widths_mm:
            raise UsageError(f"a phantom cine needs a frame a head: {frames} frames for {len(widths_mm)} heads")
        self.name = "phantom"
        self.frame_count: int | None = frames
        self.fps: float | None = fps
        self._rate = fps
        self._count = frames
        rng = np.random.default_rng(seed)
        self.scanner = sample_scanner(rng, width, height)
        self._heads = [
            (sample_anatomy(rng, atrial_width_mm), sample_pose(rng, self.scanner)) for atrial_width_mm in widths_mm
        ]

    def phantoms(self) -> Iterator[Phantom]:
        """The frames with their ground truth."""
        for index in range(self._count):
            head = index * len(self._heads) // self._count
            anatomy, rest = self._heads[head]
            captured_s = index / self._rate
            pose = _drift(rest, captured_s)
            yield render(anatomy, self.scanner, pose, index=index, captured_s=captured_s)

    def __iter__(self) -> Iterator[Frame]:
        """The frames alone: what a scorer is given."""
        for phantom in self.phantoms():
            yield phantom.frame

    def close(self) -> None:
        """Nothing is held open."""


def _drift(rest: Pose, seconds: float) -> Pose:
    """A hand-held probe: slow sideways sweep, small changes of depth and angle."""
    return replace(
        rest,
        lateral_mm=rest.lateral_mm + 3.0 * np.sin(1.7 * seconds),
        depth_mm=rest.depth_mm + 1.2 * np.sin(2.3 * seconds + 0.7),
        rotation_rad=rest.rotation_rad + 0.07 * np.sin(1.3 * seconds + 0.3),
    )
