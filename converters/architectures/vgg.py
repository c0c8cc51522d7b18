"""The VGGs of torchvision in plain torch, with or without batch norm, under torchvision's parameter names."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from vmeg_edge.errors import UsageError
from vmeg_edge.manifest import Head, VGGArchitecture

from .network import Family, Network

WIDTHS = (64, 128, 256, 512, 512)
HIDDEN = 4096
_FEATURE = re.compile(r"features\.(\d{1,3})")


@dataclass(frozen=True)
class VGGConfig:
    """The shape of a VGG (Simonyan and Zisserman 2015, arXiv 1409.1556).

    ``convolutions`` and ``widths`` are each stage's count and channels; each stage ends in a pooling by two. The head
    reads ``pooled`` positions a side through two layers of ``hidden`` channels. ``image_size`` in pixels defaults to
    what is pooled without averaging, and may be a multiple of it.

    Raises `UsageError` for a size that does not divide.
    """

    image_size: int = 224
    convolutions: tuple[int, ...] = (2, 2, 4, 4, 4)
    widths: tuple[int, ...] = WIDTHS
    hidden: int = HIDDEN
    pooled: int = 7
    batch_norm: bool = False
    classes: int = 2

    def __post_init__(self) -> None:
        """Refuse what cannot be built."""
        if len(self.convolutions) != len(self.widths) or not self.convolutions:
            raise UsageError("a VGG needs as many widths as stages, and at least one")
        if min(*self.convolutions, *self.widths, self.hidden, self.pooled, self.classes) < 1:
            raise UsageError("a VGG needs convolutions, widths, hidden, pooled and classes above zero")
        if self.image_size < self.step or self.image_size % self.step:
            raise UsageError(f"image_size is {self.image_size}; choose a positive multiple of {self.step} pixels")

    @property
    def step(self) -> int:
        """Pixels a side that the head takes without averaging: ``pooled`` positions of the last stage."""
        return int(self.pooled * 2 ** len(self.convolutions))

    @property
    def depth(self) -> int:
        """Layers with weights: the number in its name."""
        return sum(self.convolutions) + 3

    @property
    def channels(self) -> int:
        """Channels of the last stage."""
        return self.widths[-1]

    @property
    def name(self) -> str:
        """What people call it, such as ``VGG-19``; its widths where they are not torchvision's."""
        norm = "-BN" if self.batch_norm else ""
        wide = self.widths == WIDTHS and self.hidden == HIDDEN
        return f"VGG-{self.depth}{norm}" + ("" if wide else f" of widths {'-'.join(map(str, self.widths))}")

    @property
    def weights(self) -> int:
        """How many numbers the model holds, give or take its norms."""
        total, inputs = 0, 3
        for count, width in zip(self.convolutions, self.widths, strict=True):
            total += 9 * width * (inputs + (count - 1) * width)
            inputs = width
        return total + self.hidden * (inputs * self.pooled**2 + self.hidden + self.classes)

    def entry(self, head: Head) -> VGGArchitecture:
        """What a manifest says of this shape."""
        return VGGArchitecture(
            family="vgg",
            convolutions=self.convolutions,
            widths=self.widths,
            hidden=self.hidden,
            pooled=self.pooled,
            batch_norm=self.batch_norm,
            head=head,
        )


