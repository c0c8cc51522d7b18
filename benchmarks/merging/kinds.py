"""Ways to merge that the converter does not take: other schedules, and likeness by keys as in ToMe."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from unittest.mock import patch

from torch import Tensor
from torch.nn import functional
from vmeg_edge.converters import token_reduction as reduction
from vmeg_edge.converters.architectures import token_merging, vit
from vmeg_edge.converters.architectures.token_merging import likeness
from vmeg_edge.converters.token_reduction import Schedule


def every_second(config: vit.ViTConfig, r: int, start: int = 0) -> Schedule:
    """``2 r`` tokens in every second block from ``start`` on: half as many merges to pay for."""
    return fitted(
        config, [2 * r if block >= start and (block - start) % 2 == 0 else 0 for block in range(config.depth)]
    )


def at_once(config: vit.ViTConfig, r: int, start: int = 0) -> Schedule:
    """``r`` tokens in block ``start`` and ``r`` in the next, and no more: two merges to pay for."""
    return fitted(config, [r if start <= block <= start + 1 else 0 for block in range(config.depth)])


def fitted(config: vit.ViTConfig, wanted: list[int]) -> Schedule:
    """``wanted``, as far as the tokens go."""
    return reduction.fitting(config, tuple(wanted))


@contextmanager
def by_keys(heads: int | None = None) -> Iterator[None]:
    """Networks that are built and run in here merge by the mean of the keys of so many heads, of all for ``None``."""
    noted: list[Tensor] = []

    def attend(layer: vit.Attention, x: Tensor, sizes: Tensor | None = None) -> Tensor:
        n, t, c = x.shape
        width = c // layer.heads
        parts = layer.qkv(x).chunk(3, dim=-1)
        q, k, v = (part.reshape(n, t, layer.heads, width).transpose(1, 2) for part in parts)
        noted[:] = [k[:, :heads].mean(dim=1)]
        logits = (q * width**-0.5) @ k.transpose(-2, -1)
        if sizes is not None:
            logits = logits + functional.pad(sizes.log().transpose(1, 2), (1, 0))[:, None]
        mixed: Tensor = layer.proj((logits.softmax(dim=-1) @ v).transpose(1, 2).reshape(n, t, c))
        return mixed

    with (
        patch.object(vit.Attention, "forward", attend),
        patch.object(token_merging, "likeness", lambda _: likeness(noted[0])),
    ):
        yield
