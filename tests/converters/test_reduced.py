"""``convert --reduce-tokens``: schedules by their arithmetic, the search, the gate, and what the bundle says."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from vmeg_edge.converters import onnx_from_checkpoint, origin, token_reduction
from vmeg_edge.converters.architectures.vit import ViTConfig
from vmeg_edge.converters.bundle_from_model import Conversion, Quantization, convert
from vmeg_edge.converters.origin import Training
from vmeg_edge.converters.token_reduction import (
    Reduction,
    arithmetic,
    constant,
    cost,
    decreasing,
    fitting,
    mean_tokens,
    most,
    schedules,
    tapering,
    tokens_by_block,
)

import vmeg_edge as sdk
from checkpoints import make_classifier_state_dict, make_resnet_state_dict
from vmeg_edge import parity
from vmeg_edge.manifest import DecisionRule
from vmeg_edge.phantom import phantom

BASE = ViTConfig()
# Random weights say about 0.5 of everything: at a bare threshold, each rounding would flip a decision.
TRAINING = Training(decision=DecisionRule(temperature=1.0, threshold=0.5, abstain=(0.25, 0.75)))


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("reduced") / "tiny.pt"
    torch.save({"model": make_classifier_state_dict(dim=64, depth=3, image_size=96)}, path)
    return path


@pytest.fixture(scope="module", autouse=True)
def any_map_will_do() -> Iterator[None]:
    """Random weights have no leading direction worth the name: a merge may turn their heat map around."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(parity, "MERGED_COSINES", (-1.0, -1.0))
        patch.setattr(token_reduction, "VALIDATION_FRAMES", 24)
        yield


def converted(checkpoint: Path, out: Path, reduce_tokens: Reduction, **more: Any) -> tuple[Conversion, list[str]]:
    said: list[str] = []
    quantization = Quantization(("phantoms",), calibration_frames=16, validation_frames=24)
    options: dict[str, Any] = {
        "quantization": quantization,
        "plane_gate": False,
        "report": said.append,
        "training": TRAINING,
    }
    options |= {"reduce_tokens": reduce_tokens, **more}
    return convert(checkpoint, out, **options), said


def test_a_vit_base_has_its_published_arithmetic() -> None:
    assert arithmetic(BASE, ()) == pytest.approx(17.56e9, rel=2e-3)  # timm's count, without biases and norms


def test_schedules_take_what_they_say() -> None:
    assert constant(BASE, 12) == (12,) * 12
    assert constant(BASE, 12, 3) == (0,) * 3 + (12,) * 9
    assert sum(decreasing(BASE, 11)) == 12 * 11
    assert decreasing(BASE, 11, 2)[:3] == (0, 0, 22)
    assert decreasing(BASE, 11)[-1] == 0
    assert constant(BASE, 98)[:2] == (98, 49)  # no more than the half of what is there
    assert mean_tokens(BASE, ()) == 197
    assert list(tokens_by_block(BASE, constant(BASE, 8)))[-1] == (197 - 11 * 8, 197 - 12 * 8)


def test_tapering_merges_in_four_blocks_to_whole_tiles_and_as_many_in_the_mean() -> None:
    assert tapering(BASE, 16) == (0, 37, 32, 32, 16, *(0,) * 7)
    assert tapering(BASE, 17) == (0, 37, 32, 32, 32, *(0,) * 7)
    assert tapering(BASE, 16, 2)[:3] == (0, 0, 53)
    for r in (8, 12, 16, 17, 18):
        schedule, left = tapering(BASE, r), 197
        assert mean_tokens(BASE, schedule) == pytest.approx(mean_tokens(BASE, constant(BASE, r)), abs=8)
        for merge in schedule[1:5]:
            assert 0.08 < merge / left < 0.35
            left -= merge
            assert left % 16 == 0
    assert tapering(BASE, 2) == (0, 4, 4, 4, 4, *(0,) * 7)  # to whole tiles would be several times as far
    assert tapering(ViTConfig(depth=24), 4) == (0, *(9, 8, 8, 8, 7, 7, 7, 6), *(0,) * 15)


