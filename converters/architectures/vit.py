"""The ViT encoder and classifier in plain torch, one screen a thought."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import ClassVar, Literal, TypeAlias, cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from vmeg_edge.errors import UsageError
from vmeg_edge.manifest import Head, ViTArchitecture

from . import token_merging
from .network import DropPath, Family, Network
from .token_merging import Tokens, merged, shared

Pool: TypeAlias = Literal["mean", "token"]

CHANNELS = 3
HEAD_WIDTH = 64  # every published ViT of these sizes has heads of 64 channels

_NAMES = {(192, 12): "ViT-Ti", (384, 12): "ViT-S", (768, 12): "ViT-B", (1024, 24): "ViT-L"}
_CAM_LAYER = re.compile(r"blocks\.(\d{1,4})\.norm1")
_BLOCK = re.compile(r"blocks\.(\d{1,4})\.")
_SPREAD = 0.02  # timm's standard deviation for linear weights


@dataclass(frozen=True)
class ViTConfig:
    """The shape of a Vision Transformer (Dosovitskiy et al. 2021, arXiv 2010.11929).

    ``image_size`` and ``patch`` are pixels a side. ``pool`` says what the head reads: ``mean``, the average
    of the patch tokens and then ``fc_norm`` (MAE's ``global_pool``; He et al. 2022, arXiv 2111.06377), or
    ``token``, the class token after ``norm``. The default ``eps`` is MAE's. ``merge`` is how many tokens each block
    merges away (`token_merging`), none where it is empty; ``sector`` is how many tokens the patches share ahead of the
    first block, 0 where each has its own. Weights depend on neither.

    Raises `UsageError` for sizes that do not divide, or a schedule that leaves no tokens.
    """

    image_size: int = 224
    patch: int = 16
    dim: int = 768
    depth: int = 12
    heads: int = 12
    mlp_ratio: float = 4.0
    classes: int = 2
    pool: Pool = "mean"
    eps: float = 1e-6
    qkv_bias: bool = True
    merge: tuple[int, ...] = ()
    sector: int = 0

    def __post_init__(self) -> None:
        """Refuse what cannot be built."""
        if min(self.patch, self.dim, self.depth, self.heads, self.classes) < 1 or self.mlp_ratio <= 0:
            raise UsageError("a ViT needs a patch, dim, depth, heads, mlp_ratio and classes above zero")
        if self.image_size < self.patch or self.image_size % self.patch:
            raise UsageError(
                f"image_size is {self.image_size}; choose a positive multiple of the patch size, {self.patch}"
            )
        if self.dim % self.heads:
            raise UsageError(f"heads is {self.heads}, which does not divide dim {self.dim}; choose a divisor")
        if not 0 <= self.sector < self.grid**2:
            raise UsageError(f"sector is {self.sector}; give fewer tokens than there are patches, {self.grid**2}")
        if self.merge:
            token_merging.check(self.merge, self.depth, self.tokens)

    @property
    def grid(self) -> int:
        """Patches a side: the side of the heat map's grid."""
        return self.image_size // self.patch

    @property
    def tokens(self) -> int:
        """Tokens in the first block, the class token not counted."""
        return self.sector or self.grid**2

    @property
    def hidden(self) -> int:
        """Channels inside each block's MLP."""
        return round(self.dim * self.mlp_ratio)

    @property
    def cam_layer(self) -> str:
        """The layer that Eigen-CAM reads unless told otherwise: ``norm1`` of the last block."""
        return f"blocks.{self.depth - 1}.norm1"

    @property
    def name(self) -> str:
        """What people call it, such as ``ViT-B/16``; dim and depth where the size has no common name."""
        return f"{_NAMES.get((self.dim, self.depth), f'ViT-{self.dim}x{self.depth}')}/{self.patch}"

    @property
    def weights(self) -> int:
        """How many numbers the model holds, give or take its biases."""
        block = self.dim * (4 * self.dim + 2 * self.hidden)
        embedding = self.dim * (CHANNELS * self.patch**2 + self.grid**2 + 1)
        return self.depth * block + embedding + self.classes * self.dim

    def entry(self, head: Head) -> ViTArchitecture:
        """What a manifest says of this shape."""
        return ViTArchitecture(
            family="vit",
            patch=self.patch,
            dim=self.dim,
            depth=self.depth,
            heads=self.heads,
            pool=self.pool,
            head=head,
        )


class PatchEmbedding(nn.Module):
    """Cut the image into patches and project each to one token."""

    def __init__(self, config: ViTConfig) -> None:
        """Hold one convolution whose stride is its kernel, so that it never pads."""
        super().__init__()
        self.proj = nn.Conv2d(CHANNELS, config.dim, kernel_size=config.patch, stride=config.patch)

    def forward(self, pixels: Tensor) -> Tensor:
        """``[N, 3, H, W]`` to ``[N, h*w, C]``."""
        x: Tensor = self.proj(pixels)  # [N, C, h, w]
        return x.flatten(2).transpose(1, 2)  # [N, h*w, C]


class Attention(nn.Module):
    """Multi-head self-attention, spelt out so that quantizers and fusions see each product."""

    def __init__(self, config: ViTConfig) -> None:
        """Hold one matrix for queries, keys and values together, as checkpoints do."""
        super().__init__()
        self.heads = config.heads
        self.qkv = nn.Linear(config.dim, 3 * config.dim, bias=config.qkv_bias)
        self.proj = nn.Linear(config.dim, config.dim)

    def forward(self, x: Tensor, sizes: Tensor | None = None) -> Tensor:
        """``[N, 1 + T, C]`` to the same.

        A token that stands for ``sizes`` ``[N, T, 1]`` patches is attended to as often: the log of it joins its
        logits (ToMe's proportional attention).
        """
        n, t, c = x.shape
        width = c // self.heads
        parts = self.qkv(x).chunk(3, dim=-1)  # 3 x [N, T, C]
        q, k, v = (part.reshape(n, t, self.heads, width).transpose(1, 2) for part in parts)  # [N, heads, T, width]
        logits = (q * width**-0.5) @ k.transpose(-2, -1)  # [N, heads, T, T]
        if sizes is not None:
            logits = logits + functional.pad(sizes.log().transpose(1, 2), (1, 0))[:, None]  # [N, 1, 1, T]
        x = (logits.softmax(dim=-1) @ v).transpose(1, 2).reshape(n, t, c)  # [N, T, C]
        return cast("Tensor", self.proj(x))


class Mlp(nn.Module):
    """Two linear layers around an exact (erf) GELU."""

    def __init__(self, config: ViTConfig) -> None:
        """Hold the widening and the narrowing layer."""
        super().__init__()
        self.fc1 = nn.Linear(config.dim, config.hidden)
        self.fc2 = nn.Linear(config.hidden, config.dim)

    def forward(self, x: Tensor) -> Tensor:
        """``[N, T, C]`` to ``[N, T, C]``."""
        return cast("Tensor", self.fc2(functional.gelu(self.fc1(x))))


class Block(nn.Module):
    """A pre-norm transformer block, which may merge tokens between its attention and its MLP."""

    def __init__(self, config: ViTConfig, drop_path: float = 0.0, merge: int = 0) -> None:
        """Hold attention and MLP, each behind a LayerNorm; ``merge`` tokens go."""
        super().__init__()
        self.norm1 = nn.LayerNorm(config.dim, eps=config.eps)
        self.attn = Attention(config)
        self.norm2 = nn.LayerNorm(config.dim, eps=config.eps)
        self.mlp = Mlp(config)
        self.drop_path = DropPath(drop_path)
        self.merge = merge

    def forward(self, tokens: Tokens) -> tuple[Tokens, Tensor]:
        """The block's output, and what its ``norm1`` said of its input, ``[N, 1 + T, C]``."""
        seen: Tensor = self.norm1(tokens.x)
        tokens = tokens.with_x(tokens.x + self.drop_path(self.attn(seen, tokens.sizes)))
        if self.merge:
            tokens = merged(tokens, self.merge)
        return tokens.with_x(tokens.x + self.drop_path(self.mlp(self.norm2(tokens.x)))), seen


class ViT(Network):
    """A ViT classifier that also returns the activations behind its heat map.

    Parameter names are timm's and MAE's. ``cam_layer`` is ``blocks.K.norm1``, by default of the last block.

    Raises `UsageError` when ``cam_layer`` names no such layer.
    """

    family: ClassVar[Family] = "vit"
    first_conv: ClassVar[str] = "patch_embed.proj"
    head_name: ClassVar[str] = "head"

    config: ViTConfig

    def __init__(self, config: ViTConfig, *, cam_layer: str | None = None, drop_path: float = 0.0) -> None:
        """Build the layers; their weights are torch's defaults until a state dict is loaded."""
        super().__init__()
        self.config = config
        self.cam_layer = cam_layer or config.cam_layer
        self.cam_block = _cam_block(self.cam_layer, config.depth)
        self.grid = (config.grid, config.grid)
        self.channels = config.dim
        self.patch_embed = PatchEmbedding(config)
        self.cls_token = nn.Parameter(torch.zeros(1, 1, config.dim))
        self.pos_embed = nn.Parameter(torch.zeros(1, 1 + config.grid**2, config.dim))
        last = max(config.depth - 1, 1)
        self.blocks = nn.ModuleList(
            Block(config, drop_path * place / last, merge)
            for place, merge in enumerate(config.merge or (0,) * config.depth)
        )
        final = nn.LayerNorm(config.dim, eps=config.eps)
        # The name is what tells the two poolings apart in a state dict.
        self.add_module("fc_norm" if config.pool == "mean" else "norm", final)
        self.head = nn.Linear(config.dim, config.classes)

    def forward(self, pixels: Tensor, home: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Score normalised float32 ``[N, 3, H, W]``; where the config has a sector, ``home`` ``[N, h*w]`` says whose.

        Returns logits ``[N, classes]`` and activations ``[N, h*w, C]``, the patch tokens at ``cam_layer`` in
        rows from the top left, without the class token.
        """
        x: Tensor = self.patch_embed(pixels)  # [N, h*w, C]
        x = torch.cat((self.cls_token.expand(x.shape[0], -1, -1), x), dim=1)  # [N, 1 + h*w, C]
        x = x + self.pos_embed
        tokens = Tokens(x) if home is None else shared(x, home, self.config.sector)
        activations = x
        for index, block in enumerate(self.blocks):
            before = tokens
            tokens, seen = block(tokens)
            if index == self.cam_block:
                activations = before.on_grid(seen)  # [N, h*w, C]
        if self.config.pool == "mean":
            x = self.get_submodule("fc_norm")(tokens.mean())  # [N, C]
        else:
            x = self.get_submodule("norm")(tokens.x[:, 0])  # [N, C]; LayerNorm works on each token by itself
        return self.head(x), activations

    def initialise(self, seed: int) -> None:
        """Linear weights from N(0, 0.02²), biases zero, norms one, sine-cosine positions as MAE starts from."""
        generator = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for module in self.modules():
                if isinstance(module, (nn.Linear, nn.Conv2d)):
                    module.weight.normal_(0, _SPREAD, generator=generator)
                    if module.bias is not None:
                        module.bias.zero_()
                elif isinstance(module, nn.LayerNorm):
                    module.reset_parameters()
            self.cls_token.normal_(0, _SPREAD, generator=generator)
            self.pos_embed.copy_(sine_positions(self.config.grid, self.config.dim))

    @property
    def stages(self) -> int:
        """The embedding, each block, and what follows: MAE's layers for layer-wise decay."""
        return self.config.depth + 2

    def stage_of(self, parameter: str) -> int:
        """0 for embedding, class token and positions, then the blocks, then the last norm and the head."""
        match = _BLOCK.match(parameter)
        if match:
            return int(match[1]) + 1
        return 0 if parameter.startswith(("patch_embed.", "cls_token", "pos_embed")) else self.config.depth + 1


def sine_positions(grid: int, dim: int) -> Tensor:
    """Two-dimensional sine-cosine positions (Vaswani et al. 2017; MAE's choice), ``[1, 1 + grid², dim]``.

    Each axis has half of the channels; what four does not divide stays zero.
    """
    quarter = dim // 4
    angles = np.outer(np.arange(grid), 1 / 10_000 ** (np.arange(quarter) / max(quarter, 1)))
    waves = np.concatenate([np.sin(angles), np.cos(angles)], axis=1)  # [grid, dim/2]
    rows, columns = np.repeat(waves, grid, axis=0), np.tile(waves, (grid, 1))
    positions = np.zeros((1, 1 + grid * grid, dim), np.float32)
    positions[0, 1:, : 4 * quarter] = np.concatenate([columns, rows], axis=1)
    return torch.from_numpy(positions)


def _cam_block(layer: str, depth: int) -> int:
    """Return the block that ``layer`` names, or say which layers there are."""
    match = _CAM_LAYER.fullmatch(layer)
    if match is None or int(match[1]) >= depth:
        raise UsageError(f"no activations at layer {layer!r}; choose blocks.K.norm1 with K from 0 to {depth - 1}")
    return int(match[1])
