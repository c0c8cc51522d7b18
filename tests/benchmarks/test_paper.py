"""The paper's protocol: what a heat map is worth by value, the encoder's checkpoint, the folds, and a run in small."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Iterator
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from vmeg_edge.converters import checkpoint
from vmeg_edge.converters.pointing_game import holds, widened
from vmeg_edge.converters.training.examples import phantom_examples

from vmeg_edge.frames import Region

ROOT = Path(__file__).resolve().parents[2]
BACKENDS = ("onnxruntime", "openvino")
REGION = Region(10, 0, 40, 20)


@pytest.fixture(scope="module")
def paper() -> Iterator[Any]:
    """One of the benchmark's modules, by name; benchmarks are run from the repository's root."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(ROOT))
        yield lambda name: import_module(f"benchmarks.paper.{name}")
    for name in [name for name in sys.modules if name.startswith("benchmarks.paper")]:
        del sys.modules[name]


@pytest.fixture(scope="module")
def mask() -> Any:
    """A frame of 20x60 with a mask on the rows 5 to 9 of the columns 20 to 29: one cell of 2x4 cells over `REGION`."""
    made = np.zeros((20, 60), bool)
    made[5:10, 20:30] = True
    return made


def test_a_peak_counts_where_it_lies_on_the_mask_and_a_flat_map_has_none(mask: Any) -> None:
    assert holds(mask, (25.0, 5.0))
    assert not holds(mask, (35.0, 5.0))
    assert not holds(mask, None)
    assert holds(widened(mask, REGION, (2, 4)), (35.0, 5.0))
    assert not holds(widened(mask, REGION, (2, 4)), (45.0, 5.0))


def test_chance_is_the_share_of_cells_whose_centre_lies_on_the_mask(paper: Any, mask: Any) -> None:
    worth = paper("worth")
    assert worth.chance(mask, REGION, (2, 4)) == 1 / 8
    # Within one cell of the second cell of four: the first three of both rows.
    assert worth.chance(widened(mask, REGION, (2, 4)), REGION, (2, 4)) == 6 / 8
    assert worth.chance(mask, REGION, (1, 1)) == 0


def test_energy_is_the_share_of_the_maps_sum_inside_the_mask(paper: Any) -> None:
    worth = paper("worth")
    values = np.array([[1.0, 3.0], [0.0, 4.0]], np.float32)
    assert worth.energy_inside(values, np.array([[False, True], [False, False]])) == pytest.approx(3 / 8)
    assert worth.energy_inside(np.zeros((2, 2), np.float32), np.ones((2, 2), bool)) is None


def test_cells_are_ordered_by_heat_and_equals_by_the_draw(paper: Any) -> None:
    worth = paper("worth")
    values = np.array([[0.0, 0.5, 0.0], [1.0, 0.0, 0.2]])
    orders = {tuple(worth.hottest_first(values, np.random.default_rng(seed)).tolist()) for seed in range(20)}
    assert {order[:3] for order in orders} == {(3, 1, 5)}
    assert {frozenset(order[3:]) for order in orders} == {frozenset({0, 2, 4})}
    assert len(orders) == 6


def test_deletion_masks_whole_cells_with_the_regions_mean_and_nothing_outside_it(paper: Any) -> None:
    worth = paper("worth")
    pixels = np.zeros((20, 60, 3), np.uint8)
    pixels[:, 10:30] = (200, 100, 0)  # half of the region, so its mean is (100, 50, 0)
    pixels[:, :10] = 255
    seen = []

    def score(now: Any) -> float:
        seen.append(now.copy())
        return float(now[0, 10, 0])

    curve = worth.deletion(score, pixels, REGION, (2, 4), np.array([0, 7, 1, 2, 3, 4, 5, 6]), steps=4)
    assert curve == [200, 100, 100, 100, 100]
    assert (seen[1][:10, 10:20] == (100, 50, 0)).all()
    assert (seen[1][10:, 40:50] == (100, 50, 0)).all()
    assert np.array_equal(seen[1][:, 20:40], pixels[:, 20:40])
    assert (seen[4][:, 10:50] == (100, 50, 0)).all()
    assert (seen[4][:, :10] == 255).all()
    assert (pixels[0, 10] == (200, 100, 0)).all()


def test_steps_share_out_the_cells_even_where_there_are_fewer_cells_than_steps(paper: Any) -> None:
    worth = paper("worth")
    curve = worth.deletion(lambda now: float((now == 1).sum()), _ramp(), Region(0, 0, 16, 16), (2, 2), np.arange(4))
    assert len(curve) == worth.STEPS + 1
    assert [curve[step] for step in (0, 4, 8, 12, 16)] == [64, 0, 0, 0, 0]


def test_the_area_under_a_curve_starts_at_one(paper: Any) -> None:
    worth = paper("worth")
    assert worth.area_under([0.8, 0.8, 0.8]) == pytest.approx(1)
    assert worth.area_under([0.8, 0.4, 0.0]) == pytest.approx(0.5)
    assert worth.area_under([0.5, 0.0, 0.0, 0.0, 0.0]) == pytest.approx(1 / 8)


