"""The ResNets of torchvision in plain torch, under torchvision's parameter names."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import ClassVar, Literal, TypeAlias, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from vmeg_edge.errors import UsageError
from vmeg_edge.manifest import Head, ResNetArchitecture

from .network import DropPath, Family, Network

BlockKind: TypeAlias = Literal["basic", "bottleneck"]

STRIDE = 32  # pixels a side for each position of the last stage
WIDTH = 64  # of torchvision's stem
_STAGE = re.compile(r"layer([1-4])")


@dataclass(frozen=True)
class ResNetConfig:
    """The shape of a ResNet (He et al. 2016, arXiv 1512.03385).

    ``blocks`` counts the blocks of the four stages; ``width`` is the stem's channels, doubled from stage to stage. A
    ``bottleneck`` has its stride in the 3x3 convolution, as torchvision's has (weights cannot tell); its outputs are
    four times as wide. ``image_size`` in pixels is a multiple of 32.

    Raises `UsageError` for a size that does not divide.
    """

    image_size: int = 224
    kind: BlockKind = "bottleneck"
    blocks: tuple[int, int, int, int] = (3, 4, 6, 3)
    width: int = WIDTH
    classes: int = 2

    def __post_init__(self) -> None:
        """Refuse what cannot be built."""
        if min(*self.blocks, self.width, self.classes) < 1:
            raise UsageError("a ResNet needs blocks in each of four stages, a width and classes above zero")
        if self.image_size < STRIDE or self.image_size % STRIDE:
            raise UsageError(f"image_size is {self.image_size}; choose a positive multiple of {STRIDE} pixels")

    @property
    def expansion(self) -> int:
        """A block's output channels for each of its inner ones."""
        return 4 if self.kind == "bottleneck" else 1

    @property
    def depth(self) -> int:
        """Layers with weights on the way from the pixels to the logits: the number in its name."""
        return 2 + sum(self.blocks) * (3 if self.kind == "bottleneck" else 2)

    @property
    def channels(self) -> int:
        """Channels of the last stage."""
        return 8 * self.width * self.expansion

    @property
    def name(self) -> str:
        """What people call it, such as ``ResNet-50``; its width where that is not torchvision's."""
        return f"ResNet-{self.depth}" + ("" if self.width == WIDTH else f" of width {self.width}")

    @property
    def weights(self) -> int:
        """How many numbers the model holds, give or take its norms."""
        total, inputs = 147 * self.width, self.width
        for stage, count in enumerate(self.blocks):
            inner = self.width * 2**stage
            outputs = inner * self.expansion
            for place in range(count):
                if self.kind == "bottleneck":
                    total += inputs * inner + 9 * inner * inner + inner * outputs
                else:
                    total += 9 * inner * (inputs + inner)
                total += inputs * outputs if place == 0 and (stage or inputs != outputs) else 0
                inputs = outputs
        return total + self.classes * inputs

    def entry(self, head: Head) -> ResNetArchitecture:
        """What a manifest says of this shape."""
        return ResNetArchitecture(family="resnet", kind=self.kind, blocks=self.blocks, width=self.width, head=head)


