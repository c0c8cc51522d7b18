"""A checkpoint file to a float32 state dict and the architecture it belongs to."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from os import PathLike
from pathlib import Path
from typing import Literal, TypeAlias

import torch
from torch import Tensor

from vmeg_edge.errors import CheckpointError, UsageError

from .architectures import state as states
from .architectures.known import ARCHITECTURES, AnyConfig, network
from .architectures.network import Family, Network
from .architectures.resnet_state import ResNetReader
from .architectures.state import Asked, Reader
from .architectures.vgg_state import VGGReader
from .architectures.vit import Pool
from .architectures.vit_state import ViTReader
from .record import Record
from .weights_file import read_weights

HeadOrigin: TypeAlias = Literal["checkpoint", "file", "random"]

PREFIXES = ("module.", "_orig_mod.", "model.", "encoder.", "backbone.", "vit.")
READERS: Mapping[Family, Reader] = {"vit": ViTReader(), "resnet": ResNetReader(), "vgg": VGGReader()}


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """A checkpoint, read and checked.

    ``state`` holds float32 tensors under timm's names for a ViT, torchvision's for a ResNet or VGG, complete for
    ``config``. ``head`` says where the head came from; ``random`` is untrained and must be shown wherever its scores
    are. ``dropped`` names the weights left out (MAE's decoder, a replaced head or norm), ``folded`` those merged into
    others or renamed, ``ignored`` the file's entries beside the weights. ``own_image_size`` is the size in pixels that
    the weights were trained for: where ``config.image_size`` differs, a ViT's positions were interpolated. ``record``
    is what a checkpoint made here says of its training.
    """

    source: str
    config: AnyConfig
    state: Mapping[str, Tensor]
    head: HeadOrigin
    own_image_size: int
    dropped: tuple[str, ...] = ()
    folded: tuple[str, ...] = ()
    ignored: tuple[str, ...] = ()
    record: Record | None = None

    def model(self, *, cam_layer: str | None = None) -> Network:
        """Build the network with these weights, in evaluation mode; it shares their memory."""
        with torch.device("meta"):
            model = network(self.config, cam_layer=cam_layer)
        return model.with_state(self.state)


def load(
    path: str | PathLike[str],
    *,
    arch: str | None = None,
    head: str | PathLike[str] | None = None,
    new_head: int | None = None,
    pool: Pool | None = None,
    image_size: int | None = None,
    heads: int | None = None,
    seed: int = 0,
    headless: str = "add a trained head with --head FILE or --new-head CLASSES",
) -> Checkpoint:
    """Read a MAE, USF-MAE or timm ViT, or a torchvision ResNet or VGG: ``.pt``, ``.pth`` or ``.safetensors``.

    The architecture is told by the keys. ``arch``, a family (``vit``, ``resnet``, ``vgg``) or one of `ARCHITECTURES`,
    is needed only for a file that holds two; elsewhere it is held against the keys.

    The state dict may be bare or under ``model``, ``state_dict`` or ``model_state_dict``, its keys behind any of
    ``module.``, ``_orig_mod.``, ``model.``, ``encoder.``, ``backbone.``, ``vit.``. MAE's decoder is dropped; float16,
    bfloat16 and float64 become float32. A PyTorch file is read with ``weights_only=True``.

    ``head`` is a file with the head's ``weight`` and ``bias``, bare or under ``head.`` (a ViT), ``fc.`` (a ResNet) or
    ``classifier.6.`` (a VGG); a ViT's may bring ``fc_norm.*`` or ``norm.*``, which then replaces the encoder's final
    norm. ``new_head`` makes an untrained head of so many classes from ``seed``. Either replaces a head that the
    checkpoint has. MAE's linear-probe head (``head.0`` BatchNorm, ``head.1``) is folded into one linear layer; a
    ResNet's or VGG's head behind a dropout (``fc.1``) is taken as the head.

    ``pool`` is read from a ViT's final norm's name: ``fc_norm`` is ``mean``, ``norm`` is ``token``; where both are
    there, it must be given. ``new_head`` on an encoder with ``norm`` pools the class token unless ``pool`` is ``mean``,
    which drops ``norm`` and starts a fresh ``fc_norm``, as MAE's fine-tuning does. ``heads`` defaults to one for each
    64 channels.

    ``headless`` is the mend that the message names where there is no head.

    ``image_size`` in pixels defaults to what the file's own record says, else to the weights' (a ResNet's cannot tell,
    and is taken as 224); a ViT's positions are interpolated.

    Raises `CheckpointError` for a file that is damaged, wants to run code, is of another architecture than ``arch``, or
    whose keys, shapes, dtypes or values are none of the three (the message names the key); `UsageError` for options
    that cannot be honoured.
    """
    _check_options(arch, head, new_head, pool, image_size, heads)
    source = str(path)
    file = read_weights(Path(path))
    state, reader = _told(file.state, arch, source)
    state, dropped = states.without(state, reader.training_only) if reader.training_only else (state, ())
    states.check_plain(state, source)
    dim = reader.width(state, source)

    origin: HeadOrigin = "checkpoint"
    if head is not None:
        origin = "file"
        state, replaced = _with_head_file(state, Path(head), reader)
        dropped += replaced
    elif new_head is not None:
        origin = "random"
        state, replaced = states.without(state, reader.head)
        state |= states.random_head(reader.head, dim, new_head, seed)
        dropped += replaced
    elif not any(key.startswith(reader.head) for key in state):
        raise CheckpointError(f"{source}: no {reader.head}weight; {headless}")

    settled = reader.settle(state, Asked(pool, heads, origin == "random"), source, str(head or path))
    own = settled.config
    states.too_big(own, source)
    states.check(settled.state, own, source)
    _check_arch(arch, own, source)
    size = image_size or (file.record.image_size if file.record is not None else own.image_size)
    config = replace(own, image_size=size)
    states.too_big(config, source)
    weights = {key: _float32(key, value, source) for key, value in settled.state.items()}
    return Checkpoint(
        source=source,
        config=config,
        state=states.counted(reader.resized(weights, config), config),
        head=origin,
        own_image_size=own.image_size if file.record is None else file.record.image_size,
        dropped=dropped + settled.dropped,
        folded=settled.folded,
        ignored=file.ignored,
        record=file.record,
    )


def _check_options(
    arch: str | None,
    head: object,
    new_head: int | None,
    pool: str | None,
    image_size: int | None,
    heads: int | None,
) -> None:
    """Refuse options that no checkpoint could honour, before a large file is read."""
    if arch is not None and arch not in READERS and arch not in ARCHITECTURES:
        raise UsageError(f"arch is {arch!r}; choose one of {', '.join([*READERS, *ARCHITECTURES])}")
    if head is not None and new_head is not None:
        raise UsageError("--head and --new-head exclude each other; give one")
    if new_head is not None and not 2 <= new_head <= states.MAX_CLASSES:
        raise UsageError(f"--new-head is {new_head}; give 2 to {states.MAX_CLASSES} classes")
    if pool not in (None, "mean", "token"):
        raise UsageError(f"pool is {pool!r}; choose mean or token")
    if image_size is not None and (image_size < 16 or image_size % 16):
        raise UsageError(f"image_size is {image_size}; choose a positive multiple of 16 pixels")
    if heads is not None and heads < 1:
        raise UsageError(f"heads is {heads}; give 1 or more")


def _family(arch: str | None) -> Family | None:
    """The family that ``arch`` names or belongs to."""
    for family in READERS:
        if arch is not None and arch.startswith(family):
            return family
    return None


def _told(state: dict[str, Tensor], arch: str | None, source: str) -> tuple[dict[str, Tensor], Reader]:
    """The state behind its wrappers' prefixes, and the reader of the family that its keys belong to."""
    asked = _family(arch)
    anchors = {family: reader.anchor for family, reader in READERS.items()}
    stripped = _strip(state, (anchors[asked],) if asked else tuple(anchors.values()), source)
    found = [family for family, anchor in anchors.items() if anchor in stripped]
    if asked is None and len(found) > 1:
        raise CheckpointError(f"{source}: holds the keys of a {' and of a '.join(found)}; say which with --arch")
    if asked is None and not found:
        raise CheckpointError(
            f"{source}: no {', no '.join(anchors.values())}, so this is no ViT, ResNet or VGG state dict; "
            "convert knows the key names of MAE, timm and torchvision"
        )
    family = asked or found[0]
    if family not in found:
        others = [f for f, anchor in anchors.items() if anchor in _strip(state, (anchor,), source)]
        told = f"its keys are a {others[0]}'s" if others else f"it has no {anchors[family]}"
        raise CheckpointError(f"{source}: {told}, and --arch says {arch}; leave --arch out, or give the other file")
    return stripped, READERS[family]


def _check_arch(arch: str | None, config: AnyConfig, source: str) -> None:
    """Hold what the keys say against what the user says."""
    named = ARCHITECTURES.get(arch or "")
    if named is not None and named.name != config.name:
        raise CheckpointError(
            f"{source}: its keys are a {config.name}'s, and --arch says {arch}, a {named.name}; "
            "leave --arch out, or give the other file"
        )


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


def _with_head_file(state: dict[str, Tensor], path: Path, reader: Reader) -> tuple[dict[str, Tensor], tuple[str, ...]]:
    """Replace the head, and a ViT's final norm where the file brings one; the names that went come second."""
    head, prefix = read_weights(path).state, reader.head
    states.check_plain(head, str(path))
    bare = ("weight", "1.weight")  # the state dict of a Linear, or of a linear probe's Sequential, by itself
    whole = (f"{prefix}weight", f"{prefix}1.weight")
    head = _strip(head, (*whole, *bare), str(path))
    if any(key in head for key in bare):
        head = {f"{prefix}{key}": value for key, value in head.items()}
    if not any(key in head for key in whole):
        raise CheckpointError(f"{path}: no {prefix}weight; a head file holds {prefix}weight and {prefix}bias")
    rest, _ = states.without(head, (prefix, *reader.norms))
    if rest:
        norms = f" and {' or '.join(f'{norm}*' for norm in reversed(reader.norms))}" if reader.norms else ""
        raise CheckpointError(
            f"{path}: more than a head, {states.show(sorted(rest))}; "
            f"keep {prefix}*{norms}, or convert this file by itself"
        )
    brings_norm = any(not key.startswith(prefix) for key in head)
    state, dropped = states.without(state, (prefix, *reader.norms) if brings_norm else prefix)
    return {**state, **head}, dropped


def _float32(key: str, value: Tensor, source: str) -> Tensor:
    """Copy one weight to float32, so that the file may go away; refuse NaN and infinity."""
    if key.endswith(states.COUNTER):
        return value
    weight = value.detach().to(torch.float32, copy=True).contiguous()
    if not bool(torch.isfinite(weight).all()):
        raise CheckpointError(f"{source}: {key} holds NaN or infinity; export the last healthy checkpoint")
    return weight