def test_a_mean_counts_what_is_there_and_its_interval_holds_it(paper: Any) -> None:
    worth = paper("worth")
    found = worth.mean_of([1.0, None, 0.0, 1.0, 0.0])
    assert (found.n, found.value) == (4, 0.5)
    assert 0 <= found.low < 0.5 < found.high <= 1
    assert worth.mean_of([None]) == worth.Mean(0, None, None, None)


def test_deviation_is_that_of_a_sample_and_undefined_figures_stay_out(paper: Any) -> None:
    protocol = paper("protocol")
    assert protocol.spread_of([0.8, 0.9, None, 1.0]) == protocol.Spread(3, pytest.approx(0.9), pytest.approx(0.1))
    assert protocol.spread_of([0.8]) == protocol.Spread(1, 0.8, None)
    assert protocol.spread_of([None]) == protocol.Spread(0, None, None)


def test_the_systems_are_what_their_names_say(paper: Any) -> None:
    sizes = paper("systems").SIZES
    shapes = {name: [system.config.name for system in size.systems] for name, size in sizes.items()}
    assert shapes["full"] == ["ViT-B/16", "ViT-B/16", "ResNet-50", "VGG-19"]
    assert shapes["small"][:2] == ["ViT-192x4/16"] * 2
    for name in ("small", "full"):
        for system, shape in zip(sizes[name].systems[2:], shapes[name][2:], strict=True):
            assert system.name.startswith(shape)
            assert system.recipe.drop_path == 0
        assert [system.pretrained for system in sizes[name].systems] == [True, False, False, False]
        assert {system.recipe.augmentation.smallest_crop for system in sizes[name].systems} == {1.0}


def test_the_devices_model_is_the_first_of_the_folds_with_the_best_validation_f1(paper: Any) -> None:
    folds = [{"fold": number, "validation_f1": f1} for number, f1 in enumerate((0.7, 0.9, 0.8, 0.9), 1)]
    assert paper("protocol").chosen(folds) == 2


def test_the_six_metrics_are_undefined_where_they_divide_by_zero(paper: Any) -> None:
    found = paper("protocol").six(np.array([True, True]), np.array([0.2, 0.9]))
    defined = {"accuracy": 0.5, "precision": 1, "recall": 0.5, "f1": pytest.approx(2 / 3)}
    assert found == {**defined, "specificity": None, "auc": None}


def test_what_is_published_is_the_abstracts_and_nothing_else(paper: Any) -> None:
    said = paper("published").said
    assert said("USF-MAE", "test").startswith("F1 91.78 %, accuracy 97.24 %, precision 94.47 %")
    assert said("USF-MAE", "folds").startswith("F1 91.76 %;")
    assert said("ResNet-50", "test") == "not known here; USF-MAE's F1 is higher by 2.56 %"
    assert said("another", "test") == "not known here"


def test_turns_are_told_apart_by_their_medians(paper: Any) -> None:
    found = paper("device").turns_of([0, 0, 0, 1, 1, 1], [1.0, 2.0, 9.0, 4.0, 5.0, 6.0])
    assert found == {"samples": 6, "p50_ms": 4.0, "lowest_turn_p50_ms": 2.0, "highest_turn_p50_ms": 5.0}


def test_a_patch_is_brought_to_mean_zero_and_variance_one(paper: Any) -> None:
    import torch

    pixels = torch.arange(2 * 3 * 4 * 4, dtype=torch.float32).reshape(2, 3, 4, 4)
    patches = paper("pretraining").patches_of(pixels, 2, normalised=True)
    assert patches.shape == (2, 4, 12)
    assert torch.allclose(patches.mean(dim=2), torch.zeros(2, 4), atol=1e-5)
    assert torch.allclose(patches.var(dim=2), torch.ones(2, 4), atol=1e-4)
    # The first patch of the first frame: rows 0 and 1, columns 0 and 1, its channels innermost.
    expected = torch.tensor([0.0, 16, 32, 1, 17, 33, 4, 20, 36, 5, 21, 37])
    assert torch.equal(paper("pretraining").patches_of(pixels, 2, normalised=False)[0, 0], expected)
    assert torch.allclose(patches[0, 0], (expected - expected.mean()) / expected.std(), atol=1e-4)


def test_hidden_patches_alone_are_painted_and_the_encoder_never_sees_them(paper: Any) -> None:
    import torch

    pretraining, tiny = paper("pretraining"), paper("systems").TINY
    model = pretraining.MaskedAutoencoder(tiny.systems[0].config, tiny.pretraining).eval()
    pixels = torch.rand(1, 3, 64, 64)
    noise = torch.arange(16, dtype=torch.float32)[None]  # the first four patches stay: the top row
    with torch.no_grad():
        before = model(pixels, noise)
        seen = pixels.clone()
        seen[:, :, :16] = torch.rand(1, 3, 16, 64)
        hidden = pixels.clone()
        hidden[:, :, 16:] = hidden[:, :, 16:] * 3 + 1  # the same patches once their mean and variance are taken off
        assert model(hidden, noise) == pytest.approx(float(before), abs=1e-4)
        assert abs(float(model(seen, noise) - before)) > 1e-6


