"""Pictures of a report: how latencies are spread, where they go, and how they ran over time."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Sequence

from vmeg_edge.bench.report import BenchReport, Case
from vmeg_edge.bench.statistics import percentile
from vmeg_edge.bench.svg import COLOURS, Scale, box, line, number, picture, text, x_axis
from vmeg_edge.bench.tables import ms, plain, point, short

_WIDTH = 560
_EDGE = 10.0
_BINS = 90
_ROW = 78.0
LETTER = 8.0  # pixels, the most that one of a name takes
_NINES = (0.0, 0.5, 0.9, 0.99, 0.999, 0.9999)


def histograms(report: BenchReport) -> str:
    """One histogram a case under one another, over one axis, with p50 and p99."""
    cases = _with_frames(report)
    scale = _latencies(cases, _EDGE, _WIDTH - _EDGE)
    row, top = _ROW, 4.0
    bottom = top + row * len(cases)
    parts = [x_axis(scale, top, bottom, "end to end, ms")]
    for place, case in enumerate(cases):
        floor = top + row * (place + 1)
        parts.append(line(scale.start, floor, scale.end, floor, "axis"))
        parts.append(_bars(case.samples.end_to_end_ms, scale, floor, row - 42, colour(report, case)))
        parts += _points(case, scale, floor - row + 40, floor)
        parts.append(text(_EDGE, floor - row + 18, short(plain(case.name), int((scale.end - _EDGE) / LETTER)), "name"))
    said = "; ".join(f"{case.name}: p50 {_point(case, 'p50')} ms, p99 {_point(case, 'p99')} ms" for case in cases)
    return picture("histograms", "Histogram of latency by case", said, _WIDTH, bottom + 38, parts)


def cumulative(report: BenchReport) -> str:
    """The share of frames at or below each latency, on a scale that stretches towards 100 %."""
    cases = _with_frames(report)
    scale = _latencies(cases, 52.0, _WIDTH - _EDGE)
    top, bottom = 12.0, max(320.0, 4.0 + _ROW * len(cases))
    most = max((len(case.samples.end_to_end_ms) for case in cases), default=1)
    rise = Scale(0.0, max(2.0, math.log10(most) + 0.31), bottom, top)
    parts = [x_axis(scale, top, bottom, "end to end, ms")]
    for share in _NINES:
        if _nines(share) <= rise.high:
            parts.append(line(scale.start, rise(_nines(share)), scale.end, rise(_nines(share)), "grid"))
            parts.append(text(46, rise(_nines(share)) + 4, f"{share * 100:g} %", "tick", "end"))
    labels = []
    ranked = sorted(cases, key=lambda case: percentile(case.samples.end_to_end_ms, 50))
    for place, case in enumerate(ranked):
        ordered = sorted(case.samples.end_to_end_ms)
        parts.append(_curve(ordered, scale, rise, colour(report, case)))
        # The fastest is named highest: to the right of its curve there is room where slower ones still lie low. All
        # are named in the lower part, below the tails that cross one another.
        height = bottom - 0.6 * (bottom - top) * (len(ranked) - place - 0.4) / len(ranked)
        share = 1 - 10 ** -(rise.high * (bottom - height) / (bottom - top))
        x = scale(ordered[min(len(ordered) - 1, int(share * len(ordered)))])
        right, left = scale.end - 18 - x, x - 22
        way = 1 if right > min(left, LETTER * len(plain(case.name))) else -1
        name = short(plain(case.name), int(max(0.0, right if way > 0 else left) / LETTER))
        labels.append(line(x, height, x + 14 * way, height, f"stroke {colour(report, case)}"))
        labels.append(text(x + 18 * way, height + 4, name, "name", "end" if way < 0 else "start"))
    title = "Cumulative latency by case: share of frames at or below a latency"
    said = "; ".join(f"{case.name}: 99 % of frames within {_point(case, 'p99')} ms" for case in cases)
    return picture("cumulative", title, said, _WIDTH, bottom + 38, [*parts, *labels])


def colour(report: BenchReport, case: Case) -> str:
    """The case's class in the style sheet."""
    return f"c{report.cases.index(case) % COLOURS}"


def _with_frames(report: BenchReport) -> list[Case]:
    return [case for case in report.cases if case.samples.end_to_end_ms]


def _latencies(cases: Sequence[Case], start: float, end: float) -> Scale:
    return Scale.over((value for case in cases for value in case.samples.end_to_end_ms), start, end)


