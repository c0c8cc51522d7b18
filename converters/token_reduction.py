"""Which tokens to merge where: schedules by their arithmetic, and the search for the cheapest that says the same.

The search screens schedules in float32 on the control frames. What passes there with a margin is quantized, cheapest
first, and held against the gate on the validation frames, which calibration has not seen; where that fails, the search
goes on with the next.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache, partial
from typing import Literal, TypeAlias

from vmeg_edge.errors import UsageError

from .architectures.vit import ViTConfig

Schedule: TypeAlias = tuple[int, ...]
Reduction: TypeAlias = Literal["auto", "off"] | int

VALIDATION_FRAMES = 128
"""What ``auto`` wants: no flip in so many frames says, at 95 %, that fewer than 3 in 128 flip (the rule of three)."""

_LEAST_LEFT = 24

# Measured on OpenVINO int8, ViT-B/16, two threads: benchmarks/merging/ways.py and speed.py.
_MERGE_SHARE = 0.12
_TILE = 16
"""Rows that a processor's matrix units take at once: 17 tokens cost as much as 32."""
_WORTH_TILING = 4 * _TILE


def tapering(config: ViTConfig, r: int, start: int = 1) -> Schedule:
    """About the same share of the tokens in each of a few blocks from ``start`` on, and no more after them.

    As many tokens in the mean as ToMe's ``r`` in each block (`constant`) leaves, or nearly: with the class token they
    are a multiple of 16 where there are many, since the next lower number costs as much (benchmarks/merging/speed.py).
    A third of the blocks take part, three at least. What merges in the first block changes now and then a frame's score
    altogether; what merges in the last ones saves next to nothing (benchmarks/merging/schedules.py).
    """
    wanted = mean_tokens(config, constant(config, r))
    return min(_tapering(config, start), key=lambda schedule: abs(mean_tokens(config, schedule) - wanted))


def constant(config: ViTConfig, r: int, start: int = 0) -> Schedule:
    """``r`` tokens in each block from ``start`` on, as ToMe does from 0; no more than half of those that are left."""
    return _feasible(config, [r if block >= start else 0 for block in range(config.depth)])


def decreasing(config: ViTConfig, r: int, start: int = 0) -> Schedule:
    """From ``2 r`` tokens in block ``start`` down to none in the last, the same sum as `constant` (ToMe's too)."""
    span = max(config.depth - 1 - start, 1)
    left = range(config.depth - 1, -1, -1)
    return _feasible(config, [round(2 * r * n / span) if n <= span else 0 for n in left])


def asked(config: ViTConfig, r: int) -> Schedule:
    """What ``--reduce-tokens R`` means: `tapering`. Raises `UsageError` where there are not so many tokens."""
    limit = most(config)
    if r > limit:
        mend = f"give {limit} or fewer" if limit else "give a larger image size"
        raise UsageError(
            f"--reduce-tokens {r}: a {config.name} at {config.image_size} pixels has {config.grid**2} tokens, and can "
            f"merge {limit} a block in the mean of its {config.depth}; {mend}"
        )
    return tapering(config, r)