class Basic(nn.Module):
    """Two 3x3 convolutions beside a shortcut."""

    def __init__(self, inputs: int, inner: int, stride: int, drop_path: float) -> None:
        """``inner`` channels in and out of the second convolution."""
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, inner, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(inner)
        self.conv2 = nn.Conv2d(inner, inner, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(inner)
        self.downsample = _shortcut(inputs, inner, stride)
        self.drop_path = DropPath(drop_path)

    def forward(self, x: Tensor) -> Tensor:
        """``[N, C, H, W]`` to ``[N, C', H / stride, W / stride]``."""
        y = functional.relu(self.bn1(self.conv1(x)))
        y = self.drop_path(self.bn2(self.conv2(y)))
        return functional.relu(y + (x if self.downsample is None else self.downsample(x)))


class Bottleneck(nn.Module):
    """1x1, 3x3 and 1x1 convolutions beside a shortcut."""

    def __init__(self, inputs: int, inner: int, stride: int, drop_path: float) -> None:
        """``inner`` channels inside, four times as many out."""
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, inner, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(inner)
        self.conv2 = nn.Conv2d(inner, inner, 3, stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(inner)
        self.conv3 = nn.Conv2d(inner, 4 * inner, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(4 * inner)
        self.downsample = _shortcut(inputs, 4 * inner, stride)
        self.drop_path = DropPath(drop_path)

    def forward(self, x: Tensor) -> Tensor:
        """``[N, C, H, W]`` to ``[N, C', H / stride, W / stride]``."""
        y = functional.relu(self.bn1(self.conv1(x)))
        y = functional.relu(self.bn2(self.conv2(y)))
        y = self.drop_path(self.bn3(self.conv3(y)))
        return functional.relu(y + (x if self.downsample is None else self.downsample(x)))


def _shortcut(inputs: int, outputs: int, stride: int) -> nn.Sequential | None:
    """A 1x1 convolution and its norm where the block changes the shape."""
    if stride == 1 and inputs == outputs:
        return None
    return nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))


class ResNet(Network):
    """A ResNet classifier that also returns the activations behind its heat map.

    ``cam_layer`` is ``layer1`` to ``layer4``, by default the last: 7x7 positions at 224 pixels. Raises `UsageError`
    when it names no such layer.
    """

    family: ClassVar[Family] = "resnet"
    first_conv: ClassVar[str] = "conv1"
    head_name: ClassVar[str] = "fc"

    config: ResNetConfig

    def __init__(self, config: ResNetConfig, *, cam_layer: str | None = None, drop_path: float = 0.0) -> None:
        """Build the layers; their weights are torch's defaults until a state dict is loaded."""
        super().__init__()
        self.config = config
        self.cam_layer = cam_layer or "layer4"
        match = _STAGE.fullmatch(self.cam_layer)
        if match is None:
            raise UsageError(f"no activations at layer {self.cam_layer!r}; choose layer1, layer2, layer3 or layer4")
        stage = int(match[1])
        side = config.image_size // (2 << stage)
        self.grid = (side, side)
        self.channels = config.width * 2 ** (stage - 1) * config.expansion

        self.conv1 = nn.Conv2d(3, config.width, 7, 2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(config.width)
        block = Bottleneck if config.kind == "bottleneck" else Basic
        inputs, place, last = config.width, 0, max(sum(config.blocks) - 1, 1)
        for index, count in enumerate(config.blocks):
            inner = config.width * 2**index
            made = []
            for first in range(count):
                stride = 2 if first == 0 and index > 0 else 1
                made.append(block(inputs, inner, stride, drop_path * place / last))
                inputs, place = inner * config.expansion, place + 1
            self.add_module(f"layer{index + 1}", nn.Sequential(*made))
        self.fc = nn.Linear(inputs, config.classes)

    def forward(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """Score normalised float32 ``[N, 3, H, W]``: logits ``[N, classes]`` and activations ``[N, h*w, C]``."""
        x = functional.relu(self.bn1(self.conv1(pixels)))  # [N, width, H/2, W/2]
        x = functional.max_pool2d(x, 3, 2, padding=1)
        seen = x
        for name in ("layer1", "layer2", "layer3", "layer4"):
            x = self.get_submodule(name)(x)
            if name == self.cam_layer:
                seen = x
        activations = seen.flatten(2).transpose(1, 2)  # [N, h*w, C]
        return cast("Tensor", self.fc(x.mean(dim=(2, 3)))), activations

    def initialise(self, seed: int) -> None:
        """He's normal for convolutions, norms of one and zero; the last norm of each branch starts at zero.

        Zero there makes each block start as its shortcut (Goyal et al. 2017, arXiv 1706.02677).
        """
        generator = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for module in self.modules():
                if isinstance(module, nn.Conv2d):
                    nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu", generator=generator)
                elif isinstance(module, nn.BatchNorm2d):
                    module.reset_parameters()
            for block in self.modules():  # behind the loop above, which meets a block before its norms
                if isinstance(block, (Basic, Bottleneck)):
                    last = block.bn3 if isinstance(block, Bottleneck) else block.bn2
                    last.weight.zero_()
            self.fc.weight.normal_(0, 0.01, generator=generator)
            self.fc.bias.zero_()

    def norm_pairs(self) -> list[tuple[str, str]]:
        """Each convolution with its norm."""
        pairs = []
        for name, module in self.named_modules():
            if isinstance(module, nn.BatchNorm2d):
                before, _, own = name.rpartition(".")
                conv = f"{before}.0" if before.endswith("downsample") else name[: -len(own)] + f"conv{own[-1]}"
                pairs.append((conv, name))
        return pairs

    @property
    def stages(self) -> int:
        """The stem, four stages, the head."""
        return 6

    def stage_of(self, parameter: str) -> int:
        """0 for the stem, 1 to 4 for ``layer1`` to ``layer4``, 5 for the head."""
        match = _STAGE.match(parameter)
        if match:
            return int(match[1])
        return 5 if parameter.startswith("fc.") else 0
