"""``vmeg-edge score``: files in, JSON lines and pictures out."""

from __future__ import annotations

import json
import sys
import warnings
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from vmeg_edge.cli.console import open_console
from vmeg_edge.cli.options import DEMO_BUNDLE, region_option, runtime_options
from vmeg_edge.errors import UsageError
from vmeg_edge.frames import Region

if TYPE_CHECKING:
    from collections.abc import Iterator

    from vmeg_edge.sinks import Sink


@click.command(name="score")
@click.argument("source", type=click.Path(path_type=Path))
@click.option("--out", default="-", show_default=True, help="JSON lines: a file, or - for standard output.")
@click.option("--overlay", help="Overlay: a video (.mp4, .mov, .mkv, .avi) or a .png.")
@region_option
@click.option(
    "--json", "as_json", is_flag=True, help="Print the summary as JSON on standard output (needs --out FILE)."
)
@runtime_options
def command(
    source: Path,
    out: str,
    overlay: str | None,
    region: Region | None,
    as_json: bool,
    bundle: Path,
    **engine: Any,
) -> None:
    """Score SOURCE frame by frame: a still, a folder, a video, a DICOM file or a MetaImage sequence.

    What a file is, is told by its content. Frames that cannot be read are counted and named; the others are scored, and
    the exit code is 1.

    \b
    Examples:
      vmeg-edge score cine.mp4 --out results.jsonl --overlay overlay.mp4
      vmeg-edge score cine.dcm --bundle vit.vmeg --out results.jsonl
      vmeg-edge score stills/ --overlay sheet.png --out results.jsonl
      vmeg-edge score cine.mp4 --region 80,0,640,600 | jq .probability
    """
    from vmeg_edge.cli.opening import opened
    from vmeg_edge.cli.progress import ProgressReport
    from vmeg_edge.cli.summary import RunReport
    from vmeg_edge.sinks import JsonLines, open_overlay
    from vmeg_edge.sources import open_source
    from vmeg_edge.streaming import stream

    if as_json and out == "-":
        raise UsageError("--json prints the summary on standard output; give the lines a place with --out FILE")
    console = open_console(stderr=True)
    with (
        _plain_warnings(),
        open_source(source) as frames,
        opened(bundle, region=region, **engine) as scorer,
    ):
        if bundle == DEMO_BUNDLE:
            console.print("no --bundle given: the embedded demo model scores", style="yellow")
        sinks: list[Sink] = []
        try:
            sinks.append(JsonLines(sys.stdout if out == "-" else out))
            if overlay is not None:
                sinks.append(open_overlay(overlay, scorer.manifest.decision, frames.fps))
        except BaseException:
            for sink in sinks:
                sink.abort()
            raise
        report = RunReport()
        with ProgressReport() as progress:
            run = stream(
                frames,
                scorer,
                sinks=sinks,
                on_frame=lambda s: progress.update("scoring", s.frames, frames.frame_count),
            )
            for result in run:
                report.add(result)
    if as_json:
        click.echo(json.dumps(report.to_json(run.summary), indent=2))
    else:
        report.show(run.summary, console, title=str(source))
    if run.summary.scored < run.summary.frames:
        raise click.exceptions.Exit(1)


@contextmanager
def _plain_warnings() -> Iterator[None]:
    """Show a warning as one line, without the place in our code that raised it."""

    def show(message: Warning | str, *_: object, **__: object) -> None:
        click.echo(f"vmeg-edge: warning: {message}", err=True)

    with warnings.catch_warnings():
        warnings.simplefilter("always", UserWarning)
        warnings.showwarning = show
        yield
