"""The tables, in Markdown: four series, the share of the peak, and where the time goes."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import Any

from arithmetic import count
from figures import Row
from layers import ATTENTION, HEAD, LINEAR, PATCHES, WITH_GELU
from models import Model
from peak.measure import Peak
from points import NAMES, Series

TARGET = 0.6


def table(series: Series, rows: Sequence[Row]) -> str:
    """One series, a row a point."""
    streams = series.name == "streams"
    own = ["streams x threads", "p50 ms of each stream", "frames/s"] if streams else ["batch", "p50 ms"]
    head = ["model", "engine", "precision", *own, "min ms", "floor ms", "share of the floor", "resident MB"]
    head += ["max abs dp", "samples"]
    lines = [f"| {' | '.join(head)} |", f"|{'---|' * 3}{'--:|' * (len(head) - 3)}"]
    for row in rows:
        point = row.point
        cells = [point.model.name, NAMES[point.engine], point.precision]
        if streams:
            each = ", ".join(f"{ms:.1f}" for ms in row.streams_p50_ms)
            cells += [f"{point.streams} x {point.threads}", each, f"{row.fps:.1f}"]
        else:
            cells += [f"{point.batch}", f"{row.p50_ms:.1f}"]
        cells += [f"{row.min_ms:.1f}", f"{row.floor_ms:.1f}", f"{row.share:.0%}", f"{row.resident_mb:.0f}"]
        cells += [f"{row.max_abs_dp:.1e}", f"{row.samples}"]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def shares(model: Model, profile: dict[str, Any], peak: Peak) -> dict[str, float]:
    """Which share of the measured peak one int8 frame on OpenVINO reaches, by both ways of counting."""
    madds = count(model.config)
    int8 = madds.in_int8(patch_embedding=True)
    float32 = madds.total - int8
    p50, fastest = statistics.median(profile["plain_ms"]), min(profile["plain_ms"])
    each = (int8 / peak.per_s("int8") + float32 / peak.per_s("float32")) * 1e3
    plain = madds.total / peak.per_s("int8") * 1e3
    return {
        "p50_ms": p50,
        "min_ms": fastest,
        "each_at_its_peak": each / p50,
        "each_at_its_peak_fastest_frame": each / fastest,
        "all_at_int8_peak": plain / p50,
        "all_at_int8_peak_fastest_frame": plain / fastest,
        "target": TARGET,
    }


def peak_section(model: Model, profile: dict[str, Any], peak: Peak) -> str:
    """The shares, and time by kind of layer with the peak's share of each kind that multiplies."""
    found, madds, config = shares(model, profile, peak), count(model.config), model.config
    widening = config.depth * (config.grid**2 + 1) * config.dim * config.hidden
    work = {
        LINEAR: (madds.linear - widening, "int8"),
        WITH_GELU: (widening, "int8"),
        PATCHES: (madds.patch_embedding, "int8"),
        ATTENTION: (madds.attention, "float32"),
        HEAD: (madds.head, "float32"),
    }
    watched = statistics.median(profile["watched_ms"])
    total = sum(layer["ms"] for layer in profile["layers"])
    lines = [
        f"{model.name}, OpenVINO int8, {peak.threads} threads: p50 {found['p50_ms']:.1f} ms and the "
        f"fastest {found['min_ms']:.1f} ms of {len(profile['plain_ms'])} frames. "
        f"Multiply-adds: {madds.total / 1e9:.2f} G, of which "
        f"{madds.in_int8(patch_embedding=True) / madds.total:.1%} in int8.",
        "",
        "| share of the measured peak | at p50 | at the fastest frame | target |",
        "|---|--:|--:|--:|",
        f"| (int8 / int8 peak + float32 / float32 peak) / time | {found['each_at_its_peak']:.1%} "
        f"| {found['each_at_its_peak_fastest_frame']:.1%} | {TARGET:.0%} |",
        f"| all multiply-adds / int8 peak / time | {found['all_at_int8_peak']:.1%} "
        f"| {found['all_at_int8_peak_fastest_frame']:.1%} | {TARGET:.0%} |",
        "",
        f"By OpenVINO's profiler (with it, p50 is {watched:.1f} ms; its layers add up to {total:.1f} ms a frame):",
        "",
        "| layers | calls | ms a frame | of the whole | floor ms | share of the peak |",
        "|---|--:|--:|--:|--:|--:|",
    ]
    for layer in profile["layers"]:
        kind, ms = layer["kind"], layer["ms"]
        floor = share = ""
        if kind in work:
            amount, precision = work[kind]
            least = amount / peak.per_s("int8" if precision == "int8" else "float32") * 1e3
            floor, share = f"{least:.2f}", f"{least / ms:.0%}"
        lines.append(f"| {kind} | {layer['calls']} | {ms:.2f} | {ms / total:.1%} | {floor} | {share} |")
    return "\n".join(lines)
