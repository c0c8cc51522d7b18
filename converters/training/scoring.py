"""What a network says of labelled frames, in torch: for the choice of the best epoch, and for the last table."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch.nn import functional

from ..architectures.network import Network
from ..evaluation import METRICS, point_metrics
from .batches import batches
from .examples import Examples


@dataclass(frozen=True)
class Scores:
    """Mean cross-entropy, accuracy over all classes, and the positive class's F1 at one half (0 where undefined)."""

    loss: float
    accuracy: float
    f1: float


@dataclass(frozen=True)
class Agreement:
    """How far a student says what its teacher says of the same frames.

    The share of frames with the same decision at one half, the mean difference of the positive class's probability,
    and the mean cosine of the activations behind the heat map, centred over positions as Eigen-CAM sees them.
    """

    same_decisions: float
    mean_abs_dp: float
    activation_cosine: float

    @property
    def rank(self) -> tuple[float, float]:
        """Higher is better: more equal decisions, then the smaller difference."""
        return self.same_decisions, -self.mean_abs_dp


def logits_of(
    network: Network, data: Examples, *, batch: int = 64, device: torch.device | None = None
) -> npt.NDArray[np.float32]:
    """float32 ``[n, classes]``, in evaluation mode; the network is left in the mode it came in."""
    place = device or next(network.parameters()).device
    was = network.training
    network.eval()
    with torch.inference_mode():
        parts = batches(data, np.arange(len(data)), batch, network.config.image_size, place)
        said = [network(part.pixels)[0].float().cpu() for part in parts]
    network.train(was)
    return np.asarray(torch.cat(said).numpy(), dtype=np.float32)


def scores(logits: npt.NDArray[np.float32], data: Examples) -> Scores:
    """Hold logits against the frames' targets."""
    said = torch.from_numpy(logits)
    targets = torch.from_numpy(data.targets)
    called = positive_probability(logits, data) >= 0.5
    truth = data.positives
    both = int((called & truth).sum())
    return Scores(
        loss=float(functional.cross_entropy(said, targets)),
        accuracy=float((said.argmax(1) == targets).float().mean()),
        f1=2 * both / max(int(called.sum()) + int(truth.sum()), 1),
    )


def positive_probability(logits: npt.NDArray[np.float32], data: Examples) -> npt.NDArray[np.float64]:
    """``[n]``: the softmax's share of the positive class."""
    shares = torch.from_numpy(logits).double().softmax(1)[:, data.labels.index(data.positive)]
    return np.asarray(shares.numpy())


def six_metrics(logits: npt.NDArray[np.float32], data: Examples) -> dict[str, Any]:
    """The paper's six at one half, ``None`` where undefined, with the counts behind them."""
    found = point_metrics(data.positives, positive_probability(logits, data), 0.5)
    figures = {name: round(found[name], 4) if np.isfinite(found[name]) else None for name in METRICS}
    return {"frames": len(data), "groups": len(set(data.groups)), "positives": int(data.positives.sum()), **figures}
