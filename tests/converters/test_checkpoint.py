"""Every accepted layout of a checkpoint loads to the same scores."""

from __future__ import annotations

import argparse
import pathlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor
from vmeg_edge.converters.architectures.vit import ViT, ViTConfig
from vmeg_edge.converters.checkpoint import Checkpoint, load

from checkpoints import make_classifier_state_dict, make_linear_probe_head, make_mae_state_dict

State = dict[str, Tensor]


def logits_of(checkpoint: Checkpoint, seed: int = 0) -> Tensor:
    side = checkpoint.config.image_size
    pixels = torch.randn(1, 3, side, side, generator=torch.Generator().manual_seed(seed))
    with torch.inference_mode():
        logits: Tensor = checkpoint.model()(pixels)[0]
    return logits


def training_extras() -> dict[str, Any]:
    """What MAE's main_finetune.py saves beside the weights, and what else scripts leave there."""
    return {
        "optimizer": {"state": {0: {"step": torch.tensor(3.0)}}, "param_groups": [{"lr": 1e-3}]},
        "epoch": 49,
        "scaler": {"scale": 65536.0},
        "args": argparse.Namespace(
            model="vit_base_patch16", blr=5e-4, output_dir=pathlib.PurePosixPath("runs/a"), nested={"a": [1]}
        ),
        "best": np.float64(0.93),
        "curve": np.arange(3.0),
    }


LAYOUTS: dict[str, Callable[[State], Any]] = {
    "bare": lambda state: state,
    "under model": lambda state: {"model": state},
    "under state_dict": lambda state: {"state_dict": state, "epoch": 3},
    "under model_state_dict": lambda state: {"model_state_dict": state},
    "with MAE's training state": lambda state: {"model": state, **training_extras()},
    "DataParallel": lambda state: {f"module.{key}": value for key, value in state.items()},
    "compiled, then DataParallel": lambda state: {
        "model": {f"module._orig_mod.{key}": value for key, value in state.items()}
    },
    "encoder in a wrapper, head beside it": lambda state: {
        key if key.startswith("head.") else f"encoder.{key}": value for key, value in state.items()
    },
    "parameters": lambda state: {key: torch.nn.Parameter(value) for key, value in state.items()},
    "float64": lambda state: {key: value.double() for key, value in state.items()},
}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("zipped", [True, False])
def test_every_pytorch_layout_gives_the_same_logits(tmp_path: Path, layout: str, zipped: bool) -> None:
    state = make_classifier_state_dict()
    config = ViTConfig(image_size=64, dim=64, depth=2, heads=1)
    model = ViT(config).eval()
    model.load_state_dict(state)
    path = tmp_path / "checkpoint.pth"
    torch.save(LAYOUTS[layout](state), path, _use_new_zipfile_serialization=zipped)
    checkpoint = load(path)
    assert checkpoint.config == config
    assert (checkpoint.head, checkpoint.dropped, checkpoint.own_image_size) == ("checkpoint", (), 64)
    pixels = torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        assert torch.equal(logits_of(checkpoint), model(pixels)[0])


@pytest.mark.parametrize("name", ["model.safetensors", "model.pth", "model"])
def test_safetensors_is_known_by_its_content(tmp_path: Path, name: str) -> None:
    state = make_classifier_state_dict()
    save_file(state, tmp_path / name)
    torch.save(state, tmp_path / "model.safetensors.pt")
    assert torch.equal(logits_of(load(tmp_path / name)), logits_of(load(tmp_path / "model.safetensors.pt")))


def test_the_file_may_go_away_after_loading(tmp_path: Path) -> None:
    path = tmp_path / "model.pt"
    torch.save(make_classifier_state_dict(), path)
    checkpoint = load(path)
    before = logits_of(checkpoint)
    path.write_bytes(b"\0" * path.stat().st_size)
    path.unlink()
    assert torch.equal(logits_of(checkpoint), before)


def test_entries_beside_the_weights_are_named_and_ignored(tmp_path: Path) -> None:
    torch.save({"model": make_classifier_state_dict(), **training_extras()}, tmp_path / "c.pth")
    assert load(tmp_path / "c.pth").ignored == ("args", "best", "curve", "epoch", "optimizer", "scaler")


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_weights_become_float32(tmp_path: Path, dtype: torch.dtype) -> None:
    state = {key: value.to(dtype) for key, value in make_classifier_state_dict().items()}
    torch.save(state, tmp_path / "half.pt")
    loaded = load(tmp_path / "half.pt").state
    for key, value in loaded.items():
        assert value.dtype == torch.float32
        assert torch.equal(value, state[key].float())


