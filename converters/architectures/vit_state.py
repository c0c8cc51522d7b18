"""What a ViT's state dict says of its shape, and the mends that make it fit."""

from __future__ import annotations

import math
import re
from typing import cast

import torch
from torch import Tensor
from torch.nn import functional

from vmeg_edge.errors import CheckpointError, UsageError

from .known import AnyConfig
from .state import MAX_CLASSES, MAX_DIM, Asked, Settled, State, head_classes, matrix, shape_of, too_big, without
from .vit import CHANNELS, HEAD_WIDTH, Pool, ViTConfig

PATCH = 16
PATCH_WEIGHT = "patch_embed.proj.weight"
DECODER = ("decoder_", "mask_token")  # what only MAE's pre-training used
BATCH_NORM_EPS = 1e-6  # MAE's linear probe: BatchNorm1d(affine=False, eps=1e-6) before the linear layer

_BLOCK = re.compile(r"blocks\.(\d{1,4})\.")


class ViTReader:
    """MAE's, USF-MAE's and timm's ViTs."""

    anchor = PATCH_WEIGHT
    head = "head."
    norms = ("norm.", "fc_norm.")
    training_only = DECODER

    def width(self, state: State, source: str) -> int:
        """The tokens' channels. Raises `CheckpointError` where the patch embedding is not ours."""
        return width(state, source)

    def settle(self, state: State, asked: Asked, source: str, head_source: str) -> Settled:
        """Fold a linear probe's norm, settle the pooling, read the shape. Raises `CheckpointError`, `UsageError`."""
        if asked.pool not in (None, "mean", "token"):
            raise UsageError(f"pool is {asked.pool!r}; choose mean or token")
        state, folded = fold_batch_norm(state, width(state, source), head_source)
        wanted = cast("Pool | None", asked.pool)
        state, dropped, pool = choose_pool(state, wanted, fresh=asked.fresh, source=source)
        return Settled(state, infer_config(state, pool, asked.heads, source), dropped, folded)

    def resized(self, state: State, config: AnyConfig) -> State:
        """The positions interpolated to the grid of ``config``."""
        grid = config.image_size // PATCH
        return {**state, "pos_embed": interpolate_positions(state["pos_embed"], grid)}


def width(state: State, source: str) -> int:
    """Return the tokens' channels, from the patch embedding; raise `CheckpointError` where it is not ours."""
    weight = state.get(PATCH_WEIGHT)
    if weight is None:
        raise CheckpointError(
            f"{source}: no {PATCH_WEIGHT}, so this is not a ViT state dict; convert knows MAE's and timm's key names"
        )
    if weight.ndim != 4 or weight.shape[0] < 1 or tuple(weight.shape[1:]) != (CHANNELS, PATCH, PATCH):
        raise CheckpointError(
            f"{source}: {PATCH_WEIGHT} has shape {shape_of(weight.shape)}; "
            f"expected [dim, {CHANNELS}, {PATCH}, {PATCH}], RGB patches of {PATCH} pixels"
        )
    if weight.shape[0] > MAX_DIM:
        raise CheckpointError(f"{source}: {PATCH_WEIGHT} has {weight.shape[0]} channels; at most {MAX_DIM} are known")
    return int(weight.shape[0])


def fold_batch_norm(state: State, dim: int, source: str) -> tuple[State, tuple[str, ...]]:
    """Fold MAE's linear-probe head, ``head.0`` (BatchNorm1d) before ``head.1`` (Linear), into one layer.

    In evaluation a batch norm is a fixed scale and shift, so the fold is exact; it is computed in float64.
    Returns the state with ``head.weight`` and ``head.bias``, and the names that they replaced.

    Raises `CheckpointError` naming a part that is missing or of another length.
    """
    rest, folded = without(state, ("head.0.", "head.1."))
    if not folded:
        return state, ()
    for key in ("head.1.weight", "head.1.bias", "head.0.running_mean", "head.0.running_var"):
        if key not in state:
            raise CheckpointError(f"{source}: no {key}, which a linear-probe head needs; give a whole head")
    classes = state["head.1.bias"].numel()
    parts = {}
    for name, shape, default in (
        ("1.bias", (min(classes, MAX_CLASSES),), 0.0),
        ("1.weight", (min(classes, MAX_CLASSES), dim), 0.0),
        ("0.running_mean", (dim,), 0.0),
        ("0.running_var", (dim,), 1.0),
        ("0.weight", (dim,), 1.0),
        ("0.bias", (dim,), 0.0),
    ):
        part = state.get(f"head.{name}", torch.full(shape, default))
        if tuple(part.shape) != shape:
            raise CheckpointError(f"{source}: head.{name} has shape {shape_of(part.shape)}; expected {shape_of(shape)}")
        parts[name] = part.double()
    scale = parts["0.weight"] / torch.sqrt(parts["0.running_var"] + BATCH_NORM_EPS)
    shift = parts["0.bias"] - parts["0.running_mean"] * scale
    weight = parts["1.weight"]
    return {**rest, "head.weight": weight * scale, "head.bias": parts["1.bias"] + weight @ shift}, folded


