"""Token merging (ToMe; Bolya et al., ICLR 2023, arXiv 2210.09461) in static shapes, and the way back to the grid.

In a block, between attention and MLP, the tokens are split in two by turns; each of the first half finds the most
similar of the second; the ``r`` most similar pairs become one token each, the mean of all patches in it. Nothing is
dropped: `Tokens.home` says which token a patch went into, so that a heat map has all of its cells.

Similar is the cosine of the tokens themselves and not, as in ToMe, of their keys: that changes scores a quarter to a
half less (benchmarks/merging/schedules.py).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn import functional

from vmeg_edge.errors import UsageError


@dataclass(frozen=True, eq=False)
class Tokens:
    """The tokens between two layers: ``x`` ``[N, 1 + T, C]``, the class token first, which never merges.

    ``sizes`` ``[N, T, 1]`` is how many patches each token stands for, and ``home`` ``[N, P]`` in which of the ``T``
    each of the ``P`` patches is; both are ``None`` as long as nothing has merged.
    """

    x: Tensor
    sizes: Tensor | None = None
    home: Tensor | None = None

    def with_x(self, x: Tensor) -> Tokens:
        """These tokens with other values."""
        return replace(self, x=x)

    def on_grid(self, x: Tensor) -> Tensor:
        """``[N, 1 + T, C]`` back to one row a patch, ``[N, P, C]``: patches that merged have the same."""
        x = x[:, 1:]
        return x if self.home is None else taken(x, self.home)

    def mean(self) -> Tensor:
        """The mean over patches, ``[N, C]``: a token counts as often as it stands for."""
        x = self.x[:, 1:]
        if self.sizes is None:
            return x.mean(dim=1)
        return (x * self.sizes).sum(dim=1) / self.sizes.sum(dim=1)


def merged(tokens: Tokens, r: int) -> Tokens:
    """``tokens`` with ``r`` fewer.

    The first half takes the even places, ``ceil(T / 2)`` of them; ``r`` is at most as many. The tokens that stay keep
    their order, and the second half follows.

    Rows that stay are gathered, and only the ``r`` that leave pass through a product with one-hot columns: on OpenVINO
    two thirds of what one product for all costs. To scatter and add would cost less still, and TensorRT cannot.
    """
    x = tokens.x
    n, count = x.shape[0], x.shape[1] - 1
    first, second = (count + 1) // 2, count // 2
    stay = first - r
    scores = likeness(x)  # [N, first, second]
    order = scores.amax(dim=-1).topk(first, dim=-1).indices  # [N, first], the most similar before the others
    leaving, staying = order[:, :r], order[:, r:].sort(dim=-1).values
    partner = taken(scores, leaving).argmax(dim=-1)  # [N, r]: where each of them goes
    joining = (torch.arange(second, device=x.device)[:, None] == partner[:, None, :]).to(x.dtype)  # [N, second, r]
    if tokens.sizes is None:
        sizes_a, sizes_b = x.new_ones(n, stay, 1), x.new_ones(n, second, 1)
    else:
        sizes_a, sizes_b = taken(tokens.sizes, 2 * staying), tokens.sizes[:, 1::2]
        joining = joining * taken(tokens.sizes, 2 * leaving).transpose(1, 2)
    sizes = sizes_b + joining.sum(dim=2, keepdim=True)  # [N, second, 1]
    joined = x[:, 2::2] * (sizes_b / sizes) + (joining / sizes) @ taken(x, 2 * leaving + 1)
    class_and_staying = torch.cat((staying.new_zeros(n, 1), 2 * staying + 1), dim=1)
    x = torch.cat((taken(x, class_and_staying), joined), dim=1)
    now = torch.cat((partner + stay, torch.arange(stay, device=x.device).expand(n, -1)), dim=1)
    place = torch.zeros_like(now).scatter(1, torch.cat((leaving, staying), dim=1), now)  # [N, first]
    return Tokens(x, torch.cat((sizes_a, sizes), dim=1), _moved(tokens.home, place, stay, first, second))


def likeness(x: Tensor) -> Tensor:
    """The cosine of each token of the first half with each of the second, ``[N, first, second]``.

    ``x`` is ``[N, 1 + T, C]``, the class token first.
    """
    first, second = (functional.normalize(half, dim=-1) for half in (x[:, 1::2], x[:, 2::2]))
    return first @ second.transpose(1, 2)


def shared(x: Tensor, home: Tensor, tokens: int) -> Tokens:
    """One token each for the patches whose number in ``home`` ``[N, P]`` is the same: their mean, ``tokens`` in all.

    ``x`` ``[N, 1 + P, C]`` is the embedded patches with their positions, the class token first. It is a merge that is
    known ahead of the first block: dark patches outside the ultrasound sector share tokens (`vmeg_edge.sector`).
    """
    shares = (torch.arange(tokens, device=x.device)[:, None] == home[:, None, :]).to(x.dtype)  # [N, tokens, P]
    sizes = shares.sum(dim=2, keepdim=True)
    return Tokens(torch.cat((x[:, :1], (shares / sizes) @ x[:, 1:]), dim=1), sizes, home.long())


def check(schedule: tuple[int, ...], depth: int, patches: int) -> None:
    """Raise `UsageError` for a schedule that does not fit ``depth`` blocks on ``patches`` tokens."""
    if len(schedule) != depth:
        raise UsageError(f"merge names {len(schedule)} blocks and the network has {depth}; give one number a block")
    left = patches
    for block, r in enumerate(schedule):
        if not 0 <= r <= left // 2:
            raise UsageError(
                f"merge is {r} at block {block}, which has {left} tokens; give 0 to {left // 2}, the half of them"
            )
        left -= r


def taken(x: Tensor, places: Tensor) -> Tensor:
    """``[N, T, C]`` at ``places`` ``[N, P]``: ``[N, P, C]``, as a gather of whole rows."""
    n, t, c = x.shape
    flat = places + torch.arange(n, device=x.device)[:, None] * t if n > 1 else places
    return x.reshape(n * t, c).index_select(0, flat.reshape(-1)).reshape(n, -1, c)


def _moved(home: Tensor | None, place: Tensor, stay: int, first: int, second: int) -> Tensor:
    """Where each patch is after a merge: `place` for those of the first half, behind the staying for the others."""
    n, device = place.shape[0], place.device
    behind = (stay + torch.arange(second, device=device)).expand(n, -1)
    both = torch.cat((place, behind), dim=1)  # the halves one after the other
    turns = torch.arange(first + second, device=device)
    order = torch.where(turns % 2 == 0, turns // 2, first + turns // 2)  # a token's place in `both`
    at = order.expand(n, -1) if home is None else order[home]
    return torch.gather(both, 1, at)
