"""What ``vmeg-edge finetune`` does: plan, train, save, draw, convert, measure; and how it is shown."""

from __future__ import annotations

import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from vmeg_edge.cli import finetune_merging
from vmeg_edge.cli.console import open_console, table
from vmeg_edge.cli.progress import ProgressReport
from vmeg_edge.cli.toolchain import toolchain
from vmeg_edge.errors import UsageError
from vmeg_edge.manifest import PHANTOMS_ONLY, RESEARCH_USE_ONLY
from vmeg_edge.outputs import PendingFile

PHANTOMS = "phantoms"
_ENCODER = ("encoder", "arch", "pool", "image_size", "resize", "mean", "std", "reduce_tokens")
_RECIPE = (
    *("epochs", "batch", "learning_rate", "weight_decay", "layer_decay"),
    *("warmup_epochs", "drop_path", "balance", "patience", "precision"),
)
_NOT_OF_THE_DEMO = {*_ENCODER, *_RECIPE, "names", "positive", "validation_share", "skip_unreadable"}
_OF_PHANTOMS = {"count", "saliency_weight", "report", "unseen"}
_SPELT = {"count": "--phantoms", "names": "--labels"}


def run(options: dict[str, Any], given: set[str]) -> dict[str, Any]:
    """Do everything that was asked for; what there is to say as plain data."""
    out, bundle = options["out"], options["bundle"]
    state = out.with_name(f"{out.name}.state")
    simulated = str(options["labels"]) == PHANTOMS
    _check(options, given, simulated)
    _check_places(options, state)
    started = time.monotonic()
    finetuning, states = toolchain("finetune"), toolchain("training.run_state")
    with ProgressReport() as progress:
        plan = _plan(options, simulated, progress)
        _announce(plan)
        if options["force"] and not options["resume"]:
            states.discard(state)
        taken_up = state.exists()
        try:
            done = finetuning.finetune(
                plan.network,
                plan.train,
                plan.validation,
                plan.recipe,
                state=state,
                progress=progress.update,
                on_epoch=_tell,
                on_start=finetune_merging.tell_start,
                device=options["device"],
                threads=options["threads"],
            )
        except KeyboardInterrupt:
            if state.exists():
                click.echo(f"{state} is kept; the same command with --resume goes on from it", err=True)
            raise
    notes = _notes(options, plan, done, simulated)
    finetuning.save_classifier(done.network, finetuning.record_of(plan.train, notes, phantoms=plan.phantoms), out)
    states.discard(state)
    states.sweep(out)
    content = _content(options, plan, done, taken_up)
    if plan.teacher is not None:
        name, part = _parts(plan)[-1]
        content["merging"] = finetune_merging.measured(plan, done, name, part, options["device"])
    if options["curves"] is not None:
        toolchain("training.curves").draw(
            done.history, done.best, options["curves"], title=f"{plan.origin}, {out.name}", notices=content["notices"]
        )
    if bundle is not None:
        digest, warnings = toolchain("training.bundle").convert_run(
            plan,
            out,
            bundle,
            options["labels"].name,
            replace=options["force"],
            report=lambda line: click.echo(line, err=True),
        )
        content["bundle"] = {"path": str(bundle), "digest": digest, "warnings": list(warnings)}
    if options["report"] is not None:
        content["unseen_phantoms"] = _measure(options, plan, started)
    content["minutes"] = round((time.monotonic() - started) / 60, 1)
    return content


def _check(options: dict[str, Any], given: set[str], simulated: bool) -> None:
    def refuse(names: set[str], why: str) -> None:
        wrong = sorted(_SPELT.get(name, f"--{name.replace('_', '-')}") for name in given & names)
        if wrong:
            raise UsageError(f"{', '.join(wrong)}: {why}")

    demo = options["recipe"] == "demo"
    if "reduce_tokens" in given:
        if demo:
            raise UsageError("--reduce-tokens starts from a trained classifier; leave --recipe demo out")
        refuse({"bundle", "report"}, "convert the tuned checkpoint with --reduce-tokens; leave it out")
    if demo and not simulated:
        raise UsageError("--recipe demo trains on phantoms: vmeg-edge finetune phantoms --recipe demo")
    if not simulated:
        refuse(_OF_PHANTOMS, "for phantoms alone; leave it out, or give the word phantoms for LABELS")
    if simulated:
        refuse({"names", "positive", "skip_unreadable"}, "phantoms bring their labels; leave it out")
    if demo:
        refuse(_NOT_OF_THE_DEMO, "the demo recipe brings its own; leave it out")
    else:
        refuse({"saliency_weight"}, "for --recipe demo alone; leave it out")
    if options["report"] is not None and options["bundle"] is None:
        raise UsageError("--report measures a bundle; give --bundle as well")


