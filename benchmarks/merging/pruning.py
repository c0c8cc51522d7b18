"""Networks that throw patches away, to be held against those that merge them: by attention, at random, or the dark.

Thrown away, a patch is in no later block and not in the mean that the head reads. In the heat map its cell takes the
mean of the patches that are left: Eigen-CAM centres its columns over the cells, so that says nothing for or against it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Literal, TypeAlias

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional
from trained import Trained, normalised
from vmeg_edge.converters.architectures.vit import CHANNELS, Attention, ViT, ViTConfig
from vmeg_edge.converters.token_reduction import Schedule

from vmeg_edge.manifest import Input

Kind: TypeAlias = Literal["attention", "attention, fused", "random"]

KEEP = 0.7
SEED = 0
DARK = 8
FUSED = -1  # the place of a token that is no patch


def blocks_that_prune(config: ViTConfig) -> tuple[int, ...]:
    """A quarter, a half and three quarters of the way: blocks 3, 6 and 9 of 12, as EViT has them."""
    return tuple(sorted({config.depth // 4, config.depth // 2, 3 * config.depth // 4}))


def schedule(config: ViTConfig, kind: Kind) -> Schedule:
    """How many tokens fewer each block's MLP sees than its attention, as `token_reduction.arithmetic` counts."""
    tokens, fewer = config.grid**2, [0] * config.depth
    for block in blocks_that_prune(config):
        left = math.ceil(KEEP * tokens) + (kind == "attention, fused")
        fewer[block], tokens = tokens - left, left
    return tuple(fewer)


def pruned(trained: Trained, kind: Kind) -> ViT:
    """The network that keeps `KEEP` of its patches in each of `blocks_that_prune`."""
    return _with_weights(Pruned(trained.config, dict.fromkeys(blocks_that_prune(trained.config), KEEP), kind), trained)


def without_dark(trained: Trained) -> ViT:
    """The network that never sees a patch without a pixel above `DARK`."""
    return _with_weights(WithoutDark(trained.config, trained.manifest.input), trained)


def check(trained: Trained) -> None:
    """Raise `AssertionError` unless both kinds of network, with nothing to throw away, say what the whole one says."""
    config, spec = trained.config, trained.manifest.input
    images = np.random.default_rng(SEED).integers(0, 256, (2, spec.height, spec.width), np.uint8)
    pixels = normalised(images, spec)
    keeping = Pruned(config, dict.fromkeys(blocks_that_prune(config), 1.0), "attention")
    with torch.inference_mode():
        whole = trained.network()(pixels)
        for network in (_with_weights(keeping, trained), without_dark(trained)):
            for ours, theirs in zip(network(pixels), whole, strict=True):
                torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)