def test_the_encoder_is_learnt_written_as_maes_is_and_loaded_as_any_other(paper: Any, tmp_path: Path) -> None:
    pretraining, tiny = paper("pretraining"), paper("systems").TINY
    config, spec = tiny.systems[0].config, paper("data").spec_of(tiny)
    images = phantom_examples(5, 8, spec).images
    path = tmp_path / "encoder.pt"
    losses = pretraining.pretrain(config, replace(tiny.pretraining, images=480, learning_rate=3e-3), images, spec, path)
    assert losses[-1] < 0.95 * losses[0]
    read = checkpoint.load(path, new_head=2, pool="mean", heads=1)
    assert read.config == config
    assert {"mask_token", "decoder_pred.weight", "norm.weight"} <= set(read.dropped)
    assert read.head == "random"


def test_a_fold_that_is_finished_is_not_run_again_and_other_settings_have_their_own(paper: Any, tmp_path: Path) -> None:
    stores = paper("store")
    calls = []

    def make() -> dict[str, int]:
        calls.append(1)
        return {"f1": len(calls)}

    store = stores.Store(tmp_path, "these settings")
    assert store.kept("fold", make) == {"f1": 1}
    assert stores.Store(tmp_path, "these settings").kept("fold", make) == {"f1": 1}
    assert stores.Store(tmp_path, "others").kept("fold", make) == {"f1": 2}
    store.forget("fold")
    assert store.kept("fold", make) == {"f1": 3}


@pytest.fixture(scope="module")
def finished(paper: Any, tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], Path]:
    """A whole run in small: one of the systems, two folds, 24 phantoms, one epoch."""
    folder = tmp_path_factory.mktemp("paper")
    tiny = paper("systems").TINY
    short = tuple(
        replace(s, recipe=replace(s.recipe, schedule=replace(s.recipe.schedule, epochs=1))) for s in tiny.systems[:1]
    )
    size = replace(tiny, systems=short, labelled=24, test=8, timed_frames=4, timed_rounds=1, deletions=1)
    return paper("run").run(size, folder / "out", folder / "work", lambda *_: None), folder


def test_a_run_scores_every_system_in_every_fold_without_the_fold_choosing_the_epoch(finished: Any) -> None:
    results, _ = finished
    assert [system["key"] for system in results["systems"]] == ["mae"]
    for system in results["systems"]:
        assert [fold["fold"] for fold in system["folds"]] == [1, 2]
        assert sum(fold["frames"]["held_out"] for fold in system["folds"]) == 24
        for fold in system["folds"]:
            assert sum(fold["frames"][part] for part in ("train", "validation", "held_out")) == 24
            assert set(fold["test"]) == {"accuracy", "precision", "recall", "specificity", "f1", "auc"}
        assert system["summary"]["test"]["accuracy"]["n"] == 2


def test_a_run_measures_each_bundle_on_each_engine(finished: Any) -> None:
    results, _ = finished
    subjects = {(row["system"], row["precision"], row["backend"]) for row in results["device"]}
    int8 = results["conversions"]["mae"]["int8"]["backends"]
    assert set(int8) in ({"onnxruntime"}, {"onnxruntime", "openvino"})  # by the processor: a ViT's may gain nothing
    made = {(precision, name) for precision, names in (("float32", BACKENDS), ("int8", int8)) for name in names}
    assert {subject[1:] for subject in subjects} == made
    assert len(subjects) == len(results["device"]) == len(made)
    assert all(row["p50_ms"] > 0 and row["artefact_mb"] > 0 for row in results["device"])
    assert all(row["samples"] == 4 for row in results["device"])
    assert {row["frames"] for row in results["agreement"]} == {8}
    worth = {(row["precision"], row["backend"]): row for row in results["worth"]}
    assert worth["int8", "onnxruntime"]["all"]["gain"]["n"] == 2
    assert all(worth["int8", name]["all"]["gain"]["n"] == 0 for name in int8 if name != "onnxruntime")
    assert 0 < worth["float32", "openvino"]["dilated"]["area"]["value"] < 0.2


def test_a_run_leaves_its_tables_and_pictures_and_says_what_they_are(finished: Any) -> None:
    _, folder = finished
    names = {path.name for path in (folder / "out").iterdir()}
    assert names == {"results.json", "bench.json", "table.md", "worth.md", "contact_sheet.png", "f1_by_latency.png"}
    json.loads((folder / "out" / "results.json").read_text(), parse_constant=lambda name: pytest.fail(name))
    for name in ("table.md", "worth.md"):
        text = (folder / "out" / name).read_text()
        assert "Research use only; simulated heads." in text
        assert "nan" not in text
        assert str(folder) not in text
    assert "published for clinical data, arXiv 2511.07827, not comparable" in (folder / "out" / "table.md").read_text()


def _ramp() -> Any:
    """16x16: a quarter of ones in the first cell of 2x2, the rest so that the region's mean is not 1."""
    made = np.full((16, 16), 40, np.uint8)
    made[:8, :8] = 1
    assert not math.isclose(made.mean(), 1)
    return made