def test_tokens_that_do_not_fill_a_tile_cost_as_much_as_if_they_did() -> None:
    few, fewer = (0, 37, *(0,) * 10), (0, 52, *(0,) * 10)
    assert arithmetic(BASE, fewer) < arithmetic(BASE, few)
    assert cost(BASE, fewer) == cost(BASE, few) > cost(BASE, (0, 53, *(0,) * 10))


@pytest.mark.parametrize(("depth", "merging"), [(1, [0]), (2, [0, 1]), (3, [0, 1, 2]), (4, [1, 2, 3]), (6, [1, 2, 3])])
def test_a_shallow_network_merges_in_three_blocks_where_it_has_them(depth: int, merging: list[int]) -> None:
    schedule = tapering(ViTConfig(dim=64, heads=1, depth=depth), 9)
    assert [block for block, r in enumerate(schedule) if r] == merging


def test_the_most_that_tapering_reaches() -> None:
    for config in (BASE, ViTConfig(dim=192, depth=4, heads=3)):
        r = most(config)
        least = mean_tokens(config, tapering(config, 98))
        assert mean_tokens(config, constant(config, r)) >= least > mean_tokens(config, constant(config, r + 1))
    assert most(ViTConfig(image_size=64)) == 0  # 16 tokens are too few to begin with


def test_a_sectors_model_merges_the_same_shares() -> None:
    sized = ViTConfig(sector=98)
    assert fitting(sized, (0, 40, 60, *(0,) * 9)) == (0, 19, 30, *(0,) * 9)  # 80 and the class token make a tile
    assert fitting(BASE, tapering(BASE, 16)) == tapering(BASE, 16)
    assert fitting(sized, ()) == ()
    odd = ViTConfig(sector=121)  # 122 with the class token: the tile that is nearest to 121 of them has 128
    assert fitting(odd, (2, 30, *(0,) * 10)) == (0, 26, *(0,) * 10)


def test_a_merge_that_saves_less_than_it_costs_is_dearer() -> None:
    once, twice = (*(0,) * 11, 1), (*(0,) * 10, 1, 1)
    assert arithmetic(BASE, once) > arithmetic(BASE, twice)
    assert cost(BASE, once) < cost(BASE, twice)
    assert cost(BASE, ()) == arithmetic(BASE, (), tile=16)


@pytest.mark.parametrize("config", [BASE, ViTConfig(image_size=96, dim=64, depth=3, heads=1), ViTConfig(depth=1)])
def test_every_schedule_fits_and_ladders_rise(config: ViTConfig) -> None:
    for name, ladder in schedules(config).items():
        costs = [cost(config, schedule) for schedule in ladder]
        assert costs == sorted(set(costs)), name
        for schedule in ladder:
            left = config.grid**2
            for r in schedule:
                assert 0 <= r <= left // 2
                left -= r
            assert left >= min(config.grid**2, 24)


def test_a_bundle_with_merged_tokens_says_so_and_serves(checkpoint: Path, tmp_path: Path) -> None:
    done, _ = converted(checkpoint, tmp_path / "m.vmeg", 3, targets=("onnxruntime", "openvino"))
    config = ViTConfig(image_size=96, dim=64, depth=3, heads=1)
    assert done.check().manifest.merge == tapering(config, 3) == (3, 3, 3)
    assert all(row.parity.max_abs_dp > 0 for row in done.rows)
    frame = phantom(3, 1).frame
    for backend in ("onnxruntime", "openvino"):
        with sdk.load(tmp_path / "m.vmeg", backend=backend) as scorer:
            result = scorer.score(frame)
            assert scorer.provenance["self_test"] == "passed"
        assert result.to_json()["provenance"]["merge"] == [3, 3, 3]
        assert result.heat_map.values.shape == (6, 6)


@pytest.mark.parametrize("targets", [("onnxruntime", "tensorrt"), ("openvino",)])
def test_int8_of_merged_tokens_leaves_the_merging_itself_in_float(
    checkpoint: Path, tmp_path: Path, targets: tuple[str, ...]
) -> None:
    done, _ = converted(checkpoint, tmp_path / "m.vmeg", 3, targets=targets, precision="int8")
    kept = {row.candidate.target: row.candidate for row in done.check().rows if row.status == "kept"}
    assert set(kept) == set(targets)  # OpenVINO's is made alone: beside ONNX Runtime's, some processors get none
    assert {candidate.artefact.float_layers for candidate in kept.values()} == {("patch_embed.proj", "head")}
    if "tensorrt" in kept:
        assert "built it for" in kept["tensorrt"].proof


