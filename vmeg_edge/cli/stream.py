"""``vmeg-edge stream``: a live source through the scorer, in sight while it runs, and a record run again."""

from __future__ import annotations

import json
import signal as signals
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

import click

from vmeg_edge.cli.console import open_console
from vmeg_edge.cli.options import DEMO_BUNDLE, read_size, region_option, runtime_options
from vmeg_edge.errors import UsageError
from vmeg_edge.frames import Region

if TYPE_CHECKING:
    from rich.console import Console

    from vmeg_edge.scorer import Scorer
    from vmeg_edge.serve import LiveView as Viewer
    from vmeg_edge.sinks import Sink
    from vmeg_edge.streaming import Stream

ENGINE = ("backend", "device", "threads", "hint", "cache", "self_test", "sector")
# What a program sends to end another one: on Windows, only Ctrl-Break reaches a process that has a group of its own.
if sys.platform == "win32":
    _ENDINGS = (signals.SIGINT, signals.SIGTERM, signals.SIGBREAK)
else:
    _ENDINGS = (signals.SIGINT, signals.SIGTERM)


@click.command(name="stream")
@click.argument("source")
@click.option("--out", help="JSON lines: a file, or - for standard output.")
@click.option("--overlay", help="Overlay: a video (.mp4, .mov, .mkv, .avi) or a .png.")
@click.option("--record", type=click.Path(path_type=Path), help="New folder to keep frames, arrivals, decisions in.")
@click.option("--serve", metavar="HOST:PORT", help="Page for a browser, and /metrics for Prometheus.")
@click.option("--serve-token", help="Token that --serve asks for off loopback. [default: a new one, shown once]")
@click.option(
    "--policy",
    type=click.Choice(["latest", "block", "queue"]),
    help="latest: the newest frame, dropping older ones; block: every frame; queue: the oldest first, refusing more "
    "when full. [default: latest for a live source, block for a file]",
)
@click.option("--depth", type=click.IntRange(1, 1024), help="Frames that may wait. [default: 1; queue: 8]")
@click.option("--deadline-ms", type=float, help="From capture to result: past it, frames are dropped, results late.")
@click.option(
    "--duration",
    "duration_s",
    type=click.FloatRange(0, min_open=True),
    help="Seconds to run. [default: until the source ends]",
)
@click.option("--fps", type=float, help="Pace of replay: and phantom:, or the rate to ask of a camera.")
@click.option("--loop", is_flag=True, help="Start a replay over when it ends.")
@click.option("--size", callback=read_size, metavar="WIDTHxHEIGHT", help="Size to ask of a camera.")
@click.option("--pixel-format", help="FOURCC to ask of a camera: MJPG, YUYV, GREY.")
@click.option(
    "--isolate/--no-isolate", default=None, help="Read in a process of its own. [default: for cameras, URLs, igtl://]"
)
@click.option(
    "--none-after-s",
    type=float,
    help="No frame for so long: no signal. [default: 0.4, or three frames of a source that states a slower rate]",
)
@click.option(
    "--frozen-after-s", type=float, default=1.0, show_default=True, help="Picture unchanged for so long: frozen."
)
@click.option("--exam-window-s", type=float, default=3.0, show_default=True, help="Exam: evidence counts for so long.")
@click.option("--exam-evidence", type=int, default=10, show_default=True, help="Exam: frames of evidence it needs.")
@click.option("--exam-enter", type=float, default=0.7, show_default=True, help="Exam: share that makes it suspected.")
@click.option("--exam-leave", type=float, default=0.3, show_default=True, help="Exam: share that makes it normal.")
@click.option("--exam-dwell-s", type=float, default=1.5, show_default=True, help="Exam: no second change within.")
@region_option
@click.option(
    "--sector",
    default="off",
    show_default=True,
    metavar="auto|off|PNG",
    help="With a bundle that has --sector-tokens: let dark patches outside the sector share tokens. auto learns the "
    "sector from the first frames, PNG is white inside it.",
)
@click.option(
    "--json", "as_json", is_flag=True, help="Print the summary as JSON on standard output (not with --out -)."
)
@runtime_options
def command(source: str, out: str | None, as_json: bool, bundle: Path, **options: Any) -> None:
    """Score SOURCE as it comes, with a deadline, and show score, signal and age while it runs. Ctrl-C ends it.

    SOURCE is a file or folder; replay:PATH, the same paced like a camera; phantom:, simulated heads; camera:0
    or /dev/video0; a URL (rtsp://, http://, udp://); igtl://HOST[:PORT][/DEVICE]; or a folder that --record wrote,
    which is run again and compared, event by event.

    \b
    Examples:
      vmeg-edge stream phantom: --duration 20
      vmeg-edge stream replay:cine.mp4 --deadline-ms 100 --record complaint
      vmeg-edge stream complaint
      vmeg-edge stream camera:0 --size 1280x720 --fps 30 --pixel-format MJPG --serve 127.0.0.1:8080
      vmeg-edge stream rtsp://cart.local/live --bundle vit.vmeg --out results.jsonl
    """
    from vmeg_edge.recording import is_record

    if as_json and out == "-":
        raise UsageError("--json prints the summary on standard output; give the lines a place with --out FILE")
    if is_record(Path(source)):
        _refuse_what_a_record_settles()
        _rerun(source, out, as_json, bundle, options)
    else:
        _stream(source, out, as_json, bundle, options)


