"""Synthetic axial fetal heads with ground truth: atrial width in millimetres and the ventricles' mask.

They mimic what a B-mode picture of the transventricular plane looks like, for training the demo model, for
golden frames and for tests. They are no substitute for patients' data.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from vmeg_edge.phantom.anatomy import VENTRICULOMEGALY_MM, sample_anatomy, sample_pose, sample_scanner
from vmeg_edge.phantom.cine import PhantomCine
from vmeg_edge.phantom.render import Phantom, render

__all__ = ["VENTRICULOMEGALY_MM", "Phantom", "PhantomCine", "phantom", "phantoms"]


def phantom(seed: int, index: int = 0, *, atrial_width_mm: float | None = None) -> Phantom:
    """The ``index``-th phantom of the set ``seed``: each with a head, scanner and pose of its own."""
    rng = np.random.default_rng([seed, index])
    scanner = sample_scanner(rng)
    anatomy = sample_anatomy(rng, atrial_width_mm)
    return render(anatomy, scanner, sample_pose(rng, scanner), index=index)


def phantoms(seed: int, count: int) -> Iterator[Phantom]:
    """The first ``count`` phantoms of the set ``seed``."""
    for index in range(count):
        yield phantom(seed, index)
