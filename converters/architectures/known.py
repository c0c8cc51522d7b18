"""The published sizes by the names that people give them, and any config to its network."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeAlias

from .network import Network
from .resnet import ResNet, ResNetConfig
from .vgg import VGG, VGGConfig
from .vit import ViT, ViTConfig

AnyConfig: TypeAlias = ViTConfig | ResNetConfig | VGGConfig

ARCHITECTURES: Mapping[str, AnyConfig] = {
    "vit_tiny": ViTConfig(dim=192, depth=12, heads=3),
    "vit_small": ViTConfig(dim=384, depth=12, heads=6),
    "vit_base": ViTConfig(dim=768, depth=12, heads=12),
    "vit_large": ViTConfig(dim=1024, depth=24, heads=16),
    "resnet18": ResNetConfig(kind="basic", blocks=(2, 2, 2, 2)),
    "resnet34": ResNetConfig(kind="basic", blocks=(3, 4, 6, 3)),
    "resnet50": ResNetConfig(),
    "resnet101": ResNetConfig(blocks=(3, 4, 23, 3)),
    "vgg16": VGGConfig(convolutions=(2, 2, 3, 3, 3)),
    "vgg16_bn": VGGConfig(convolutions=(2, 2, 3, 3, 3), batch_norm=True),
    "vgg19": VGGConfig(),
    "vgg19_bn": VGGConfig(batch_norm=True),
}


def network(config: AnyConfig, *, cam_layer: str | None = None, drop_path: float = 0.0) -> Network:
    """The network of ``config``, its weights torch's defaults.

    Raises `UsageError` for a ``cam_layer`` that the network has not, or a ``drop_path`` that it cannot honour.
    """
    if isinstance(config, ViTConfig):
        return ViT(config, cam_layer=cam_layer, drop_path=drop_path)
    if isinstance(config, ResNetConfig):
        return ResNet(config, cam_layer=cam_layer, drop_path=drop_path)
    return VGG(config, cam_layer=cam_layer, drop_path=drop_path)