def _refuse_what_a_record_settles() -> None:
    """A replay follows the record's own rules. Raises `UsageError` for an option that would say otherwise."""
    context = click.get_current_context()
    kept = {"source", "out", "overlay", "as_json", "bundle", "region", *ENGINE}
    for option in context.command.params:
        given = context.get_parameter_source(option.name or "") == click.core.ParameterSource.COMMANDLINE
        if given and option.name not in kept:
            raise UsageError(f"{option.opts[0]}: a record is run again as it was recorded; leave this option out")


def _stream(text: str, out: str | None, as_json: bool, bundle: Path, options: dict[str, Any]) -> None:
    from vmeg_edge.cli.live_view import LiveView
    from vmeg_edge.cli.opening import opened
    from vmeg_edge.cli.summary import RunReport
    from vmeg_edge.exam import ExamRule
    from vmeg_edge.live import SignalRules
    from vmeg_edge.sources.isolated import open_where_due
    from vmeg_edge.sources.spec import parse_source
    from vmeg_edge.streaming import stream

    region: Region | None = options["region"]
    spec = parse_source(
        text,
        region=region,
        fps=options["fps"],
        size=options["size"],
        pixel_format=options["pixel_format"],
        loop=options["loop"],
    )
    none_after_s, frozen_after_s = options["none_after_s"], options["frozen_after_s"]
    signal = SignalRules(0.4 if none_after_s is None else none_after_s, frozen_after_s)
    rules = {
        "policy": options["policy"],
        "depth": options["depth"],
        "deadline_ms": options["deadline_ms"],
        "exam": ExamRule(
            window_s=options["exam_window_s"],
            minimum_evidence=options["exam_evidence"],
            enter=options["exam_enter"],
            leave=options["exam_leave"],
            dwell_s=options["exam_dwell_s"],
        ),
    }
    console = open_console(stderr=True)
    with ExitStack() as stack:
        scorer = stack.enter_context(opened(bundle, region=region, **{name: options[name] for name in ENGINE}))
        if bundle == DEMO_BUNDLE:
            console.print("no --bundle given: the embedded demo model scores", style="yellow")
        frames = open_where_due(spec, options["isolate"])
        stack.callback(frames.close)
        sinks = _sinks(out, options["overlay"], scorer, frames.fps)
        for sink in sinks:
            stack.callback(sink.abort)  # nothing happens after a close: for what fails before the stream has them
        view = None if options["serve"] is None else _serve(stack, scorer, frames.name, console, options)
        run = stream(
            frames,
            scorer,
            sinks=sinks if view is None else [*sinks, view],
            record=options["record"],
            duration_s=options["duration_s"],
            signal=signal if none_after_s is not None else SignalRules.at_rate(frames.fps, frozen_after_s),
            **rules,
        )
        report = RunReport()
        if view is not None:
            view.follow(run.status)
        with _ends_by_signal(run), LiveView(run, console, title=frames.name, notices=scorer.notices):
            for result in run:
                report.add(result)
    summary = run.summary
    exam = run.status().exam
    if as_json:
        click.echo(json.dumps({**report.to_json(summary), "exam": exam}, indent=2))
    else:
        report.show(summary, console, title=f"{frames.name}, policy {summary.policy}")
        console.print(f"exam at the end: {exam}")
    problems = [f"{sink.name}: {sink.problem}" for sink in summary.sinks if sink.problem]
    problems += [f"record: {summary.record_problem}"] if summary.record_problem else []
    for problem in problems:
        click.echo(f"vmeg-edge: warning: {problem}", err=True)
    if problems or (summary.policy == "block" and summary.scored < summary.frames - summary.dropped):
        raise click.exceptions.Exit(1)


