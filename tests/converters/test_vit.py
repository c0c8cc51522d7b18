"""The ViT forward against a NumPy implementation written from the paper."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from vmeg_edge.converters.architectures.vit import ViT, ViTConfig

from checkpoints import make_classifier_state_dict
from vmeg_edge.errors import UsageError

Array = npt.NDArray[np.float64]


def numpy_vit(
    state: dict[str, Any], pixels: Array, *, depth: int, heads: int, pool: str, cam: int
) -> tuple[Array, Array]:
    """Score one normalised image ``[3, H, W]`` in float64, patch by patch and head by head."""
    w = {key: value.numpy().astype(np.float64) for key, value in state.items()}

    def norm(x: Array, name: str) -> Array:
        centred = x - x.mean(axis=-1, keepdims=True)
        deviation = np.sqrt((centred**2).mean(axis=-1, keepdims=True) + 1e-6)
        return np.asarray(centred / deviation * w[f"{name}.weight"] + w[f"{name}.bias"])

    def linear(x: Array, name: str) -> Array:
        return np.asarray(x @ w[f"{name}.weight"].T + w.get(f"{name}.bias", 0.0))

    gelu = np.vectorize(lambda value: 0.5 * value * (1 + math.erf(value / math.sqrt(2))))
    rows, columns = pixels.shape[1] // 16, pixels.shape[2] // 16
    patches = [
        np.einsum("kcij,cij->k", w["patch_embed.proj.weight"], pixels[:, r : r + 16, c : c + 16])
        + w["patch_embed.proj.bias"]
        for r in range(0, rows * 16, 16)
        for c in range(0, columns * 16, 16)
    ]
    x = np.vstack([w["cls_token"][0], *patches]) + w["pos_embed"][0]
    dim = x.shape[1]
    width = dim // heads
    seen = x
    for index in range(depth):
        block = f"blocks.{index}"
        normed = norm(x, f"{block}.norm1")
        if index == cam:
            seen = normed[1:]
        qkv = linear(normed, f"{block}.attn.qkv")
        outputs = []
        for head in range(heads):
            part = slice(head * width, (head + 1) * width)
            q, k, v = (qkv[:, start : start + dim][:, part] for start in (0, dim, 2 * dim))
            scores = np.exp(q @ k.T / math.sqrt(width))
            outputs.append(scores / scores.sum(axis=1, keepdims=True) @ v)
        x = x + linear(np.hstack(outputs), f"{block}.attn.proj")
        hidden = gelu(linear(norm(x, f"{block}.norm2"), f"{block}.mlp.fc1"))
        x = x + linear(hidden, f"{block}.mlp.fc2")
    pooled = norm(x[1:].mean(axis=0), "fc_norm") if pool == "mean" else norm(x, "norm")[0]
    return linear(pooled, "head"), seen


@pytest.mark.parametrize("pool", ["mean", "token"])
@pytest.mark.parametrize(("qkv_bias", "cam"), [(True, 2), (False, 0)])
def test_forward_equals_numpy_written_from_the_paper(pool: Any, qkv_bias: bool, cam: int) -> None:
    state = make_classifier_state_dict(dim=128, depth=3, image_size=48, classes=3, pool=pool, qkv_bias=qkv_bias, seed=3)
    config = ViTConfig(image_size=48, dim=128, depth=3, heads=2, classes=3, pool=pool, qkv_bias=qkv_bias)
    model = ViT(config, cam_layer=f"blocks.{cam}.norm1").eval()
    model.load_state_dict(state)
    pixels = torch.randn(2, 3, 48, 48, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        logits, activations = model(pixels)
    assert activations.shape == (2, 9, 128)
    for index in range(2):
        image = pixels[index].numpy().astype(np.float64)
        expected, seen = numpy_vit(state, image, depth=3, heads=2, pool=pool, cam=cam)
        assert np.abs(logits[index].numpy() - expected).max() < 2e-5
        assert np.abs(activations[index].numpy() - seen).max() < 2e-5


def test_default_cam_layer_is_norm1_of_the_last_block() -> None:
    assert ViT(ViTConfig(image_size=32, dim=64, depth=3, heads=1)).cam_layer == "blocks.2.norm1"


@pytest.mark.parametrize("layer", ["blocks.2.norm1", "blocks.-1.norm1", "blocks.0.norm2", "norm", "blocks.0.norm1\n"])
def test_a_cam_layer_that_is_not_there_is_refused_with_the_choices(layer: str) -> None:
    with pytest.raises(UsageError, match=r"choose blocks\.K\.norm1 with K from 0 to 1"):
        ViT(ViTConfig(image_size=32, dim=64, depth=2, heads=1), cam_layer=layer)


@pytest.mark.parametrize(
    ("dim", "depth", "heads", "name"),
    [
        (192, 12, 3, "ViT-Ti/16"),
        (384, 12, 6, "ViT-S/16"),
        (768, 12, 12, "ViT-B/16"),
        (1024, 24, 16, "ViT-L/16"),
        (192, 4, 3, "ViT-192x4/16"),
    ],
)
def test_names_are_the_published_ones(dim: int, depth: int, heads: int, name: str) -> None:
    config = ViTConfig(dim=dim, depth=depth, heads=heads)
    assert config.name == name
    with torch.device("meta"):
        held = sum(weight.numel() for weight in ViT(config).parameters())
    assert config.weights == pytest.approx(held, rel=0.01)


@pytest.mark.parametrize(
    ("field", "value", "word"),
    [
        ("image_size", 100, "image_size"),
        ("image_size", 0, "image_size"),
        ("heads", 5, "heads"),
        ("depth", 0, "depth"),
    ],
)
def test_sizes_that_do_not_divide_are_refused(field: str, value: int, word: str) -> None:
    options: dict[str, Any] = {field: value}
    with pytest.raises(UsageError, match=word):
        ViTConfig(**options)
