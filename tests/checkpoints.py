"""Checkpoints in MAE's, USF-MAE's and timm's key names, with seeded random weights.

Written from the published key lists (facebookresearch/mae: models_mae.py, models_vit.py, main_linprobe.py),
without the converter's help, so that a mistake there cannot hide here.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

State = dict[str, Tensor]


def make_classifier_state_dict(
    *,
    dim: int = 64,
    depth: int = 2,
    image_size: int = 64,
    classes: int = 2,
    pool: str = "mean",
    qkv_bias: bool = True,
    mlp_ratio: int = 4,
    seed: int = 0,
) -> State:
    """Make a fine-tuned classifier's state dict, as models_vit.py saves it."""
    state = _encoder(dim, depth, image_size, qkv_bias, mlp_ratio, seed)
    make = _Weights(seed + 1)
    make.norm(state, "fc_norm" if pool == "mean" else "norm", dim)
    make.linear(state, "head", dim, classes)
    return state


def make_mae_state_dict(
    *,
    dim: int = 64,
    depth: int = 2,
    image_size: int = 64,
    decoder: bool = True,
    decoder_dim: int = 32,
    decoder_depth: int = 1,
    seed: int = 0,
) -> State:
    """Make a pre-trained MAE's state dict, as USF-MAE publishes it: no head, ``norm``, and the decoder."""
    state = _encoder(dim, depth, image_size, True, 4, seed)
    make = _Weights(seed + 2)
    make.norm(state, "norm", dim)
    if decoder:
        state["mask_token"] = make((1, 1, decoder_dim), 0.02)
        state["decoder_pos_embed"] = make((1, 1 + (image_size // 16) ** 2, decoder_dim), 1.0)
        make.linear(state, "decoder_embed", dim, decoder_dim)
        for index in range(decoder_depth):
            make.block(state, f"decoder_blocks.{index}", decoder_dim, 4, True)
        make.norm(state, "decoder_norm", decoder_dim)
        make.linear(state, "decoder_pred", decoder_dim, 16 * 16 * 3)
    return state


def make_linear_probe_head(*, dim: int = 64, classes: int = 2, seed: int = 5) -> State:
    """Make MAE's linear-probe head: BatchNorm1d without affine, then a linear layer."""
    make = _Weights(seed)
    head: State = {
        "head.0.running_mean": make((dim,), 0.5),
        "head.0.running_var": make((dim,), 1.0).abs() + 0.1,
        "head.0.num_batches_tracked": torch.tensor(1234),
    }
    make.linear(head, "head.1", dim, classes)
    return head


def make_resnet_state_dict(
    *,
    kind: str = "bottleneck",
    blocks: tuple[int, ...] = (1, 1, 1, 1),
    width: int = 8,
    classes: int = 2,
    counters: bool = True,
    seed: int = 0,
) -> State:
    """Make a ResNet's state dict under torchvision's names (pytorch/vision: models/resnet.py)."""
    make = _Weights(seed)
    state: State = {}
    make.conv(state, "conv1", 3, width, 7)
    make.batch_norm(state, "bn1", width, counters)
    inputs = width
    for stage, count in enumerate(blocks):
        inner = width * 2**stage
        outputs = inner * (4 if kind == "bottleneck" else 1)
        for place in range(count):
            name = f"layer{stage + 1}.{place}"
            shapes = [(inputs, inner, 3), (inner, inner, 3)]
            if kind == "bottleneck":
                shapes = [(inputs, inner, 1), (inner, inner, 3), (inner, outputs, 1)]
            for number, (before, after, kernel) in enumerate(shapes, start=1):
                make.conv(state, f"{name}.conv{number}", before, after, kernel)
                make.batch_norm(state, f"{name}.bn{number}", after, counters)
            if place == 0 and (stage > 0 or inputs != outputs):
                make.conv(state, f"{name}.downsample.0", inputs, outputs, 1)
                make.batch_norm(state, f"{name}.downsample.1", outputs, counters)
            inputs = outputs
    make.linear(state, "fc", inputs, classes)
    return state


def make_vgg_state_dict(
    *,
    convolutions: tuple[int, ...] = (1, 1, 2),
    widths: tuple[int, ...] = (8, 16, 16),
    hidden: int = 32,
    pooled: int = 4,
    batch_norm: bool = False,
    classes: int = 2,
    seed: int = 0,
) -> State:
    """Make a VGG's state dict under torchvision's names (pytorch/vision: models/vgg.py)."""
    make = _Weights(seed)
    state: State = {}
    place, inputs = 0, 3
    for count, width in zip(convolutions, widths, strict=True):
        for _ in range(count):
            make.conv(state, f"features.{place}", inputs, width, 3, bias=True)
            if batch_norm:
                make.batch_norm(state, f"features.{place + 1}", width, True)
            place += 3 if batch_norm else 2
            inputs = width
        place += 1
    make.linear(state, "classifier.0", inputs * pooled**2, hidden)
    make.linear(state, "classifier.3", hidden, hidden)
    make.linear(state, "classifier.6", hidden, classes)
    return state


def _encoder(dim: int, depth: int, image_size: int, qkv_bias: bool, mlp_ratio: int, seed: int) -> State:
    make = _Weights(seed)
    state: State = {
        "cls_token": make((1, 1, dim), 0.5),
        "pos_embed": make((1, 1 + (image_size // 16) ** 2, dim), 0.5),
        "patch_embed.proj.weight": make((dim, 3, 16, 16), 1 / math.sqrt(3 * 16 * 16)),
        "patch_embed.proj.bias": make((dim,), 0.1),
    }
    for index in range(depth):
        make.block(state, f"blocks.{index}", dim, mlp_ratio, qkv_bias)
    return state


class _Weights:
    """Draws from one seeded generator, at scales where every layer moves the scores."""

    def __init__(self, seed: int) -> None:
        self.generator = torch.Generator().manual_seed(seed)

    def __call__(self, shape: tuple[int, ...], std: float) -> Tensor:
        return torch.randn(shape, generator=self.generator) * std

    def norm(self, state: State, name: str, dim: int) -> None:
        state[f"{name}.weight"] = 1 + self((dim,), 0.1)
        state[f"{name}.bias"] = self((dim,), 0.1)

    def linear(self, state: State, name: str, inputs: int, outputs: int, *, bias: bool = True) -> None:
        state[f"{name}.weight"] = self((outputs, inputs), 1 / math.sqrt(inputs))
        if bias:
            state[f"{name}.bias"] = self((outputs,), 0.1)

    def block(self, state: State, name: str, dim: int, mlp_ratio: int, qkv_bias: bool) -> None:
        self.norm(state, f"{name}.norm1", dim)
        self.linear(state, f"{name}.attn.qkv", dim, 3 * dim, bias=qkv_bias)
        self.linear(state, f"{name}.attn.proj", dim, dim)
        self.norm(state, f"{name}.norm2", dim)
        self.linear(state, f"{name}.mlp.fc1", dim, mlp_ratio * dim)
        self.linear(state, f"{name}.mlp.fc2", mlp_ratio * dim, dim)

    def conv(self, state: State, name: str, inputs: int, outputs: int, kernel: int, *, bias: bool = False) -> None:
        state[f"{name}.weight"] = self((outputs, inputs, kernel, kernel), math.sqrt(2 / (inputs * kernel**2)))
        if bias:
            state[f"{name}.bias"] = self((outputs,), 0.1)

    def batch_norm(self, state: State, name: str, width: int, counters: bool) -> None:
        self.norm(state, name, width)
        state[f"{name}.running_mean"] = self((width,), 0.2)
        state[f"{name}.running_var"] = 0.5 + self((width,), 0.5).abs()
        if counters:
            state[f"{name}.num_batches_tracked"] = torch.tensor(77)
