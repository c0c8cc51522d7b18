"""What a ViT's state dict says of its shape, and the mends that make it fit."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from vmeg_edge.errors import CheckpointError

from .vit import CHANNELS, HEAD_WIDTH, Pool, ViT, ViTConfig

State = dict[str, Tensor]

PATCH = 16
PATCH_WEIGHT = "patch_embed.proj.weight"
DECODER = ("decoder_", "mask_token")  # what only MAE's pre-training used
MAX_DIM = 8192
MAX_CLASSES = 10_000
BATCH_NORM_EPS = 1e-6  # MAE's linear probe: BatchNorm1d(affine=False, eps=1e-6) before the linear layer
MAX_BYTES = 2**31 - 1  # one ONNX file, a protocol buffer, holds no more

_BLOCK = re.compile(r"blocks\.(\d{1,4})\.")


def show(keys: Iterable[str], most: int = 3) -> str:
    """Name keys that a file brought: quoted, short, and the first few only, since they may be hostile."""
    names = [repr(key)[:80] for key in keys]
    rest = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + rest


def shape_of(shape: Iterable[int]) -> str:
    """Write a shape as an error does, ``[2, 192]``."""
    return str(list(shape))


def without(state: State, prefix: str | tuple[str, ...]) -> tuple[State, tuple[str, ...]]:
    """Split off the keys that start with ``prefix``: what is left, and the sorted names of what went."""
    gone = tuple(sorted(key for key in state if key.startswith(prefix)))
    return {key: value for key, value in state.items() if not key.startswith(prefix)}, gone


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


def check_plain(state: State, source: str) -> None:
    """Raise `CheckpointError` naming a tensor that is not a dense array of floats, before any is touched.

    A batch norm's ``num_batches_tracked`` counts, and is left alone.
    """
    for key, value in state.items():
        if value.layout != torch.strided or value.is_meta or value.is_quantized or value.is_nested:
            raise CheckpointError(f"{source}: {key} is a sparse, quantized or empty tensor; save it as float32")
        if not value.dtype.is_floating_point and not key.endswith(".num_batches_tracked"):
            dtype = str(value.dtype).removeprefix("torch.")
            raise CheckpointError(f"{source}: {key} is {dtype}; expected float32, float16 or bfloat16 weights")


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


def random_head(dim: int, classes: int, seed: int) -> State:
    """Make an untrained head: weights from N(0, 0.02²), by NumPy so that no torch alters it; biases zero."""
    weight = np.random.default_rng(seed).normal(0.0, 0.02, (classes, dim)).astype(np.float32)
    return {"head.weight": torch.from_numpy(weight), "head.bias": torch.zeros(classes)}


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
    positions = _matrix(state, "pos_embed", 3, f"[1, 1 + n, {dim}]", source)
    grid = math.isqrt(max(positions.shape[1] - 1, 0))
    if grid < 1 or positions.shape != (1, 1 + grid * grid, dim):
        raise CheckpointError(
            f"{source}: pos_embed has shape {shape_of(positions.shape)}; "
            f"expected [1, 1 + n, {dim}] with n a square: the class token, then the patches"
        )
    hidden = _matrix(state, "blocks.0.mlp.fc1.weight", 2, f"[hidden, {dim}]", source).shape[0]
    classes = _matrix(state, "head.weight", 2, f"[classes, {dim}]", source).shape[0]
    if classes < 2 or hidden < 1:
        key = "head.weight" if classes < 2 else "blocks.0.mlp.fc1.weight"
        raise CheckpointError(
            f"{source}: {key} has {min(classes, hidden)} rows; at least {2 if classes < 2 else 1} expected "
            "(a sigmoid's one row w is a softmax's two rows, 0 and w)"
        )
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


def too_big(config: ViTConfig, source: str) -> None:
    """Raise `CheckpointError` before anything is allocated for a model that no single ONNX file can hold."""
    if config.weights * 4 > MAX_BYTES:
        raise CheckpointError(
            f"{source}: a ViT of dim {config.dim}, depth {config.depth} and {config.grid**2} patches "
            "is over 2 GB in float32; choose a smaller model or image size (ViT-L at 224 pixels fits)"
        )


def _matrix(state: State, key: str, ndim: int, expected: str, source: str) -> Tensor:
    """Return a tensor that the architecture is read from, of the right rank."""
    if key not in state:
        raise CheckpointError(f"{source}: no {key}, expected {expected}; give a whole encoder's state dict")
    if state[key].ndim != ndim:
        raise CheckpointError(f"{source}: {key} has shape {shape_of(state[key].shape)}; expected {expected}")
    return state[key]


def check(state: State, config: ViTConfig, source: str) -> None:
    """Compare keys and shapes with the model's own; raise `CheckpointError` naming what differs.

    Nothing is allocated: the model is built on torch's meta device.
    """
    with torch.device("meta"):
        expected = {key: tuple(value.shape) for key, value in ViT(config).state_dict().items()}
    missing = [key for key in expected if key not in state]
    if missing:
        also = f" (and {len(missing) - 1} more)" if len(missing) > 1 else ""
        raise CheckpointError(
            f"{source}: no {missing[0]}, expected {shape_of(expected[missing[0]])}{also}; "
            f"give a whole {config.name} state dict"
        )
    unexpected = sorted(key for key in state if key not in expected)
    if unexpected:
        raise CheckpointError(
            f"{source}: unexpected {show(unexpected)}; a plain {config.name} has no such key, "
            "so its scores would differ: remove it only if it is unused"
        )
    for key, shape in expected.items():
        if tuple(state[key].shape) != shape:
            raise CheckpointError(f"{source}: {key} has shape {shape_of(state[key].shape)}; expected {shape_of(shape)}")


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