def test_the_search_keeps_the_cheapest_where_all_pass(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(parity.GATES, "int8", (1.0, None))
    done, said = converted(checkpoint, tmp_path / "a.vmeg", "auto")
    config = ViTConfig(image_size=96, dim=64, depth=3, heads=1)
    cheapest = min(cost(config, ladder[0]) for ladder in schedules(config).values())
    assert cost(config, done.check().manifest.merge) == cheapest
    assert any(line.startswith("screening in float32") and line.endswith("passes") for line in said)


def test_where_no_schedule_passes_no_token_is_merged(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parity, "MERGED_COSINES", (1.1, 1.1))
    done, said = converted(checkpoint, tmp_path / "a.vmeg", "auto")
    assert done.check().manifest.merge == ()
    assert "no schedule of merging passes; no tokens are merged" in said


def test_a_schedule_that_fails_its_gate_writes_no_bundle(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parity, "MERGED_COSINES", (1.1, 0.8))
    done, _ = converted(checkpoint, tmp_path / "m.vmeg", 3)
    assert done.failed == ("onnxruntime",)
    assert "the heat maps' mean cosine is" in done.rows[0].failures[0]
    assert not (tmp_path / "m.vmeg").exists()


def test_the_search_halves_and_finds_the_first_that_passes() -> None:
    from vmeg_edge.converters.reduced import _first

    ladder = [(r,) for r in range(100)]
    for place in (0, 1, 37, 99, 100):
        asked: list[int] = []

        def passes(schedule: tuple[int, ...], place: int = place, asked: list[int] = asked) -> bool:
            asked.append(schedule[0])
            return schedule[0] >= place

        assert _first(ladder, passes) == place
        assert len(asked) <= 7


def test_bad_input_is_one_line(vmeg_edge: Callable, checkpoint: Path, tmp_path: Path) -> None:
    out = tmp_path / "x.vmeg"
    bundle = tmp_path / "b.vmeg"
    convert(checkpoint, bundle, plane_gate=False).check()
    merged = tmp_path / "m.vmeg"
    convert(checkpoint, merged, reduce_tokens=3, plane_gate=False, training=TRAINING).check()
    few = ("--calibration", "phantoms", "--validation-frames", "8")
    for arguments, says in (
        ((checkpoint, "--reduce-tokens", "many"), "neither auto nor off nor a number of tokens"),
        ((checkpoint, "--reduce-tokens", "5", *few), "has 36 tokens, and can merge 4 a block in the mean of its 3"),
        ((checkpoint, "--reduce-tokens", "0"), "neither auto nor off nor a number of tokens"),
        ((checkpoint, "--reduce-tokens", "auto"), "auto chooses by frames; give --calibration"),
        ((checkpoint, "--reduce-tokens", "auto", *few), "24 validation frames"),
        ((bundle, "--reduce-tokens", "2", "--calibration", "phantoms"), "give the checkpoint"),
        ((merged,), "its model merges tokens"),
    ):
        ran = vmeg_edge("convert", *arguments, "--out", out)
        assert ran.code == 2, arguments
        assert says in ran.error
        assert "scoring" not in ran.err  # before any work is done
        assert not out.exists()


def test_a_network_without_tokens_is_refused(tmp_path: Path) -> None:
    from vmeg_edge.errors import UsageError

    path = tmp_path / "r.pt"
    torch.save(make_resnet_state_dict(), path)
    with pytest.raises(UsageError, match="is for a ViT's tokens, and this is a ResNet"):
        converted(path, tmp_path / "x.vmeg", 3)


def test_merging_is_deterministic(checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    done, _ = converted(checkpoint, tmp_path / "m.vmeg", 3)
    read = origin.from_checkpoint(checkpoint, "again", origin.Weights(), TRAINING, "phantoms")
    assert read.merging is not None
    monkeypatch.setattr(origin, "export", onnx_from_checkpoint.export)  # traced again, not kept from another test
    assert read.merging.onnx(done.manifest.merge) == (done.path / "model.onnx").read_bytes()
