"""``vmeg-edge demo``: a phantom cine through the embedded demo bundle."""

from __future__ import annotations

import json
from pathlib import Path

import click

from vmeg_edge.cli.console import open_console
from vmeg_edge.cli.options import DEMO_BUNDLE


@click.command(name="demo")
@click.option(
    "--out",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("demo-output"),
    show_default=True,
    help="Folder for the files.",
)
@click.option("--frames", type=click.IntRange(2, 10_000), default=120, show_default=True, help="Length of the cine.")
@click.option("--seed", type=click.IntRange(0), default=2, show_default=True, help="Which heads are drawn.")
@click.option("--threads", type=click.IntRange(1, 1024), help="Threads for inference. [default: all]")
@click.option("--json", "as_json", is_flag=True, help="Print the summary as JSON.")
def command(out: Path, frames: int, seed: int, threads: int | None, as_json: bool) -> None:
    """Play a phantom cine through the embedded demo model.

    Two simulated heads, the first with normal ventricles, the second with dilated ones, are rendered, scored and
    explained frame by frame. Writes results.jsonl, overlay.mp4 and contact-sheet.png.

    \b
    Examples:
      vmeg-edge demo
      vmeg-edge demo --out /tmp/demo --frames 300
    """
    from vmeg_edge.cli.progress import ProgressReport
    from vmeg_edge.cli.summary import RunReport
    from vmeg_edge.errors import OutputError
    from vmeg_edge.loading import load
    from vmeg_edge.phantom import PhantomCine
    from vmeg_edge.sinks import JsonLines, OverlaySheet, OverlayVideo, Sink
    from vmeg_edge.sources.memory import MemorySource
    from vmeg_edge.streaming import stream

    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"{out}: cannot be made ({error.strerror}); choose another folder with --out") from None
    cine = PhantomCine(frames=frames, seed=seed)
    rate = cine.fps or 20.0
    names = {"lines": out / "results.jsonl", "video": out / "overlay.mp4", "sheet": out / "contact-sheet.png"}
    report = RunReport()
    with ProgressReport() as progress, load(DEMO_BUNDLE, threads=threads) as scorer:
        rule = scorer.manifest.decision
        rendered = []
        truth = []
        for phantom in cine.phantoms():
            rendered.append(phantom.frame)
            truth.append(phantom.dilated)
            progress.update("rendering phantoms", len(rendered), frames)
        sinks: list[Sink] = []
        try:
            sinks.append(JsonLines(names["lines"]))
            sinks.append(OverlayVideo(names["video"], rule, rate))
            sinks.append(OverlaySheet(names["sheet"], rule))
        except BaseException:
            for sink in sinks:
                sink.abort()
            raise
        run = stream(
            MemorySource(rendered, name="phantom cine", fps=rate),
            scorer,
            sinks=sinks,
            on_frame=lambda s: progress.update("scoring", s.frames, frames),
        )
        right = decided = 0
        for result in run:
            report.add(result)
            decision = result.prediction.decision
            decided += decision != "no-decision"
            right += decision == ("suspected" if truth[result.frame] else "normal")
    files = {name: str(path) for name, path in names.items()}
    if as_json:
        summary = report.to_json(run.summary)
        click.echo(json.dumps({**summary, "decided": decided, "right": right, "files": files}, indent=2))
        return
    console = open_console()
    report.show(run.summary, console, title=f"{frames} frames of two simulated heads, from memory")
    console.print(
        f"{right} of {decided} decisions agree with the phantom's atrial width (10 mm or more: suspected); "
        f"{frames - decided} frames without a decision"
    )
    for path in names.values():
        console.print(f"wrote {path}")
