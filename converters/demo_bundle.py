"""One command that makes the embedded demo bundle: train on phantoms, convert, and score unseen ones.

``python -m vmeg_edge.converters.demo_bundle --out vmeg_edge/demo.vmeg --force``; with ``--gate-only`` instead of
``--force`` only the plane gate of that bundle is fitted, and every other file stays as it is.
"""

from __future__ import annotations

import json
import os
import tempfile
import time
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import click
import cv2
import numpy as np

from vmeg_edge.bundle import open_bundle
from vmeg_edge.cli.progress import ProgressReport
from vmeg_edge.loading import load
from vmeg_edge.manifest import DecisionRule
from vmeg_edge.phantom import Phantom, phantom, phantoms
from vmeg_edge.results import FrameResult
from vmeg_edge.scorer import Scorer

from . import demo_model
from .bundle_from_model import convert
from .calibration import PHANTOMS
from .origin import Training
from .plane_gate_fit import add_gate

RULE = DecisionRule(
    temperature=1.0, threshold=0.5, abstain=(0.35, 0.65), origin="chosen by hand for the demo, not fitted"
)
NOTES = (f"Recipe: python -m vmeg_edge.converters.demo_bundle; training seed {demo_model.TRAINING_SEED}.",)
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
        return self.atrial_width_mm >= 10.0


def outcome(made: Phantom, result: FrameResult, patch_px: tuple[float, float]) -> Outcome:
    """Hold one result against its phantom. ``patch_px`` is a patch's (width, height) in pixels of the frame."""
    inside = near = False
    if result.heat_map.peak_xy is not None:
        x, y = (int(value) for value in result.heat_map.peak_xy)
        inside = bool(made.ventricles[y, x])
        reach = np.ones((2 * round(patch_px[1]) + 1, 2 * round(patch_px[0]) + 1), dtype=np.uint8)
        near = bool(cv2.dilate(made.ventricles.astype(np.uint8), reach)[y, x])
    said = result.prediction
    return Outcome(made.atrial_width_mm, said.probability, said.decision, inside, near)


def evaluate(scorer: Scorer, made: Iterable[Phantom], total: int, progress: demo_model.Progress) -> list[Outcome]:
    """Score phantoms with the runtime, exactly as a user's frames are scored."""
    rows, columns = scorer.manifest.explanation.grid
    outcomes = []
    for item in made:
        region = item.frame.region
        if region is None:
            raise AssertionError("phantoms carry their region")
        patch = (region.width / columns, region.height / rows)
        outcomes.append(outcome(item, scorer.score(item.frame), patch))
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


def report(scorer: Scorer, seed: int, count: int, progress: demo_model.Progress) -> dict[str, Any]:
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


def _share(part: int, whole: int) -> float | None:
    return round(part / whole, 4) if whole else None


@click.command()
@click.option("--out", type=click.Path(path_type=Path), required=True, help="Bundle folder to write.")
@click.option("--checkpoint", type=click.Path(path_type=Path), help="Keep the trained checkpoint here.")
@click.option(
    "--from-checkpoint", type=click.Path(path_type=Path, exists=True), help="Convert this one; train nothing."
)
@click.option(
    "--gate-only",
    is_flag=True,
    help="Fit the plane gate of the bundle at --out again, on phantoms; every other file stays as it is.",
)
@click.option("--report", "report_path", type=click.Path(path_type=Path), help="Write the figures here as JSON.")
@click.option("--test-phantoms", default=1000, show_default=True, help="Unseen phantoms to score.")
@click.option("--train-phantoms", type=int, help="Train on fewer phantoms, for a quick try.")
@click.option("--saliency-weight", type=float, help="Weight of the loss that shapes the heat map. [default: 1]")
@click.option("--force", is_flag=True, help="Replace the bundle if it exists.")
def main(
    out: Path,
    checkpoint: Path | None,
    from_checkpoint: Path | None,
    gate_only: bool,
    report_path: Path | None,
    test_phantoms: int,
    train_phantoms: int | None,
    saliency_weight: float | None,
    force: bool,
) -> None:
    """Train the demo model on phantoms, convert it, and say how it does on phantoms it never saw."""
    cv2.setNumThreads(1)
    started = time.monotonic()
    with ProgressReport() as progress, tempfile.TemporaryDirectory() as scratch:
        if gate_only:
            add_gate(open_bundle(out), out, (PHANTOMS,), replace=True)
            with load(out) as scorer:
                _finish(scorer, test_phantoms, progress.update, started, report_path)
            return
        source = from_checkpoint or checkpoint or Path(scratch) / "demo.pt"
        if from_checkpoint is None:
            recipe = demo_model.Recipe()
            if train_phantoms is not None:
                share = train_phantoms / recipe.phantoms
                phases = tuple(replace(phase, images=round(phase.images * share)) for phase in recipe.phases)
                recipe = replace(recipe, phantoms=train_phantoms, phases=phases)
            if saliency_weight is not None:
                recipe = replace(recipe, saliency_weight=saliency_weight)
            data = demo_model.render_set(recipe.seed, recipe.phantoms, progress.update, workers=os.cpu_count() or 1)
            demo_model.save_checkpoint(demo_model.train(recipe, data, progress.update), source)
        training = Training(
            labels=demo_model.LABELS,
            resize=demo_model.INPUT.resize,
            mean=demo_model.MEAN,
            std=demo_model.STD,
            decision=RULE,
            trained_on="phantoms",
            notes=NOTES,
        )
        convert(
            source,
            out,
            targets=("onnxruntime", "openvino"),
            training=training,
            replace=force,
            report=lambda line: click.echo(line, err=True),
        ).check()
        with load(out) as scorer:
            _finish(scorer, test_phantoms, progress.update, started, report_path)


def _finish(
    scorer: Scorer, test_phantoms: int, progress: demo_model.Progress, started: float, report_path: Path | None
) -> None:
    content = report(scorer, demo_model.TEST_SEED, test_phantoms, progress)
    content["minutes"] = round((time.monotonic() - started) / 60, 1)
    text = json.dumps(content, indent=2)
    click.echo(text)
    if report_path is not None:
        report_path.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
