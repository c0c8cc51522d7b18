"""A report's tables and lines as plain text, the same in a terminal and on a page."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass

from vmeg_edge.bench.report import STAGES, BenchReport, Case, Distribution, Model, Settings
from vmeg_edge.bench.statistics import ENOUGH_SAMPLES

NOTHING = "-"
_POINTS = ("p50", "p90", "p95", "p99")


@dataclass(frozen=True)
class Sheet:
    """A table: the first ``text_columns`` columns are words, the others figures."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    text_columns: int = 1


def plain(text: object) -> str:
    """One line without control or direction characters: names come from files that others made."""
    return "".join(c if c.isprintable() else " " if c.isspace() else "?" for c in str(text))


def short(text: str, most: int) -> str:
    """Both ends of a text of more than ``most`` letters."""
    half = most // 2
    return text if len(text) <= most else f"{text[: max(0, most - half - 1)]}…{text[len(text) - half :]}"


def ms(value: float) -> str:
    """Milliseconds to about four digits, never in exponents."""
    return f"{value:.0f}" if value >= 1000 else f"{value:.1f}" if value >= 100 else f"{value:.2f}"


def point(stage: Distribution | None, name: str) -> str:
    """A percentile by its name; ``*`` where too few samples stand behind it."""
    if stage is None:
        return NOTHING
    value: float = getattr(stage, f"{name}_ms")
    return ms(value) + ("*" if name in stage.too_few_samples_for else "")


def latency(report: BenchReport) -> Sheet:
    """End to end, one row a case."""
    rows = []
    for case in report.cases:
        stage = case.stages_ms.get("end_to_end")
        cv = NOTHING if stage is None else f"{stage.cv:.1%}"
        points = (point(stage, name) for name in ("mean", *_POINTS, "max"))
        rows.append((plain(case.name), case.verdict.word, *points, cv))
    columns = ("case", "verdict", "mean", *_POINTS, "max", "cv")
    return Sheet("Latency end to end, ms", columns, tuple(rows), text_columns=2)


def yields(report: BenchReport) -> Sheet:
    """What comes out, what it takes and whether it is right, one row a case."""
    rows = []
    for case in report.cases:
        frames, memory = case.frames, case.memory
        rows.append(
            (
                plain(case.name),
                f"{case.throughput_fps:.1f}",
                f"{frames.late}/{frames.dropped}",
                f"{_mb(memory.steady_rss_mb)}/{_mb(memory.peak_rss_mb)}",
                "pass" if case.parity.passed else "FAIL",
            )
        )
    columns = ("case", "fps", "late/drop", "RSS MB", "parity")
    return Sheet("Throughput, frames, memory (RSS steady/peak), parity", columns, tuple(rows))


def overview(report: BenchReport) -> Sheet:
    """`latency` and `yields` in one row a case."""
    left, right = latency(report), yields(report)
    rows = tuple((*a, *b[1:]) for a, b in zip(left.rows, right.rows, strict=True))
    title = "Latency end to end, ms; frames late/dropped; memory (RSS) steady/peak"
    return Sheet(title, (*left.columns, *right.columns[1:]), rows, text_columns=2)


def stages(report: BenchReport) -> Sheet:
    """p50 and p99 of each stage that any case has."""
    held = [stage for stage in STAGES if any(stage in case.stages_ms for case in report.cases)]
    rows = tuple(
        (plain(case.name), name, *(point(case.stages_ms.get(stage), name) for stage in held))
        for case in report.cases
        for name in ("p50", "p99")
    )
    columns = ("case", "", *(stage.replace("_", " ") for stage in held))
    return Sheet("By stage, ms", columns, rows, text_columns=2)


def starts(report: BenchReport) -> Sheet:
    """What stands before the first result, the files that are read among it."""
    rows = tuple(
        (
            plain(case.name),
            plain(case.start.cache),
            _size(case.artefact_mb),
            *(f"{value:.0f}" for value in (case.start.import_ms, case.start.load_ms, case.start.self_test_ms)),
            ms(case.start.first_inference_ms),
            f"{case.start.process_to_first_score_ms:.0f}",
        )
        for case in report.cases
    )
    times = ("import", "load", "of it self-test", "first inference", "process to first score")
    columns = ("case", "cache", "disk MB", *times)
    return Sheet("Start in a fresh process, ms", columns, rows, text_columns=2)


