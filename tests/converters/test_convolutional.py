"""ResNets and VGGs under torchvision's names: told by their keys, computed as published, exported and explained."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from torch import Tensor
from torch.nn import functional
from vmeg_edge.converters.architectures.batch_norm import folded
from vmeg_edge.converters.architectures.known import ARCHITECTURES, network
from vmeg_edge.converters.architectures.resnet import ResNetConfig
from vmeg_edge.converters.architectures.vgg import VGG, VGGConfig
from vmeg_edge.converters.checkpoint import load
from vmeg_edge.converters.onnx_from_checkpoint import export, reference

from checkpoints import make_classifier_state_dict, make_resnet_state_dict, make_vgg_state_dict
from vmeg_edge.errors import CheckpointError, UsageError

State = dict[str, Tensor]

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def saved(folder: Path, content: object) -> Path:
    path = folder / "checkpoint.pth"
    torch.save(content, path)
    return path


def norm(state: State, name: str, x: Tensor) -> Tensor:
    parts = (state[f"{name}.{part}"] for part in ("running_mean", "running_var", "weight", "bias"))
    return functional.batch_norm(x, *parts)


def resnet_by_keys(state: State, x: Tensor) -> tuple[Tensor, Tensor]:
    """The network written again from He et al. and torchvision's keys: logits and the last stage ``[N, C, h, w]``."""
    x = functional.relu(norm(state, "bn1", functional.conv2d(x, state["conv1.weight"], stride=2, padding=3)))
    x = functional.max_pool2d(x, 3, 2, 1)
    for stage in range(1, 5):
        place = 0
        while f"layer{stage}.{place}.conv1.weight" in state:
            name = f"layer{stage}.{place}"
            stride = 2 if stage > 1 and place == 0 else 1
            last = 3 if f"{name}.conv3.weight" in state else 2
            y = x
            for number in range(1, last + 1):
                weight = state[f"{name}.conv{number}.weight"]
                at = stride if number == (2 if last == 3 else 1) else 1
                y = functional.conv2d(y, weight, stride=at, padding=weight.shape[-1] // 2)
                y = norm(state, f"{name}.bn{number}", y)
                y = functional.relu(y) if number < last else y
            if f"{name}.downsample.0.weight" in state:
                x = functional.conv2d(x, state[f"{name}.downsample.0.weight"], stride=stride)
                x = norm(state, f"{name}.downsample.1", x)
            x = functional.relu(x + y)
            place += 1
    return functional.linear(x.mean((2, 3)), state["fc.weight"], state["fc.bias"]), x


def vgg_by_keys(state: State, stages: tuple[int, ...], batch_norm: bool, x: Tensor) -> tuple[Tensor, list[Tensor]]:
    """The network written again: logits, and what each pooling was given and gave."""
    place, seen = 0, []
    for count in stages:
        for _ in range(count):
            x = functional.conv2d(x, state[f"features.{place}.weight"], state[f"features.{place}.bias"], padding=1)
            x = norm(state, f"features.{place + 1}", x) if batch_norm else x
            x = functional.relu(x)
            place += 3 if batch_norm else 2
        seen.append(x)
        x = functional.max_pool2d(x, 2)
        seen.append(x)
        place += 1
    x = functional.adaptive_avg_pool2d(x, (4, 4)).flatten(1)
    for name in ("classifier.0", "classifier.3"):
        x = functional.relu(functional.linear(x, state[f"{name}.weight"], state[f"{name}.bias"]))
    return functional.linear(x, state["classifier.6.weight"], state["classifier.6.bias"]), seen


@pytest.mark.parametrize(
    ("name", "count"),
    [
        ("resnet18", 11_689_512),
        ("resnet34", 21_797_672),
        ("resnet50", 25_557_032),
        ("resnet101", 44_549_160),
        ("vgg16", 138_357_544),
        ("vgg16_bn", 138_365_992),
        ("vgg19", 143_667_240),
        ("vgg19_bn", 143_678_248),
    ],
)
def test_the_published_sizes_have_torchvisions_number_of_parameters(name: str, count: int) -> None:
    """The counts are those of torchvision's documentation of each model's ImageNet weights (``num_params``)."""
    from dataclasses import replace

    config = replace(ARCHITECTURES[name], classes=1000)
    with torch.device("meta"):
        model = network(config)
    assert sum(parameter.numel() for parameter in model.parameters()) == count
    assert config.weights == pytest.approx(count, rel=0.005)
    assert config.name == re.sub(r"_BN", "-BN", name.upper().replace("RESNET", "ResNet-").replace("VGG", "VGG-"))


@pytest.mark.parametrize("kind", ["basic", "bottleneck"])
def test_a_resnet_says_what_its_keys_say(tmp_path: Path, kind: str) -> None:
    state = make_resnet_state_dict(kind=kind, blocks=(2, 1, 1, 3), classes=3)
    read = load(saved(tmp_path, {"state_dict": {f"module.{key}": value for key, value in state.items()}}))
    assert read.config == ResNetConfig(image_size=224, kind=kind, blocks=(2, 1, 1, 3), width=8, classes=3)
    model = load(tmp_path / "checkpoint.pth", image_size=96).model()
    x = torch.randn(2, 3, 96, 96, generator=torch.Generator().manual_seed(3))
    with torch.inference_mode():
        logits, seen = model(x)
        expected, last = resnet_by_keys(state, x)
    torch.testing.assert_close(logits, expected)
    torch.testing.assert_close(seen, last.flatten(2).transpose(1, 2))
    assert (model.grid, model.channels) == ((3, 3), last.shape[1])


@pytest.mark.parametrize("batch_norm", [False, True])
@pytest.mark.parametrize("image_size", [32, 64])
def test_a_vgg_says_what_its_keys_say_before_and_after_its_last_pooling(
    tmp_path: Path, batch_norm: bool, image_size: int
) -> None:
    state = make_vgg_state_dict(batch_norm=batch_norm)
    read = load(saved(tmp_path, state), image_size=image_size)
    stages = (1, 1, 2)
    assert read.config == VGGConfig(image_size, stages, (8, 16, 16), 32, 4, batch_norm, 2)
    assert read.own_image_size == 32
    x = torch.randn(2, 3, image_size, image_size, generator=torch.Generator().manual_seed(3))
    last = sum(stages) * (3 if batch_norm else 2) + len(stages) - 1
    with torch.inference_mode():
        expected, seen = vgg_by_keys(state, stages, batch_norm, x)
        for layer, kept, side in ((None, seen[-1], 8), (f"features.{last - 1}", seen[-2], 4)):
            model = read.model(cam_layer=layer)
            logits, activations = model(x)
            torch.testing.assert_close(logits, expected)
            torch.testing.assert_close(activations, kept.flatten(2).transpose(1, 2))
            assert (model.grid, model.channels) == ((image_size // side, image_size // side), 16)
    assert read.model().cam_layer == f"features.{last}"


def test_a_vgg19s_heat_map_has_7_positions_after_its_last_pooling_and_14_before() -> None:
    with torch.device("meta"):
        assert VGG(VGGConfig()).cam_layer == "features.36"
        assert VGG(VGGConfig()).grid == (7, 7)
        assert VGG(VGGConfig(), cam_layer="features.35").grid == (14, 14)
        for layer in ("features.34", "features.37", "layer4", "features.036x"):
            with pytest.raises(UsageError, match=r"choose features\.K of a ReLU or a pooling"):
                VGG(VGGConfig(), cam_layer=layer)


@pytest.mark.parametrize("make", [make_resnet_state_dict, lambda: make_vgg_state_dict(batch_norm=True)])
def test_folding_the_norms_changes_nothing_but_rounding(tmp_path: Path, make: Callable[[], State]) -> None:
    model = load(saved(tmp_path, make()), image_size=64).model()
    bare = folded(model)
    assert not any(isinstance(module, torch.nn.BatchNorm2d) for module in bare.modules())
    assert any(isinstance(module, torch.nn.BatchNorm2d) for module in model.modules())
    x = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(3))
    with torch.inference_mode():
        for one, other in zip(model(x), bare(x), strict=True):
            torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("make", [make_resnet_state_dict, make_vgg_state_dict])
def test_the_exported_graph_normalises_before_it_pads_and_agrees_with_the_reference(
    tmp_path: Path, make: Callable[[], State]
) -> None:
    model = load(saved(tmp_path, make()), image_size=64).model()
    proto = export(model, tmp_path / "model.onnx", mean=MEAN, std=STD)
    operators = [node.op_type for node in proto.graph.node]
    first = operators.index("Conv")
    assert operators[:first] == ["Cast", "Transpose", "Mul", "Add"]
    assert "BatchNormalization" not in operators
    scale, shift = (
        onnx.numpy_helper.to_array(tensor).ravel()
        for name in ("scale", "shift")
        for tensor in proto.graph.initializer
        if tensor.name == name
    )
    np.testing.assert_allclose(scale * 255, 1 / np.array(STD), rtol=1e-6)
    np.testing.assert_allclose(shift, -np.array(MEAN) / np.array(STD), rtol=1e-6)
    pixels = np.random.default_rng(0).integers(0, 256, (3, 64, 64, 3), dtype=np.uint8)
    pixels[1, :, :20] = 0  # a black border: where a folded mean would show at the padding
    truth = reference(model, mean=MEAN, std=STD)(pixels)
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx")
    for place, frame in enumerate(pixels):
        for got, expected in zip(session.run(None, {"pixels": frame[None]}), truth, strict=True):
            np.testing.assert_allclose(got[0], expected[place], rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(
    ("wrap", "head"),
    [
        (lambda state: {key: value for key, value in state.items() if not key.startswith("fc.")}, "fc.weight"),
        (lambda state: state, None),
    ],
)
def test_an_encoder_takes_a_head_from_a_file_or_a_new_one(
    tmp_path: Path, wrap: Callable[[State], State], head: str | None
) -> None:
    state = make_resnet_state_dict(classes=1000 if head is None else 2)
    path = saved(tmp_path, wrap(dict(state)))
    if head is not None:
        with pytest.raises(CheckpointError, match=r"no fc\.weight; add a trained head"):
            load(path)
    fresh = load(path, new_head=2, seed=4)
    assert (fresh.head, fresh.config.classes) == ("random", 2)
    trained = {"weight": torch.full((3, 256), 0.5), "bias": torch.zeros(3)}
    torch.save(trained, tmp_path / "head.pt")
    given = load(path, head=tmp_path / "head.pt")
    assert given.head == "file"
    assert torch.equal(given.state["fc.weight"], trained["weight"])
    more = {**{f"fc.{key}": value for key, value in trained.items()}, "norm.weight": torch.ones(3)}
    torch.save(more, tmp_path / "head.pt")
    with pytest.raises(CheckpointError, match=r"more than a head, 'norm\.weight'; keep fc\.\*, or"):
        load(path, head=tmp_path / "head.pt")


@pytest.mark.parametrize("kind", ["basic", "bottleneck"])
def test_a_fresh_resnets_blocks_start_as_their_shortcuts(kind: str) -> None:
    model = network(ResNetConfig(image_size=64, kind=kind, blocks=(2, 1, 1, 1), width=8))
    model.initialise(0)
    block = model.get_submodule("layer1.1")
    x = torch.rand(
        1, model.get_submodule("layer1.0.downsample.1" if kind == "bottleneck" else "bn1").num_features, 4, 4
    )
    torch.testing.assert_close(block.eval()(x), x)
    assert torch.equal(model.bn1.weight, torch.ones(8))


def test_a_head_behind_a_dropout_is_the_head(tmp_path: Path) -> None:
    state = make_resnet_state_dict()
    moved = {key.replace("fc.", "fc.1."): value for key, value in state.items()}
    read = load(saved(tmp_path, moved))
    assert torch.equal(read.state["fc.weight"], state["fc.weight"])
    assert read.folded == ("fc.1.bias", "fc.1.weight")


def test_counters_may_be_missing_as_in_old_files(tmp_path: Path) -> None:
    state = make_resnet_state_dict(counters=False)
    assert load(saved(tmp_path, state)).model().get_buffer("bn1.num_batches_tracked") == 0


def test_the_keys_are_held_against_arch_and_tell_where_it_is_left_out(tmp_path: Path) -> None:
    resnet, vgg, vit = make_resnet_state_dict(), make_vgg_state_dict(), make_classifier_state_dict()
    path = saved(tmp_path, resnet)
    assert load(path).config == load(path, arch="resnet").config
    for arch, words in (
        ("vgg", "its keys are a resnet's, and --arch says vgg"),
        ("vit_base", "its keys are a resnet's, and --arch says vit_base"),
        ("resnet50", "its keys are a ResNet-14 of width 8's, and --arch says resnet50, a ResNet-50"),
    ):
        with pytest.raises(CheckpointError, match=re.escape(words)):
            load(path, arch=arch)
    with pytest.raises(UsageError, match="choose one of vit, resnet, vgg, vit_tiny"):
        load(path, arch="alexnet")
    with pytest.raises(CheckpointError, match=r"holds the keys of a vit and of a resnet; say which with --arch"):
        load(saved(tmp_path, {**vit, **resnet}))
    two = saved(tmp_path, {**{f"vit.{k}": v for k, v in vit.items()}, **{f"backbone.{k}": v for k, v in vgg.items()}})
    with pytest.raises(CheckpointError, match="unexpected 'vit"):
        load(two, arch="vgg")
    with pytest.raises(
        CheckpointError, match=r"no patch_embed\.proj\.weight, no conv1\.weight, no features\.0\.weight"
    ):
        load(saved(tmp_path, {"layers.0.weight": torch.ones(2, 2)}))
    for option in ({"pool": "mean"}, {"heads": 2}):
        with pytest.raises(UsageError, match="is for ViTs, and this is a ResNet-14"):
            load(saved(tmp_path, resnet), **option)


def broken(state: State, **changes: Tensor | None) -> State:
    changed = {**state, **{key.replace("__", "."): value for key, value in changes.items()}}
    return {key: value for key, value in changed.items() if value is not None}


@pytest.mark.parametrize(
    ("state", "words"),
    [
        (broken(make_resnet_state_dict(), conv1__weight=torch.ones(8, 3, 3, 3)), "expected [width, 3, 7, 7]"),
        (broken(make_resnet_state_dict(), conv1__weight=torch.ones(8)), "expected [width, 3, 7, 7]"),
        (
            {k: v for k, v in make_resnet_state_dict().items() if not k.startswith("layer3")},
            "layer3 has 0 blocks; a ResNet has 1 to 128",
        ),
        (broken(make_resnet_state_dict(), layer1__999__x=torch.ones(1)), "layer1 has 1000 blocks"),
        (broken(make_resnet_state_dict(), bn1__running_var=None), "no bn1.running_var, expected [8]"),
        (broken(make_resnet_state_dict(), layer1__0__se__weight=torch.ones(1)), "unexpected 'layer1.0.se.weight'"),
        (
            broken(make_resnet_state_dict(), layer1__0__conv2__weight=torch.ones(8, 1, 3, 3)),
            "layer1.0.conv2.weight has shape [8, 1, 3, 3]; expected [8, 8, 3, 3]",
        ),
        (
            broken(make_resnet_state_dict(), fc__weight=torch.ones(1, 256), fc__bias=torch.ones(1)),
            "a sigmoid's one row",
        ),
        (broken(make_resnet_state_dict(), bn1__bias=torch.full((8,), float("nan"))), "bn1.bias holds NaN"),
        (broken(make_vgg_state_dict(), features__0__weight=torch.ones(64, 3, 11, 11)), "a VGG's first layer"),
        (broken(make_vgg_state_dict(), classifier__0__weight=torch.ones(32, 250)), "its columns are no square"),
        (broken(make_vgg_state_dict(), classifier__3__weight=None), "no classifier.3.weight"),
        (
            broken(make_vgg_state_dict(), features__3__weight=None),
            "features.6.weight does not follow features.0.weight",
        ),
        (broken(make_vgg_state_dict(), features__11__weight=torch.ones(16, 16, 3, 3)), "no features.11.bias"),
        (broken(make_vgg_state_dict(), classifier__0__weight=torch.ones(1, 1).expand(32, 16 * 300**2)), "at most 64"),
    ],
)
def test_a_state_dict_that_is_odd_is_refused_by_the_name_of_its_key(tmp_path: Path, state: State, words: str) -> None:
    with pytest.raises(CheckpointError) as caught:
        load(saved(tmp_path, state))
    message = str(caught.value)
    assert words in message
    assert "\n" not in message


@pytest.mark.parametrize(("size", "step"), [(100, 16), (48, 32)])
def test_an_image_size_that_does_not_divide_is_refused(tmp_path: Path, size: int, step: int) -> None:
    with pytest.raises(UsageError, match=f"choose a positive multiple of {step} pixels"):
        load(saved(tmp_path, make_resnet_state_dict()), image_size=size)
