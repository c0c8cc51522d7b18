"""Loading verifies before it serves; scoring says where every figure comes from."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

import vmeg_edge
from vmeg_edge.backends import Backend
from vmeg_edge.errors import BackendError, FrameError, ManifestError, ParityError, UsageError
from vmeg_edge.frames import Frame, Pixels, Region
from vmeg_edge.phantom import PhantomCine, phantom


@pytest.fixture(scope="module")
def scorer(demo_bundle: Path) -> Iterator[vmeg_edge.Scorer]:
    with vmeg_edge.load(demo_bundle, threads=2) as opened:
        yield opened


def test_a_result_has_every_field_of_the_contract(scorer: vmeg_edge.Scorer) -> None:
    result = scorer.score(phantom(1, 0).frame)
    line = json.loads(json.dumps(result.to_json()))
    assert set(line) >= {
        *("frame", "captured_s", "label", "probability", "decision", "reason", "signal", "peak_xy"),
        *("stages_ms", "age_ms", "late", "dropped_before", "provenance"),
    }
    assert set(line["stages_ms"]) == {"decode", "preprocess", "infer", "explain", "decide"}
    assert 0 <= line["probability"] <= 1
    assert line["age_ms"] >= sum(line["stages_ms"].values()) * 0.99
    assert line["signal"] == "live"
    assert any("Research use only" in notice for notice in line["notices"])


def test_provenance_says_what_was_asked_for_and_what_was_got(scorer: vmeg_edge.Scorer) -> None:
    provenance = scorer.score(phantom(1, 0).frame).provenance
    assert provenance["bundle"] == scorer.bundle.digest
    assert (provenance["requested_device"], provenance["device"]) == ("CPU", "CPU")
    assert (provenance["backend"], provenance["precision"], provenance["threads"]) == ("onnxruntime", "float32", 2)
    assert provenance["self_test"].startswith("passed")
    assert provenance["kernels"]["implementation"] in {"native", "reference"}


def test_the_same_frame_gets_the_same_result(scorer: vmeg_edge.Scorer) -> None:
    frame = phantom(1, 3).frame
    first, second = scorer.score(frame), scorer.score(frame)
    assert first.prediction == second.prediction
    assert np.array_equal(first.heat_map.values, second.heat_map.values)


def test_grey_and_its_rgb_copy_are_the_same_frame(scorer: vmeg_edge.Scorer) -> None:
    made = phantom(1, 4).frame
    colour = Frame(np.repeat(made.pixels[..., None], 3, axis=2), region=made.region)
    assert scorer.score(colour).prediction == scorer.score(made).prediction


def test_a_bare_array_is_a_frame(scorer: vmeg_edge.Scorer) -> None:
    result = scorer.score(np.zeros((300, 400), np.uint8))
    assert result.heat_map.region == Region(0, 0, 400, 300)
    assert result.captured_s is None


def test_the_frames_region_is_what_is_scored(scorer: vmeg_edge.Scorer) -> None:
    made = phantom(1, 5).frame
    region = made.region
    assert region is not None
    cropped = made.pixels[region.y : region.y + region.height, region.x : region.x + region.width]
    assert scorer.score(made).prediction == scorer.score(cropped).prediction
    assert scorer.score(made).prediction != scorer.score(made.pixels).prediction


def test_a_fixed_region_overrides_the_frames_and_must_fit(demo_bundle: Path) -> None:
    with vmeg_edge.load(demo_bundle, region=Region(0, 0, 200, 100)) as scorer:
        assert scorer.score(phantom(1, 5).frame).heat_map.region == Region(0, 0, 200, 100)
        with pytest.raises(FrameError, match="--region inside it"):
            scorer.score(np.zeros((64, 64), np.uint8))


def test_golden_frames_agree_with_the_torch_reference(scorer: vmeg_edge.Scorer) -> None:
    parity = scorer.golden_parity()
    assert parity.frames == 4
    assert parity.max_abs_dp <= 1e-4
    assert parity.flips == 0
    assert parity.heatmap_cosine_min > 0.9999


def test_a_bundle_whose_golden_answers_differ_is_not_served(bundle_copy: Path, reseal: Callable[[Path], None]) -> None:
    with np.load(bundle_copy / "golden.npz") as arrays:
        content = dict(arrays)
    content["logits"] = content["logits"] + np.array([0.01, 0], dtype=np.float32)
    np.savez_compressed(bundle_copy / "golden.npz", **content)
    reseal(bundle_copy)
    with pytest.raises(ParityError, match="golden frames do not match"):
        vmeg_edge.load(bundle_copy)
    with vmeg_edge.load(bundle_copy, self_test=False) as scorer:
        assert scorer.score(phantom(1, 0).frame).provenance["self_test"] == "skipped by request"


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04nonsense", b"x" * 100])
def test_golden_frames_that_cannot_be_read_are_an_error_of_the_manifest(
    bundle_copy: Path, reseal: Callable[[Path], None], content: bytes
) -> None:
    (bundle_copy / "golden.npz").write_bytes(content)
    reseal(bundle_copy)
    with pytest.raises(ManifestError, match=r"golden\.npz"):
        vmeg_edge.load(bundle_copy)


def test_a_model_that_is_none_is_a_backend_error_in_one_line(bundle_copy: Path, reseal: Callable[[Path], None]) -> None:
    (bundle_copy / "model.onnx").write_bytes(b"not a model")
    reseal(bundle_copy)
    with pytest.raises(BackendError, match="cannot open the model") as caught:
        vmeg_edge.load(bundle_copy)
    assert "\n" not in str(caught.value)


def test_a_model_that_does_not_fit_its_manifest_is_refused(bundle_copy: Path, reseal: Callable[[Path], None]) -> None:
    path = bundle_copy / "manifest.json"
    content = json.loads(path.read_text())
    content["explanation"]["channels"] = 64
    path.write_text(json.dumps(content))
    reseal(bundle_copy)
    with pytest.raises(BackendError, match="the manifest promises activations"):
        vmeg_edge.load(bundle_copy)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"backend": "abacus"}, "backend 'abacus' is unknown; choose one of: onnxruntime"),
        ({"device": "GPU"}, "device CPU"),
        ({"threads": 0}, "threads is 0"),
    ],
)
def test_a_choice_that_cannot_be_honoured_raises(demo_bundle: Path, options: dict, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        vmeg_edge.load(demo_bundle, **options)


def test_a_random_head_is_said_with_every_result(bundle_copy: Path, reseal: Callable[[Path], None]) -> None:
    path = bundle_copy / "manifest.json"
    content = json.loads(path.read_text())
    content["architecture"]["head"] = "random"
    path.write_text(json.dumps(content))
    reseal(bundle_copy)
    with vmeg_edge.load(bundle_copy) as scorer:
        assert scorer.score(phantom(1, 0).frame).notices[0].startswith("RANDOM HEAD")


def test_the_demo_model_says_that_it_knows_phantoms_only(scorer: vmeg_edge.Scorer) -> None:
    assert scorer.score(phantom(1, 0).frame).notices[0].startswith("DEMO MODEL: trained on simulated heads alone")


def test_the_heat_map_does_not_flicker_from_frame_to_frame(scorer: vmeg_edge.Scorer) -> None:
    """A flipped singular vector would turn a map into its complement: a cosine near zero."""
    maps = [scorer.score(frame).heat_map.values.ravel() for frame in PhantomCine((7.0,), frames=20)]
    for one, following in pairwise(maps):
        assert one @ following / (np.linalg.norm(one) * np.linalg.norm(following)) > 0.7


def test_golden_frames_that_all_passed_here_before_are_spot_checked_and_a_damaged_engine_is_still_refused(
    demo_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from vmeg_edge import loading as module

    with vmeg_edge.load(demo_bundle, cache=tmp_path) as first:
        assert first.provenance["self_test"] == "passed"
    with vmeg_edge.load(demo_bundle, cache=tmp_path) as again:
        assert again.provenance["self_test"].startswith("passed on 2 golden frames")
    with vmeg_edge.load(demo_bundle, cache=tmp_path, threads=1) as other:
        assert other.provenance["self_test"] == "passed", "another engine has everything to prove"
    with vmeg_edge.load(demo_bundle, cache=False) as uncached:
        assert uncached.provenance["self_test"] == "passed"

    class Damaged:
        def __init__(self, backend: Backend) -> None:
            self.report, self.close, self._sound = backend.report, backend.close, backend

        def infer(self, pixels: Pixels) -> tuple[np.ndarray, np.ndarray]:
            logits, activations = self._sound.infer(pixels)
            return logits + np.float32([0, 1]), activations

    opened = module.open_backend
    monkeypatch.setattr(module, "open_backend", lambda *a: Damaged(opened(*a)))
    with pytest.raises(ParityError):
        vmeg_edge.load(demo_bundle, cache=tmp_path)