def memory(report: BenchReport) -> Sheet:
    """Frames a second, what became of the frames, and memory."""
    rows = []
    for case in report.cases:
        frames, held = case.frames, case.memory
        counts = (frames.arrived, frames.scored, frames.late, frames.dropped, frames.lost, frames.failed)
        blocks = held.allocated_blocks_a_frame
        rows.append(
            (
                plain(case.name),
                f"{case.throughput_fps:.1f}",
                *(f"{count:,}" for count in counts),
                _mb(held.steady_rss_mb),
                _mb(held.peak_rss_mb),
                NOTHING if held.growth_mb is None else f"{held.growth_mb:+.1f}",
                NOTHING if blocks is None else f"{blocks:.2f}",
            )
        )
    counted = ("arrived", "scored", "late", "dropped", "lost", "failed")
    columns = ("case", "fps", *counted, "RSS steady", "peak", "growth", "objects/frame")
    return Sheet("Throughput, frames, and resident memory (RSS) in MB", columns, tuple(rows))


def parity(report: BenchReport) -> Sheet:
    """Each case against the float32 reference."""
    rows = []
    for case in report.cases:
        held = case.parity
        figures = (held.max_abs_dp, held.mean_abs_dp)
        cosine = NOTHING if held.heatmap_cosine_min is None else f"{held.heatmap_cosine_min:.4f}"
        shown = (NOTHING if value is None else f"{value:.2g}" for value in figures)
        word = "pass" if held.passed else "FAIL"
        rows.append((plain(case.name), word, str(held.frames), *shown, str(held.flips), cosine))
    columns = ("case", "parity", "frames", "max |Δp|", "mean |Δp|", "flips", "heat-map cosine, least")
    return Sheet("Parity with the float32 reference", columns, tuple(rows), text_columns=2)


def threads(report: BenchReport) -> Sheet | None:
    """Speed-up over the fewest threads, where cases differ in nothing else: by p50, or by throughput when offline."""
    groups: dict[tuple[object, ...], list[Case]] = defaultdict(list)
    for case in report.cases:
        groups[case.model, case.backend, case.device, case.precision, case.float_precision, case.streams].append(case)
    by_rate = report.settings.scenario == "offline"
    rows = []
    for group in groups.values():
        if len({case.threads for case in group}) < 2:
            continue
        first = min(group, key=lambda case: case.threads)
        for case in sorted(group, key=lambda case: case.threads):
            rate, base = (each.throughput_fps if by_rate else _rate(each) for each in (case, first))
            speed_up = rate / base if base else 0.0
            efficiency = speed_up * first.threads / case.threads
            rows.append((plain(case.name), str(case.threads), f"{speed_up:.2f}x", f"{efficiency:.0%}"))
    what = "throughput" if by_rate else "p50"
    return Sheet(f"Threads, by {what}", ("case", "threads", "speed-up", "efficiency"), tuple(rows)) if rows else None


def overheads(report: BenchReport) -> str:
    """What the bench itself adds to each frame."""
    most = max((case.bench_overhead_ms for case in report.cases), default=0.0)
    return f"bench overhead: at most {most * 1e3:.1f} us a frame, measured around a frame that does nothing"


def reasons(report: BenchReport) -> tuple[str, ...]:
    """Why a case cannot be relied on, and what parity it missed."""
    return tuple(
        f"{plain(case.name)}: {plain(reason)}"
        for case in report.cases
        for reason in (*case.verdict.reasons, *case.parity.failures)
    )


def footnotes(report: BenchReport) -> tuple[str, ...]:
    """The star's meaning, where a star is shown."""
    short = {name for case in report.cases for stage in case.stages_ms.values() for name in stage.too_few_samples_for}
    shown = [name for name in _POINTS if name in short]
    if not shown:
        return ()
    needs = ", ".join(f"{name} {ENOUGH_SAMPLES[float(name[1:])]:,}" for name in shown)
    counts = [stage.samples for case in report.cases for stage in case.stages_ms.values()]
    return (f"* too few samples for 99 % confidence: at least {min(counts):,} stand behind each, needed are: {needs}",)


def lasting(settings: Settings) -> str:
    """How much was measured of each case."""
    if settings.iterations is not None:
        share = f"{settings.iterations:,} frames a case"
    else:
        share = f"{settings.duration_s:g} s a case"
    return f"{share} in {settings.rounds} round{'s' * (settings.rounds != 1)}"


