"""Which backend is fastest on each class of processors: measured here, or expected from what was measured elsewhere."""

from __future__ import annotations

from collections.abc import Sequence

from vmeg_edge import processor_class
from vmeg_edge.manifest import Ranking
from vmeg_edge.processor_class import CLASSES

from .measure import Row


def ranked(kept: Sequence[Row], *, transformer: bool) -> dict[str, Ranking]:
    """Return the backends of a bundle by class of processors, the fastest first, where there is a choice.

    Args:
        kept: the rows of the artefacts in the bundle.
        transformer: whether the network is one.
    """
    here = processor_class.current().name
    found: dict[str, Ranking] = {}
    for name in CLASSES:
        serving = [row for row in kept if name in row.proofs]
        targets = tuple(dict.fromkeys(row.candidate.target for row in serving))
        times = {row.candidate.target: row.p50_ms for row in serving if row.p50_ms is not None}
        if len(targets) < 2:
            continue
        if name == here and set(times) == set(targets):
            found[name] = Ranking(backends=tuple(sorted(times, key=lambda target: times[target])), measured=True)
        elif all(row.candidate.artefact.precision == "int8" for row in serving):
            order = _expected(name, transformer=transformer)
            found[name] = Ranking(backends=tuple(sorted(targets, key=order.index)), measured=False)
    return found


def _expected(name: str, *, transformer: bool) -> tuple[str, str]:
    """Of int8, by this project's measurements of ViT-B/16 and ResNet-50 with and without VNNI (README)."""
    if transformer and CLASSES[name].saturates:
        return ("onnxruntime", "openvino")
    return ("openvino", "onnxruntime")
