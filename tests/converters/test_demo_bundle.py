"""The recipe of the demo model: it is seeded, its figures are counted right, and what ships is what it says."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from vmeg_edge.converters import demo_bundle as making
from vmeg_edge.converters import demo_model
from vmeg_edge.converters.demo_model import PhantomSet, Phase, Recipe, render_set, train

import vmeg_edge
from vmeg_edge.phantom import phantoms


def quiet(*_: object) -> None:
    """Progress that nobody watches."""


@pytest.fixture(scope="module")
def small_set() -> PhantomSet:
    return render_set(3, 64, quiet, workers=2)


def test_a_set_is_what_the_runtime_would_see(small_set: PhantomSet) -> None:
    assert small_set.images.shape == (64, 224, 224)
    for index, made in enumerate(phantoms(3, 3)):
        assert small_set.widths_mm[index] == pytest.approx(made.atrial_width_mm)
        region = made.frame.region
        assert region is not None
        share = made.ventricles.sum() / (region.width * region.height)
        assert small_set.coverage[index].mean() == pytest.approx(share, rel=1e-3)


def test_the_same_seed_gives_the_same_weights_and_another_others(small_set: PhantomSet) -> None:
    recipe = Recipe(phantoms=64, phases=(Phase(112, 64, 1e-3), Phase(224, 32, 5e-4)), batch=32)
    first, second = train(recipe, small_set, quiet), train(recipe, small_set, quiet)
    other = train(replace(recipe, seed=8), small_set, quiet)
    assert first.config == demo_model.CONFIG
    states = [model.state_dict() for model in (first, second, other)]
    assert all(torch.equal(states[0][key], states[1][key]) for key in states[0])
    assert not torch.equal(states[0]["head.weight"], states[2]["head.weight"])


def test_shares_are_counted_at_the_threshold_and_abstentions_apart() -> None:
    outcomes = [
        making.Outcome(12.0, 0.9, "suspected", True, True),
        making.Outcome(12.0, 0.4, "no-decision", False, True),
        making.Outcome(6.0, 0.6, "no-decision", False, False),
        making.Outcome(6.0, 0.1, "normal", False, False),
    ]
    got = making.figures(outcomes, 0.5)
    assert (got["accuracy"], got["f1"], got["sensitivity"], got["specificity"]) == (0.5, 0.5, 0.5, 0.5)
    assert (got["abstained"], got["accuracy_where_decided"]) == (0.5, 1.0)
    assert (got["peak_in_ventricle"], got["peak_within_one_patch"]) == (0.25, 0.5)


def test_the_embedded_bundle_reaches_what_the_readme_says_on_unseen_phantoms(demo_bundle: Path) -> None:
    with vmeg_edge.load(demo_bundle) as scorer:
        got = making.figures(making.evaluate(scorer, phantoms(77, 120), 120, quiet), 0.5)
    assert got["f1"] >= 0.93
    assert got["peak_within_one_patch"] >= 0.7


def test_the_command_converts_a_checkpoint_and_reports(tmp_path: Path) -> None:
    torch.manual_seed(0)
    checkpoint = tmp_path / "demo.pt"
    demo_model.save_checkpoint(demo_model.ViT(demo_model.CONFIG).eval(), checkpoint)
    arguments = ["--out", tmp_path / "d.vmeg", "--from-checkpoint", checkpoint, "--test-phantoms", "10"]
    ran = CliRunner().invoke(
        making.main, [*map(str, arguments), "--report", str(tmp_path / "r.json")], catch_exceptions=False
    )
    assert ran.exit_code == 0, ran.output
    content = json.loads((tmp_path / "r.json").read_text())
    assert content["drawn_as_in_training"]["phantoms"] == 10
    assert len(content["by_width"]) == len(making.BANDS_MM)
    assert np.isfinite(content["minutes"])