def facts(report: BenchReport) -> tuple[tuple[str, str], ...]:
    """Environment, models and settings as names and values."""
    machine, settings = report.environment, report.settings
    pace = f", {settings.fps:g} frames a second" if settings.fps is not None else ""
    pace += f", deadline {settings.deadline_ms:g} ms" if settings.deadline_ms is not None else ""
    size = f"{settings.frame_width}x{settings.frame_height}"
    held = NOTHING if machine.memory_mb is None else f"{machine.memory_mb:,} MB"
    features = f" ({', '.join(machine.cpu_features)})" if machine.cpu_features else ""
    told = "" if machine.processor_class == "unknown" else f", {machine.processor_class}"
    rows = (
        ("scenario", f"{settings.scenario}{pace}, {lasting(settings)}"),
        ("frames", f"{settings.distinct_frames} distinct {size} from {settings.source}, held in memory"),
        ("warm-up", f"{settings.warm_up_frames} frames, not counted"),
        *(row for model in report.models for row in _model(model, several=len(report.models) > 1)),
        ("CPU", f"{machine.cpu}{told}{features}"),
        ("processors", f"{machine.processors}, cores {machine.cores}, governor {machine.governor}"),
        ("memory", held),
        ("system", f"{machine.os}, {machine.kernel}, container {machine.container}"),
        ("software", ", ".join((f"vmeg-edge {report.vmeg_edge}", machine.python, *_versions(report)))),
        ("measured", report.made_at),
    )
    return tuple((name, plain(value)) for name, value in rows)


def notices(report: BenchReport) -> tuple[str, ...]:
    """What must be said with the figures, once each: first what holds for some models alone, with their labels."""
    held: dict[str, list[str]] = defaultdict(list)
    for model in report.models:
        for line in dict.fromkeys(model.notices):
            held[line].append(model.label)
    some = [f"{', '.join(labels)}: {line}" for line, labels in held.items() if len(labels) < len(report.models)]
    every = [line for line, labels in held.items() if len(labels) == len(report.models)]
    return tuple(map(plain, (*some, *every)))


def heading(report: BenchReport) -> str:
    """The names of all models."""
    names = [model.label if len(report.models) > 1 else model.name for model in report.models]
    return plain(", ".join(names))


def _model(model: Model, *, several: bool) -> list[tuple[str, str]]:
    name = model.label if several else model.name
    called = name if name == model.name else f"{name} ({model.name})"
    about = f"{called}: {model.architecture}, {model.input}, {model.resize}"
    rows = [("model", about), ("bundle", f"{model.digest[:12]}, checkpoint {model.checkpoint[:12]}, {model.path}")]
    of = f" of {name}" if several else ""
    return [*rows, *((f"not run{of}", f"{backend}: {why}") for backend, why in model.not_run.items())]


def engines(report: BenchReport) -> Sheet:
    """What exactly ran, one row a case."""
    rows = []
    for case in report.cases:
        pinned = ",".join(map(str, case.pinned_to)) or NOTHING
        details = ", ".join(f"{name} {value}" for name, value in case.details.items()) or NOTHING
        cells: Iterable[object] = (case.name, f"{case.backend} {case.version.partition('-')[0]}", case.device)
        kind = case.precision if case.precision == case.float_precision else f"{case.precision}/{case.float_precision}"
        cells = (*cells, kind, case.kernels, details, case.threads, case.streams, pinned)
        rows.append(tuple(plain(cell) for cell in cells))
    columns = ("case", "engine", "device", "precision", "kernels", "details", "threads", "streams", "pinned")
    return Sheet("What ran", columns, tuple(rows), text_columns=6)


def _versions(report: BenchReport) -> tuple[str, ...]:
    return tuple(f"{name} {version}" for name, version in report.environment.versions.items())


def _mb(value: float | None) -> str:
    return NOTHING if value is None else f"{value:.0f}"


def _size(value: float | None) -> str:
    return NOTHING if value is None else f"{value:.3g}" if value < 100 else f"{value:.0f}"


def _rate(case: Case) -> float:
    stage = case.stages_ms.get("end_to_end")
    return 1 / stage.p50_ms if stage is not None and stage.p50_ms > 0 else 0.0
