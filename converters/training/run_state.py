"""A training run on disk, whole after every epoch: what it takes to go on, and of which recipe and data it is.

A kill at any moment leaves the last whole state: a new one is written beside it, flushed to the disk, and takes its
name.
"""

from __future__ import annotations

import contextlib
import glob
import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from vmeg_edge.errors import CheckpointError, UsageError
from vmeg_edge.outputs import PendingFile

from ..architectures.network import Network
from .examples import Examples
from .recipe import Recipe
from .scoring import Agreement

VERSION = 1
_PARTS = ("network", "optimizer", "guide", "best")

Identity = dict[str, str]


@dataclass(frozen=True)
class Epoch:
    """One epoch: the highest rate of its last step, losses, and the validation's accuracy and F1.

    Where a teacher is learnt from, ``agreement`` with it on the validation part.
    """

    epoch: int
    image_size: int
    learning_rate: float
    train_loss: float
    validation_loss: float
    accuracy: float
    f1: float
    seconds: float
    agreement: Agreement | None = None

    @property
    def rank(self) -> tuple[float, float]:
        """Higher is better: the agreement with the teacher, if there is one; else F1, then the lower loss."""
        return (self.f1, -self.validation_loss) if self.agreement is None else self.agreement.rank

    @property
    def headline(self) -> str:
        """What the rank is by, in words."""
        return f"F1 {self.f1:.3f}" if self.agreement is None else f"same decisions {self.agreement.same_decisions:.3f}"


@dataclass(eq=False)
class RunState:
    """What a run has learnt after ``history``'s last epoch; ``best`` holds the weights of its best one so far."""

    network: dict[str, Tensor]
    optimizer: dict[str, Any]
    guide: dict[str, Tensor]
    best: dict[str, Tensor]
    history: tuple[Epoch, ...]


def identity_of(network: Network, train: Examples, validation: Examples, recipe: Recipe) -> Identity:
    """What must be the same for a run to go on: names people know, and a value to compare."""
    flat = _flat(asdict(recipe))
    if recipe.distillation is None:  # such a run is the same that it was before there was any
        del flat["distillation"]
    fields = {f"recipe: {name}": json.dumps(value) for name, value in flat.items()}
    return {
        **fields,
        "architecture": f"{network.config!r} read at {network.cam_layer}",
        "labels": f"{', '.join(train.labels)}; positive {train.positive}",
        "starting weights": _digest(network.state_dict()),
        "frames to train on": train.digest(),
        "frames for validation": validation.digest(),
    }


def save(path: Path, state: RunState, identity: Identity) -> None:
    """Write the state over the last one, whole or not at all. Raises `OutputError`."""
    content = {
        "vmeg_edge_training": VERSION,
        "identity": json.dumps(identity),
        "history": json.dumps([asdict(epoch) for epoch in state.history]),
        **{part: getattr(state, part) for part in _PARTS},
    }
    durably(path, content)


def durably(path: Path, content: object) -> None:
    """`torch.save` that is on the disk, whole, before it takes its name. Raises `OutputError`."""
    with PendingFile(path) as temporary:
        torch.save(content, temporary)
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())


def load(path: Path, identity: Identity) -> RunState:
    """Read a state of this very run. Raises `CheckpointError` for a damaged file, `UsageError` for another run's."""
    again = "delete it to start afresh (--force on the command line)"
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
        if content["vmeg_edge_training"] != VERSION:
            raise CheckpointError(f"{path}: a training state of another version of vmeg-edge; {again}")
        known = json.loads(content["identity"])
        history = tuple(_epoch(epoch) for epoch in json.loads(content["history"]))
        state = RunState(history=history, **{part: content[part] for part in _PARTS})
    except CheckpointError:
        raise
    except Exception as error:  # damaged bytes raise anything, from KeyError to UnpicklingError
        raise CheckpointError(f"{path}: no whole training state ({type(error).__name__}); {again}") from None
    differs = [name for name in {**known, **identity} if known.get(name) != identity.get(name)]
    if differs:
        shown = "; ".join(_difference(name, known.get(name), identity.get(name)) for name in differs[:3])
        more = f" and {len(differs) - 3} more" if len(differs) > 3 else ""
        raise UsageError(f"{path}: the state of another run: {shown}{more}; give what that run was given, or {again}")
    return state


def discard(path: Path) -> None:
    """Take away a state, and what a kill in the middle of writing one has left."""
    with contextlib.suppress(OSError):
        path.unlink(missing_ok=True)
    sweep(path)


def sweep(path: Path) -> None:
    """Take away what a kill in the middle of writing ``path`` has left beside it, under `PendingFile`'s names."""
    for left in glob.glob(f".{glob.escape(path.stem[:40])}-????????{glob.escape(path.suffix)}", root_dir=path.parent):
        with contextlib.suppress(OSError):
            (path.parent / left).unlink()


def _epoch(content: dict[str, Any]) -> Epoch:
    agreement = content.pop("agreement", None)
    return Epoch(**content, agreement=None if agreement is None else Agreement(**agreement))


def _difference(name: str, known: str | None, given: str | None) -> str:
    short = [value if value is not None and len(value) <= 40 else None for value in (known, given)]
    return f"{name} (then {short[0]}, now {short[1]})" if all(short) else f"{name} differ"


def _flat(tree: Mapping[str, Any], before: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in tree.items():
        flat |= _flat(value, f"{before}{name}.") if isinstance(value, dict) else {f"{before}{name}": value}
    return flat


def _digest(state: Mapping[str, Tensor]) -> str:
    found = hashlib.sha256()
    for name, value in state.items():
        plain = value.detach().cpu().contiguous()
        found.update(f"{name} {plain.dtype} {tuple(plain.shape)}".encode())
        found.update(plain.numpy().data)
    return found.hexdigest()
