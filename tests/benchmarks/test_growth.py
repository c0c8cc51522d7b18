"""The arithmetic floor: multiply-adds against published figures, and against those that torch counts."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode
from vmeg_edge.converters.architectures.vit import ViT, ViTConfig

FOLDER = Path(__file__).resolve().parents[2] / "benchmarks" / "growth"


@pytest.fixture(scope="module")
def arithmetic() -> Any:
    """The benchmark's module; benchmarks are scripts, no package."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(FOLDER))
        import arithmetic

        yield arithmetic
    sys.modules.pop("arithmetic", None)


@pytest.mark.parametrize(
    ("dim", "depth", "heads", "giga"),
    [(192, 12, 3, 1.26), (384, 12, 6, 4.61), (768, 12, 12, 17.58), (1024, 24, 16, 61.60)],
)
def test_multiply_adds_are_those_that_are_published(
    arithmetic: Any, dim: int, depth: int, heads: int, giga: float
) -> None:
    # Touvron et al. 2021 (arXiv 2012.12877) and timm give 1.3, 4.6, 17.6 and 61.6 G, with a head of 1000 classes.
    found = arithmetic.count(ViTConfig(dim=dim, depth=depth, heads=heads, classes=1000)).total
    assert found / 1e9 == pytest.approx(giga, rel=0.01)


@pytest.mark.parametrize("batch", [1, 3])
def test_multiply_adds_are_those_that_torch_counts(arithmetic: Any, batch: int) -> None:
    config = ViTConfig(image_size=64, dim=96, depth=2, heads=3, mlp_ratio=2.0, classes=5)
    counter = FlopCounterMode(display=False)
    with torch.inference_mode(), counter:
        ViT(config)(torch.zeros(batch, 3, 64, 64))
    assert arithmetic.count(config, batch).total == counter.get_total_flops() // 2


def test_the_floor_adds_each_kind_at_its_own_peak(arithmetic: Any) -> None:
    madds = arithmetic.Madds(patch_embedding=10, linear=100, attention=30, head=2)
    assert madds.total == 142
    assert madds.in_int8(patch_embedding=False) == 100
    assert madds.in_int8(patch_embedding=True) == 110
    assert arithmetic.floor_ms(madds, 110, int8_per_s=1000, float32_per_s=100) == pytest.approx(430)
