"""``vmeg-edge evaluate``: labelled frames against one or more bundles and backends, and a decision rule fitted."""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from vmeg_edge.cli.console import open_console, table
from vmeg_edge.cli.options import DEMO_BUNDLE, read_band
from vmeg_edge.errors import BackendMissingError, UsageError


@click.command(name="evaluate")
@click.argument("labels", type=click.Path(path_type=Path))
@click.option(
    "--bundle",
    "bundles",
    multiple=True,
    type=click.Path(path_type=Path),
    help="Bundle folder; may be given again to compare. [default: the embedded demo bundle]",
)
@click.option(
    "--backend",
    "backends",
    multiple=True,
    help="Backend to run on; may be given again. [default: every usable one of each bundle]",
)
@click.option("--device", help="Device of the backend. [default: the backend's own]")
@click.option("--threads", type=click.IntRange(1, 1024), help="Threads for inference. [default: all]")
@click.option("--plot", type=click.Path(path_type=Path), help="PNG with ROC, precision-recall, reliability and risk.")
@click.option("--scores", type=click.Path(path_type=Path), help="CSV of every frame's probability and decision.")
@click.option("--resamples", type=click.IntRange(0, 100_000), default=1000, show_default=True, help="Of the bootstrap.")
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Of the bootstrap and the split.")
@click.option("--fit-temperature", is_flag=True, help="Fit the softmax temperature on a part set aside.")
@click.option(
    "--fit-threshold",
    is_flag=False,
    flag_value="youden",
    type=click.Choice(["youden", "f1"]),
    help="Fit the threshold on a part set aside, by Youden's J (if no word follows) or F1.",
)
@click.option(
    "--fit-share",
    type=click.FloatRange(0.1, 0.5),
    default=0.5,
    show_default=True,
    help="Part of the groups to fit on (taken as 1 in N), where the table has no column 'split'.",
)
@click.option("--abstain", callback=read_band, metavar="LOW,HIGH", help="Abstain band of the fitted rule.")
@click.option("--out", type=click.Path(path_type=Path), help="Bundle folder to write with the fitted rule.")
@click.option("--force", is_flag=True, help="Replace --out if it exists.")
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
def command(**options: Any) -> None:
    """Hold labelled frames against a bundle: the paper's six metrics, calibration, and risk by coverage.

    LABELS is a CSV with the columns path (relative to it) and label (one of the bundle's), and perhaps patient and
    split (fit or test). Intervals are 95 % bootstraps over patients, or over series (_1_of_3) and files where no
    patient is named. Several bundles or backends stand side by side in one table.

    With --fit-temperature or --fit-threshold, the rule is fitted on one part, everything is reported on the other, and
    --out receives the bundle with the new rule, if its artefacts still pass their gates under it.

    \b
    Examples:
      vmeg-edge evaluate labels.csv --bundle vit.vmeg --plot evaluation.png
      vmeg-edge evaluate labels.csv --bundle vit.vmeg --bundle vit-int8.vmeg --backend onnxruntime
      vmeg-edge evaluate labels.csv --bundle vit.vmeg --fit-temperature --fit-threshold --out fitted.vmeg
    """
    from vmeg_edge.cli.progress import ProgressReport
    from vmeg_edge.cli.toolchain import toolchain

    work = _Work(options, toolchain)
    with ProgressReport() as progress:
        work.score(progress.update)
    content = work.finish()
    if options["plot"] is not None:
        title = f"{options['labels'].name}: {len(work.tested)} files, {work.part}"
        toolchain("evaluation_plots").draw(work.evaluations, options["plot"], title=title, notices=work.notices)
    if options["scores"] is not None:
        _write_scores(options["scores"], work)
    if options["as_json"]:
        click.echo(json.dumps(content, indent=2))
    else:
        _show(work, content)