def _check_places(options: dict[str, Any], state: Path) -> None:
    """Know before any work is done that its results can be kept."""
    out, cut_off = options["out"], state.exists()
    if cut_off and not (options["resume"] or options["force"]):
        raise UsageError(f"{state}: a run was cut off here; pass --resume to go on, or --force to start afresh")
    replaced = options["force"] or (options["resume"] and cut_off)
    for path in (out, options["bundle"]):
        if path is not None and path.exists() and not replaced:
            raise UsageError(f"{path}: exists already; choose another name or pass --force to replace it")
    for path in (out, options["curves"], options["report"]):
        if path is not None:
            PendingFile(path).abort()


def _plan(options: dict[str, Any], simulated: bool, progress: ProgressReport) -> Any:
    plans = toolchain("training.plan")
    changes = {name: options[name] for name in _RECIPE}
    share = options["validation_share"]
    if options["recipe"] == "demo":
        seed = plans.demo_recipe.SEED if options["seed"] is None else options["seed"]
        weight = 1.0 if options["saliency_weight"] is None else options["saliency_weight"]
        return plans.demo(options["count"], seed, weight, progress.update)
    asked = plans.Asked(**{name: options[name] for name in _ENCODER}, seed=options["seed"] or 0)
    if simulated:
        return plans.from_phantoms(options["count"], asked, share, changes, progress.update)
    names = options["names"]
    labels = None if names is None else tuple(part.strip() for part in names.split(","))
    return plans.from_table(
        options["labels"],
        labels,
        options["positive"],
        asked,
        share,
        changes,
        progress.update,
        skip_unreadable=options["skip_unreadable"],
    )


def _announce(plan: Any) -> None:
    """Say on stderr what is about to be trained on what."""
    for line in (
        *(f"left out: {reason}" for reason in plan.skipped[:3]),
        f"{plan.origin}; {', '.join(plan.train.labels)}, positive {plan.train.positive}",
        "; ".join(f"{name}: {_size(part)}" for name, part in _parts(plan)),
    ):
        click.echo(line, err=True)


def _parts(plan: Any) -> list[tuple[str, Any]]:
    named = (("train", plan.train), ("validation", plan.validation), ("test", plan.test))
    return [(name, part) for name, part in named if part is not None]


def _size(part: Any) -> str:
    return f"{len(part)} frames of {len(set(part.groups))} groups, {int(part.positives.sum())} positive"


def _tell(epoch: Any) -> None:
    agreement = "" if epoch.agreement is None else f"{finetune_merging.said(epoch.agreement)}, "
    click.echo(
        f"epoch {epoch.epoch} at {epoch.image_size} px: loss {epoch.train_loss:.4f}, validation loss "
        f"{epoch.validation_loss:.4f}, accuracy {epoch.accuracy:.3f}, F1 {epoch.f1:.3f}, {agreement}"
        f"{epoch.seconds:.1f} s",
        err=True,
    )


