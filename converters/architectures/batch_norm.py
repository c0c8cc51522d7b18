"""Batch norms folded into the convolutions before them: in evaluation they are a fixed scale and shift."""

from __future__ import annotations

import copy
from typing import cast

import torch
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from .network import Network


def folded(model: Network) -> Network:
    """The model in evaluation mode without a batch norm: computed in float64 and rounded once.

    A model that has none is returned as it is.
    """
    pairs = model.norm_pairs()
    if not pairs:
        return model.eval()
    made = copy.deepcopy(model).eval().requires_grad_(False)
    for conv_name, norm_name in pairs:
        conv = cast("nn.Conv2d", made.get_submodule(conv_name)).double()
        norm = cast("nn.BatchNorm2d", made.get_submodule(norm_name)).double()
        with torch.no_grad():
            made.set_submodule(conv_name, fuse_conv_bn_eval(conv, norm).float())
        made.set_submodule(norm_name, nn.Identity())
    return made.requires_grad_(False)
