"""Torch's threads under a CPU quota: by itself it starts one for each processor of the affinity."""

from __future__ import annotations

import torch

from vmeg_edge.processors import usable_processors


def within_quota() -> None:
    """Lower torch's number of threads to `usable_processors`, where it is higher. A lower one that was set stays."""
    usable = usable_processors()
    if torch.get_num_threads() > usable:
        torch.set_num_threads(usable)