def _notes(options: dict[str, Any], plan: Any, done: Any, simulated: bool) -> tuple[str, ...]:
    """What the checkpoint's record says of its making, for the manifest of whoever converts it."""
    source = f"{len(plan.train) + len(plan.validation)} phantoms" if simulated else options["labels"].name
    seed = plan.recipe.seed
    demo = options["recipe"] == "demo"
    how = "vmeg-edge finetune phantoms --recipe demo" if demo else "vmeg-edge finetune"
    if demo and plan.recipe.guidance.saliency_weight != 1:
        how += f" --saliency-weight {plan.recipe.guidance.saliency_weight:g}"
    best = done.best
    if plan.teacher is not None:
        how += f" --reduce-tokens {plan.recipe.distillation.tokens}"
    chosen = f"validation F1 ({best.f1:.3f} on {_size(plan.validation)})"
    if plan.teacher is not None:
        chosen = f"agreement with the teacher ({finetune_merging.said(best.agreement)} on {_size(plan.validation)})"
    return (
        f"Recipe: {how}; {plan.origin}; {source}, seed {seed}.",
        f"Weights of epoch {best.epoch} of {len(done.history)}, the best by {chosen}.",
        *finetune_merging.notes(plan),
    )


def _content(options: dict[str, Any], plan: Any, done: Any, taken_up: bool) -> dict[str, Any]:
    scoring = toolchain("training.scoring")
    figures = {
        name: scoring.six_metrics(scoring.logits_of(done.network, part), part) for name, part in _parts(plan)[1:]
    }
    spec = plan.train.input
    return {
        "checkpoint": str(options["out"]),
        "origin": plan.origin,
        "labels": list(plan.train.labels),
        "positive": plan.train.positive,
        "input": spec.model_dump(mode="json"),
        "frames": {name: len(part) for name, part in _parts(plan)},
        "skipped": list(plan.skipped),
        "resumed": taken_up,
        "recipe": asdict(plan.recipe),
        "history": [asdict(epoch) for epoch in done.history],
        "best": asdict(done.best),
        "metrics": figures,
        "curves": None if options["curves"] is None else str(options["curves"]),
        "bundle": None,
        "merging": None,
        "notices": [*([PHANTOMS_ONLY] if plan.phantoms else []), RESEARCH_USE_ONLY],
    }


def _measure(options: dict[str, Any], plan: Any, started: float) -> dict[str, Any]:
    """Score unseen phantoms with the bundle, and write the figures."""
    from vmeg_edge.loading import load

    figures = toolchain("phantom_figures")
    seed = plan.recipe.seed + toolchain("training.plan").TEST_SEED_AFTER
    with ProgressReport() as progress, load(options["bundle"]) as scorer:
        content: dict[str, Any] = figures.report(scorer, seed, options["unseen"], progress.update)
    content["minutes"] = round((time.monotonic() - started) / 60, 1)
    figures.write(content, options["report"])
    return content


def show(content: dict[str, Any]) -> None:
    """A table of the metrics by part, and where everything went."""
    console = open_console()
    parts = content["metrics"]
    counts = ("frames (positive)", *(f"{found['frames']} ({found['positives']})" for found in parts.values()))
    shares = (
        (name, *("undefined" if found[name] is None else f"{found[name]:.3f}" for found in parts.values()))
        for name in ("accuracy", "precision", "recall", "specificity", "f1", "auc")
    )
    best = content["best"]
    title = f"{content['origin']}: epoch {best['epoch']} of {len(content['history'])}, at the threshold 0.5"
    console.print(table(title, ("", *parts), [counts, *shares]))
    if "test" not in parts:
        console.print("the validation part chose the epoch, so these figures are a little too good")
    if content["skipped"]:
        console.print(
            f"{len(content['skipped'])} files did not open and were left out, the first: {content['skipped'][0]}"
        )
    if "unseen_phantoms" in content:
        unseen = content["unseen_phantoms"]["drawn_as_in_training"]
        console.print(", ".join(f"{name.replace('_', ' ')} {value}" for name, value in unseen.items()))
    reduce = ""
    if content["merging"] is not None:
        reduce = f" --reduce-tokens {content['recipe']['distillation']['tokens']}"
        finetune_merging.show(console, content["merging"])
    console.print(
        f"wrote {content['checkpoint']}; next: vmeg-edge convert {content['checkpoint']}{reduce} --out NAME.vmeg"
    )
    if content["curves"] is not None:
        console.print(f"wrote {content['curves']}")
    if content["bundle"] is not None:
        console.print(f"wrote {content['bundle']['path']} ({content['bundle']['digest'][:12]})")
        for warning in content["bundle"]["warnings"]:
            console.print(warning)
    for notice in content["notices"]:
        console.print(notice)