class VGG(Network):
    """A VGG classifier that also returns the activations behind its heat map.

    ``cam_layer`` is ``features.K`` of a ReLU or a pooling: by default the last pooling (7x7 positions at 224 pixels);
    the ReLU before it has 14x14. Raises `UsageError` when it names no such layer.
    """

    family: ClassVar[Family] = "vgg"
    first_conv: ClassVar[str] = "features.0"
    head_name: ClassVar[str] = "classifier.6"

    config: VGGConfig

    def __init__(self, config: VGGConfig, *, cam_layer: str | None = None, drop_path: float = 0.0) -> None:
        """Build the layers; their weights are torch's defaults until a state dict is loaded."""
        super().__init__()
        if drop_path:
            raise UsageError("a VGG has no residual branch to drop; leave drop_path at 0")
        self.config = config
        self.features = nn.Sequential(*_features(config))
        inputs = config.channels * config.pooled**2
        self.classifier = nn.Sequential(
            nn.Linear(inputs, config.hidden),
            nn.ReLU(),
            nn.Dropout(),
            nn.Linear(config.hidden, config.hidden),
            nn.ReLU(),
            nn.Dropout(),
            nn.Linear(config.hidden, config.classes),
        )
        self.cam_layer = cam_layer or f"features.{len(self.features) - 1}"
        self.cam_index = _cam_index(self.cam_layer, self.features)
        pools = sum(isinstance(layer, nn.MaxPool2d) for layer in list(self.features)[: self.cam_index + 1])
        side = config.image_size >> pools
        self.grid = (side, side)
        convolutions = [layer for layer in list(self.features)[: self.cam_index] if isinstance(layer, nn.Conv2d)]
        self.channels = convolutions[-1].out_channels

    def forward(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """Score normalised float32 ``[N, 3, H, W]``: logits ``[N, classes]`` and activations ``[N, h*w, C]``."""
        x = seen = pixels
        for index, layer in enumerate(self.features):
            x = layer(x)
            if index == self.cam_index:
                seen = x
        # The size is a multiple of `step`, where torchvision's adaptive pooling is a plain average.
        window = self.config.image_size // self.config.step
        x = functional.avg_pool2d(x, window) if window > 1 else x  # [N, C, pooled, pooled]
        logits: Tensor = self.classifier(x.flatten(1))
        return logits, seen.flatten(2).transpose(1, 2)  # [N, h*w, C]

    def initialise(self, seed: int) -> None:
        """He's normal for convolutions, norms of one and zero, N(0, 0.01²) for the head, as torchvision starts."""
        generator = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for module in self.modules():
                if isinstance(module, nn.Conv2d):
                    nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu", generator=generator)
                elif isinstance(module, nn.BatchNorm2d):
                    module.reset_parameters()
                elif isinstance(module, nn.Linear):
                    module.weight.normal_(0, 0.01, generator=generator)
                if isinstance(module, (nn.Conv2d, nn.Linear)) and module.bias is not None:
                    module.bias.zero_()

    def norm_pairs(self) -> list[tuple[str, str]]:
        """Each convolution with its norm, where there are norms."""
        return [
            (f"features.{index - 1}", f"features.{index}")
            for index, layer in enumerate(self.features)
            if isinstance(layer, nn.BatchNorm2d)
        ]

    @property
    def stages(self) -> int:
        """One a stage of convolutions, and the classifier's three layers."""
        return len(self.config.convolutions) + 3

    def stage_of(self, parameter: str) -> int:
        """Convolutions by the poolings before them, then the classifier's layers one by one."""
        match = _FEATURE.match(parameter)
        if match:
            return sum(isinstance(layer, nn.MaxPool2d) for layer in list(self.features)[: int(match[1])])
        return len(self.config.convolutions) + int(parameter.split(".")[1]) // 3


def _features(config: VGGConfig) -> list[nn.Module]:
    """The stages in torchvision's order, so that each layer's number is its number there."""
    layers: list[nn.Module] = []
    inputs = 3
    for count, width in zip(config.convolutions, config.widths, strict=True):
        for _ in range(count):
            layers.append(nn.Conv2d(inputs, width, 3, padding=1))
            if config.batch_norm:
                layers.append(nn.BatchNorm2d(width))
            layers.append(nn.ReLU())
            inputs = width
        layers.append(nn.MaxPool2d(2))
    return layers


def _cam_index(layer: str, features: nn.Sequential) -> int:
    """The place of the ReLU or pooling that ``layer`` names, or say which there are."""
    match = _FEATURE.fullmatch(layer)
    last = len(features) - 1
    if match is None or int(match[1]) > last or not isinstance(features[int(match[1])], (nn.ReLU, nn.MaxPool2d)):
        raise UsageError(
            f"no activations at layer {layer!r}; choose features.K of a ReLU or a pooling, such as features.{last} "
            f"(after the last pooling) or features.{last - 1} (before it)"
        )
    return int(match[1])
