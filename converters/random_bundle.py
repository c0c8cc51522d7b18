"""A full-size model with random weights as a bundle, for measuring speed where there is no checkpoint yet."""

from __future__ import annotations

import re
import tempfile
from pathlib import Path

import torch
from torch import nn

from vmeg_edge._version import __version__
from vmeg_edge.backends import cache_folder, why_unusable
from vmeg_edge.bundle import open_bundle
from vmeg_edge.errors import OutputError, VmegError
from vmeg_edge.manifest import DecisionRule, Precision

from .architectures.vit import ViT, ViTConfig
from .bundle_from_model import Quantization, convert
from .calibration import PHANTOMS
from .candidates import PRECISIONS, Report
from .origin import Training, Weights

RANDOM_WEIGHTS = "RANDOM WEIGHTS: this model was never trained; its speed is that of its size, its scores mean nothing."

ARCHITECTURES = {
    "vit_tiny": ViTConfig(dim=192, depth=12, heads=3),
    "vit_small": ViTConfig(dim=384, depth=12, heads=6),
    "vit_base": ViTConfig(dim=768, depth=12, heads=12),
    "vit_large": ViTConfig(dim=1024, depth=24, heads=16),
}

# An untrained model says 0.5 of everything: at a bare threshold, each rounding would count as a flipped decision.
UNDECIDED = DecisionRule(temperature=1.0, threshold=0.5, abstain=(0.25, 0.75), origin="random weights")

_SEED = 0
_SPREAD = 0.02  # MAE's and timm's standard deviation for linear weights
_HERE = ("onnxruntime", "openvino")


def random_bundle(arch: str, precision: Precision, targets: tuple[str, ...], report: Report) -> Path:
    """The bundle of ``arch`` with seeded random weights: made at the first call, and kept beside the engine cache.

    ``targets`` default to the engines that can be used here; int8 is calibrated on phantoms and passes the same gate as
    any other. Raises what `convert` raises, `OutputError` where the cache folder cannot be used.
    """
    chosen = targets or tuple(name for name in _HERE if precision in PRECISIONS[name] and why_unusable(name) is None)
    folder = cache_folder() / "random"
    path = folder / f"{arch}-{precision}-{'-'.join(sorted(chosen))}-{_plain(__version__)}.vmeg"
    try:
        open_bundle(path)
    except VmegError:
        report(f"making {arch} with random weights, {precision}, for {', '.join(chosen)}; it is kept in {folder}")
    else:
        return path
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError as error:
        raise OutputError(
            f"{folder}: cannot be made ({error.strerror}); set VMEG_EDGE_CACHE to another folder"
        ) from None
    with tempfile.TemporaryDirectory() as scratch:
        checkpoint = Path(scratch) / f"{arch}-random.pt"
        state = _seeded(ARCHITECTURES[arch]).state_dict()
        encoder = {name: value for name, value in state.items() if not name.startswith("head.")}
        torch.save({"model": encoder}, checkpoint)
        convert(
            checkpoint,
            path,
            targets=chosen,
            precision=precision,
            quantization=Quantization((PHANTOMS,)) if precision == "int8" else None,
            weights=Weights(new_head=2),  # so that every output says that it was never trained
            training=Training(decision=UNDECIDED, notes=(RANDOM_WEIGHTS,)),
            replace=True,
            report=report,
        ).check()
    return path


def _seeded(config: ViTConfig) -> ViT:
    """Weights as they stand before training: normal with a deviation of 0.02, biases zero, norms one."""
    model = ViT(config)
    generator = torch.Generator().manual_seed(_SEED)
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, (nn.Linear, nn.Conv2d)):
                module.weight.normal_(0, _SPREAD, generator=generator)
                if module.bias is not None:
                    module.bias.zero_()
        for parameter in (model.cls_token, model.pos_embed):
            parameter.normal_(0, _SPREAD, generator=generator)
    return model.eval()


def _plain(version: str) -> str:
    return re.sub(r"[^A-Za-z0-9._-]", "_", version)
