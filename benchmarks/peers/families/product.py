"""vmeg-edge as its users call it."""

from __future__ import annotations

from pathlib import Path

import vmeg_edge

from .base import Map, Pixels


class VmegEdge:
    def __init__(self, bundle: Path, cache: Path, threads: int, *, backend: str) -> None:
        self._scorer = vmeg_edge.load(bundle, backend=backend, threads=threads, cache=cache)
        said = self._scorer.provenance
        self.versions = {"vmeg-edge": str(said["vmeg_edge"]), backend: str(said["version"])}
        kernels = said["kernels"]
        self.settings = f"load(backend={backend!r}, threads={threads}); kernels {kernels['isa']}"

    def prepare(self, frame: Pixels) -> Pixels:
        return frame

    def score(self, item: Pixels) -> tuple[float, Map]:
        result = self._scorer.score(item)
        return result.prediction.probability, result.heat_map.values
