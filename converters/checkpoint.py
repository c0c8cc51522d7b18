"""A checkpoint file to a float32 state dict and the architecture it belongs to."""

from __future__ import annotations

import pickle
import re
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from os import PathLike
from pathlib import Path
from typing import Any, Literal, TypeAlias

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor
from torch.nn import Parameter

from vmeg_edge.errors import CheckpointError, UsageError

from .architectures import vit_state
from .architectures.vit import Pool, ViT, ViTConfig

HeadOrigin: TypeAlias = Literal["checkpoint", "file", "random"]

CONTAINERS = ("model", "state_dict", "model_state_dict")
PREFIXES = ("module.", "_orig_mod.", "model.", "encoder.", "backbone.", "vit.")

_UNSAFE_GLOBAL = re.compile(r"GLOBAL\s+([\w.<>]{1,120})")
# Plain data that training scripts store beside the weights: MAE's `args`, paths, NumPy scalars and arrays.
# The converter reads none of it, so each name becomes an object that holds nothing and does nothing.
_PLAIN_DATA = (
    "argparse.Namespace",
    *(f"{module}.{kind}Path" for module in ("pathlib", "pathlib._local") for kind in ("Posix", "Windows")),
    *(f"{module}.Pure{kind}Path" for module in ("pathlib", "pathlib._local") for kind in ("Posix", "Windows")),
    *(f"numpy.{core}.multiarray.{made}" for core in ("core", "_core") for made in ("scalar", "_reconstruct")),
    "numpy.dtype",
    "numpy.ndarray",
)


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """A checkpoint, read and checked.

    ``state`` holds float32 tensors under timm's names, complete for ``config``. ``head`` says where the head
    came from; ``random`` is untrained and must be shown wherever its scores are. ``dropped`` names the
    weights left out (MAE's decoder, a replaced head or norm), ``folded`` those merged into others,
    ``ignored`` the file's entries beside the weights. ``own_image_size`` is the size in pixels that the
    positions were trained for: where ``config.image_size`` differs, they were interpolated.
    """

    source: str
    config: ViTConfig
    state: Mapping[str, Tensor]
    head: HeadOrigin
    own_image_size: int
    dropped: tuple[str, ...] = ()
    folded: tuple[str, ...] = ()
    ignored: tuple[str, ...] = ()
    architecture: str = "vit"

    def model(self, *, cam_layer: str | None = None) -> ViT:
        """Build the network with these weights, in evaluation mode; it shares their memory."""
        with torch.device("meta"):
            model = ViT(self.config, cam_layer=cam_layer)
        model.load_state_dict(dict(self.state), assign=True)
        return model.eval().requires_grad_(False)


def load(
    path: str | PathLike[str],
    *,
    head: str | PathLike[str] | None = None,
    new_head: int | None = None,
    pool: Pool | None = None,
    image_size: int | None = None,
    heads: int | None = None,
    seed: int = 0,
) -> Checkpoint:
    """Read a MAE, USF-MAE or timm ViT checkpoint, ``.pt``, ``.pth`` or ``.safetensors``, told by content.

    The state dict may be bare or under ``model``, ``state_dict`` or ``model_state_dict``, its keys behind
    any of ``module.``, ``_orig_mod.``, ``model.``, ``encoder.``, ``backbone.``, ``vit.``. MAE's decoder is
    dropped; float16, bfloat16 and float64 become float32. A PyTorch file is read with ``weights_only=True``.

    ``head`` is a file with ``head.weight`` and ``head.bias`` (or bare ``weight`` and ``bias``), perhaps with
    ``fc_norm.*`` or ``norm.*``, which then replaces the encoder's final norm. ``new_head`` makes an untrained
    head of so many classes from ``seed``. Either replaces a head that the checkpoint has. MAE's linear-probe
    head (``head.0`` BatchNorm, ``head.1``) is folded into one linear layer.

    ``pool`` is read from the final norm's name: ``fc_norm`` is ``mean``, ``norm`` is ``token``; where both
    are there, it must be given. ``new_head`` on an encoder with ``norm`` pools the class token unless
    ``pool`` is ``mean``, which drops ``norm`` and starts a fresh ``fc_norm``, as MAE's fine-tuning does.

    ``image_size`` in pixels, a multiple of 16, defaults to the checkpoint's own; positions are interpolated.
    ``heads`` defaults to one for each 64 channels.

    Raises `CheckpointError` for a file that is damaged, wants to run code, or whose keys, shapes, dtypes or
    values are not a ViT's (the message names the key); `UsageError` for options that cannot be honoured.
    """
    _check_options(head, new_head, pool, image_size, heads)
    source = str(path)
    raw, ignored = _read(Path(path))
    state, dropped = vit_state.without(_strip(raw, (vit_state.PATCH_WEIGHT,), source), vit_state.DECODER)
    vit_state.check_plain(state, source)
    dim = vit_state.width(state, source)

    origin: HeadOrigin = "checkpoint"
    if head is not None:
        origin = "file"
        state, replaced = _with_head_file(state, Path(head))
        dropped += replaced
    elif new_head is not None:
        origin = "random"
        state, replaced = vit_state.without(state, "head.")
        state |= vit_state.random_head(dim, new_head, seed)
        dropped += replaced
    elif not any(key.startswith("head.") for key in state):
        raise CheckpointError(f"{source}: no head.weight; add a trained head with --head FILE or --new-head CLASSES")

    state, folded = vit_state.fold_batch_norm(state, dim, str(head or path))
    state, norms, pool = vit_state.choose_pool(state, pool, fresh=origin == "random", source=source)
    own = vit_state.infer_config(state, pool, heads, source)
    vit_state.check(state, own, source)
    config = replace(own, image_size=image_size or own.image_size)
    vit_state.too_big(config, source)
    state = {key: _float32(key, value, source) for key, value in state.items()}
    state["pos_embed"] = vit_state.interpolate_positions(state["pos_embed"], config.grid)
    return Checkpoint(
        source=source,
        config=config,
        state=state,
        head=origin,
        own_image_size=own.image_size,
        dropped=dropped + norms,
        folded=folded,
        ignored=ignored,
    )


