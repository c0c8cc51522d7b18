"""A ViT of ViT-B/16's width with planted outlier channels, as trained ViTs have them and random ones do not.

Sun et al. 2024 (Massive Activations in Large Language Models, arXiv 2402.17762) and Darcet et al. 2024 (Vision
Transformers Need Registers, arXiv 2309.16588) show residual channels of several hundred in the late blocks of ViTs,
beside a median below one.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from vmeg_edge.converters.architectures.vit import ViT
from vmeg_edge.converters.architectures.vit_state import infer_config

from checkpoints import make_classifier_state_dict

SIZE = 96  # pixels: outliers belong to channels, so that 36 tokens carry them as 196 do
DEPTH = 4  # the outliers come late, and each block costs seconds a conversion
CHANNELS = (41, 200, 513, 700)
FROM_BLOCK = 2


def with_outliers(pixels: npt.NDArray[np.float32], magnitude: float, *, spread: float = 1.5) -> dict[str, Tensor]:
    """A state dict of ViT-B/16's width whose residual carries ``magnitude`` in four channels from block 3 on.

    ``pixels`` are normalised frames, float32 ``[N, 3, 96, 96]``, on which the head is fitted: its logit difference
    has a mean of zero and a standard deviation of ``spread`` there, so that a change of the features shows in the
    probability. Behind each norm the weights are rescaled, as training does, so that the ordinary channels keep their
    size.
    """
    state = make_classifier_state_dict(dim=768, depth=DEPTH, image_size=SIZE)
    signs = torch.tensor([1.0, -1.0, 1.0, -1.0])
    state[f"blocks.{FROM_BLOCK - 1}.mlp.fc2.bias"][list(CHANNELS)] += magnitude * signs
    model = _model(state)
    frames = torch.from_numpy(pixels)
    with torch.no_grad():
        x = model.patch_embed(frames)
        x = torch.cat((model.cls_token.expand(len(x), -1, -1), x), dim=1) + model.pos_embed
        for index, block in enumerate(model.blocks):
            if index >= FROM_BLOCK:
                _rescale(block.norm1, x)
            x = x + block.attn(block.norm1(x))[0]
            if index >= FROM_BLOCK:
                _rescale(block.norm2, x)
            x = x + block.mlp(block.norm2(x))
        pooled = x[:, 1:].mean(dim=1)
        _rescale(model.fc_norm, pooled)
        features = model.fc_norm(pooled)
        centred = features - features.mean(dim=0)
        _, _, rows = torch.linalg.svd(centred, full_matrices=False)
        along = centred @ rows[0]
        weight = rows[0] * spread / along.std()
        model.head.weight.copy_(torch.stack((-weight / 2, weight / 2)))
        shift = features.mean(dim=0) @ weight
        model.head.bias.copy_(torch.stack((shift / 2, -shift / 2)))
    return {name: value.detach().clone() for name, value in model.state_dict().items()}


def _model(state: dict[str, Tensor]) -> ViT:
    model = ViT(infer_config(state, "mean", None, "outliers"))
    model.load_state_dict(state)
    return model.eval()


def _rescale(norm: torch.nn.LayerNorm, x: Tensor) -> None:
    """Undo, in the norm's own weights, what the outliers did to the ordinary channels."""
    ordinary = torch.ones(x.shape[-1], dtype=torch.bool)
    ordinary[list(CHANNELS)] = False
    plain = x[..., ordinary]
    ratio = (x.std(dim=-1) / plain.std(dim=-1)).mean()
    norm.weight[ordinary] *= ratio
    norm.weight[~ordinary] *= 0.02 * ratio
