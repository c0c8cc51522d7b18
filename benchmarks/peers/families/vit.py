"""A ViT-B/16 in plain torch with torch's fused attention, as timm builds it; it loads MAE's key names."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

from .base import GRID, MEAN, STD

DIM, DEPTH, HEADS, PATCH = 768, 12, 12, 16


class Attention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.qkv, self.proj = nn.Linear(DIM, 3 * DIM), nn.Linear(DIM, DIM)

    def forward(self, x: Tensor) -> Tensor:
        n, t, c = x.shape
        q, k, v = self.qkv(x).reshape(n, t, 3, HEADS, c // HEADS).permute(2, 0, 3, 1, 4)
        x = functional.scaled_dot_product_attention(q, k, v)  # [N, heads, T, width]
        out: Tensor = self.proj(x.transpose(1, 2).reshape(n, t, c))
        return out


class Mlp(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(DIM, 4 * DIM), nn.Linear(4 * DIM, DIM)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.fc2(functional.gelu(self.fc1(x)))
        return out


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(DIM, eps=1e-6), nn.LayerNorm(DIM, eps=1e-6)
        self.attn, self.mlp = Attention(), Mlp()

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attn(self.norm1(x))
        return x + self.mlp(self.norm2(x))  # type: ignore[no-any-return]


class PatchEmbedding(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.proj = nn.Conv2d(3, DIM, kernel_size=PATCH, stride=PATCH)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.proj(x).flatten(2).transpose(1, 2)  # [N, h*w, C]
        return out


class ViT(nn.Module):
    """Logits ``[N, 2]`` of normalised ``[N, 3, 224, 224]``; pools by the mean of the patch tokens."""

    def __init__(self) -> None:
        super().__init__()
        self.patch_embed = PatchEmbedding()
        self.cls_token = nn.Parameter(torch.zeros(1, 1, DIM))
        self.pos_embed = nn.Parameter(torch.zeros(1, 1 + GRID**2, DIM))
        self.blocks = nn.Sequential(*(Block() for _ in range(DEPTH)))
        self.fc_norm, self.head = nn.LayerNorm(DIM, eps=1e-6), nn.Linear(DIM, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = self.patch_embed(x)
        x = torch.cat((self.cls_token.expand(len(x), -1, -1), x), dim=1) + self.pos_embed
        out: Tensor = self.head(self.fc_norm(self.blocks(x)[:, 1:].mean(dim=1)))
        return out


def load(checkpoint: Path) -> ViT:
    """The checkpoint's weights; every key must fit."""
    model = ViT()
    model.load_state_dict(torch.load(checkpoint, weights_only=True)["model"])
    return model.eval()


def normalised(pixels: Tensor) -> Tensor:
    """uint8 ``[224, 224, 3]`` to ``[1, 3, 224, 224]``: torchvision's ToTensor and Normalize, spelt out."""
    mean, std = (torch.tensor(values).reshape(3, 1, 1) for values in (MEAN, STD))
    return ((pixels.permute(2, 0, 1).float() / 255 - mean) / std)[None]
