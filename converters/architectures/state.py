"""What a state dict is asked whatever its architecture: its names, shapes and kinds of tensor."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from vmeg_edge.errors import CheckpointError, UsageError

from .known import AnyConfig, network

State = dict[str, Tensor]

MAX_DIM = 8192
MAX_CLASSES = 10_000
MAX_BYTES = 2**31 - 1  # one ONNX file, a protocol buffer, holds no more
COUNTER = ".num_batches_tracked"  # a batch norm's, which inference never reads


@dataclass(frozen=True)
class Asked:
    """What the user said where the keys cannot tell; ``fresh`` is a head that was never trained."""

    pool: str | None = None
    heads: int | None = None
    fresh: bool = False


@dataclass(frozen=True, eq=False)
class Settled:
    """A state dict under this project's names, its architecture on its own image size, and what was done to it."""

    state: State
    config: AnyConfig
    dropped: tuple[str, ...] = ()
    folded: tuple[str, ...] = field(default=())


class Reader(Protocol):
    """What one family's state dict is made of. ``anchor`` is the key that tells it; ``head`` the head's prefix.

    ``norms`` are prefixes that may come with a head, ``training_only`` those that inference has no use for.
    """

    @property
    def anchor(self) -> str:
        """Such as ``conv1.weight``."""

    @property
    def head(self) -> str:
        """Such as ``fc.``."""

    @property
    def norms(self) -> tuple[str, ...]:
        """Such as ``fc_norm.``."""

    @property
    def training_only(self) -> tuple[str, ...]:
        """Such as MAE's decoder."""

    def width(self, state: State, source: str) -> int:
        """Channels that the head reads. Raises `CheckpointError` where the anchor is not of this family."""

    def settle(self, state: State, asked: Asked, source: str, head_source: str) -> Settled:
        """Mend the names and read the shape. Raises `CheckpointError` naming the key, `UsageError` the option."""

    def resized(self, state: State, config: AnyConfig) -> State:
        """The weights for the image size of ``config``."""


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


def check_plain(state: State, source: str) -> None:
    """Raise `CheckpointError` naming a tensor that is not a dense array of floats, before any is touched.

    A batch norm's ``num_batches_tracked`` counts, and is left alone.
    """
    for key, value in state.items():
        if value.layout != torch.strided or value.is_meta or value.is_quantized or value.is_nested:
            raise CheckpointError(f"{source}: {key} is a sparse, quantized or empty tensor; save it as float32")
        if not value.dtype.is_floating_point and not key.endswith(COUNTER):
            dtype = str(value.dtype).removeprefix("torch.")
            raise CheckpointError(f"{source}: {key} is {dtype}; expected float32, float16 or bfloat16 weights")


def random_head(prefix: str, dim: int, classes: int, seed: int) -> State:
    """Make an untrained head: weights from N(0, 0.02²), by NumPy so that no torch alters it; biases zero."""
    weight = np.random.default_rng(seed).normal(0.0, 0.02, (classes, dim)).astype(np.float32)
    return {f"{prefix}weight": torch.from_numpy(weight), f"{prefix}bias": torch.zeros(classes)}


def plain_head(state: State, prefix: str) -> tuple[State, tuple[str, ...]]:
    """Rename a head that stands in a ``Sequential`` with dropout (``fc.1.weight``); the names that went come second."""
    held = sorted(key for key in state if key.startswith(prefix))
    places = {key[len(prefix) :].partition(".")[0] for key in held}
    place = next(iter(places), "")
    if len(places) != 1 or not place.isdigit():
        return state, ()
    start = f"{prefix}{place}."
    return {key.replace(start, prefix, 1) if key in held else key: value for key, value in state.items()}, tuple(held)


def head_classes(state: State, prefix: str, dim: int, source: str) -> int:
    """Rows of the head. Raises `CheckpointError` where they are no softmax's."""
    key = f"{prefix}weight"
    classes = matrix(state, key, 2, f"[classes, {dim}]", source).shape[0]
    if classes < 2:
        raise CheckpointError(
            f"{source}: {key} has {classes} rows; at least 2 expected "
            "(a sigmoid's one row w is a softmax's two rows, 0 and w)"
        )
    return int(classes)


def refuse_vit_options(asked: Asked, config: AnyConfig) -> None:
    """Raise `UsageError` for what only a ViT has."""
    for option, given in (("--pool", asked.pool), ("--heads", asked.heads)):
        if given is not None:
            raise UsageError(f"{option} is for ViTs, and this is a {config.name}; leave it out")


def matrix(state: State, key: str, ndim: int, expected: str, source: str) -> Tensor:
    """Return a tensor that the architecture is read from, of the right rank."""
    if key not in state:
        raise CheckpointError(f"{source}: no {key}, expected {expected}; give a whole encoder's state dict")
    if state[key].ndim != ndim:
        raise CheckpointError(f"{source}: {key} has shape {shape_of(state[key].shape)}; expected {expected}")
    return state[key]


def too_big(config: AnyConfig, source: str) -> None:
    """Raise `CheckpointError` before anything is allocated for a model that no single ONNX file can hold."""
    if config.weights * 4 > MAX_BYTES:
        raise CheckpointError(
            f"{source}: a {config.name} for {config.image_size} pixels is over 2 GB in float32; "
            "choose a smaller model or image size (ViT-L at 224 pixels fits)"
        )


def check(state: State, config: AnyConfig, source: str) -> None:
    """Compare keys and shapes with the model's own; raise `CheckpointError` naming what differs.

    Nothing is allocated: the model is built on torch's meta device.
    """
    with torch.device("meta"):
        model = network(config).state_dict()
    expected = {key: tuple(value.shape) for key, value in model.items() if not key.endswith(COUNTER)}
    missing = [key for key in expected if key not in state]
    if missing:
        also = f" (and {len(missing) - 1} more)" if len(missing) > 1 else ""
        raise CheckpointError(
            f"{source}: no {missing[0]}, expected {shape_of(expected[missing[0]])}{also}; "
            f"give a whole {config.name} state dict"
        )
    unexpected = sorted(key for key in state if key not in expected and not key.endswith(COUNTER))
    if unexpected:
        raise CheckpointError(
            f"{source}: unexpected {show(unexpected)}; a plain {config.name} has no such key, "
            "so its scores would differ: remove it only if it is unused"
        )
    for key, shape in expected.items():
        if tuple(state[key].shape) != shape:
            raise CheckpointError(f"{source}: {key} has shape {shape_of(state[key].shape)}; expected {shape_of(shape)}")


def counted(state: State, config: AnyConfig) -> State:
    """The state with every batch norm's counter, which old files leave out, at zero."""
    with torch.device("meta"):
        counters = [key for key in network(config).state_dict() if key.endswith(COUNTER)]
    rest = {key: value for key, value in state.items() if not key.endswith(COUNTER)}
    return {**rest, **{key: torch.tensor(0) for key in counters}}
