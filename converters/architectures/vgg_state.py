"""What a VGG's state dict says of its shape: torchvision's keys, whose numbers tell where the poolings are."""

from __future__ import annotations

import math
import re

from vmeg_edge.errors import CheckpointError

from .known import AnyConfig
from .state import MAX_DIM, Asked, Settled, State, head_classes, matrix, plain_head, refuse_vit_options, shape_of
from .vgg import VGGConfig

_CONV = re.compile(r"features\.(\d{1,3})\.weight")
_MOST_STAGES = 6


class VGGReader:
    """torchvision's VGGs, with and without batch norm."""

    anchor = "features.0.weight"
    head = "classifier.6."
    norms: tuple[str, ...] = ()
    training_only: tuple[str, ...] = ()

    def width(self, state: State, source: str) -> int:
        """Channels of the layer before the head. Raises `CheckpointError` where there is none."""
        _first(state, source)
        hidden = int(matrix(state, "classifier.3.weight", 2, "[hidden, hidden]", source).shape[0])
        if not 1 <= hidden <= 8 * MAX_DIM:
            raise CheckpointError(f"{source}: classifier.3.weight has {hidden} rows; 1 to {8 * MAX_DIM} are known")
        return hidden

    def settle(self, state: State, asked: Asked, source: str, head_source: str) -> Settled:
        """Read the stages from the numbers of the convolutions. Raises `CheckpointError` naming the key that is odd."""
        state, renamed = plain_head(state, self.head)
        _first(state, source)
        batch_norm = "features.1.running_mean" in state
        stages = _stages(state, 3 if batch_norm else 2, source)
        hidden = self.width(state, source)
        entry = matrix(state, "classifier.0.weight", 2, f"[{hidden}, channels * pooled * pooled]", source)
        pooled = math.isqrt(int(entry.shape[1]) // stages[-1][1])
        if pooled < 1 or pooled**2 * stages[-1][1] != entry.shape[1]:
            raise CheckpointError(
                f"{source}: classifier.0.weight has shape {shape_of(entry.shape)}; "
                f"its columns are no square of positions of {stages[-1][1]} channels"
            )
        if pooled * 2 ** len(stages) > 2048:
            raise CheckpointError(
                f"{source}: classifier.0.weight reads {pooled} positions a side; at most 64 are known"
            )
        config = VGGConfig(
            image_size=pooled * 2 ** len(stages),
            convolutions=tuple(count for count, _ in stages),
            widths=tuple(width for _, width in stages),
            hidden=hidden,
            pooled=pooled,
            batch_norm=batch_norm,
            classes=head_classes(state, self.head, hidden, head_source),
        )
        refuse_vit_options(asked, config)
        return Settled(state, config, folded=renamed)

    def resized(self, state: State, config: AnyConfig) -> State:
        """As they are: more positions are averaged to those that the head reads."""
        del config
        return state


def _first(state: State, source: str) -> None:
    weight = matrix(state, "features.0.weight", 4, "[width, 3, 3, 3]", source)
    if tuple(weight.shape[1:]) != (3, 3, 3) or not 1 <= weight.shape[0] <= MAX_DIM:
        raise CheckpointError(
            f"{source}: features.0.weight has shape {shape_of(weight.shape)}; "
            "expected [width, 3, 3, 3], a VGG's first layer"
        )


def _stages(state: State, step: int, source: str) -> list[tuple[int, int]]:
    """(convolutions, channels) of each stage: the next convolution is ``step`` on, or one more behind a pooling."""
    found = sorted(
        (int(match[1]), int(value.shape[0]))
        for key, value in state.items()
        if (match := _CONV.fullmatch(key)) and value.ndim == 4
    )
    stages: list[tuple[int, int]] = []
    before = -step - 1
    for place, width in found:
        gap = place - before
        if gap == step and stages and width == stages[-1][1]:
            stages[-1] = (stages[-1][0] + 1, width)
        elif gap == step + 1:
            stages.append((1, width))
        else:
            raise CheckpointError(
                f"{source}: features.{place}.weight does not follow features.{before}.weight as in a VGG"
            )
        before = place
    if len(stages) > _MOST_STAGES:
        raise CheckpointError(f"{source}: a VGG of {len(stages)} stages; at most {_MOST_STAGES} are known")
    return stages