def _rerun(text: str, out: str | None, as_json: bool, bundle: Path, options: dict[str, Any]) -> None:
    """Replay a record, and say whether everything came out as it was recorded."""
    from vmeg_edge.cli.opening import opened
    from vmeg_edge.cli.progress import ProgressReport
    from vmeg_edge.cli.summary import RunReport
    from vmeg_edge.recording import open_record
    from vmeg_edge.replaying import Replay

    record = open_record(Path(text))
    console = open_console(stderr=True)
    report = RunReport()
    with (
        opened(bundle, region=options["region"], **{name: options[name] for name in ENGINE}) as scorer,
        ProgressReport() as progress,
    ):
        recorded = record.header.provenance.get("bundle")
        if recorded != scorer.provenance["bundle"]:
            console.print(
                f"the record was scored by another bundle ({str(recorded)[:12]}); expect differences", style="yellow"
            )
        sinks = _sinks(out, options["overlay"], scorer, None)
        again = Replay(record, scorer, sinks=sinks)
        for result in again:
            report.add(result)
            progress.update("replaying", again.summary.scored, None)
    as_recorded = again.difference is None
    if as_json:
        verdict = {"events": again.events, "as_recorded": as_recorded, "difference": again.difference}
        click.echo(json.dumps({**report.to_json(again.summary), **verdict}, indent=2))
    else:
        report.show(again.summary, console, title=f"record {text}")
        console.print(
            f"{again.events} events replayed, all as recorded"
            if as_recorded
            else f"not as recorded: {again.difference}"
        )
    if not as_recorded:
        raise click.exceptions.Exit(1)


def _sinks(out: str | None, overlay: str | None, scorer: Scorer, fps: float | None) -> list[Sink]:
    from vmeg_edge.sinks import JsonLines, open_overlay

    sinks: list[Sink] = []
    try:
        if out is not None:
            sinks.append(JsonLines(sys.stdout if out == "-" else out))
        if overlay is not None:
            sinks.append(open_overlay(overlay, scorer.manifest.decision, fps))
    except BaseException:
        for sink in sinks:
            sink.abort()
        raise
    return sinks


def _serve(stack: ExitStack, scorer: Scorer, source: str, console: Console, options: dict[str, Any]) -> Viewer:
    """The page's view, with its server running until ``stack`` ends."""
    from vmeg_edge.serve import LiveView as Viewer
    from vmeg_edge.serve import parse_address, serve

    host, port = parse_address(options["serve"])
    view = Viewer(scorer.manifest.decision, scorer.notices, provenance=scorer.provenance, source=source)
    server = stack.enter_context(serve(view, host, port, options["serve_token"]))
    console.print(f"serving {server.url}")
    return view


@contextmanager
def _ends_by_signal(run: Stream) -> Iterator[None]:
    """The first Ctrl-C (SIGTERM, Ctrl-Break) ends the run after the frame in work; a second one interrupts."""

    def end(number: int, _: FrameType | None) -> None:
        signals.signal(number, before[signals.Signals(number)])
        run.close()

    before = {number: signals.getsignal(number) for number in _ENDINGS}
    for number in before:
        signals.signal(number, end)
    try:
        yield
    finally:
        for number, handler in before.items():
            signals.signal(number, handler)
