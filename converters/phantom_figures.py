"""How a bundle does on phantoms that training never saw: shares by label, by atrial width, and where its map peaks.

``python -m vmeg_edge.converters.phantom_figures vmeg_edge/demo.vmeg --out results.json`` measures a bundle again.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import numpy as np

from vmeg_edge.cli.progress import ProgressReport
from vmeg_edge.frames import Region
from vmeg_edge.loading import load
from vmeg_edge.outputs import PendingFile
from vmeg_edge.phantom import VENTRICULOMEGALY_MM, Phantom, phantom, phantoms
from vmeg_edge.results import FrameResult
from vmeg_edge.scorer import Scorer

from .pointing_game import holds, widened
from .training.examples import Progress

UNSEEN_SEED = 1007
BANDS_MM = ((4.0, 7.0), (7.0, 9.0), (9.0, 9.5), (9.5, 10.0), (10.0, 10.5), (10.5, 11.0), (11.0, 13.0), (13.0, 16.0))


@dataclass(frozen=True)
class Outcome:
    """One unseen phantom and what the model said: all that the figures are made from."""

    atrial_width_mm: float
    probability: float
    decision: str
    peak_inside: bool
    peak_within_a_patch: bool

    @property
    def dilated(self) -> bool:
        """The truth."""
        return self.atrial_width_mm >= VENTRICULOMEGALY_MM


def outcome(made: Phantom, result: FrameResult, grid: tuple[int, int]) -> Outcome:
    """Hold one result against its phantom. ``grid`` is the heat map's (rows, columns)."""
    peak, inside = result.heat_map.peak_xy, made.ventricles.astype(np.bool_)
    near = widened(inside, _region(made), grid)
    said = result.prediction
    return Outcome(made.atrial_width_mm, said.probability, said.decision, holds(inside, peak), holds(near, peak))


def evaluate(scorer: Scorer, made: Iterable[Phantom], total: int, progress: Progress) -> list[Outcome]:
    """Score phantoms with the runtime, exactly as a user's frames are scored."""
    outcomes = []
    for item in made:
        outcomes.append(outcome(item, scorer.score(item.frame), scorer.manifest.explanation.grid))
        progress("unseen phantoms", len(outcomes), total, "")
    return outcomes


def figures(outcomes: list[Outcome], threshold: float) -> dict[str, Any]:
    """Counts and shares at ``threshold``, abstentions left out of no figure but their own."""
    truth = np.array([o.dilated for o in outcomes])
    said = np.array([o.probability >= threshold for o in outcomes])
    right = int((truth == said).sum())
    true_positive = int((truth & said).sum())
    decided = [o for o in outcomes if o.decision != "no-decision"]
    positives, calls = int(truth.sum()), int(said.sum())
    return {
        "phantoms": len(outcomes),
        "dilated": positives,
        "accuracy": _share(right, len(outcomes)),
        "f1": _share(2 * true_positive, positives + calls),
        "sensitivity": _share(true_positive, positives),
        "specificity": _share(int((~truth & ~said).sum()), len(outcomes) - positives),
        "abstained": _share(len(outcomes) - len(decided), len(outcomes)),
        "accuracy_where_decided": _share(sum((o.decision == "suspected") == o.dilated for o in decided), len(decided)),
        "peak_in_ventricle": _share(sum(o.peak_inside for o in outcomes), len(outcomes)),
        "peak_within_one_patch": _share(sum(o.peak_within_a_patch for o in outcomes), len(outcomes)),
    }


def report(scorer: Scorer, seed: int, count: int, progress: Progress) -> dict[str, Any]:
    """Figures on ``count`` phantoms as training drew them (from another seed), and by atrial width up to the border."""
    threshold = scorer.manifest.decision.threshold
    drawn = evaluate(scorer, phantoms(seed, count), count, progress)
    bands = []
    each = max(1, count // 10)
    for place, (low, high) in enumerate(BANDS_MM):
        rng = np.random.default_rng([seed, place])
        widths = rng.uniform(low, high, each)
        made = (phantom(seed + 1 + place, i, atrial_width_mm=float(w)) for i, w in enumerate(widths))
        band = figures(evaluate(scorer, made, each, progress), threshold)
        names = ("phantoms", "accuracy", "abstained", "accuracy_where_decided")
        bands.append({"from_mm": low, "to_mm": high, **{name: band[name] for name in names}})
    return {"seed": seed, "threshold": threshold, "drawn_as_in_training": figures(drawn, threshold), "by_width": bands}


def write(content: dict[str, Any], path: Path) -> None:
    """Write figures as JSON, whole or not at all. Raises `OutputError`."""
    with PendingFile(path) as pending:
        pending.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def _region(made: Phantom) -> Region:
    if made.frame.region is None:
        raise AssertionError("phantoms carry their region")
    return made.frame.region


def _share(part: int, whole: int) -> float | None:
    return round(part / whole, 4) if whole else None


@click.command()
@click.argument("bundle", type=click.Path(path_type=Path))
@click.option("--out", type=click.Path(path_type=Path), help="Write the figures here as JSON.")
@click.option(
    "--phantoms", "count", type=click.IntRange(10), default=1000, show_default=True, help="How many to score."
)
@click.option("--seed", type=click.IntRange(0), default=UNSEEN_SEED, show_default=True, help="Of the phantoms' set.")
def main(bundle: Path, out: Path | None, count: int, seed: int) -> None:
    """Score phantoms with BUNDLE and print the figures."""
    with ProgressReport() as progress, load(bundle) as scorer:
        content = report(scorer, seed, count, progress.update)
    click.echo(json.dumps(content, indent=2))
    if out is not None:
        write(content, out)


if __name__ == "__main__":
    main()
