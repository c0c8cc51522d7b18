"""A candidate: an artefact that may be kept, for one slot of a conversion, and how it runs on this machine."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import PurePath
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from vmeg_edge.backends import Backend, open_backend, place
from vmeg_edge.manifest import Artefact, Manifest

from .slots import Slot

Logits: TypeAlias = npt.NDArray[np.float32]
StandIn: TypeAlias = Callable[[Manifest], Backend]

ONNX_NAME = "model.onnx"


@dataclass(frozen=True, eq=False)
class Candidate:
    """An artefact that may be kept for ``slot``. ``says`` is a line on how it was made.

    ``tokens`` is how many a sized model has, ``None`` for the whole one. ``stand_in`` opens what runs in its place
    where its engine or its processor is not at hand: an equal model with the same roundings. ``proof`` is then a line
    that says so.
    """

    slot: Slot
    recipe: str
    says: str
    artefact: Artefact
    files: Mapping[str, bytes]
    stand_in: StandIn | None = None
    proof: str = ""
    tokens: int | None = None

    @property
    def target(self) -> str:
        """The engine that it is for."""
        return self.slot.target

    def open(self, manifest: Manifest) -> Backend:
        """Open it on the backend that will serve it, or its stand-in. Raises `BackendError`."""
        if self.stand_in is not None:
            return self.stand_in(manifest)
        changed = manifest.model_copy(update={"artefacts": {self.target: self.artefact}})
        return open_backend(self.target, changed, self.files, place(self.target))


def on_onnxruntime(model: bytes, artefact: Artefact) -> StandIn:
    """A stand-in: an ONNX model on ONNX Runtime, of the artefact's precision."""

    def opened(manifest: Manifest) -> Backend:
        alone = artefact.model_copy(update={"files": (ONNX_NAME,)})
        changed = manifest.model_copy(update={"artefacts": {"onnxruntime": alone}})
        return open_backend("onnxruntime", changed, {ONNX_NAME: model}, place("onnxruntime"))

    return opened


def renamed(artefact: Artefact, files: Mapping[str, bytes], suffix: str) -> tuple[Artefact, dict[str, bytes]]:
    """The artefact and its files with ``suffix`` behind each stem, so that they lie beside others in one bundle."""
    names = {name: f"{PurePath(name).stem}{suffix}{PurePath(name).suffix}" for name in files}
    changed = artefact.model_copy(update={"files": tuple(names[name] for name in artefact.files)})
    return changed, {names[name]: data for name, data in files.items()}