class _Work:
    """One run: who is scored, on which rows, under which rule, and what came of it."""

    def __init__(self, options: dict[str, Any], toolchain: Any) -> None:
        self.options = options
        self.evaluation, self.fitting = toolchain("evaluation"), toolchain("decision_fit")
        from vmeg_edge.bundle import open_bundle

        fits = options["fit_temperature"] or options["fit_threshold"] is not None
        paths = list(dict.fromkeys(options["bundles"] or (DEMO_BUNDLE,)))
        if fits != (options["out"] is not None):
            raise UsageError(
                "fitting writes a bundle: give --out with --fit-temperature or --fit-threshold, or neither"
            )
        if fits and len(paths) > 1:
            raise UsageError("a rule is fitted for one bundle; give one --bundle")
        if options["abstain"] is not None and not fits:
            raise UsageError("--abstain belongs to a fitted rule; add --fit-temperature or --fit-threshold")
        if fits and options["out"].exists() and not options["force"]:
            raise UsageError(f"{options['out']}: exists already; choose another name or pass --force to replace it")
        self.bundles = [open_bundle(path) for path in paths]
        first = self.bundles[0].manifest
        for other in self.bundles[1:]:
            if (other.manifest.labels, other.manifest.positive) != (first.labels, first.positive):
                raise UsageError(
                    f"{other.path}: has other labels than {self.bundles[0].path}; compare bundles of one question"
                )
        self.positive = first.positive
        self.rows = toolchain("labels").read_labels(options["labels"], first.labels)
        self.fit = (
            self.fitting.Fit(
                options["fit_temperature"],
                options["fit_threshold"],
                options["fit_share"],
                options["seed"],
                options["abstain"],
            )
            if fits
            else None
        )
        self.fitted_on = None if self.fit is None else self.fitting.split_rows(self.rows, self.fit)
        self.answers: list[Any] = []
        self.rules: list[Any] = []
        self.absent: dict[str, str] = {}
        self.notices: list[str] = []
        self.evaluations: list[Any] = []
        self.tested = self.rows

    @property
    def part(self) -> str:
        """Which part the figures are on."""
        return "all of the table" if self.fit is None else "the part that was not fitted on"

    def score(self, progress: Any) -> None:
        """Score every row on every subject."""
        for bundle, backend, name in self._subjects():
            from vmeg_edge.loading import load

            options = self.options
            with load(
                bundle.path, backend=backend, device=options["device"], threads=options["threads"], progress=progress
            ) as scorer:
                self.answers.append(self.evaluation.answers(scorer, name, self.rows, progress))
                self.rules.append(bundle.manifest.decision)
                self.notices += [notice for notice in scorer.notices if notice not in self.notices]

    def finish(self) -> dict[str, Any]:
        """Fit where asked, evaluate, compare, write; what there is to say as plain data."""
        content: dict[str, Any] = {"labels": str(self.options["labels"]), "files": len(self.rows), "part": self.part}
        tested, fitted = self.answers, None
        if self.fit is not None and self.fitted_on is not None:
            fitted = self.fitting.fitted_rule(
                self.answers[0],
                self.rows,
                self.fitted_on,
                self.rules[0],
                self.positive,
                self.fit,
                self.options["labels"],
            )
            tested = [self._without_fitted(said) for said in self.answers]
            self.tested = [row for row, taken in zip(self.rows, self.fitted_on, strict=True) if not taken]
        self.evaluations = [self._evaluated(said, rule) for said, rule in zip(tested, self.rules, strict=True)]
        if fitted is not None:
            from dataclasses import replace

            renamed = [replace(said, name=f"{said.name}, fitted") for said in tested]
            self.evaluations += [self._evaluated(said, fitted) for said in renamed]
            digest = self.fitting.write_fitted(
                self.bundles[0], fitted, self.options["out"], replace_it=self.options["force"]
            )
            content["fitted"] = {**fitted.model_dump(mode="json"), "bundle": str(self.options["out"]), "digest": digest}
        content["subjects"] = [found.to_json() for found in self.evaluations]
        content["agreement"] = [
            {"name": said.name, "with": tested[0].name, **found}
            for said, rule in zip(tested[1:], self.rules[1:], strict=True)
            if (found := self.evaluation.agreement(tested[0], said, (self.rules[0], rule))) is not None
        ]
        content["lost"] = {
            said.name: {"frames": said.lost, "reason": said.reason} for said in self.answers if said.lost
        }
        content["not_run"] = self.absent
        content["notices"] = self.notices
        return content

    def _subjects(self) -> list[tuple[Any, str, str]]:
        from vmeg_edge.backends import BACKENDS, why_unusable
        from vmeg_edge.matching import on_this_processor

        found = []
        for bundle in self.bundles:
            held = on_this_processor(bundle).manifest.artefacts
            asked = self.options["backends"]
            unknown = [name for name in asked if name not in held]
            if unknown:
                raise UsageError(f"{bundle.path}: holds no artefact for {unknown[0]}; it holds: {', '.join(held)}")
            for name in asked or [name for name in held if name in BACKENDS]:
                why = why_unusable(name)
                if why is not None and not asked:
                    self.absent[name] = why
                    continue
                found.append((bundle, name, f"{bundle.manifest.name} {name} {held[name].precision}"))
        if not found:
            raise BackendMissingError(f"no backend can be used here: {'; '.join(self.absent.values())}")
        return found

    def _without_fitted(self, said: Any) -> Any:
        keep = ~self.fitted_on[said.rows]  # type: ignore[index]
        if not keep.any():
            raise UsageError("every frame is in the part to fit on; mark some with split = test")
        return said.only(keep)

    def _evaluated(self, said: Any, rule: Any) -> Any:
        resamples, seed = self.options["resamples"], self.options["seed"]
        return self.evaluation.evaluate(said, self.rows, self.positive, rule, resamples=resamples, seed=seed)


