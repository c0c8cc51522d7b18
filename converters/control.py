"""How much of the gate's allowance a candidate uses up on the control frames: what accuracy control looks at.

The gate itself is held on other frames. Control asks for a margin (`MARGIN` of the allowance), since what passes
exactly here would fail there half of the time.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from vmeg_edge.decide import judge, probabilities
from vmeg_edge.manifest import Manifest
from vmeg_edge.parity import GATES

Tensors = npt.NDArray[np.uint8]
Logits = npt.NDArray[np.float32]

MARGIN = 0.8


@dataclass(frozen=True, eq=False)
class Control:
    """Control frames ``tensors``, uint8 ``[n, H, W, 3]``, and the reference's ``logits`` for them, ``[n, classes]``."""

    manifest: Manifest
    tensors: Tensors
    logits: Logits

    def used(self, logits: Logits, places: Sequence[int] | None = None) -> float:
        """The share of int8's allowance that ``logits`` use on the frames at ``places``; the gate ends at 1."""
        rule = self.manifest.decision
        reference = self.logits if places is None else self.logits[list(places)]
        ours, theirs = (
            probabilities(side, rule.temperature)[:, self.manifest.positive_index] for side in (reference, logits)
        )
        if not np.isfinite(theirs).all():
            return float("inf")
        dp = np.abs(ours - theirs)
        most, most_mean = GATES["int8"]
        shares = [float(dp.max()) / most]
        if most_mean is not None:
            shares.append(float(dp.mean()) / most_mean)
        for p, q in zip(ours, theirs, strict=True):
            pair = {judge(float(p), rule)[0], judge(float(q), rule)[0]}
            if len(pair) == 2 and "no-decision" not in pair:
                shares.append(2.0)
        return max(shares)
