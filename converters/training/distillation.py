"""Learning to merge tokens: the network that merges none is the teacher, and a copy that merges learns its answers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from vmeg_edge.errors import UsageError

from ..architectures.network import Network
from ..architectures.vit import ViT, ViTConfig
from ..token_reduction import asked, most
from .batches import batches
from .examples import Examples
from .recipe import Distillation
from .scoring import Agreement, positive_probability


class Teacher:
    """A network that merges no tokens, frozen, and the loss of a student that has only some of them."""

    def __init__(self, network: Network, weights: Distillation, device: torch.device) -> None:
        """Hold a copy on ``device``; ``network`` stays as it is."""
        self.network = merging(network, 0).to(device)
        self.weights = weights

    def loss(self, pixels: Tensor, logits: Tensor, activations: Tensor) -> Tensor:
        """How far a student's ``logits`` ``[B, classes]`` and ``activations`` ``[B, h*w, C]`` of ``pixels`` are off.

        The Kullback-Leibler divergence of the class probabilities at the temperature, times its square so that the
        gradients keep their size (Hinton et al. 2015), and one minus the cosine of the activations. Zero for the same.
        """
        with torch.no_grad():
            wanted, wanted_activations = self.network(pixels)
        weights, heat = self.weights, self.weights.temperature
        theirs, ours = ((said.float() / heat).log_softmax(dim=1) for said in (wanted, logits))
        divergence = functional.kl_div(ours, theirs, reduction="batchmean", log_target=True) * heat**2
        unlike = 1 - likeness(activations, wanted_activations).mean()
        return weights.answer_weight * divergence + weights.activation_weight * unlike


def merging(network: Network, tokens: int) -> Network:
    """This ViT merging as ``--reduce-tokens`` with ``tokens``: the same weights, sharing memory, to be evaluated.

    Raises `UsageError` for a network that has no tokens, or not so many.
    """
    config = network.config
    if not isinstance(config, ViTConfig):
        raise UsageError(f"--reduce-tokens merges a ViT's tokens, and this is a {config.name}; leave it out")
    schedule = asked(config, tokens) if tokens else ()
    with torch.device("meta"):
        made = ViT(replace(config, merge=schedule), cam_layer=network.cam_layer)
    return made.with_state(network.state_dict())


def further(config: ViTConfig, tokens: int) -> list[int]:
    """``tokens``, half as many more, and twice as many, as far as the network has them."""
    return sorted({min(tokens * halves // 2, most(config)) for halves in (2, 3, 4)})


def before_and_after(
    teacher: Network, tuned: Network, data: Examples, tokens: Sequence[int], device: torch.device
) -> list[tuple[Agreement, Agreement]]:
    """For each number of ``tokens``: how far the teacher's own weights agree with it when they merge, and the tuned."""
    held = [merging(network, r).to(device) for network in (teacher, tuned) for r in tokens]
    found = agreements(merging(teacher, 0).to(device), held, data)
    return list(zip(found[: len(tokens)], found[len(tokens) :], strict=True))


def likeness(ours: Tensor, theirs: Tensor) -> Tensor:
    """The cosine of two activations ``[B, h*w, C]``, frame by frame, ``[B]``: centred, as Eigen-CAM sees them."""
    centred = [(said.float() - said.float().mean(dim=1, keepdim=True)).flatten(1) for said in (ours, theirs)]
    return functional.cosine_similarity(centred[0], centred[1], dim=1)


def agreements(teacher: Network, students: Sequence[Network], data: Examples, *, batch: int = 64) -> list[Agreement]:
    """How far each student says what the teacher says, in evaluation mode and float32, where the teacher is."""
    device = next(teacher.parameters()).device
    modes = [student.training for student in students]
    logits: list[list[Tensor]] = [[] for _ in (teacher, *students)]
    cosines: list[list[Tensor]] = [[] for _ in students]
    for student in students:
        student.eval()
    for part in batches(data, np.arange(len(data)), batch, teacher.config.image_size, device):
        with torch.inference_mode():
            wanted, wanted_activations = teacher(part.pixels)
            logits[0].append(wanted.cpu())
            for place, student in enumerate(students):
                said, activations = student(part.pixels)
                logits[1 + place].append(said.cpu())
                cosines[place].append(likeness(activations, wanted_activations).cpu())
    for student, mode in zip(students, modes, strict=True):
        student.train(mode)
    theirs, *each = (positive_probability(torch.cat(said).numpy(), data) for said in logits)
    return [
        Agreement(
            same_decisions=float(((ours >= 0.5) == (theirs >= 0.5)).mean()),
            mean_abs_dp=float(np.abs(ours - theirs).mean()),
            activation_cosine=float(torch.cat(found).double().mean()),
        )
        for ours, found in zip(each, cosines, strict=True)
    ]