def most(config: ViTConfig) -> int:
    """The largest ``r`` whose tokens in the mean `tapering` can still reach."""
    least = min(mean_tokens(config, schedule) for schedule in _tapering(config, 1))
    reached = (mean_tokens(config, constant(config, r)) for r in range(1, config.grid**2 // 2 + 1))
    return sum(least <= mean < mean_tokens(config, ()) for mean in reached)


def schedules(config: ViTConfig) -> dict[str, list[Schedule]]:
    """What the search tries, by kind and first block: each a ladder from the cheapest schedule (`cost`) up.

    Of schedules that cost the same, the one that leaves the most tokens.
    """
    kinds = {"tapering": (tapering, (1, 2)), "constant": (constant, (0, 1)), "decreasing": (decreasing, (0, 1))}
    ladders = {}
    for name, (kind, starts) in kinds.items():
        for start in starts:
            made = {schedule for r in range(1, config.grid**2 // 2 + 1) if any(schedule := kind(config, r, start))}
            rungs = {cost(config, schedule): schedule for schedule in sorted(made, key=partial(arithmetic, config))}
            ladders[f"{name} from block {start}"] = [rungs[price] for price in sorted(rungs)]
    return ladders


def cost(config: ViTConfig, schedule: Schedule) -> float:
    """`arithmetic` on whole tiles of tokens, and for each block that merges `_MERGE_SHARE` of one that does not."""
    block = arithmetic(config, (), tile=_TILE) / config.depth
    return arithmetic(config, schedule, tile=_TILE) + _MERGE_SHARE * block * sum(r > 0 for r in schedule)


def arithmetic(config: ViTConfig, schedule: Schedule, tile: int = 1) -> int:
    """Multiply-adds of one frame, tokens rounded up to ``tile``; the merges' own (a few per cent) are left out."""
    total = config.grid**2 * 3 * config.patch**2 * config.dim
    for tokens in tokens_by_block(config, schedule):
        before, after = (-(-count // tile) * tile for count in tokens)
        attention = before * 4 * config.dim**2 + 2 * before**2 * config.dim
        total += attention + after * 2 * config.dim * config.hidden
    return total


def tokens_by_block(config: ViTConfig, schedule: Schedule) -> Iterator[tuple[int, int]]:
    """For each block, the tokens in its attention and in its MLP, the class token among them."""
    tokens = 1 + config.tokens
    for r in schedule or (0,) * config.depth:
        yield tokens, tokens - r
        tokens -= r


def mean_tokens(config: ViTConfig, schedule: Schedule) -> float:
    """Tokens in a block, the mean over attentions and MLPs: ToMe's way to say how far a schedule goes."""
    pairs = list(tokens_by_block(config, schedule))
    return sum(before + after for before, after in pairs) / (2 * len(pairs))


def check_frames(reduction: Reduction, found: int) -> None:
    """Raise `UsageError` where ``auto`` has too few validation frames to choose by."""
    if reduction == "auto" and found == 0:
        raise UsageError("--reduce-tokens auto chooses by frames; give --calibration SOURCE (stills, a cine, a folder)")
    if reduction == "auto" and found < VALIDATION_FRAMES:
        raise UsageError(
            f"--reduce-tokens auto chooses by {VALIDATION_FRAMES} validation frames that calibration never saw, and "
            f"these sources give {found}; add frames (about three times as many in all) and pass --validation-frames "
            f"{VALIDATION_FRAMES} or more, or name a number of tokens"
        )


def fitting(config: ViTConfig, schedule: Schedule) -> Schedule:
    """``schedule`` of a model with a token for each patch, in about the same shares of what ``config`` has."""
    if config.tokens == config.grid**2:
        return _feasible(config, list(schedule))
    left, wanted = config.tokens, []
    for r in schedule:
        rest = 1 + left - r * config.tokens / config.grid**2
        tile = _TILE if r and rest >= _WORTH_TILING else 1
        wanted.append(max(0, 1 + left - tile * round(rest / tile)))  # the nearest tile may be one that is not full yet
        left -= wanted[-1]
    return _feasible(config, wanted)


@cache
def _tapering(config: ViTConfig, start: int) -> tuple[Schedule, ...]:
    """Every share up to one half that leaves `_LEAST_LEFT`, in steps of a half per cent.

    Small ones are left as they are: to the next tile would be as far again.
    """
    count = min(max(3, config.depth // 3), config.depth)
    first = min(start, config.depth - count)
    blocks = range(first, first + count)
    made = []
    for step in range(1, 101):
        wanted, left = [0] * config.depth, config.tokens
        for block in blocks:
            rest = 1 + left - round(left * step / 200)
            rest -= rest % _TILE if rest >= _WORTH_TILING and step >= _TILE else 0
            wanted[block] = 1 + left - rest
            left = rest - 1
        made.append(tuple(wanted))
    held = [schedule for schedule in dict.fromkeys(made) if _feasible(config, list(schedule)) == schedule]
    return tuple(held) or ((0,) * config.depth,)


def _feasible(config: ViTConfig, wanted: list[int]) -> Schedule:
    """``wanted``, held to half of the tokens in each block and to a rest of `_LEAST_LEFT`."""
    left = config.tokens
    made = []
    for r in wanted:
        r = max(0, min(r, left // 2, left - _LEAST_LEFT))
        made.append(r)
        left -= r
    return tuple(made)
