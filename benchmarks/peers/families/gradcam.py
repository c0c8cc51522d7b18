"""torch in eager float32 and grad-cam's EigenCAM: what most laboratories run."""

from __future__ import annotations

import importlib.machinery
import importlib.util
import sys
from importlib.metadata import version
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from . import vit
from .base import GRID, SIDE, Map, Pixels, positive


class GradCam:
    """Pillow, torch and ``EigenCAM(model, [blocks[-1].norm1])``, opened once and used without gradients."""

    settings = "float32, SDPA attention, no gradients; Pillow; full SVD; sign: LAPACK's"

    def __init__(self, checkpoint: Path, threads: int) -> None:
        torch.set_num_threads(threads)
        _stand_in_for_torchvision()
        from pytorch_grad_cam import EigenCAM
        from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

        model = vit.load(checkpoint)
        self._cam = EigenCAM(model, [model.blocks[-1].norm1], reshape_transform=_to_grid)
        self._targets = [ClassifierOutputTarget(1)]
        names = ("torch", "grad-cam", "pillow")
        self.versions = {name: version(name) for name in names}

    def prepare(self, frame: Pixels) -> Pixels:
        return frame

    def score(self, item: Pixels) -> tuple[float, Map]:
        """The map is grad-cam's own, 224x224: it stretches the 14x14 bilinearly to the input."""
        picture = Image.fromarray(item).resize((SIDE, SIDE), Image.Resampling.NEAREST)
        pixels = vit.normalised(torch.from_numpy(np.array(picture)))
        with torch.no_grad():
            heat = self._cam(pixels, targets=self._targets)
        return positive(self._cam.outputs[0]), heat[0]


def _to_grid(tokens: Tensor) -> Tensor:
    """``[N, 1 + h*w, C]`` to ``[N, C, h, w]``, as grad-cam's documentation does for a ViT."""
    return tokens[:, 1:].reshape(len(tokens), GRID, GRID, -1).permute(0, 3, 1, 2)


def _stand_in_for_torchvision() -> None:
    """Four names that grad-cam imports and that EigenCAM never calls, where torchvision is not installed."""
    if importlib.util.find_spec("torchvision") is not None:
        return

    def absent(*_: Any, **__: Any) -> Any:
        raise NotImplementedError("torchvision is not installed")

    for name in ("torchvision", "torchvision.transforms", "torchvision.transforms.functional"):
        module: Any = ModuleType(name)
        module.__spec__ = importlib.machinery.ModuleSpec(name, None, is_package=True)
        module.__path__ = []
        sys.modules[name] = module
        for needed in ("Compose", "Normalize", "ToTensor", "resize"):
            setattr(module, needed, absent)
