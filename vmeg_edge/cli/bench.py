"""``vmeg-edge bench``: latency, throughput, memory and parity on this machine, with a verdict on the run itself."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from vmeg_edge.cli.options import ARCHITECTURES, read_size, region_option

if TYPE_CHECKING:
    from vmeg_edge.bench.comparison import Comparison
    from vmeg_edge.bench.report import BenchReport

_STDOUT = "-"


def _read_counts(_: click.Context, param: click.Parameter, value: str | None) -> tuple[int, ...]:
    """The option value ``1,2,4`` as whole numbers, none twice."""
    if value is None:
        return ()
    parts = [part.strip() for part in value.split(",")]
    if not all(part.isdecimal() and len(part) < 10 for part in parts):
        raise click.BadParameter(f"{value!r} is not whole numbers such as 1,2", param=param)
    numbers = tuple(dict.fromkeys(int(part) for part in parts))
    if param.name == "threads" and not all(1 <= number <= 1024 for number in numbers):
        raise click.BadParameter(f"{value!r}: each number must be from 1 to 1024", param=param)
    return numbers


def _read_limit(_: click.Context, param: click.Parameter, value: float | None) -> float | None:
    """A limit that something can be above or below: NaN would let everything pass."""
    if value is not None and not (math.isfinite(value) and value >= 0):
        raise click.BadParameter(f"{value:g} is no limit; give a number of 0 or more", param=param)
    return value


@click.command(name="bench")
@click.option(
    "--bundle",
    "bundles",
    multiple=True,
    type=click.Path(path_type=Path),
    help="Bundle folder; may be repeated, to measure several side by side. [default: the embedded demo bundle]",
)
@click.option(
    "--arch",
    "archs",
    multiple=True,
    type=click.Choice(ARCHITECTURES),
    metavar="NAME",
    help="Bench a model of this size with random weights, made here by the toolchain and kept in the engine cache; may "
    f"be repeated, and stand beside --bundle. One of: {', '.join(ARCHITECTURES)}.",
)
@click.option(
    "--precision",
    type=click.Choice(["float32", "int8"]),
    help="Precision of --arch. [default: int8]",
)
@click.option(
    "--backend",
    "backends",
    multiple=True,
    help="Backend to measure, which each bundle must hold; may be repeated. [default: every usable one]",
)
@click.option("--device", "-d", help="Device: CPU, GPU, NPU, CUDA:0. [default: the backend's own]")
@click.option(
    "--scenario",
    type=click.Choice(["single", "paced", "offline"]),
    default="single",
    show_default=True,
    help="single: back to back, one frame in flight. paced: frames arrive at --fps. offline: throughput.",
)
@click.option(
    "--frames",
    default="phantom:",
    metavar="SOURCE",
    help="Frames to score: a file, folder, camera:0 ..., as `stream` takes them. [default: simulated heads, 1920x1080]",
)
@click.option(
    "--size", callback=read_size, metavar="WxH", help="Scale the frames to this size first, such as 1920x1080."
)
@region_option
@click.option("--fps", type=float, help="Frames a second that arrive when paced. [default: 10]")
@click.option("--deadline-ms", type=float, help="A result older is late. [default when paced: the frame period]")
@click.option("--duration", "-t", "duration_s", type=float, default=10.0, show_default=True, help="Seconds a case.")
@click.option(
    "--iterations", "--niter", type=click.IntRange(1, 1_000_000), help="Frames a case, instead of --duration."
)
@click.option("--rounds", type=click.IntRange(1, 1000), default=5, show_default=True, help="Turns that the cases take.")
@click.option(
    "--warm-up", type=click.IntRange(0, 10_000), default=3, show_default=True, help="Frames uncounted a round."
)
@click.option(
    "--threads", "--nthreads", callback=_read_counts, metavar="N[,N...]", help="Threads; 1,2 sweeps. [default: all]"
)
@click.option(
    "--streams",
    "--nstreams",
    type=click.IntRange(1, 1024),
    help="Frames in flight when offline. [default: one a thread]",
)
@click.option("--pin", callback=_read_counts, metavar="N[,N...]", help="Keep each case on these processors.")
@click.option(
    "--hint",
    type=click.Choice(["LATENCY", "THROUGHPUT"], case_sensitive=False),
    default="LATENCY",
    show_default=True,
    help="OpenVINO's performance hint.",
)
@click.option("--no-cache", "cache", flag_value=False, default=True, help="Compile anew; keep no engine.")
@click.option(
    "--json",
    "json_to",
    is_flag=False,
    flag_value=_STDOUT,
    metavar="[FILE]",
    help="Write the report as JSON: to FILE, or alone to the standard output.",
)
@click.option("--csv", "csv_to", type=click.Path(path_type=Path), help="Write every frame's times to this file.")
@click.option("--html", "html_to", type=click.Path(path_type=Path), help="Write one self-contained page to this file.")
@click.option("--compare", type=click.Path(path_type=Path), metavar="OLD.json", help="Hold against an earlier --json.")
@click.option(
    "--max-p99-ms", type=float, callback=_read_limit, help="Exit 1 where a case's p99 is above this, or unproven."
)
@click.option("--min-fps", type=float, callback=_read_limit, help="Exit 1 where a case's throughput is below this.")
@click.option(
    "--max-regression",
    type=float,
    callback=_read_limit,
    metavar="PERCENT",
    help="Exit 1 where a median grew by more than this against --compare, beyond noise.",
)
@click.option("--schema", is_flag=True, help="Print the JSON Schema of --json and leave.")
def command(**options: Any) -> None:
    """Measure bundles on this machine: what a frame takes, stage by stage, with parity beside it.

    Each bundle, backend and number of threads is a case with a process of its own; cases take turns on the same frames.
    All of them stay open for the whole run, so its memory is the sum of theirs, each with up to 100 MB of frames. Every
    run gets a verdict: INVALID (exit code 1) where samples are too few, times drift, the processor throttles or other
    work disturbs.

    \b
    Examples:
      vmeg-edge bench
      vmeg-edge bench --bundle v8.vmeg --frames cine.dcm --threads 1,2 --html report.html
      vmeg-edge bench --bundle vit.vmeg --bundle resnet.vmeg --iterations 700 --html report.html
      vmeg-edge bench --arch vit_base --arch resnet50 --arch vgg19 --backend onnxruntime
      vmeg-edge bench --bundle v8.vmeg --scenario paced --fps 10 --duration 90 --max-p99-ms 100
      vmeg-edge bench --arch vit_base --iterations 700 --json now.json --compare before.json
    """
    from vmeg_edge.bench.report import parse_report, report_schema
    from vmeg_edge.errors import UsageError

    if options["schema"]:
        click.echo(json.dumps(report_schema(), indent=2))
        return
    if options["max_regression"] is not None and options["compare"] is None:
        raise UsageError("--max-regression needs an earlier run to hold against; give --compare OLD.json")
    old = None
    if options["compare"] is not None:
        old = parse_report(options["compare"].read_bytes(), str(options["compare"]))
        if old.settings.scenario != options["scenario"]:
            raise UsageError(
                f"{options['compare']}: is a run of scenario {old.settings.scenario}, and this one is "
                f"{options['scenario']}; give --scenario {old.settings.scenario} or another report"
            )
    _check_outputs(options)
    report = _measured(options)
    comparison = None
    if old is not None:
        from vmeg_edge.bench.comparison import compare

        comparison = compare(report, old)
    _write(report, comparison, options)
    refused = _refusals(report, comparison, options)
    for line in refused:
        click.echo(f"vmeg-edge: {line}", err=True)
    if refused or not report.valid:
        raise click.exceptions.Exit(1)


def _measured(options: dict[str, Any]) -> BenchReport:
    from vmeg_edge.bench import held
    from vmeg_edge.bench.run import bench
    from vmeg_edge.cli.bench_plan import bundles_of, cases_of, plan_of
    from vmeg_edge.cli.progress import ProgressReport

    plan = plan_of(options)
    bundles = bundles_of(options)
    cases, not_run = cases_of([path for path, _ in bundles], options)
    with ProgressReport() as progress:
        frames = held.gather(
            options["frames"],
            region=options["region"],
            size=options["size"],
            progress=lambda done, total: progress.update("gathering frames", done, total),
        )
        return bench(plan, cases, frames, notices=dict(bundles), not_run=not_run, progress=progress.update)


def _check_outputs(options: dict[str, Any]) -> None:
    """Refuse what could not be written, before anything is measured."""
    from vmeg_edge.errors import UsageError
    from vmeg_edge.outputs import PendingFile

    places = [options["csv_to"], options["html_to"]]
    if options["json_to"] not in (None, _STDOUT):
        places.append(Path(options["json_to"]))
    wanted = [place for place in places if place is not None]
    for place in wanted:
        PendingFile(place).abort()
    if len({place.resolve() for place in wanted}) < len(wanted):
        raise UsageError("--json, --csv and --html name one file twice; give each its own")


def _write(report: BenchReport, comparison: Comparison | None, options: dict[str, Any]) -> None:
    from vmeg_edge.outputs import PendingFile

    written = []
    if options["json_to"] not in (None, _STDOUT):
        with PendingFile(Path(options["json_to"])) as pending:
            pending.write_bytes(report.to_json().encode())
        written.append(options["json_to"])
    if options["csv_to"] is not None:
        from vmeg_edge.bench.frames_csv import write_csv

        write_csv(report, options["csv_to"])
        written.append(options["csv_to"])
    if options["html_to"] is not None:
        from vmeg_edge.bench.page import html

        with PendingFile(options["html_to"]) as pending:
            pending.write_bytes(html(report, comparison).encode())
        written.append(options["html_to"])
    if options["json_to"] == _STDOUT:
        click.echo(report.to_json(), nl=False)
        return
    from vmeg_edge.cli.bench_table import show
    from vmeg_edge.cli.console import open_console

    console = open_console()
    show(report, console, comparison)
    for path in written:
        console.print(f"wrote {path}")


def _refusals(report: BenchReport, comparison: Comparison | None, options: dict[str, Any]) -> list[str]:
    """Why the answer is no, a line each."""
    lines = []
    for case in report.cases:
        whole = case.stages_ms["end_to_end"]
        most_ms, least_fps = options["max_p99_ms"], options["min_fps"]
        if most_ms is not None and "p99" in whole.too_few_samples_for:
            lines.append(f"{case.name}: {whole.samples} samples prove no p99; give --iterations 662 or more")
        elif most_ms is not None and whole.p99_ms > most_ms:
            lines.append(f"{case.name}: p99 is {whole.p99_ms:.2f} ms, above --max-p99-ms {most_ms:g}")
        if least_fps is not None and case.throughput_fps < least_fps:
            lines.append(f"{case.name}: {case.throughput_fps:.2f} frames a second, below --min-fps {least_fps:g}")
    if comparison is not None and options["max_regression"] is not None:
        from vmeg_edge.bench.comparison import regressions

        lines += regressions(comparison, options["max_regression"])
    return lines
