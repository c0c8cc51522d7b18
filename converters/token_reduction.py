"""Which tokens to merge where: schedules by their arithmetic, and the search for the cheapest that says the same.

The search screens schedules in float32 on the control frames, cheapest first. What passes there with a margin is
quantized and held against the gate on the validation frames, which neither the search nor calibration has seen; where
that fails, the search goes on.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal, TypeAlias

from vmeg_edge.errors import UsageError

from .architectures.vit import ViTConfig

Schedule: TypeAlias = tuple[int, ...]
Reduction: TypeAlias = Literal["auto", "off"] | int

VALIDATION_FRAMES = 128
"""What ``auto`` wants: no flip in so many frames says, at 95 %, that fewer than 3 in 128 flip (the rule of three)."""

_LEAST_LEFT = 24


def constant(config: ViTConfig, r: int) -> Schedule:
    """``r`` tokens in each block, as ToMe; fewer where half of the tokens are fewer."""
    return _feasible(config, [r] * config.depth)


def decreasing(config: ViTConfig, r: int) -> Schedule:
    """From ``2 r`` tokens in the first block down to none in the last, the same sum as `constant`."""
    last = max(config.depth - 1, 1)
    return _feasible(config, [round(2 * r * (last - block) / last) for block in range(config.depth)])


def every_second(config: ViTConfig, r: int) -> Schedule:
    """``2 r`` tokens in every second block: half as many merges to pay for."""
    return _feasible(config, [2 * r * (1 - block % 2) for block in range(config.depth)])


def schedules(config: ViTConfig) -> list[Schedule]:
    """What the search tries, cheapest first, none twice."""
    steps = range(2, max(3, config.grid**2 // config.depth + 1), 2)
    kinds = (constant, decreasing, every_second)
    made = {kind(config, r) for r in steps for kind in kinds}
    return sorted((m for m in made if any(m)), key=lambda schedule: arithmetic(config, schedule))


def arithmetic(config: ViTConfig, schedule: Schedule) -> int:
    """Multiply-adds of one frame, the merges' own (a few per cent) left out."""
    patches = config.grid**2
    total = patches * 3 * config.patch**2 * config.dim
    for before, after in tokens_by_block(config, schedule):
        attention = before * 4 * config.dim**2 + 2 * before**2 * config.dim
        total += attention + after * 2 * config.dim * config.hidden
    return total


def tokens_by_block(config: ViTConfig, schedule: Schedule) -> Iterator[tuple[int, int]]:
    """For each block, the tokens in its attention and in its MLP, the class token among them."""
    tokens = 1 + config.grid**2
    for r in schedule or (0,) * config.depth:
        yield tokens, tokens - r
        tokens -= r


def mean_tokens(config: ViTConfig, schedule: Schedule) -> float:
    """Tokens in a block, the mean over attentions and MLPs: ToMe's way to say how far a schedule goes."""
    pairs = list(tokens_by_block(config, schedule))
    return sum(before + after for before, after in pairs) / (2 * len(pairs))


def check_frames(reduction: Reduction, found: int) -> None:
    """Raise `UsageError` where ``auto`` has too few validation frames to choose by."""
    if reduction == "auto" and found < VALIDATION_FRAMES:
        raise UsageError(
            f"--reduce-tokens auto chooses by {VALIDATION_FRAMES} validation frames that calibration never saw, and "
            f"these sources give {found}; add frames (about three times as many in all) and pass --validation-frames "
            f"{VALIDATION_FRAMES} or more, or name a number of tokens"
        )


def _feasible(config: ViTConfig, wanted: list[int]) -> Schedule:
    """``wanted``, held to half of the tokens in each block and to a rest of `_LEAST_LEFT`."""
    left = config.grid**2
    made = []
    for r in wanted:
        r = max(0, min(r, left // 2, left - _LEAST_LEFT))
        made.append(r)
        left -= r
    return tuple(made)