def _check_options(
    head: object, new_head: int | None, pool: str | None, image_size: int | None, heads: int | None
) -> None:
    """Refuse options that no checkpoint could honour, before a large file is read."""
    if head is not None and new_head is not None:
        raise UsageError("--head and --new-head exclude each other; give one")
    if new_head is not None and not 2 <= new_head <= vit_state.MAX_CLASSES:
        raise UsageError(f"--new-head is {new_head}; give 2 to {vit_state.MAX_CLASSES} classes")
    if pool not in (None, "mean", "token"):
        raise UsageError(f"pool is {pool!r}; choose mean or token")
    if image_size is not None and (image_size < vit_state.PATCH or image_size % vit_state.PATCH):
        raise UsageError(f"image_size is {image_size}; choose a positive multiple of {vit_state.PATCH} pixels")
    if heads is not None and heads < 1:
        raise UsageError(f"heads is {heads}; give 1 or more")


class _Inert:
    """Stands in for plain data that is not read."""

    def __init__(self, *_: object, **__: object) -> None:
        """Take what the original would take, and keep none of it."""

    def __setstate__(self, _: object) -> None:
        """Take the original's state, and keep none of it."""


_STAND_INS: list[Callable[..., Any] | tuple[Callable[..., Any], str]] = [(_Inert, name) for name in _PLAIN_DATA]


def _read(path: Path) -> tuple[dict[str, Tensor], tuple[str, ...]]:
    """Return a file's state dict under the names it has, and the names of the entries beside it."""
    try:
        with path.open("rb") as file:
            start = file.read(9)
        size = path.stat().st_size
    except OSError as error:
        raise CheckpointError(f"{path}: {error.strerror or 'unreadable'}; give a readable checkpoint file") from error
    if size == 0:
        raise CheckpointError(f"{path}: the file is empty; fetch it again")
    if len(start) == 9 and start[8:] == b"{":  # safetensors: the header's length in 8 bytes, then JSON
        try:
            return load_file(path), ()
        except (SafetensorError, OSError, ValueError) as error:
            raise CheckpointError(f"{path}: a damaged safetensors file ({_line(error)}); fetch it again") from error
    if start.startswith((b"PK\x03\x04", b"\x80")):  # a zip since PyTorch 1.6, a bare pickle before
        return _state_dict(_unpickle(path, mmap=start.startswith(b"PK")), path)
    hint = "a Git LFS pointer, whose content was never fetched" if start == b"version h" else "of another kind"
    raise CheckpointError(f"{path}: neither a PyTorch nor a safetensors file but {hint}; give a .pth or .safetensors")