def _show(work: _Work, content: dict[str, Any]) -> None:
    console = open_console()
    subjects = content["subjects"]
    names = work.evaluation.METRICS
    rows = [(name, *(_figure(subject["metrics"][name]) for subject in subjects)) for name in names]
    rows += [
        ("calibration error", *(f"{subject['expected_calibration_error']:.3f}" for subject in subjects)),
        ("no decision", *(f"{subject['abstained']:.3f}" for subject in subjects)),
        ("out of plane", *(f"{subject['out_of_plane']:.3f}" for subject in subjects)),
        ("accuracy where decided", *(_plain(subject["accuracy_where_decided"]) for subject in subjects)),
    ]
    for key in ("true_positive", "false_positive", "false_negative", "true_negative"):
        rows.append((key.replace("_", " "), *(str(subject["confusion"][key]) for subject in subjects)))
    for share in (0.5, 0.8, 1.0):
        risks = [_risk(subject["risk_coverage"], share) for subject in subjects]
        rows.append((f"error at {share:.0%} coverage", *risks))
    first = subjects[0]
    title = (
        f"{content['labels']}: {first['frames']} frames of {first['groups']} groups, {first['positives']} positive; "
        f"{content['part']}"
    )
    console.print(table(title, ("", *(subject["name"] for subject in subjects)), rows))
    console.print(f"brackets: 95 % bootstrap over groups, {work.options['resamples']} resamples")
    undefined = dict.fromkeys(
        f"{name}: {figure['why']}" for s in subjects for name, figure in s["metrics"].items() if figure["why"]
    )
    for line in undefined:
        console.print(line)
    for pair in content["agreement"]:
        console.print(
            f"{pair['name']} agrees with {pair['with']} on {pair['decisions_agree']:.3f} of decisions; "
            f"max |dp| {pair['max_abs_dp']:.1e}, mean {pair['mean_abs_dp']:.1e}"
        )
    for name, lost in content["lost"].items():
        console.print(f"{name}: {lost['frames']} frames could not be scored: {lost['reason']}")
    for name, why in content["not_run"].items():
        console.print(f"{name} was not run here: {why}")
    if "fitted" in content:
        fitted = content["fitted"]
        console.print(f"wrote {fitted['bundle']} ({fitted['digest'][:12]}): {fitted['origin']}")
    for path in (work.options["plot"], work.options["scores"]):
        if path is not None:
            console.print(f"wrote {path}")
    for notice in work.notices:
        console.print(notice)


def _figure(figure: dict[str, Any]) -> str:
    if figure["value"] is None:
        return "undefined"
    if figure["low"] is None:
        return f"{figure['value']:.3f}"
    return f"{figure['value']:.3f} [{figure['low']:.3f}, {figure['high']:.3f}]"


def _plain(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def _risk(curve: Sequence[Sequence[float]], share: float) -> str:
    """The error rate at the first point that covers ``share`` of the frames."""
    return f"{next(risk for coverage, risk in curve if coverage >= share - 1e-9):.3f}"


def _write_scores(path: Path, work: _Work) -> None:
    from vmeg_edge.outputs import PendingFile

    with PendingFile(path) as pending, pending.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(("subject", "path", "label", "group", "probability", "decision"))
        for said, rule in zip(work.answers, work.rules, strict=True):
            for place, p, decision in zip(said.rows, said.probabilities(rule), said.decisions(rule), strict=True):
                row = work.rows[place]
                writer.writerow((said.name, row.path, row.label, row.group, f"{p:.6f}", decision))
