"""What the options of ``vmeg-edge bench`` ask for: the plan, the bundles and the cases, refused before work is done."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Any

import click

from vmeg_edge.backends import BACKENDS, usable_processors, why_unusable
from vmeg_edge.backends.base import backend_entry
from vmeg_edge.bench.models import open_models
from vmeg_edge.bench.plan import MOST_MS, CaseSpec, Plan
from vmeg_edge.cli.options import DEMO_BUNDLE
from vmeg_edge.errors import BackendMissingError, UsageError
from vmeg_edge.matching import on_this_processor

_FPS = 10.0


def plan_of(options: dict[str, Any]) -> Plan:
    """How to measure. Raises `UsageError` for what cannot be measured, and for what the scenario would ignore."""
    paced = options["scenario"] == "paced"
    for name in ("fps", "deadline_ms"):
        if options[name] is not None and not paced:
            option = f"--{name.replace('_', '-')}"
            raise UsageError(f"{option} serves --scenario paced; {options['scenario']} takes frames as fast as it can")
    if options["precision"] is not None and not options["archs"]:
        raise UsageError("--precision is that of --arch; a bundle has its own")
    for name in options["backends"]:
        backend_entry(name)
    plan = Plan(
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


def bundles_of(options: dict[str, Any]) -> list[tuple[Path, tuple[str, ...]]]:
    """The bundles to measure, those with random weights last, each with what has to be said of it."""
    archs = options["archs"]
    named = options["bundles"] or (() if archs else (DEMO_BUNDLE,))
    bundles: list[tuple[Path, tuple[str, ...]]] = [(path, ()) for path in named]
    if not archs:
        return bundles
    twice = next((arch for arch in archs if archs.count(arch) > 1), None)
    if twice is not None:
        raise UsageError(f"--arch {twice}: given twice; give each once")
    for name in options["backends"]:
        _check_usable(name)
    if named:  # what is wrong with them is said before models are made
        cases_of(named, options)
    from vmeg_edge.cli.toolchain import toolchain

    maker = toolchain("random_bundle")
    for arch in archs:
        path = maker.random_bundle(
            arch,
            options["precision"] or "int8",
            tuple(options["backends"]),
            lambda line: click.echo(line, err=True),
        )
        bundles.append((path, (maker.RANDOM_WEIGHTS,)))
    return bundles


def cases_of(paths: Sequence[Path], options: dict[str, Any]) -> tuple[list[CaseSpec], dict[Path, dict[str, str]]]:
    """Every bundle on every backend with every number of threads; and the backends that are left out, by bundle."""
    bundles = [on_this_processor(bundle) for bundle in open_models(paths).values()]
    held = {bundle.path: tuple(bundle.manifest.artefacts) for bundle in bundles}
    chosen = tuple(dict.fromkeys(options["backends"]))
    for name in chosen:
        for path, own in held.items():
            if name not in own:
                raise UsageError(f"{path}: holds no artefact for {name}; it holds: {', '.join(own)}")
        _check_usable(name)
    known = chosen or tuple(name for name in dict.fromkeys(chain(*held.values())) if name in BACKENDS)
    unusable = {name: why for name in known if (why := why_unusable(name)) is not None}
    usable = [name for name in known if name not in unusable]
    not_run = {path: {name: why for name, why in unusable.items() if name in own} for path, own in held.items()}
    for path, own in held.items():
        if not any(name in own for name in usable):
            whys = "; ".join(not_run[path].values())
            raise BackendMissingError(f"{path}: none of its backends can be used here: {whys}")
        not_run[path] |= {name: "the bundle holds no artefact for it" for name in usable if name not in own}
    if options["device"] is not None and len(usable) > 1:
        raise UsageError(f"--device {options['device']} with {len(usable)} backends; name one with --backend")
    offline = options["scenario"] == "offline"
    if options["streams"] is not None and not offline:
        raise UsageError(f"--streams serves --scenario offline; {options['scenario']} has one frame in flight")
    budget = min(len(options["pin"]) or usable_processors(), usable_processors())
    return [
        CaseSpec(
            path,
            name,
            device=options["device"],
            threads=threads,
            streams=(options["streams"] or threads) if offline else 1,
            pinned_to=options["pin"],
            hint=options["hint"],
        )
        for path, own in held.items()
        for name in usable
        if name in own
        for threads in options["threads"] or (budget,)
    ], not_run


def _check_usable(backend: str) -> None:
    why = why_unusable(backend)
    if why is not None:
        raise BackendMissingError(f"backend {backend}: {why}")
