"""A PyTorch or safetensors file to its tensors, without running anything that it brings."""

from __future__ import annotations

import pickle
import re
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor
from torch.nn import Parameter

from vmeg_edge.errors import CheckpointError

from .architectures.state import show
from .record import KEY, Record, parse_record

CONTAINERS = ("model", "state_dict", "model_state_dict")

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
class WeightsFile:
    """A file's state dict under the names it has, the names of the entries beside it, and what it says of itself."""

    state: dict[str, Tensor]
    ignored: tuple[str, ...] = ()
    record: Record | None = None


class _Inert:
    """Stands in for plain data that is not read."""

    def __init__(self, *_: object, **__: object) -> None:
        """Take what the original would take, and keep none of it."""

    def __setstate__(self, _: object) -> None:
        """Take the original's state, and keep none of it."""


_STAND_INS: list[Callable[..., Any] | tuple[Callable[..., Any], str]] = [(_Inert, name) for name in _PLAIN_DATA]


def read_weights(path: Path) -> WeightsFile:
    """Read a PyTorch or safetensors file, told by content. Nothing that the file brings is run.

    Raises `CheckpointError` for a file that is damaged, of another kind, or wants to run code.
    """
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
            return WeightsFile(load_file(path))
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


def _state_dict(content: object, path: Path) -> WeightsFile:
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
        ignored = tuple(sorted(str(key)[:80] for key in content if key not in (inside[0], KEY)))
    for key, value in state.items():
        if not isinstance(key, str) or type(value) not in (Tensor, Parameter):
            what = f"a {type(value).__name__}, not a tensor" if isinstance(key, str) else "no text"
            raise CheckpointError(f"{path}: key {show([str(key)])} is {what}; save model.state_dict() alone")
    record = parse_record(content[KEY], str(path)) if inside and KEY in content else None
    return WeightsFile(dict(state), ignored, record)
