"""The score over the last minutes in bounded memory: one step for each half second."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Any

from vmeg_edge.results import FrameResult

STEP_S = 0.5
STEPS = 600  # five minutes


@dataclass
class _Step:
    """Half a second: the evidence in it (how many, their sum, lowest and highest), and how many frames were none."""

    index: int
    evidence: int = 0
    total: float = 0.0
    low: float = 1.0
    high: float = 0.0
    abstained: int = 0
    frozen: int = 0


class Trace:
    """Steps of the score, the oldest forgotten. A time without a step had no score: it is a gap."""

    def __init__(self) -> None:
        """Nothing has come."""
        self._steps: deque[_Step] = deque(maxlen=STEPS)

    def __len__(self) -> int:
        """How many steps are held."""
        return len(self._steps)

    def add(self, at_s: float, result: FrameResult) -> None:
        """Count one result. Frozen or repeated pixels and abstentions are no evidence, so they have no score here."""
        index = int(at_s / STEP_S)
        if not self._steps or self._steps[-1].index < index:
            self._steps.append(_Step(index))
        step = self._steps[-1]
        if result.signal != "live" or result.reused:
            step.frozen += 1
        elif result.prediction.decision == "no-decision":
            step.abstained += 1
        else:
            probability = result.prediction.probability
            step.evidence += 1
            step.total += probability
            step.low = min(step.low, probability)
            step.high = max(step.high, probability)

    def since(self, index: int, at_s: float) -> list[list[Any]]:
        """Steps from ``index`` on, those older than five minutes left out: [index, mean, low, high, abstained, frozen].

        The three figures are ``None`` where the step holds no evidence.
        """
        first = max(index, int(at_s / STEP_S) - STEPS + 1)
        return [
            [
                step.index,
                *(
                    (round(step.total / step.evidence, 4), round(step.low, 4), round(step.high, 4))
                    if step.evidence
                    else (None, None, None)
                ),
                step.abstained,
                step.frozen,
            ]
            for step in self._steps
            if step.index >= first
        ]