def _unpickle(path: Path, *, mmap: bool) -> object:
    """Read a PyTorch file without running anything that it brings."""
    try:
        with torch.serialization.safe_globals(_STAND_INS), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what torch has to say of odd files, the error says in one line
            return torch.load(path, map_location="cpu", weights_only=True, mmap=mmap)
    except pickle.UnpicklingError as error:
        text = str(error)
        found = _UNSAFE_GLOBAL.search(text)
        if found is None:
            raise CheckpointError(f"{path}: a damaged or foreign PyTorch file; fetch it again") from error
        raise CheckpointError(
            f"{path}: the file wants to run code ({found[1]}), so it was not opened; "
            "re-save its state dict alone, or as safetensors"
        ) from error
    except Exception as error:  # damaged bytes raise anything, from KeyError to RuntimeError
        raise CheckpointError(
            f"{path}: a damaged or truncated PyTorch file ({_line(error)}); fetch it again"
        ) from error


def _line(error: Exception) -> str:
    """Return the start of an error's first line: libraries append pages of advice."""
    first = str(error).strip().split("\n", 1)[0]
    return first[:120].strip() or type(error).__name__


def _state_dict(content: object, path: Path) -> tuple[dict[str, Tensor], tuple[str, ...]]:
    """Find the weights among what a training script saved."""
    if not isinstance(content, Mapping):
        raise CheckpointError(f"{path}: holds a {type(content).__name__}, not a state dict; save model.state_dict()")
    inside = [key for key in CONTAINERS if isinstance(content.get(key), Mapping)]
    if len(inside) > 1:
        raise CheckpointError(f"{path}: weights under both {inside[0]} and {inside[1]}; save only one of them")
    ignored: tuple[str, ...] = ()
    state: Mapping[Any, Any] = content
    if inside:
        state = content[inside[0]]
        ignored = tuple(sorted(str(key)[:80] for key in content if key != inside[0]))
    for key, value in state.items():
        if not isinstance(key, str) or type(value) not in (Tensor, Parameter):
            what = f"a {type(value).__name__}, not a tensor" if isinstance(key, str) else "no text"
            raise CheckpointError(f"{path}: key {vit_state.show([str(key)])} is {what}; save model.state_dict() alone")
    return dict(state), ignored


def _strip(state: dict[str, Tensor], anchors: tuple[str, ...], source: str) -> dict[str, Tensor]:
    """Take wrappers' prefixes off until an anchor key is found; keys without the prefix stay as they are."""
    while not any(anchor in state for anchor in anchors):
        prefix = next((p for p in PREFIXES if _wraps(state, p, anchors)), None)
        if prefix is None:
            return state
        stripped: dict[str, Tensor] = {}
        for key, value in state.items():
            name = key.removeprefix(prefix)
            if name in stripped:
                raise CheckpointError(f"{source}: {name} is there with and without {prefix!r}; save one of the two")
            stripped[name] = value
        state = stripped
    return state


def _wraps(state: dict[str, Tensor], prefix: str, anchors: tuple[str, ...]) -> bool:
    """Whether some key is this prefix, then perhaps other wrappers, then an anchor."""
    wrapped = rf"{re.escape(prefix)}({'|'.join(map(re.escape, PREFIXES))})*({'|'.join(map(re.escape, anchors))})"
    return any(re.fullmatch(wrapped, key) for key in state)


def _with_head_file(state: dict[str, Tensor], path: Path) -> tuple[dict[str, Tensor], tuple[str, ...]]:
    """Replace the head, and the final norm where the file brings one; the names that went come second."""
    head, _ = _read(path)
    vit_state.check_plain(head, str(path))
    bare = ("weight", "1.weight")  # the state dict of a Linear, or of a linear probe's Sequential, by itself
    head = _strip(head, ("head.weight", "head.1.weight", *bare), str(path))
    if any(key in head for key in bare):
        head = {f"head.{key}": value for key, value in head.items()}
    if "head.weight" not in head and "head.1.weight" not in head:
        raise CheckpointError(f"{path}: no head.weight; a head file holds head.weight and head.bias")
    rest, _ = vit_state.without(head, ("head.", "norm.", "fc_norm."))
    if rest:
        raise CheckpointError(
            f"{path}: more than a head, {vit_state.show(sorted(rest))}; "
            "keep head.* and fc_norm.* or norm.*, or convert this file by itself"
        )
    brings_norm = any(not key.startswith("head.") for key in head)
    state, dropped = vit_state.without(state, ("head.", "norm.", "fc_norm.") if brings_norm else "head.")
    return {**state, **head}, dropped


def _float32(key: str, value: Tensor, source: str) -> Tensor:
    """Copy one weight to float32, so that the file may go away; refuse NaN and infinity."""
    weight = value.detach().to(torch.float32, copy=True).contiguous()
    if not bool(torch.isfinite(weight).all()):
        raise CheckpointError(f"{source}: {key} holds NaN or infinity; export the last healthy checkpoint")
    return weight