@pytest.mark.parametrize("pool", ["mean", "token"])
def test_pooling_and_architecture_are_read_from_the_keys(tmp_path: Path, pool: str) -> None:
    state = make_classifier_state_dict(
        dim=192, depth=4, image_size=96, classes=5, pool=pool, qkv_bias=False, mlp_ratio=2
    )
    torch.save(state, tmp_path / "c.pt")
    config = load(tmp_path / "c.pt").config
    assert config == ViTConfig(
        image_size=96,
        dim=192,
        depth=4,
        heads=3,
        mlp_ratio=2.0,
        classes=5,
        pool="mean" if pool == "mean" else "token",
        qkv_bias=False,
    )
    assert config.name == "ViT-192x4/16"


def test_heads_can_be_given_where_the_width_is_no_multiple_of_64(tmp_path: Path) -> None:
    torch.save(make_classifier_state_dict(dim=96), tmp_path / "c.pt")
    assert load(tmp_path / "c.pt", heads=3).config.heads == 3


def test_mae_decoder_is_dropped_and_listed(tmp_path: Path) -> None:
    full = make_mae_state_dict()
    torch.save(full, tmp_path / "full.pt")
    torch.save(make_mae_state_dict(decoder=False), tmp_path / "encoder.pt")
    checkpoint = load(tmp_path / "full.pt", new_head=2)
    decoder = {key for key in full if key.startswith(("decoder_", "mask_token"))}
    assert set(checkpoint.dropped) == decoder
    assert "decoder_blocks.0.attn.qkv.weight" in decoder
    assert torch.equal(logits_of(checkpoint), logits_of(load(tmp_path / "encoder.pt", new_head=2)))


def test_a_new_head_is_seeded_and_says_that_it_is_random(tmp_path: Path) -> None:
    torch.save(make_mae_state_dict(), tmp_path / "mae.pt")
    one, again, other = (load(tmp_path / "mae.pt", new_head=3, seed=seed) for seed in (1, 1, 2))
    assert one.head == "random"
    assert (one.config.classes, one.config.pool) == (3, "token")
    assert torch.equal(one.state["head.weight"], again.state["head.weight"])
    assert not torch.equal(one.state["head.weight"], other.state["head.weight"])
    assert not one.state["head.bias"].any()


def test_a_new_head_may_pool_the_mean_behind_a_fresh_norm(tmp_path: Path) -> None:
    torch.save(make_mae_state_dict(decoder=False), tmp_path / "mae.pt")
    checkpoint = load(tmp_path / "mae.pt", new_head=2, pool="mean")
    assert checkpoint.config.pool == "mean"
    assert checkpoint.dropped == ("norm.bias", "norm.weight")
    assert torch.equal(checkpoint.state["fc_norm.weight"], torch.ones(64))
    assert torch.equal(checkpoint.state["fc_norm.bias"], torch.zeros(64))


def test_a_new_head_replaces_the_old_one(tmp_path: Path) -> None:
    torch.save(make_classifier_state_dict(classes=1000), tmp_path / "c.pt")
    checkpoint = load(tmp_path / "c.pt", new_head=2)
    assert (checkpoint.head, checkpoint.config.classes) == ("random", 2)
    assert checkpoint.dropped == ("head.bias", "head.weight")


@pytest.mark.parametrize("layout", ["named", "bare", "DataParallel", "under model", "safetensors"])
def test_a_head_file_completes_an_encoder(tmp_path: Path, layout: str) -> None:
    whole = make_classifier_state_dict(pool="token")
    torch.save(whole, tmp_path / "whole.pt")
    torch.save({key: value for key, value in whole.items() if not key.startswith("head.")}, tmp_path / "encoder.pt")
    head = {key: whole[key] for key in ("head.weight", "head.bias")}
    path = tmp_path / "head"
    if layout == "safetensors":
        save_file(head, path)
    else:
        content: dict[str, Any] = {
            "named": head,
            "bare": {key.removeprefix("head."): value for key, value in head.items()},
            "DataParallel": {f"module.{key}": value for key, value in head.items()},
            "under model": {"model": head, "epoch": 1},
        }
        torch.save(content[layout], path)
    checkpoint = load(tmp_path / "encoder.pt", head=path)
    assert checkpoint.head == "file"
    assert torch.equal(logits_of(checkpoint), logits_of(load(tmp_path / "whole.pt")))


