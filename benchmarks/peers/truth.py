"""The reference: torch in float32 and a full SVD in float64; how far a peer's answers are from it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt
import torch
from cases import Case, Work
from families import vit
from families.base import GRID, SIDE, Map, Pixels, positive
from families.eigencam import stretched
from PIL import Image
from vmeg_edge.converters import checkpoint
from vmeg_edge.converters.onnx_from_checkpoint import reference as torch_reference

Answer = tuple[float, Map | None]


@dataclass(frozen=True)
class Truth:
    """Of one frame: probability, and the signed projection ``[196]`` on the leading singular vector."""

    probability: float
    projection: npt.NDArray[np.float64]

    def cosine(self, heat: Map, *, signed: bool) -> float:
        """With a peer's map; a peer without a sign rule is held against whichever side it shows."""
        signs = (1,) if signed else (1, -1)
        return max(_cosine(heat, stretched((sign * self.projection).astype(np.float32))) for sign in signs)


@dataclass(frozen=True)
class Agreement:
    """Over all frames; ``map_cosine`` is the lowest, absent where no map is made."""

    max_abs_dp: float
    mean_abs_dp: float
    map_cosine: float | None
    passes: bool


LIMITS = {"float32": (1e-4, 1e-4), "bfloat16": (1e-2, 1e-2), "int8": (1e-2, 5e-2)}  # mean and max of |dp|


def truths(work: Work, frames: Sequence[Pixels]) -> list[Truth]:
    """Score ``frames`` with the converter's own reference, on Pillow's resize."""
    size, nearest = (SIDE, SIDE), Image.Resampling.NEAREST
    pixels = np.stack([np.asarray(Image.fromarray(frame).resize(size, nearest)) for frame in frames])
    score = torch_reference(checkpoint.load(work.checkpoint).model(), mean=vit.MEAN, std=vit.STD)
    logits, activations = score(pixels)
    return [
        Truth(positive(one), _projection(seen.astype(np.float64), work.direction))
        for one, seen in zip(logits.astype(np.float64), activations, strict=True)
    ]


def agreement(case: Case, answers: Sequence[Answer], expected: Sequence[Truth]) -> Agreement:
    """Hold a peer's answers to the gate of its precision."""
    apart = [abs(answer[0] - truth.probability) for answer, truth in zip(answers, expected, strict=True)]
    cosines = [
        truth.cosine(heat, signed=case.signed)
        for (_, heat), truth in zip(answers, expected, strict=True)
        if heat is not None
    ]
    mean, most = LIMITS[case.gate]
    average = sum(apart) / len(apart)
    return Agreement(max(apart), average, min(cosines, default=None), average <= mean and max(apart) <= most)


def _projection(activations: npt.NDArray[np.float64], direction: Map) -> npt.NDArray[np.float64]:
    centred = torch.from_numpy(activations - activations.mean(axis=0))
    vector = torch.linalg.svd(centred, full_matrices=True).Vh[0].numpy()
    return np.asarray(centred.numpy() @ (vector if vector @ direction > 0 else -vector))


def _cosine(heat: Map, expected: Map) -> float:
    if heat.shape != (GRID, GRID):  # a peer that stretches its map is compared after the same stretch
        expected = np.asarray(cv2.resize(expected, heat.shape[::-1], interpolation=cv2.INTER_LINEAR), np.float32)
    length = float(np.linalg.norm(heat) * np.linalg.norm(expected))
    return float((heat * expected).sum()) / length if length > 0 else 0.0
