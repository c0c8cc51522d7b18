"""torch with its own means: inference mode, fused attention, bfloat16 autocast, thin SVD."""

from __future__ import annotations

from contextlib import nullcontext
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from . import vit
from .base import GRID, Map, Pixels, positive, resized


class TorchTuned:
    def __init__(self, checkpoint: Path, direction: Map, threads: int, *, autocast: bool) -> None:
        torch.set_num_threads(threads)
        self._model, self._autocast = vit.load(checkpoint), autocast
        self._model.blocks[-1].norm1.register_forward_hook(self._keep)
        self._direction = torch.from_numpy(direction)
        self._seen = torch.empty(0)
        self.versions = {"torch": version("torch")}
        self.settings = "inference mode, SDPA attention" + (", bfloat16 autocast" if autocast else "") + "; thin SVD"

    def prepare(self, frame: Pixels) -> Pixels:
        return frame

    @torch.inference_mode()
    def score(self, item: Pixels) -> tuple[float, Map]:
        pixels = vit.normalised(torch.from_numpy(resized(item)))
        with torch.autocast("cpu", torch.bfloat16) if self._autocast else nullcontext():
            logits = self._model(pixels)
        tokens = self._seen[0, 1:].float()
        centred = tokens - tokens.mean(dim=0)
        vector = torch.linalg.svd(centred, full_matrices=False).Vh[0]
        if vector @ self._direction < 0:
            vector = -vector
        hot = (centred @ vector).clamp(min=0)
        hot = (hot - hot.min()) / (hot.max() - hot.min()).clamp(min=1e-12)
        return positive(logits[0].float()), np.asarray(hot.reshape(GRID, GRID).numpy(), dtype=np.float32)

    def _keep(self, _module: torch.nn.Module, _inputs: tuple[Tensor, ...], output: Tensor) -> None:
        self._seen = output