def choose_pool(state: State, pool: Pool | None, *, fresh: bool, source: str) -> tuple[State, tuple[str, ...], Pool]:
    """Tell the pooling from the final norm's name, ``fc_norm`` (mean) or ``norm`` (class token).

    ``pool`` asks for one of the two. A trained head gets it only where its norm is there. With ``fresh``, an
    untrained head, the mean may also start from an ``fc_norm`` of ones and zeros, as MAE's fine-tuning does.
    Returns the state with one norm in it, the names dropped, and the pooling.

    Raises `CheckpointError` naming the key that is missing, or both where the file leaves the choice open.
    """
    has = {"mean": "fc_norm.weight" in state, "token": "norm.weight" in state}
    if pool is None:
        if has["mean"] and has["token"]:
            raise CheckpointError(f"{source}: both norm.weight and fc_norm.weight, so the pooling is open; ask for one")
        if not has["mean"] and not has["token"]:
            raise CheckpointError(f"{source}: neither norm.weight nor fc_norm.weight; give a whole encoder")
        pool = "mean" if has["mean"] else "token"
    name, other = ("fc_norm", "norm") if pool == "mean" else ("norm", "fc_norm")
    state, dropped = without(state, f"{other}.")
    if not has[pool]:
        if not (fresh and pool == "mean"):
            raise CheckpointError(
                f"{source}: no {name}.weight, which pooling by {pool} needs; leave pooling to the file"
            )
        dim = width(state, source)
        state = {**state, "fc_norm.weight": torch.ones(dim), "fc_norm.bias": torch.zeros(dim)}
    return state, dropped, pool


def infer_config(state: State, pool: Pool, heads: int | None, source: str) -> ViTConfig:
    """Read the architecture from a state dict's keys and shapes, on the checkpoint's own grid.

    Raises `CheckpointError` naming the key that is missing, or whose shape has no ViT.
    """
    dim = width(state, source)
    if heads is None:
        if dim % HEAD_WIDTH:
            raise CheckpointError(
                f"{source}: {PATCH_WEIGHT} has {dim} channels, no multiple of {HEAD_WIDTH}; pass heads"
            )
        heads = dim // HEAD_WIDTH
    blocks = {int(match[1]) for key in state if (match := _BLOCK.match(key))}
    depth = max(len(blocks), 1)
    positions = matrix(state, "pos_embed", 3, f"[1, 1 + n, {dim}]", source)
    grid = math.isqrt(max(positions.shape[1] - 1, 0))
    if grid < 1 or positions.shape != (1, 1 + grid * grid, dim):
        raise CheckpointError(
            f"{source}: pos_embed has shape {shape_of(positions.shape)}; "
            f"expected [1, 1 + n, {dim}] with n a square: the class token, then the patches"
        )
    hidden = matrix(state, "blocks.0.mlp.fc1.weight", 2, f"[hidden, {dim}]", source).shape[0]
    if hidden < 1:
        raise CheckpointError(f"{source}: blocks.0.mlp.fc1.weight has no row; at least 1 expected")
    classes = head_classes(state, "head.", dim, source)
    config = ViTConfig(
        image_size=grid * PATCH,
        patch=PATCH,
        dim=dim,
        depth=depth,
        heads=heads,
        mlp_ratio=hidden / dim,
        classes=classes,
        pool=pool,
        qkv_bias=any(key.endswith(".attn.qkv.bias") for key in state),
    )
    too_big(config, source)
    return config


def interpolate_positions(positions: Tensor, grid: int) -> Tensor:
    """Resample ``[1, 1 + n, C]`` positions to ``[1, 1 + grid², C]``, float32.

    Bicubic without antialiasing, corners not aligned, as MAE and DeiT do (Touvron et al. 2021,
    arXiv 2012.12877); the class token's position is kept.
    """
    own = math.isqrt(positions.shape[1] - 1)
    if own == grid:
        return positions
    patches = positions[:, 1:].reshape(1, own, own, -1).permute(0, 3, 1, 2)  # [1, C, own, own]
    patches = functional.interpolate(patches, size=(grid, grid), mode="bicubic", align_corners=False)
    return torch.cat((positions[:, :1], patches.flatten(2).transpose(1, 2)), dim=1)  # [1, 1 + grid², C]