class Pruned(ViT):
    """Between a block's attention and its MLP, the patches that count least go.

    ``attention`` is EViT without the fused token (Liang et al., ICLR 2022, arXiv 2202.07800): what counts is how much
    the class token attends to a patch, the mean over heads. ``attention, fused`` adds one token, the sum of those that
    go, each times its attention, as EViT does. ``random`` draws.
    """

    def __init__(self, config: ViTConfig, keep: Mapping[int, float], kind: Kind) -> None:
        """``keep`` is the share that stays, by block."""
        super().__init__(config)
        self.keep, self.kind = keep, kind
        self.generator = torch.Generator().manual_seed(SEED)

    def forward(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """Logits ``[N, classes]`` and activations ``[N, h*w, C]``."""
        x = embedded(self, pixels)  # [N, 1 + P, C]
        places = torch.arange(x.shape[1] - 1).expand(len(x), -1)  # [N, T]: the patch that each token is
        activations = x
        for index, block in enumerate(self.blocks):
            seen = block.norm1(x)
            if index == self.cam_block:
                activations = on_grid(seen[:, 1:], places, self.config.grid**2)
            mixed, attention = attend(block.attn, seen)
            x = x + mixed
            if index in self.keep:
                x, places = self._kept(x, places, attention, self.keep[index])
            x = x + block.mlp(block.norm2(x))
        return self.head(pooled(self, x, torch.ones_like(places, dtype=torch.bool))), activations

    def _kept(self, x: Tensor, places: Tensor, attention: Tensor, share: float) -> tuple[Tensor, Tensor]:
        """The tokens ``[N, 1 + T, C]`` that stay, in their old order, and their places."""
        worth = attention if self.kind != "random" else torch.rand(places.shape, generator=self.generator)
        stay = math.ceil(share * places.shape[1])
        order = worth.argsort(dim=1, descending=True)
        kept, gone = order[:, :stay].sort(dim=1).values, order[:, stay:]
        patches = x[:, 1:]
        parts, left = [x[:, :1], rows(patches, kept)], torch.gather(places, 1, kept)
        if self.kind == "attention, fused":
            parts.append((rows(patches, gone) * torch.gather(attention, 1, gone)[:, :, None]).sum(dim=1, keepdim=True))
            left = functional.pad(left, (0, 1), value=FUSED)
        return torch.cat(parts, dim=1), left


class WithoutDark(ViT):
    """Dark patches are left out before the first block.

    How many they are differs by frame, so they are masked: no token attends to them, and the mean is without them.
    """

    def __init__(self, config: ViTConfig, spec: Input) -> None:
        """``spec`` says what is dark once normalised."""
        super().__init__(config)
        darkest = zip(spec.mean, spec.std, strict=True)
        # half a level above: no level is there, and no rounding can tell
        self.limit = tuple(((DARK + 0.5) / 255 - mean) / std for mean, std in darkest)

    def forward(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """Logits ``[N, classes]`` and activations ``[N, h*w, C]``."""
        above = pixels - torch.tensor(self.limit).reshape(1, CHANNELS, 1, 1)
        lit = functional.max_pool2d(above, self.config.patch).amax(dim=1).flatten(1) > 0  # [N, P]
        lit |= ~lit.any(dim=1, keepdim=True)  # a picture that is dark all over keeps everything
        x = embedded(self, pixels)
        activations = x
        for index, block in enumerate(self.blocks):
            seen = block.norm1(x)
            if index == self.cam_block:
                mean = (seen[:, 1:] * lit[:, :, None]).sum(dim=1, keepdim=True) / lit.sum(dim=1)[:, None, None]
                activations = torch.where(lit[:, :, None], seen[:, 1:], mean)
            x = x + attend(block.attn, seen, lit)[0]
            x = x + block.mlp(block.norm2(x))
        return self.head(pooled(self, x, lit)), activations


def embedded(network: ViT, pixels: Tensor) -> Tensor:
    """The tokens before the first block, ``[N, 1 + P, C]``."""
    x = network.patch_embed(pixels)
    return torch.cat((network.cls_token.expand(len(x), -1, -1), x), dim=1) + network.pos_embed


def attend(layer: Attention, x: Tensor, seen: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Attention over ``x`` ``[N, 1 + T, C]``, and how much the class token attends to each patch, ``[N, T]``.

    ``seen`` ``[N, T]`` is which patches may be attended to, all where it is ``None``.
    """
    n, t, c = x.shape
    width = c // layer.heads
    parts = layer.qkv(x).chunk(3, dim=-1)
    q, k, v = (part.reshape(n, t, layer.heads, width).transpose(1, 2) for part in parts)  # [N, heads, 1 + T, width]
    logits = (q * width**-0.5) @ k.transpose(-2, -1)
    if seen is not None:
        logits = logits.masked_fill(~functional.pad(seen, (1, 0), value=True)[:, None, None], -torch.inf)
    shares = logits.softmax(dim=-1)  # [N, heads, 1 + T, 1 + T]
    mixed: Tensor = layer.proj((shares @ v).transpose(1, 2).reshape(n, t, c))
    return mixed, shares[:, :, 0, 1:].mean(dim=1)


def pooled(network: ViT, x: Tensor, counted: Tensor) -> Tensor:
    """What the head reads, ``[N, C]``: the mean of the patch tokens that count, or the class token."""
    if network.config.pool == "mean":
        mean = (x[:, 1:] * counted[:, :, None]).sum(dim=1) / counted.sum(dim=1, keepdim=True)
        found: Tensor = network.get_submodule("fc_norm")(mean)
    else:
        found = network.get_submodule("norm")(x[:, 0])
    return found


def on_grid(x: Tensor, places: Tensor, patches: int) -> Tensor:
    """Tokens ``[N, T, C]`` back in their places, ``[N, P, C]``; the mean of all patches left where one is gone."""
    real = (places != FUSED)[:, :, None]
    mean = (x * real).sum(dim=1, keepdim=True) / real.sum(dim=1, keepdim=True)
    grid = mean.repeat(1, patches + 1, 1)  # one place more, for what is no patch
    target = torch.where(real, places[:, :, None], patches).expand_as(x)
    return grid.scatter(1, target, x)[:, :patches]


def rows(x: Tensor, places: Tensor) -> Tensor:
    """``[N, T, C]`` at ``places`` ``[N, S]``: ``[N, S, C]``."""
    return torch.gather(x, 1, places[:, :, None].expand(-1, -1, x.shape[2]))


def _with_weights(network: ViT, trained: Trained) -> ViT:
    network.load_state_dict(dict(trained.checkpoint.state))
    return network.eval().requires_grad_(False)
