"""``vmeg-edge verify``: digests, then golden frames."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from vmeg_edge.cli.console import open_console, table


@click.command(name="verify")
@click.argument("bundle", type=click.Path(path_type=Path), required=False)
@click.option("--backend", help="Backend to run on. [default: every usable one that the bundle has an artefact for]")
@click.option("--device", help="Device: CPU, GPU, NPU, CUDA:0. [default: the backend's own]")
@click.option("--threads", type=click.IntRange(1, 1024), help="Threads for inference. [default: all]")
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
def command(bundle: Path | None, backend: str | None, device: str | None, threads: int | None, as_json: bool) -> None:
    """Check the digests of BUNDLE, and that its golden frames still get their reference's answers here.

    BUNDLE defaults to the embedded demo bundle. Exit code 1 when a golden frame fails.

    \b
    Examples:
      vmeg-edge verify vit.vmeg
      vmeg-edge verify vit.vmeg --backend onnxruntime --json
      (cd vit.vmeg && sha256sum --check SHA256SUMS)
    """
    from vmeg_edge.backends import BACKENDS, why_unusable
    from vmeg_edge.bundle import open_bundle
    from vmeg_edge.cli.opening import opened as opened_scorer
    from vmeg_edge.cli.options import DEMO_BUNDLE
    from vmeg_edge.errors import BackendMissingError
    from vmeg_edge.matching import on_this_processor, proven_line

    path = bundle or DEMO_BUNDLE
    opened = on_this_processor(open_bundle(path))
    names = [backend] if backend else [name for name in opened.manifest.artefacts if name in BACKENDS]
    absent = {} if backend else {name: why for name in names if (why := why_unusable(name))}
    usable = [name for name in names if name not in absent]
    if not usable:
        raise BackendMissingError(f"{path}: none of its backends can be used here: {'; '.join(absent.values())}")
    rows = []
    for name in usable:
        with opened_scorer(path, backend=name, device=device, threads=threads, self_test=False) as scorer:
            parity = scorer.golden_parity()
            failures = scorer.failures_of(parity)
            rows.append(
                {
                    **asdict(scorer.backend.report),
                    "processor": scorer.provenance["processor"],
                    "proven": dict(opened.manifest.artefacts[name].proven),
                    "golden": parity.to_json(),
                    "failures": failures,
                    "passed": not failures,
                }
            )
    passed = all(row["passed"] for row in rows)
    manifest = opened.manifest
    if as_json:
        content = {
            "bundle": str(path),
            "digest": opened.digest,
            "files": dict(opened.digests),
            "backends": rows,
            "not_run": absent,
            "passed": passed,
            "notices": list(manifest.notices),
        }
        click.echo(json.dumps(content, indent=2))
    else:
        console = open_console()
        console.print(f"{path}: {len(opened.digests)} digests match")
        columns = ("backend", "device", "precision", "gate", "frames", "max |dp|", "flips", "heat-map cosine")
        title = f"golden frames of {manifest.name} ({opened.digest[:12]})"
        console.print(table(title, columns, map(_cells, rows), text_columns=4))
        for row in rows:
            for failure in row["failures"]:
                console.print(f"{row['backend']}: {failure}")
        for row in rows:
            if row["proven"]:
                console.print(f"{row['backend']}: {proven_line(row['proven'])}")
        for name, why in absent.items():
            console.print(f"{name} was not run here: {why}")
        for notice in manifest.notices:
            console.print(notice)
    if not passed:
        raise click.exceptions.Exit(1)


def _cells(row: dict[str, Any]) -> tuple[str, ...]:
    golden = row["golden"]
    return (
        f"{row['backend']} {row['version'].partition('-')[0]}",
        row["device"],
        row["precision"],
        "passed" if row["passed"] else "FAILED",
        str(golden["frames"]),
        _figure(golden["max_abs_dp"], ".1e"),
        str(golden["flips"]),
        _figure(golden["heatmap_cosine_min"], ".6f"),
    )


def _figure(value: float | None, form: str) -> str:
    return "not finite" if value is None else format(value, form)