def test_a_head_file_with_fc_norm_replaces_the_encoders_norm(tmp_path: Path) -> None:
    whole = make_classifier_state_dict(seed=0)
    torch.save(whole, tmp_path / "whole.pt")
    torch.save(make_mae_state_dict(decoder=False, seed=0), tmp_path / "mae.pt")
    torch.save(
        {key: value for key, value in whole.items() if key.startswith(("head.", "fc_norm."))},
        tmp_path / "head.pt",
    )
    checkpoint = load(tmp_path / "mae.pt", head=tmp_path / "head.pt")
    assert (checkpoint.config.pool, checkpoint.dropped) == ("mean", ("norm.bias", "norm.weight"))
    assert torch.equal(logits_of(checkpoint), logits_of(load(tmp_path / "whole.pt")))


@pytest.mark.parametrize("place", ["in the checkpoint", "in a head file", "bare in a head file"])
def test_a_linear_probe_head_is_folded_exactly(tmp_path: Path, place: str) -> None:
    encoder = make_mae_state_dict(decoder=False)
    head = make_linear_probe_head(classes=3)
    if place == "in the checkpoint":
        torch.save({"model": {**encoder, **head}}, tmp_path / "c.pth")
        checkpoint = load(tmp_path / "c.pth")
    else:
        bare = place.startswith("bare")
        torch.save(encoder, tmp_path / "c.pth")
        torch.save({key.removeprefix("head.") if bare else key: head[key] for key in head}, tmp_path / "head")
        checkpoint = load(tmp_path / "c.pth", head=tmp_path / "head")
    assert set(checkpoint.folded) == set(head)

    probe = torch.nn.Sequential(torch.nn.BatchNorm1d(64, affine=False, eps=1e-6), torch.nn.Linear(64, 3)).eval()
    probe.load_state_dict({key.removeprefix("head."): value for key, value in head.items()})
    features = torch.randn(32, 64, generator=torch.Generator().manual_seed(2))
    folded = features @ checkpoint.state["head.weight"].T + checkpoint.state["head.bias"]
    with torch.inference_mode():
        assert torch.allclose(folded, probe(features), atol=1e-5)


def test_both_norms_need_a_choice_and_get_it(tmp_path: Path) -> None:
    state = make_classifier_state_dict()
    torch.save({**state, "norm.weight": torch.ones(64), "norm.bias": torch.zeros(64)}, tmp_path / "both.pt")
    torch.save(state, tmp_path / "mean.pt")
    checkpoint = load(tmp_path / "both.pt", pool="mean")
    assert checkpoint.dropped == ("norm.bias", "norm.weight")
    assert torch.equal(logits_of(checkpoint), logits_of(load(tmp_path / "mean.pt")))


def cubic(t: float, a: float = -0.75) -> float:
    """Keys' kernel (1981) with PyTorch's a."""
    t = abs(t)
    if t <= 1:
        return (a + 2) * t**3 - (a + 3) * t**2 + 1
    return a * t**3 - 5 * a * t**2 + 8 * a * t - 4 * a if t < 2 else 0.0


def cubic_matrix(own: int, wanted: int) -> np.ndarray[Any, np.dtype[np.float64]]:
    """The linear map of one axis: pixel centres, corners not aligned, edges repeated."""
    matrix = np.zeros((wanted, own))
    for row in range(wanted):
        centre = (row + 0.5) * own / wanted - 0.5
        first = int(np.floor(centre)) - 1
        for tap in range(first, first + 4):
            matrix[row, min(max(tap, 0), own - 1)] += cubic(centre - tap)
    return matrix


@pytest.mark.parametrize("image_size", [16, 48, 80, 160, 224])
def test_positions_are_interpolated_bicubically_and_the_class_position_kept(tmp_path: Path, image_size: int) -> None:
    state = make_classifier_state_dict(image_size=80)
    torch.save(state, tmp_path / "c.pt")
    checkpoint = load(tmp_path / "c.pt", image_size=image_size)
    assert (checkpoint.config.image_size, checkpoint.own_image_size) == (image_size, 80)
    grid = image_size // 16
    patches = state["pos_embed"][0, 1:].double().numpy().reshape(5, 5, 64)
    axis = cubic_matrix(5, grid)
    expected = np.einsum("yi,xj,ijc->yxc", axis, axis, patches).reshape(-1, 64)
    positions = checkpoint.state["pos_embed"][0]
    assert torch.equal(positions[0], state["pos_embed"][0, 0])
    assert np.abs(positions[1:].numpy() - expected).max() < 1e-5
    assert logits_of(checkpoint).shape == (1, 2)


def test_reading_checkpoints_leaves_pytorchs_own_list_of_safe_globals_alone(tmp_path: Path) -> None:
    torch.save({"model": make_classifier_state_dict(), **training_extras()}, tmp_path / "c.pth")
    before = set(map(str, torch.serialization.get_safe_globals()))
    load(tmp_path / "c.pth")
    assert set(map(str, torch.serialization.get_safe_globals())) == before
