"""Accuracy control for ONNX Runtime's quantizer: the noisiest layers go back to float until the gate has room."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import onnx

from .candidate import Candidate, Logits
from .control import MARGIN, Control
from .linear_layers import linear_layers
from .qdq_from_onnx import QdqQuantizer
from .workshop import Workshop

Pack = Callable[[bytes, tuple[str, ...]], Candidate]

COUNTS = (1, 2, 4, 8, 16)


def controlled(shop: Workshop, quantizer: QdqQuantizer, pack: Pack) -> tuple[float, Candidate]:
    """Quantize; where control says that too much is used, find the fewest layers to leave in float.

    One layer is tried, then as many as may be given back (`COUNTS`, at most half). Where these do not suffice, fewer
    would not either, and the search ends; otherwise it goes on between the two by halving.

    Args:
        shop: the model, its frames and its control.
        quantizer: makes the model again and again with other layers in float.
        pack: a candidate of the model's bytes and the names of its layers in float.

    Returns:
        The candidate with the fewest layers in float that leaves the margin, or else the one that uses least; and the
        share of the allowance that it uses.
    """
    _, control = shop.for_int8()
    names = {layer.node: layer.name for layer in linear_layers(onnx.load(shop.model, load_external_data=False).graph)}
    taken = {layer.node for layer in quantizer.taken()}
    always = [node for node in names if node not in taken]

    def made(back: Sequence[str]) -> tuple[float, Candidate]:
        kept = {*always, *back}
        floats = tuple(name for node, name in names.items() if node in kept)
        candidate = pack(quantizer.quantize(back).read_bytes(), floats)
        return control.used(logits_of(candidate, shop, control)), candidate

    def attempt(count: int) -> tuple[float, Candidate]:
        shop.report(f"{used:.2f} of the gate's allowance is used on the control frames: {count} layers back to float")
        return made(order[:count])

    used, whole = made(())
    if used <= MARGIN:
        return used, whole
    order = quantizer.worst_first()
    counts = [count for count in COUNTS if count <= len(order) // 2]
    tried = [(used, whole)]
    for count in dict.fromkeys([*counts[:1], *counts[-1:]]):
        tried.append(attempt(count))
        if tried[-1][0] <= MARGIN:
            break
    else:
        return min(tried, key=lambda one: one[0])
    low, high, found = 0, len(counts) - 1, tried[-1]
    while len(tried) > 2 and high - low > 1:  # one layer was too few, and the most suffice
        middle = (low + high) // 2
        one = attempt(counts[middle])
        low, high, found = (low, middle, one) if one[0] <= MARGIN else (middle, high, found)
    return found


def logits_of(candidate: Candidate, shop: Workshop, control: Control) -> Logits:
    """What a candidate says of the control frames, float32 ``[n, classes]``."""
    backend = candidate.open(shop.manifest)
    try:
        return np.stack([backend.infer(**shop.feed(tensor))[0].copy() for tensor in control.tensors])
    finally:
        backend.close()
