"""Masked autoencoding in small (He et al. 2022, arXiv 2111.06377): an encoder learns from frames without labels."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import cast

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from vmeg_edge.converters.architectures.token_merging import Tokens
from vmeg_edge.converters.architectures.vit import CHANNELS, Block, ViT, ViTConfig, sine_positions
from vmeg_edge.converters.training.device import choose_device, mixed_precision
from vmeg_edge.converters.training.examples import Progress, quiet

from vmeg_edge.manifest import Input
from vmeg_edge.outputs import PendingFile


@dataclass(frozen=True)
class Pretraining:
    """What decides what the encoder learns; ``images`` counts passes, over as many different frames as it is given.

    ``per_patch`` brings each patch that is to be painted to mean 0 and variance 1, as MAE's better variant does;
    without it the pixels are painted as they are, so that a patch of mere speckle weighs less than an outline.
    """

    images: int
    batch: int = 64
    learning_rate: float = 1e-3
    weight_decay: float = 0.05
    masked: float = 0.75
    per_patch: bool = True
    decoder_dim: int = 96
    decoder_depth: int = 2
    decoder_heads: int = 3
    warm_up: float = 0.05
    seed: int = 3


class MaskedAutoencoder(nn.Module):
    """An encoder that sees a quarter of the patches, and a light decoder that paints the others."""

    def __init__(self, config: ViTConfig, recipe: Pretraining) -> None:
        super().__init__()
        shape = ViTConfig(
            image_size=config.image_size,
            patch=config.patch,
            dim=recipe.decoder_dim,
            depth=recipe.decoder_depth,
            heads=recipe.decoder_heads,
        )
        self.config, self.recipe = config, recipe
        self.encoder = ViT(replace(config, pool="token"))  # whose last norm is named as MAE's is
        self.decoder_embed = nn.Linear(config.dim, shape.dim)
        self.mask_token = nn.Parameter(torch.zeros(1, 1, shape.dim))
        self.decoder_pos_embed = nn.Parameter(sine_positions(config.grid, shape.dim), requires_grad=False)
        self.decoder_blocks = nn.ModuleList(Block(shape) for _ in range(shape.depth))
        self.decoder_norm = nn.LayerNorm(shape.dim, eps=shape.eps)
        self.decoder_pred = nn.Linear(shape.dim, CHANNELS * config.patch**2)
        self.encoder.initialise(recipe.seed)
        self.encoder.pos_embed.requires_grad_(False)  # MAE's stay as they start
        generator = torch.Generator().manual_seed(recipe.seed + 1)
        with torch.no_grad():
            self.mask_token.normal_(0, 0.02, generator=generator)
            for name, module in self.named_modules():
                if name.startswith("decoder") and isinstance(module, nn.Linear):
                    nn.init.xavier_uniform_(module.weight, generator=generator)
                    module.bias.zero_()

    def forward(self, pixels: Tensor, noise: Tensor) -> Tensor:
        """The loss on the hidden patches of ``[N, 3, H, W]``; ``noise`` ``[N, h*w]`` decides which are hidden."""
        encoder, count = self.encoder, self.config.grid**2
        order = noise.argsort(dim=1)
        back = order.argsort(dim=1)  # [N, h*w]: where each patch stands in the order
        kept = round(count * (1 - self.recipe.masked))
        tokens = encoder.patch_embed(pixels) + encoder.pos_embed[:, 1:]  # [N, h*w, C]
        x = tokens.gather(1, order[:, :kept, None].expand(-1, -1, tokens.shape[2]))
        first = (encoder.cls_token + encoder.pos_embed[:, :1]).expand(len(x), -1, -1)
        x = torch.cat((first, x), dim=1)  # [N, 1 + kept, C]
        for block in encoder.blocks:
            x = block(Tokens(x))[0].x
        x = self.decoder_embed(encoder.get_submodule("norm")(x))  # [N, 1 + kept, D]
        hidden = self.mask_token.expand(len(x), count - kept, -1)
        patches = torch.cat((x[:, 1:], hidden), dim=1)
        patches = patches.gather(1, back[..., None].expand(-1, -1, patches.shape[2]))  # [N, h*w, D] in reading order
        x = torch.cat((x[:, :1], patches), dim=1) + self.decoder_pos_embed
        for block in self.decoder_blocks:
            x = block(Tokens(x))[0].x
        painted = self.decoder_pred(self.decoder_norm(x))[:, 1:]  # [N, h*w, 3 * p * p]
        wanted = patches_of(pixels, self.config.patch, normalised=self.recipe.per_patch)
        error = (painted.float() - wanted).square().mean(dim=2)
        return cast("Tensor", error[back >= kept].mean())

    def checkpoint(self) -> dict[str, Tensor]:
        """The state dict in the layout of MAE's own checkpoints: encoder, ``norm`` and decoder, without a head."""
        state = {key.removeprefix("encoder."): value for key, value in self.state_dict().items()}
        return {key: value for key, value in state.items() if not key.startswith("head.")}


