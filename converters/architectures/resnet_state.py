"""What a ResNet's state dict says of its shape: torchvision's keys."""

from __future__ import annotations

import re

from vmeg_edge.errors import CheckpointError

from .known import AnyConfig
from .resnet import BlockKind, ResNetConfig
from .state import MAX_DIM, Asked, Settled, State, head_classes, matrix, plain_head, refuse_vit_options, shape_of

MOST_BLOCKS = 128

_BLOCK = re.compile(r"layer([1-4])\.(\d{1,3})\.")


class ResNetReader:
    """torchvision's ResNets of basic and of bottleneck blocks."""

    anchor = "conv1.weight"
    head = "fc."
    norms: tuple[str, ...] = ()
    training_only: tuple[str, ...] = ()

    def width(self, state: State, source: str) -> int:
        """Channels of the last stage. Raises `CheckpointError` where the stem is not a ResNet's."""
        kind, stem = _stem(state, source)
        return 8 * stem * (4 if kind == "bottleneck" else 1)

    def settle(self, state: State, asked: Asked, source: str, head_source: str) -> Settled:
        """Read the shape; the image size is taken as 224, since weights cannot tell it. Raises `CheckpointError`."""
        state, renamed = plain_head(state, self.head)
        kind, stem = _stem(state, source)
        counts = [0, 0, 0, 0]
        for key in state:
            match = _BLOCK.match(key)
            if match:
                counts[int(match[1]) - 1] = max(counts[int(match[1]) - 1], int(match[2]) + 1)
        if min(counts) < 1 or max(counts) > MOST_BLOCKS:
            stage = counts.index(min(counts)) if min(counts) < 1 else counts.index(max(counts))
            raise CheckpointError(
                f"{source}: layer{stage + 1} has {counts[stage]} blocks; "
                f"a ResNet has 1 to {MOST_BLOCKS} in each of its four stages"
            )
        config = ResNetConfig(
            kind=kind,
            blocks=(counts[0], counts[1], counts[2], counts[3]),
            width=stem,
            classes=head_classes(state, self.head, self.width(state, source), head_source),
        )
        refuse_vit_options(asked, config)
        return Settled(state, config, folded=renamed)

    def resized(self, state: State, config: AnyConfig) -> State:
        """As they are: convolutions take any size."""
        del config
        return state


def _stem(state: State, source: str) -> tuple[BlockKind, int]:
    weight = matrix(state, "conv1.weight", 4, "[width, 3, 7, 7]", source)
    if tuple(weight.shape[1:]) != (3, 7, 7) or not 1 <= weight.shape[0] <= MAX_DIM // 32:
        raise CheckpointError(
            f"{source}: conv1.weight has shape {shape_of(weight.shape)}; expected [width, 3, 7, 7], a ResNet's stem"
        )
    return ("bottleneck" if "layer1.0.conv3.weight" in state else "basic"), int(weight.shape[0])
