"""Every frame over time, thinned so that no outlier vanishes, and ratios as whiskers."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from vmeg_edge.bench.comparison import Comparison
from vmeg_edge.bench.comparison_tables import interval
from vmeg_edge.bench.plots import LETTER, colour
from vmeg_edge.bench.report import BenchReport, Samples
from vmeg_edge.bench.statistics import Ratio, percentile
from vmeg_edge.bench.svg import Scale, box, line, number, picture, text, x_axis
from vmeg_edge.bench.tables import plain

MOST_POINTS = 2_000
"""Points drawn a case; a page of very many cases draws fewer of each."""

_MOST_OF_ALL = 40_000
_FAR = 1.25  # times the median, and beyond p99: drawn larger, so that a single dot is seen
_WIDTH = 1120
_START, _END = 52.0, 1110.0


def traces(report: BenchReport) -> str:
    """End to end of every frame over time, one strip a case; rounds alternate in ground, late frames are triangles."""
    cases = [case for case in report.cases if case.samples.end_to_end_ms]
    longest = max((max(case.samples.at_s) for case in cases), default=1.0)
    across = Scale(0.0, max(longest, 1e-3), _START, _END)
    row, top = 118.0, 0.0
    bottom = top + row * len(cases)
    most = min(MOST_POINTS, _MOST_OF_ALL // max(1, len(cases)))
    deadline = report.settings.deadline_ms
    late_ones = 0
    parts = []
    for place, case in enumerate(cases):
        ceiling, floor = top + row * place + 24, top + row * (place + 1) - 6
        held = case.samples
        due = deadline if deadline is not None and deadline <= 2 * max(held.end_to_end_ms) else None
        up = Scale.over([*held.end_to_end_ms, *([] if due is None else [due])], floor, ceiling, log_from=8.0)
        parts += _rounds(held, across, ceiling, floor)
        for value in up.ticks(4):
            parts.append(line(_START, up(value), _END, up(value), "grid"))
            parts.append(text(_START - 6, up(value) + 4, f"{value:g}", "tick", "end"))
        kept = thinned(held.end_to_end_ms, most)
        dots = _unique(f"M{number(across(held.at_s[at]))} {number(up(held.end_to_end_ms[at]))}h0" for at in kept)
        parts.append(f'<path d="{dots}" class="dots {colour(report, case)}"/>')
        far_ms = max(_FAR * percentile(held.end_to_end_ms, 50), percentile(held.end_to_end_ms, 99))
        far = _unique(
            f"M{number(across(held.at_s[at]))} {number(up(held.end_to_end_ms[at]))}h0"
            for at in kept
            if held.end_to_end_ms[at] > far_ms
        )
        if far:
            parts.append(f'<path d="{far}" class="dots far {colour(report, case)}"/>')
        late = [at for at in kept if held.late[at]]
        late_ones += sum(held.late)
        marks = _unique(
            f"M{number(across(held.at_s[at]))} {number(up(held.end_to_end_ms[at]) - 5)}l4 8h-8z" for at in late
        )
        if marks:
            parts.append(f'<path d="{marks}" class="late"/>')
        if due is not None:
            above = up(due) - ceiling > 16
            parts.append(line(_START, up(due), _END, up(due), "deadline"))
            parts.append(text(_END, up(due) + (-4 if above else 13), f"deadline {due:g} ms", "tick", "end"))
        scale = ", logarithmic" if up.log else ""
        parts.append(text(_START, ceiling - 8, plain(case.name), "name"))
        slowest = max(range(len(held.end_to_end_ms)), key=held.end_to_end_ms.__getitem__)
        note = f"ms{scale}; slowest {held.end_to_end_ms[slowest]:.4g} ms at {held.at_s[slowest]:.1f} s"
        note += f"; {sum(held.late):,} late" if any(held.late) else ""
        parts.append(text(_END, ceiling - 8, note, "tick", "end"))
    parts.append(
        x_axis(across, bottom - 6, bottom - 6, "seconds of the case's own rounds, without the pauses between", most=12)
    )
    said = (
        f"{len(cases)} cases over {longest:.0f} s in alternating rounds; {late_ones:,} late frames, drawn as triangles"
    )
    return picture("traces", "Latency of every frame over time", said, _WIDTH, bottom + 32, parts)


def thinned(values: Sequence[float], most: int) -> list[int]:
    """Places to draw, ``most`` at the utmost: all of them, or the lowest and the highest of each bucket."""
    count = len(values)
    if count <= most:
        return list(range(count))
    buckets = max(1, most // 2)
    kept: list[int] = []
    for bucket in range(buckets):
        places = range(count * bucket // buckets, count * (bucket + 1) // buckets)
        kept += sorted({min(places, key=values.__getitem__), max(places, key=values.__getitem__)})
    return kept


def _rounds(samples: Samples, across: Scale, ceiling: float, floor: float) -> list[str]:
    """Every second round on a darker ground, all of them named while there is room."""
    begins = [at for at in range(len(samples.round)) if at == 0 or samples.round[at] != samples.round[at - 1]]
    ends_s = [*(samples.at_s[at] for at in begins[1:]), max(samples.at_s)]
    starts_s = [0.0, *ends_s[:-1]]
    parts = []
    for place, (start_s, end_s) in enumerate(zip(starts_s, ends_s, strict=True)):
        left, right = across(start_s), across(end_s)
        parts.append(box(left, ceiling, max(0.0, right - left), floor - ceiling, "round" if place % 2 else "ground"))
        if right - left > 60:
            parts.append(text(left + 5, ceiling + 13, f"round {samples.round[begins[place]] + 1}", "tick"))
    return parts


def _unique(parts: Iterable[str]) -> str:
    return "".join(dict.fromkeys(parts))


def whiskers(comparison: Comparison) -> str:
    """Ratios of end-to-end p50 and p99 and of throughput, each with its 99 % interval, over one axis around 1."""
    measures = (("p50", "end_to_end_p50"), ("p99", "end_to_end_p99"), ("fps", "throughput"))
    held: list[tuple[str, str, Ratio]] = []
    for pair in comparison.pairs:
        found = ((name, getattr(pair, field)) for name, field in measures)
        held += [(plain(pair.name), name, ratio) for name, ratio in found if ratio is not None]
    values = [value for _, _, ratio in held for value in (ratio.low, ratio.high)]
    start = max(300.0, 56.0 + LETTER * max((len(case) for case, _, _ in held), default=0))
    scale = Scale.over([0.97, 1.03, *values], start, _WIDTH - 190.0, log_from=3.0)
    row = 22.0
    bottom = 12 + row * len(held)
    parts = [x_axis(scale, 4, bottom, "new over old"), line(scale(1), 0, scale(1), bottom, "one")]
    before = ""
    for place, (case, name, ratio) in enumerate(held):
        y = 8 + row * (place + 0.5)
        if case != before:
            parts.append(text(10, y + 4, case, "name"))
            if before:
                parts.append(line(10, y - row / 2, _WIDTH - 10, y - row / 2, "grid"))
        before = case
        kind = "fill throughput" if name == "fps" else "fill latency"
        parts.append(text(start - 14, y + 4, name, "value", "end"))
        parts.append(line(scale(ratio.low), y, scale(ratio.high), y, "whisker"))
        parts += [line(scale(end), y - 4, scale(end), y + 4, "whisker") for end in (ratio.low, ratio.high)]
        x = scale(ratio.value)
        if name == "fps":
            parts.append(box(x - 4, y - 4, 8, 8, kind))
        else:
            parts.append(f'<circle cx="{number(x)}" cy="{number(y)}" r="4.5" class="{kind}"/>')
        parts.append(text(_WIDTH - 10, y + 4, interval(ratio), "value", "end"))
    said = "; ".join(
        f"{case}, {name}: {ratio.value:.3f}, {ratio.low:.3f} to {ratio.high:.3f}" for case, name, ratio in held
    )
    title = "New over old with 99 % intervals: latency below 1 and frames a second above 1 are better"
    return picture("whiskers", title, said, _WIDTH, bottom + 38, parts)