def patches_of(pixels: Tensor, patch: int, *, normalised: bool) -> Tensor:
    """``[N, 3, H, W]`` cut into patches ``[N, h*w, p * p * 3]``, each brought to mean 0 and variance 1 if asked for."""
    n, channels, height, width = pixels.shape
    cut = pixels.reshape(n, channels, height // patch, patch, width // patch, patch)
    flat = cut.permute(0, 2, 4, 3, 5, 1).reshape(n, -1, patch * patch * channels)
    if not normalised:
        return flat
    spread, mean = torch.var_mean(flat, dim=2, keepdim=True)
    return (flat - mean) / (spread + 1e-6).sqrt()


def pretrain(
    config: ViTConfig,
    recipe: Pretraining,
    images: npt.NDArray[np.uint8],
    spec: Input,
    path: Path,
    progress: Progress = quiet,
    *,
    device: str = "auto",
) -> list[float]:
    """Learn from grey ``images`` ``[n, H, W]`` and write the checkpoint; the mean loss of each tenth comes back."""
    place = choose_device(device)
    mixed = mixed_precision("auto", place)
    model = MaskedAutoencoder(config, recipe).to(place).train()
    decayed = [p for p in model.parameters() if p.requires_grad and p.ndim > 1]
    others = [p for p in model.parameters() if p.requires_grad and p.ndim <= 1]
    groups = [{"params": decayed, "weight_decay": recipe.weight_decay}, {"params": others, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=recipe.learning_rate, betas=(0.9, 0.95))
    rng = np.random.default_rng(recipe.seed)
    steps = max(1, recipe.images // recipe.batch)
    mean, std = (torch.tensor(value, device=place)[None, :, None, None] for value in (spec.mean, spec.std))
    losses = []
    order = np.empty(0, np.intp)
    for step in range(steps):
        while len(order) < recipe.batch:
            order = np.concatenate((order, rng.permutation(len(images))))
        chosen, order = order[: recipe.batch], order[recipe.batch :]
        grey = torch.from_numpy(images[chosen]).to(place).float()[:, None] / 255
        flipped = torch.from_numpy(rng.random(len(grey)) < 0.5).to(place)
        grey[flipped] = grey[flipped].flip(3)
        pixels = (grey - mean) / std  # [N, 3, H, W]
        noise = torch.from_numpy(rng.random((len(grey), config.grid**2), np.float32)).to(place)
        for group in optimizer.param_groups:
            group["lr"] = recipe.learning_rate * _scale(step, steps, recipe.warm_up)
        with torch.autocast(place.type, torch.bfloat16, enabled=mixed):
            loss = model(pixels, noise)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        losses.append(float(loss.detach()))
        progress("pre-training", step + 1, steps, f"loss {np.mean(losses[-50:]):.3f}")
    state = {key: value.detach().cpu() for key, value in model.checkpoint().items()}
    with PendingFile(path) as pending:
        torch.save({"model": state}, pending)
    return [float(np.mean(part)) for part in np.array_split(losses, 10) if len(part)]


def _scale(step: int, steps: int, warm_up: float) -> float:
    """Linear warm-up, then half a cosine to zero."""
    first = max(1, round(steps * warm_up))
    if step < first:
        return (step + 1) / first
    return 0.5 * (1 + math.cos(math.pi * (step - first) / max(1, steps - first)))
