"""What the options of ``vmeg-edge bench`` ask for: the plan, the bundle and the cases, refused before work is done."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from vmeg_edge.backends import BACKENDS, usable_processors, why_unusable
from vmeg_edge.backends.base import backend_entry
from vmeg_edge.bench.plan import MOST_MS, CaseSpec, Plan
from vmeg_edge.cli.options import DEMO_BUNDLE
from vmeg_edge.errors import BackendMissingError, UsageError

_FPS = 10.0


def plan_of(options: dict[str, Any]) -> Plan:
    """How to measure. Raises `UsageError` for what cannot be measured, and for what the scenario would ignore."""
    paced = options["scenario"] == "paced"
    for name in ("fps", "deadline_ms"):
        if options[name] is not None and not paced:
            option = f"--{name.replace('_', '-')}"
            raise UsageError(f"{option} serves --scenario paced; {options['scenario']} takes frames as fast as it can")
    if options["precision"] is not None and options["arch"] is None:
        raise UsageError("--precision is that of --arch; a bundle has its own")
    for name in options["backends"]:
        backend_entry(name)
    plan = Plan(
        bundle=options["bundle"] or DEMO_BUNDLE,
        scenario=options["scenario"],
        duration_s=options["duration_s"],
        iterations=options["iterations"],
        rounds=options["rounds"],
        warm_up_frames=options["warm_up"],
        fps=_FPS if options["fps"] is None else options["fps"],
        deadline_ms=options["deadline_ms"],
        cache=options["cache"],
    )
    if paced and plan.deadline_ms is None:
        return replace(plan, deadline_ms=min(1_000 / plan.fps, MOST_MS))
    return plan


def bundle_of(options: dict[str, Any]) -> tuple[Path, tuple[str, ...]]:
    """The bundle to measure, and what has to be said of it."""
    if options["arch"] is None:
        return options["bundle"] or DEMO_BUNDLE, ()
    if options["bundle"] is not None:
        raise UsageError("--arch makes a bundle with random weights, and --bundle names one; give one of the two")
    from vmeg_edge.cli.toolchain import toolchain

    maker = toolchain("random_bundle")
    path = maker.random_bundle(
        options["arch"],
        options["precision"] or "int8",
        tuple(options["backends"]),
        lambda line: click.echo(line, err=True),
    )
    return path, (maker.RANDOM_WEIGHTS,)


def cases_of(path: Path, options: dict[str, Any]) -> tuple[list[CaseSpec], dict[str, str]]:
    """Every backend with every number of threads; and the bundle's backends that cannot be used here."""
    from vmeg_edge.bundle import open_bundle

    held = open_bundle(path).manifest.artefacts
    chosen = tuple(dict.fromkeys(options["backends"]))
    for name in chosen:
        if name not in held:
            raise UsageError(f"{path}: holds no artefact for {name}; it holds: {', '.join(held)}")
        why = why_unusable(name)
        if why is not None:
            raise BackendMissingError(f"backend {name}: {why}")
    not_run = {} if chosen else {name: why for name in held if name in BACKENDS and (why := why_unusable(name))}
    names = chosen or tuple(name for name in held if name in BACKENDS and name not in not_run)
    if not names:
        raise BackendMissingError(f"{path}: none of its backends can be used here: {'; '.join(not_run.values())}")
    if options["device"] is not None and len(names) > 1:
        raise UsageError(f"--device {options['device']} with {len(names)} backends; name one with --backend")
    budget = len(options["pin"]) or usable_processors()
    offline = options["scenario"] == "offline"
    if options["streams"] is not None and not offline:
        raise UsageError(f"--streams serves --scenario offline; {options['scenario']} has one frame in flight")
    return [
        CaseSpec(
            backend=name,
            device=options["device"],
            threads=threads,
            streams=(options["streams"] or threads) if offline else 1,
            pinned_to=options["pin"],
            hint=options["hint"],
        )
        for name in names
        for threads in options["threads"] or (budget,)
    ], not_run
