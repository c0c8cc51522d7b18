"""Figures on phantoms are counted right, and what ships is what the README says of it."""

from __future__ import annotations

import json
from pathlib import Path

from click.testing import CliRunner
from vmeg_edge.converters import phantom_figures
from vmeg_edge.converters.phantom_figures import Outcome, evaluate, figures
from vmeg_edge.converters.training.examples import quiet

import vmeg_edge
from vmeg_edge.phantom import phantoms


def test_shares_are_counted_at_the_threshold_and_abstentions_apart() -> None:
    outcomes = [
        Outcome(12.0, 0.9, "suspected", True, True),
        Outcome(12.0, 0.4, "no-decision", False, True),
        Outcome(6.0, 0.6, "no-decision", False, False),
        Outcome(6.0, 0.1, "normal", False, False),
    ]
    got = figures(outcomes, 0.5)
    assert (got["accuracy"], got["f1"], got["sensitivity"], got["specificity"]) == (0.5, 0.5, 0.5, 0.5)
    assert (got["abstained"], got["accuracy_where_decided"]) == (0.5, 1.0)
    assert (got["peak_in_ventricle"], got["peak_within_one_patch"]) == (0.25, 0.5)


def test_the_embedded_bundle_reaches_what_the_readme_says_on_unseen_phantoms(demo_bundle: Path) -> None:
    with vmeg_edge.load(demo_bundle) as scorer:
        got = figures(evaluate(scorer, phantoms(77, 120), 120, quiet), 0.5)
    assert got["f1"] >= 0.93
    assert got["peak_within_one_patch"] >= 0.7


def test_a_bundle_is_measured_again_by_one_command(demo_bundle: Path, tmp_path: Path) -> None:
    arguments = [str(demo_bundle), "--phantoms", "10", "--out", str(tmp_path / "r.json")]
    ran = CliRunner().invoke(phantom_figures.main, arguments, catch_exceptions=False)
    assert ran.exit_code == 0, ran.output
    content = json.loads((tmp_path / "r.json").read_text())
    assert content["seed"] == phantom_figures.UNSEEN_SEED
    assert content["drawn_as_in_training"]["phantoms"] == 10
    assert len(content["by_width"]) == len(phantom_figures.BANDS_MM)
