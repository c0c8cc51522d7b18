"""Logits to Prediction: softmax at a temperature, then threshold and abstain band."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from vmeg_edge.errors import BackendError
from vmeg_edge.manifest import DecisionRule, Manifest
from vmeg_edge.results import Decision, Prediction


def probabilities(logits: npt.NDArray[np.float32], temperature: float) -> npt.NDArray[np.float64]:
    """Softmax over the last axis, in float64 and safe from overflow, of ``logits / temperature``."""
    scaled = np.asarray(logits, dtype=np.float64) / temperature
    shifted = np.exp(scaled - scaled.max(axis=-1, keepdims=True))
    return np.asarray(shifted / shifted.sum(axis=-1, keepdims=True))


def decide(logits: npt.NDArray[np.float32], manifest: Manifest) -> Prediction:
    """The decision on one frame from its logits, float32 ``[classes]``.

    Raises `BackendError` when the logits are not finite or not one a class: no score is better than a false one.
    """
    if logits.shape != (len(manifest.labels),) or not np.isfinite(logits).all():
        raise BackendError(
            f"the model gave logits {np.array2string(logits, threshold=6)} for {len(manifest.labels)} classes; "
            "verify the bundle and the backend (`vmeg-edge verify`)"
        )
    spread = probabilities(logits, manifest.decision.temperature)
    probability = float(spread[manifest.positive_index])
    decision, reason = judge(probability, manifest.decision)
    return Prediction(manifest.labels[int(spread.argmax())], probability, decision, reason)


def judge(probability: float, rule: DecisionRule) -> tuple[Decision, str]:
    """The decision and its reason for a probability of the positive class."""
    if rule.abstain is not None and rule.abstain[0] < probability < rule.abstain[1]:
        low, high = rule.abstain
        return "no-decision", f"probability {probability:.3f} lies in the abstain band {low:g} to {high:g}"
    if probability >= rule.threshold:
        return "suspected", f"probability {probability:.3f} reaches the threshold {rule.threshold:g}"
    return "normal", f"probability {probability:.3f} is below the threshold {rule.threshold:g}"