def _bars(samples: Sequence[float], scale: Scale, floor: float, height: float, kind: str) -> str:
    edges = scale.edges(_BINS)
    counts = [0] * _BINS
    for value in samples:
        counts[min(_BINS - 1, max(0, bisect_right(edges, value) - 1))] += 1
    width = (scale.end - scale.start) / _BINS
    most = max(counts)
    # The least height keeps a single slow frame in sight beside thousands of fast ones.
    path = [
        f"M{number(scale.start + place * width)} {number(floor)}v-{number(max(1.5, count / most * height))}"
        f"h{number(width)}V{number(floor)}z"
        for place, count in enumerate(counts)
        if count
    ]
    return f'<path d="{"".join(path)}" class="fill {kind}"/>'


def _points(case: Case, scale: Scale, top: float, floor: float) -> list[str]:
    """p50 and p99: ticks with their values at either side, or both at one side near an edge."""
    names = ("p50", "p99")
    at = [scale(percentile(case.samples.end_to_end_ms, float(name[1:]))) for name in names]
    said = [f"{name} {_point(case, name)}" for name in names]
    parts = [line(x, top - 14, x, floor, "mark") for x in at]
    y = top - 5
    if at[0] - scale.start < 84:
        return [*parts, text(at[1] + 4, y, ", ".join(said), "value")]
    if scale.end - at[1] < 84:
        return [*parts, text(at[0] - 4, y, ", ".join(said), "value", "end")]
    return [*parts, text(at[0] - 4, y, said[0], "value", "end"), text(at[1] + 4, y, said[1], "value")]


def _point(case: Case, name: str) -> str:
    stage = case.stages_ms.get("end_to_end")
    return ms(percentile(case.samples.end_to_end_ms, float(name[1:]))) if stage is None else point(stage, name)


def _nines(share: float) -> float:
    return -math.log10(1 - share)


def _curve(ordered: Sequence[float], scale: Scale, rise: Scale, kind: str) -> str:
    """A staircase; the last frame, whose share is 100 %, is drawn at half a frame below it."""
    count = len(ordered)
    ranks = sorted({*range(0, count, max(1, count // 300)), *range(max(0, count - 40), count)})
    path = f"M{number(scale(ordered[0]))} {number(rise(0))}"
    before = ""
    for rank in ranks:
        share = (rank + 1) / count if rank + 1 < count else 1 - 0.5 / count
        step = f"H{number(scale(ordered[rank]))}V{number(rise(_nines(share)))}"
        if step != before:
            path += step
            before = step
    return f'<path d="{path}" class="stroke {kind}"/>'


def stage_bars(report: BenchReport) -> str:
    """The medians of each stage, stacked, one bar a case; the mark is the median of the whole."""
    cases = [case for case in report.cases if "end_to_end" in case.stages_ms]
    width, row, start = 1120, 50.0, 10.0
    sums = [sum(value for _, value in _medians(case)) for case in cases]
    wholes = [case.stages_ms["end_to_end"].p50_ms for case in cases]
    scale = Scale(0.0, max([*sums, *wholes, 1e-6]) * 1.12, start, width - _EDGE)
    bottom = 4 + row * len(cases)
    parts = [x_axis(scale, 4, bottom, "p50 by stage, ms")]
    for place, case in enumerate(cases):
        floor = 4 + row * (place + 1) - 8
        parts.append(text(start, floor - 26, plain(case.name), "name"))
        x, small = start, []
        for stage, value in _medians(case):
            wide = scale(value) - scale(0)
            parts.append(box(x, floor - 20, wide, 20, f"fill s-{stage}"))
            said = f"{stage} {ms(value)}"
            if wide > 7 * len(said) + 8:
                parts.append(text(x + wide / 2, floor - 6, said, "inside", "middle"))
            else:
                small.append(said)
            x += wide
        whole = case.stages_ms["end_to_end"].p50_ms
        parts.append(line(scale(whole), floor - 24, scale(whole), floor + 4, "mark"))
        after = max(x, scale(whole)) + 6
        total = f"end to end {ms(whole)}"
        if scale.end - after < 110:
            parts.append(text(scale(whole), floor - 27, total, "value", "end"))
        else:
            parts.append(text(after, floor - 6, total, "value"))
        if small:
            parts.append(text(start + 8 * len(plain(case.name)) + 14, floor - 26, ", ".join(small), "tick"))
    said = "; ".join(
        f"{case.name}: " + ", ".join(f"{stage} {ms(value)}" for stage, value in _medians(case)) for case in cases
    )
    return picture("stages", "Median time of each stage by case, in ms", said, width, bottom + 38, parts)


def _medians(case: Case) -> list[tuple[str, float]]:
    order = ("preprocess", "infer", "explain", "decide", "other")
    return [(stage, case.stages_ms[stage].p50_ms) for stage in order if stage in case.stages_ms]
