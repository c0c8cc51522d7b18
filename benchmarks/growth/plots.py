"""One picture a series: the figure that grows on the left, its companion on the right, floors dashed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
from figures import Row
from points import NAMES, Series

mpl.use("Agg")
import matplotlib.pyplot as plt
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

# Okabe and Ito's colours, which colour-blind readers tell apart; markers differ too.
COLOURS = {
    ("openvino", "int8"): ("#0072B2", "o"),
    ("openvino", "float32"): ("#D55E00", "s"),
    ("onnxruntime", "int8"): ("#009E73", "^"),
    ("onnxruntime", "float32"): ("#CC79A7", "D"),
}
FLOOR_COLOURS = {"int8": "#000000", "float32": "#767676"}
Value = Callable[[Row], float]
Floors = dict[str, tuple[str, list[tuple[float, float]]]]  # label to colour and points


def draw(series: Series, rows: Sequence[Row], target: Path) -> None:
    """Write ``target``, a PNG."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(13, 5), layout="constrained")
    figure.suptitle(series.title, fontsize=13, fontweight="bold")
    floors = _floors(rows, _frame_floor)
    if series.name == "streams":
        _panel(left, series, rows, lambda row: row.p50_ms, "p50 of a frame, ms", floors, linear=True)
        _panel(right, series, rows, lambda row: row.fps, "frames/s, all streams", _floors(rows, _ceiling), linear=True)
    else:
        whole = "ms" if series.name != "batch" else "ms a frame"
        _panel(left, series, rows, _per_frame, f"p50, {whole}", floors, linear=False)
        _panel(right, series, rows, lambda row: row.resident_mb, "resident memory of the process, MB", {}, linear=True)
    figure.savefig(target, dpi=110)
    plt.close(figure)


def _per_frame(row: Row) -> float:
    return row.p50_ms / row.point.batch


def _frame_floor(row: Row) -> float:
    return row.floor_ms / row.point.batch


def _ceiling(row: Row) -> float:
    return 1e3 * row.point.streams / row.floor_ms


def _floors(rows: Sequence[Row], value: Value) -> Floors:
    """For each precision (and model, with streams) OpenVINO's floor."""
    found: Floors = {}
    for row in rows:
        if row.point.engine == "openvino":
            of = f"{row.point.model.config.name} " if row.point.streams else ""
            label = f"{of}{row.point.precision} {'ceiling' if value is _ceiling else 'floor'}"
            found.setdefault(label, (FLOOR_COLOURS[row.point.precision], []))[1].append((row.x, value(row)))
    return found


def _panel(
    axes: Any,
    series: Series,
    rows: Sequence[Row],
    value: Value,
    unit: str,
    floors: Floors,
    *,
    linear: bool,
) -> None:
    ends: list[tuple[float, str, str]] = []
    smaller = rows[0].point.model
    for label in dict.fromkeys(row.label for row in rows):
        line = [row for row in rows if row.label == label]
        colour, marker = COLOURS[line[0].point.engine, line[0].point.precision]
        hollow = line[0].point.streams and line[0].point.model == smaller
        axes.plot(
            [row.x for row in line],
            [value(row) for row in line],
            color=colour,
            marker=marker,
            markerfacecolor="white" if hollow else colour,
            linewidth=2,
        )
        ends.append((value(line[-1]), label, colour))
    for label, (colour, points) in floors.items():
        axes.plot([x for x, _ in points], [y for _, y in points], color=colour, linestyle=(0, (4, 2)), linewidth=1.5)
        ends.append((points[-1][1], label, colour))
    if linear:
        axes.set_ylim(0, 1.05 * max(y for line in axes.lines for y in line.get_ydata()))
    else:
        axes.set_yscale("log")
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.yaxis.set_minor_locator(NullLocator())
    axes.set_xlabel(series.axis)
    axes.set_ylabel(unit)
    ticks = sorted({row.x for row in rows})
    if ticks[-1] / ticks[0] > 4:
        axes.set_xscale("log")
    axes.set_xticks(ticks, [_tick(series, row) for row in _one_of_each(rows)])
    axes.xaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_formatter(FuncFormatter(lambda y, _: f"{y:g}"))
    axes.grid(axis="y", which="major", color="#dddddd")
    axes.spines[["top", "right"]].set_visible(False)
    _label_ends(axes, ends)


def _one_of_each(rows: Sequence[Row]) -> list[Row]:
    return [next(row for row in rows if row.x == x) for x in sorted({row.x for row in rows})]


def _tick(series: Series, row: Row) -> str:
    return f"{row.x:.0f}\n{row.point.model.config.name}" if series.name == "model_size" else f"{row.x:g}"


def _label_ends(axes: Any, ends: list[tuple[float, str, str]]) -> None:
    """Write each line's name at its right end, moved apart where two would overlap."""
    gap, height = 0.052, axes.transAxes.inverted()
    places = sorted((height.transform(axes.transData.transform((1, y)))[1], label, colour) for y, label, colour in ends)
    at: list[float] = []
    for place, _, _ in places:
        at.append(max(place, at[-1] + gap) if at else place)
    over = max(0.0, at[-1] - 1.0)
    for (place, label, colour), y in zip(places, at, strict=True):
        shown = label.replace(NAMES["onnxruntime"], "ORT")
        axes.annotate(
            shown,
            xy=(1.0, place),
            xytext=(1.03, y - over * (y - at[0]) / max(at[-1] - at[0], 1e-9)),
            xycoords="axes fraction",
            color=colour,
            va="center",
            fontsize=10,
            annotation_clip=False,
            arrowprops={"arrowstyle": "-", "color": colour, "linewidth": 0.6, "shrinkA": 0, "shrinkB": 0},
        )
