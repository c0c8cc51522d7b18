"""What ``vmeg-edge finetune --reduce-tokens`` says beside any run: agreement with the teacher, before and after."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import click

from vmeg_edge.cli.console import table
from vmeg_edge.cli.toolchain import toolchain

_FIGURES = (
    ("same decisions", "same_decisions", 3),
    ("mean |dp|", "mean_abs_dp", 4),
    ("activation cosine", "activation_cosine", 4),
)


def said(agreement: Any) -> str:
    """The figures of an agreement in words."""
    return ", ".join(f"{name} {getattr(agreement, field):.{digits}f}" for name, field, digits in _FIGURES)


def tell_start(agreement: Any) -> None:
    """Say on stderr where the run starts from."""
    click.echo(f"epoch 0, merging before any tuning: {said(agreement)}", err=True)


def notes(plan: Any) -> tuple[str, ...]:
    """What the checkpoint's record says of its teacher; nothing where there is none."""
    if plan.teacher is None:
        return ()
    file = plan.origin.partition(" from ")[2]
    return (
        f"Tuned for merging as with --reduce-tokens {plan.recipe.distillation.tokens}; the teacher is {file}, "
        "which merges none.",
    )


def measured(plan: Any, done: Any, name: str, part: Any, device: str) -> dict[str, Any]:
    """What tuning brought, as plain data: agreement on ``part`` before and after, at R tokens and further."""
    distilling = toolchain("training.distillation")
    place = toolchain("training.device").choose_device(device)
    tokens = distilling.further(plan.network.config, plan.recipe.distillation.tokens)
    found = distilling.before_and_after(plan.network, done.network, part, tokens, place)
    return {
        "teacher": plan.origin,
        "merge": list(done.network.config.merge),
        "start": asdict(done.start),
        "better_than_start": done.best.agreement.rank > done.start.rank,
        "part": name,
        "frames": len(part),
        "agreement": [
            {"tokens": r, "before": asdict(before), "after": asdict(after)}
            for r, (before, after) in zip(tokens, found, strict=True)
        ],
    }


def show(console: Any, merging: dict[str, Any]) -> None:
    """A table of agreement before and after, a row for each number of tokens."""
    columns = [column for name, _, _ in _FIGURES for column in (f"{name}, before", "after")]
    rows = [
        (
            str(row["tokens"]),
            *(f"{row[side][field]:.{digits}f}" for _, field, digits in _FIGURES for side in ("before", "after")),
        )
        for row in merging["agreement"]
    ]
    title = f"agreement with the teacher, which merges none, on {merging['frames']} frames ({merging['part']})"
    console.print(table(title, ("R", *columns), rows))
    if not merging["better_than_start"]:
        console.print("no epoch agreed better on the validation part than merging untuned: keep the encoder")
