"""What a merge itself costs, written in several ways: blocks of a ViT-B/16 in int8 on OpenVINO, interleaved.

``python benchmarks/merging/ways.py [--depth N] [--rounds N] [--threads N]``

Twelve tokens merge in each block (24 in every second). A way is held against the same tokens thrown away: the same
arithmetic without a merge. What the ways compute is the same to rounding, but for likeness by keys, which chooses other
pairs. Random weights: the times are those of the shapes.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from contextlib import nullcontext
from functools import partial
from unittest.mock import patch

import numpy as np
import torch
from kinds import by_keys, every_second
from speed import BASE, FRAMES, MEAN, STD, cut_away, raced, request
from torch import Tensor
from torch.nn import functional
from vmeg_edge.converters import token_reduction as reduction
from vmeg_edge.converters.architectures import token_merging, vit
from vmeg_edge.converters.architectures.token_merging import Tokens, likeness, merged, taken
from vmeg_edge.converters.frames import tensors_of

from vmeg_edge.manifest import Input
from vmeg_edge.phantom import phantoms

TOKENS = 12
Way = Callable[[Tokens, int], Tokens]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--depth", type=int, default=4, help="blocks: a merge's share of a block needs not all twelve")
    parser.add_argument("--rounds", type=int, default=150, help="turns that the models take, five of them uncounted")
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    spec = Input(width=224, height=224, resize="bilinear", mean=MEAN, std=STD)
    tensors = tensors_of([made.frame for made in phantoms(7, FRAMES)], spec)
    each = reduction.constant(BASE, TOKENS)[: arguments.depth]
    second = every_second(BASE, TOKENS)[: arguments.depth]
    rows: dict[str, tuple[str, Way, reduction.Schedule]] = {
        "cut": ("thrown away, each block", cut_away, each),
        "product": ("rows gathered, a product for those that leave (ours)", merged, each),
        "whole product": ("one product with one-hot rows for all", one_product, each),
        "elements": ("rows gathered, ScatterElements adds", partial(scattered, rows=False), each),
        "nd": ("rows gathered, ScatterND adds", partial(scattered, rows=True), each),
        "keys": ("ours, by keys instead of tokens (ToMe)", merged, each),
        "one head": ("ours, by the keys of one head of twelve", merged, each),
        "cut 2": ("thrown away, every second block", cut_away, second),
        "product 2": ("ours, every second block", merged, second),
    }
    likenesses = {"keys": by_keys(), "one head": by_keys(1)}
    requests = {}
    for name, (_, way, schedule) in rows.items():
        with patch.object(vit, "merged", way), likenesses.get(name, nullcontext()):
            requests[name] = request(schedule, tensors, arguments.threads, depth=arguments.depth)
    times = raced(requests, tensors, arguments.rounds)
    print("| how | p50 ms | the merge adds |\n|---|---|---|")
    for name, samples in times.items():
        against = times["cut 2" if name.endswith("2") else "cut"]
        print(f"| {rows[name][0]} | {np.median(samples):.2f} | {np.median(samples / against) - 1:.1%} |")


def pairs(x: Tensor, r: int) -> tuple[Tensor, Tensor, Tensor]:
    """(who leaves, who stays, whom each of the first joins), as places in their halves."""
    scores = likeness(x)
    order = scores.amax(dim=-1).topk(scores.shape[1], dim=-1).indices
    leaving = order[:, :r]
    return leaving, order[:, r:].sort(dim=-1).values, taken(scores, leaving).argmax(dim=-1)


def one_product(tokens: Tokens, r: int) -> Tokens:
    """Every token of the first half passes through one product, whose rows are one-hot."""
    x = tokens.x[:, 1:]
    a, b = x[:, ::2], x[:, 1::2]
    n, first, second = x.shape[0], a.shape[1], b.shape[1]
    stay = first - r
    leaving, staying, partner = pairs(tokens.x, r)
    now = torch.cat((partner + stay, torch.arange(stay).expand(n, -1)), dim=1)
    place = torch.zeros_like(now).scatter(1, torch.cat((leaving, staying), dim=1), now)
    weights = (torch.arange(stay + second)[:, None] == place[:, None, :]).to(x.dtype)
    sizes_b = x.new_ones(n, second, 1)
    if tokens.sizes is not None:
        weights, sizes_b = weights * tokens.sizes[:, ::2].transpose(1, 2), tokens.sizes[:, 1::2]
    sizes = weights.sum(dim=2, keepdim=True)
    sizes = torch.cat((sizes[:, :stay], sizes[:, stay:] + sizes_b), dim=1)
    moved = (weights / sizes) @ a
    joined = moved[:, stay:] + b * (sizes_b / sizes[:, stay:])
    x = torch.cat((tokens.x[:, :1], moved[:, :stay], joined), dim=1)
    return Tokens(x, sizes, token_merging._moved(tokens.home, place, stay, first, second))


def scattered(tokens: Tokens, r: int, *, rows: bool) -> Tokens:
    """Those that leave are added where they go, element by element or as whole ``rows``."""
    x = tokens.x
    n, count = x.shape[0], x.shape[1] - 1
    first, second = (count + 1) // 2, count // 2
    stay = first - r
    leaving, staying, partner = pairs(tokens.x, r)
    behind = (2 * torch.arange(second) + 2).expand(n, -1)
    kept = torch.cat((torch.zeros(n, 1, dtype=torch.long), 2 * staying + 1, behind), dim=1)
    sizes = x.new_ones(n, 1 + count, 1) if tokens.sizes is None else functional.pad(tokens.sizes, (0, 0, 1, 0), value=1)
    at = partner + 1 + stay
    gone, theirs = taken(x, 2 * leaving + 1), taken(sizes, 2 * leaving + 1)

    def added(base: Tensor, more: Tensor) -> Tensor:
        if rows:
            return base.index_put((torch.arange(n)[:, None].expand_as(at), at), more, accumulate=True)
        return base.scatter_add(1, at[:, :, None].expand(-1, -1, base.shape[2]), more)

    own = taken(sizes, kept)
    sizes = added(own, theirs)
    x = added(taken(x, kept) * own, gone * theirs) / sizes
    now = torch.cat((partner + stay, torch.arange(stay).expand(n, -1)), dim=1)
    place = torch.zeros_like(now).scatter(1, torch.cat((leaving, staying), dim=1), now)
    return Tokens(x, sizes[:, 1:], token_merging._moved(tokens.home, place, stay, first, second))


if __name__ == "__main__":
    main()
