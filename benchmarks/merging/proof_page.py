"""The page of `proof`: a table a model and set in Markdown, and agreement against milliseconds."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("Agg")
import matplotlib.pyplot as plt
from matplotlib.lines import Line2D
from matplotlib.text import Text
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator
from matplotlib.transforms import Bbox

# Okabe and Ito's colours, which colour-blind readers tell apart; markers differ too.
FAMILIES = {
    "merged": ("#0072B2", "o", "tokens merged, float32"),
    "int8": ("#009E73", "D", "int8 on OpenVINO"),
    "pruned": ("#D55E00", "s", "patches thrown away, float32"),
}
MARKER = 7  # half of a marker's side, pixels
# Offsets in points, and how the text lies to them.
AROUND = (
    (8, 0, "left", "center"),
    (-8, 0, "right", "center"),
    (0, 8, "center", "bottom"),
    (0, -8, "center", "top"),
    (7, 7, "left", "bottom"),
    (7, -7, "left", "top"),
    (-7, 7, "right", "bottom"),
    (-7, -7, "right", "top"),
)
PEER_COLOUR, FLOOR_COLOUR = "#767676", "#DDDDDD"
UNSEEN = {
    "phantoms": "The phantoms are simulated heads of a set that no training and no calibration drew from.",
    "real frames": (
        "The real frames show other pictures than the model was trained on: what it says of them means nothing, only "
        "whether the variant says the same."
    ),
}
HOW = (
    "The rule is the demo's: temperature 1, threshold 0.5, no decision between 0.35 and 0.65. The reference is the "
    "same checkpoint in float32, nothing merged. The gate is the one that `convert` holds merged tokens to, here over "
    "all frames of a set; `sets of 128` is over as many as `--reduce-tokens auto` asks for at least. Beyond a bound is "
    "a frame with |Δp| above 0.05 or a map cosine below 0.8. The last column names the bounds that do not hold."
)
NAMES = (
    "A number is ToMe's r: the tokens that ViT-B/16 merges in each of its 12 blocks (`constant`), or as many in the "
    "mean in four blocks from the second on (`tapering`, what `--reduce-tokens R` does). A network of another depth "
    "gets the schedule of the same kind that comes nearest in mean tokens. `tuned` is by `finetune --reduce-tokens`, "
    "and held against its teacher."
)
AGAINST = (
    "EViT (Liang et al., ICLR 2022, arXiv 2202.07800) keeps 0.7 of the patches a quarter, a half and three quarters "
    "of the way, those that the class token attends to most, without training for it; `fused` adds the sum of the "
    "others as one token. `random` keeps as many by lot. `dark dropped` leaves out every patch without a pixel above 8 "
    "of 255. A patch that is thrown away takes the mean of the others in the heat map."
)
FAILURES = {
    "max |dp|": "max \\|Δp\\|",
    "mean |dp|": "mean \\|Δp\\|",
    "mean cosine": "mean cosine",
    "lowest cosine": "lowest cosine",
    "flip outside": "flips",
}
ESTIMATED = "* not timed: where its share of the arithmetic would put it"


def markdown(report: dict[str, Any]) -> str:
    notices = dict.fromkeys(notice for model in report["models"] for notice in model["notices"])
    lines = ["# Merging tokens, held against the whole network", "", *(f"> {notice}" for notice in notices), ""]
    lines += [HOW, "", NAMES, "", AGAINST, "", f"- phantoms: set {report['seed']}"]
    lines += [f"- {key}: {_plain(value)}" for key, value in report["conditions"].items()]
    for model in report["models"]:
        lines += ["", f"## {model['name']}: {model['network']}, {model['blocks']} blocks", ""]
        lines += [f"SHA-256 {model['sha256'][:12]}. {' '.join(model['trained'])}"]
        for each in model["sets"]:
            lines += [
                "",
                f"### {each['name'].capitalize()}",
                "",
                f"{each['about'].capitalize()}. {UNSEEN[each['name']]}",
            ]
            lines += ["", *_table(each["rows"]), "", *_none_turned(each["rows"])]
    against = "share of the arithmetic" if report["times"] is None else "milliseconds"
    lines += ["", f"![Agreement against {against}](proof.png)"]
    if report["times"] is not None:
        lines += ["", f"Milliseconds: {report['times']['what']}."]
    return "\n".join(lines)


def _table(rows: list[dict[str, Any]]) -> list[str]:
    head = ["variant", "mean tokens", "arithmetic", "same decisions", "flips outside the band", "mean \\|Δp\\|"]
    head += ["max \\|Δp\\|", "map cosine, mean", "lowest", "peak distance, cells", "frames beyond a bound"]
    true = "accuracy" in rows[0]
    if true:
        head += ["sets of 128 that pass", "peak in ventricle", "within a patch", "accuracy", "abstained"]
        head += ["accuracy where decided"]
    lines = [f"| {' | '.join([*head, 'gate'])} |", f"|---|{'--:|' * (len(head) - 1)}---|"]
    for row in rows:
        cells = [
            row["variant"],
            f"{row['mean_tokens']:.0f}",
            f"{row['arithmetic']:.0%}",
            f"{row['same_decisions']:.2%}",
        ]
        cells += [f"{row['flips_outside_band']}", f"{row['mean_abs_dp']:.4f}", f"{row['max_abs_dp']:.3f}"]
        cells += [f"{row['heatmap_cosine_mean']:.4f}", f"{row['heatmap_cosine_min']:.3f}"]
        cells += [f"{row['peak_distance_mean']:.2f}", f"{row['frames_beyond_bounds'] / row['frames']:.2%}"]
        if true:
            cells.append(f"{row['small_sets_passed']} of {row['small_sets']}")
            shares = ("peak_in_ventricle", "peak_within_one_patch", "accuracy", "abstained", "accuracy_where_decided")
            cells += [f"{row[name]:.1%}" for name in shares]
        cells.append("passes" if not row["failures"] else f"**fails**: {', '.join(_short(row['failures']))}")
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def _short(failures: list[str]) -> list[str]:
    """The gate's lines, which `proof.json` has in full, in a word or two each."""
    return [next((word for line, word in FAILURES.items() if line in failure), failure) for failure in failures]


def _none_turned(rows: list[dict[str, Any]]) -> list[str]:
    """What it says that nothing was seen."""
    names = [row["variant"] for row in rows[1:] if not row["flips_outside_band"]]
    if not names:
        return []
    most = 3 / rows[0]["frames"]
    return [
        f"No decision turned from normal to suspected or back with {', '.join(names)}: of frames like these, at most "
        f"{most:.2%} would, at 95 % (the rule of three)."
    ]


def _plain(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


@dataclass(frozen=True)
class Point:
    """A variant in the figure."""

    x: float
    y: float
    said: str
    colour: str


def draw(report: dict[str, Any], target: Path) -> None:
    """Write ``target``, a PNG: a panel a model, its phantoms' decisions that differ against ViT-B/16's milliseconds."""
    models, times = report["models"], report["times"]
    figure, panels = plt.subplots(
        1, len(models), figsize=(8 * len(models), 6.5), layout="constrained", sharey=True, squeeze=False
    )
    points = [_panel(axes, model, times) for axes, model in zip(panels[0], models, strict=True)]
    panels[0][0].set_ylabel("decisions that differ from the whole float32 network's, % of phantoms")
    families = dict.fromkeys(row["family"] for model in models for row in model["sets"][0]["rows"])
    drawn = [FAMILIES[family] for family in families if family in FAMILIES]
    handles = [Line2D([], [], color=colour, marker=mark, linestyle="", label=said) for colour, mark, said in drawn]
    for fill, said in (("black", "passes the gate over all phantoms"), ("white", "fails it")):
        handles.append(Line2D([], [], color="black", marker="o", markerfacecolor=fill, linestyle="", label=said))
    if any(point.said.endswith("*") for of_model in points for point in of_model):
        handles.append(Line2D([], [], linestyle="", label=ESTIMATED))
    figure.legend(handles=handles, loc="outside lower center", ncols=2 * len(models), frameon=False, fontsize=9)
    figure.canvas.draw()  # names are put where there is room, so everything else must be in its place
    figure.set_layout_engine("none")
    for axes, of_model in zip(panels[0], points, strict=True):
        _name(axes, of_model, _lines(times))
    figure.savefig(target, dpi=figure.dpi)
    plt.close(figure)


def _panel(axes: Any, model: dict[str, Any], times: dict[str, Any] | None) -> list[Point]:
    rows = [row for row in model["sets"][0]["rows"] if row["family"] != "whole"]
    frames = rows[0]["frames"]
    nothing = 100 * 0.4 / frames  # where a logarithm has no zero
    points = []
    for row in rows:
        x, measured = _place(row, times)
        colour, marker, _ = FAMILIES[row["family"]]
        point = Point(x, max(100 * row["flips"] / frames, nothing), row["variant"] + "*" * (not measured), colour)
        fill = "white" if row["failures"] else colour
        axes.plot(point.x, point.y, color=colour, marker=marker, markerfacecolor=fill, markersize=8)
        points.append(point)
    lines = _lines(times)
    for x, _, colour, style in lines:
        axes.axvline(x, color=colour, linestyle=style, linewidth=1.2, zorder=0)
    ends = [*(point.x for point in points), *(x for x, *_ in lines)]
    left, right = 0.85 * min(ends), max(ends) * 1.1
    axes.set_xlim(left, right)
    if times is not None:
        axes.axvspan(left, times.get("floor_ms", left), color=FLOOR_COLOUR, zorder=0)
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 1.5, 2, 3, 4, 5, 7)))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:g}"))
        axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xlabel(
        "p50 of ViT-B/16 in int8, ms" if times is not None else "share of the whole network's arithmetic, %"
    )
    axes.set_yscale("log")
    axes.set_ylim(nothing / 2.5, 100)
    marks = [mark for mark in (0.001, 0.01, 0.1, 1.0, 10.0, 100.0) if mark > 1.5 * nothing]
    axes.set_yticks([nothing, *marks], ["none", *(f"{mark:g}" for mark in marks)])
    axes.yaxis.set_minor_locator(NullLocator())
    axes.set_title(f"{model['name']}: {model['network']}, {frames:,} phantoms", fontsize=11)
    axes.grid(axis="y", which="major", color="#eeeeee")
    axes.spines[["top", "right"]].set_visible(False)
    return points


def _lines(times: dict[str, Any] | None) -> list[tuple[float, str, str, Any]]:
    """Milliseconds, name, colour and style of what is drawn as a vertical line."""
    if times is None:
        return []
    lines: list[tuple[float, str, str, Any]] = [(times["p50_ms"]["none"], "int8, nothing merged", "black", "-")]
    lines += [(ms, name, PEER_COLOUR, (0, (4, 2))) for name, ms in times.get("peers", {}).items()]
    if "floor_ms" in times:
        lines.append((times["floor_ms"], "arithmetic alone, nothing merged", "black", ":"))
    return lines


def _place(row: dict[str, Any], times: dict[str, Any] | None) -> tuple[float, bool]:
    """Where a row is on the axis, and whether that was measured."""
    if times is None:
        return 100 * row["arithmetic"], True
    name = row["variant"].removeprefix("int8 ").removesuffix(", tuned")
    if name in times["p50_ms"]:
        return times["p50_ms"][name], True
    return row["arithmetic"] * times["p50_ms"]["none"], False


def _name(axes: Any, points: list[Point], lines: list[tuple[float, str, str, Any]]) -> None:
    """Write the names of lines and points, each at the first place that covers no other name and no point."""
    frame = axes.get_window_extent()
    across = [axes.transData.transform((x, 1))[0] for x, *_ in lines]
    taken = [_around(axes, point) for point in points]
    taken += [Bbox.from_extents(x - 1, frame.y0, x + 1, frame.y1) for x in across]
    for x, said, colour, _ in lines:
        places = [
            {"xy": (x, y), "xytext": (offset, 0), "ha": ha, "xycoords": ("data", "axes fraction")}
            for y in (0.99, 0.7, 0.4)
            for offset, ha in ((3, "left"), (-3, "right"))
        ]
        _written(axes, said, taken, places, color=colour, rotation=90, va="top", fontsize=8)
    for point in sorted(points, key=lambda point: (-point.y, point.x)):
        places = [
            {"xy": (point.x, point.y), "xytext": (reach * dx, reach * dy), "ha": ha, "va": va}
            for reach in (1, 2, 3, 4.5, 6, 8)
            for dx, dy, ha, va in AROUND
        ]
        arrow = {"arrowstyle": "-", "color": point.colour, "linewidth": 0.6, "shrinkA": 0, "shrinkB": 4}
        _written(axes, point.said, taken, places, color=point.colour, fontsize=9, arrowprops=arrow)


def _written(axes: Any, said: str, taken: list[Any], places: list[dict[str, Any]], **look: Any) -> None:
    """``said`` at the first of the places that is free, or at the last."""
    renderer = axes.figure.canvas.get_renderer()
    frame = axes.get_window_extent(renderer)
    for place in places:
        text = axes.annotate(said, textcoords="offset points", annotation_clip=False, **place, **look)
        text.update_positions(renderer)
        box = Text.get_window_extent(text, renderer)  # without the arrow
        inside = frame.x0 <= box.x0 and box.x1 <= frame.x1 and frame.y0 <= box.y0 and box.y1 <= frame.y1
        if place is places[-1] or (inside and not any(box.overlaps(other) for other in taken)):
            taken.append(box)
            return
        text.remove()


def _around(axes: Any, point: Point) -> Any:
    """The pixels that a point's marker covers."""
    x, y = axes.transData.transform((point.x, point.y))
    return Bbox.from_bounds(x - MARKER, y - MARKER, 2 * MARKER, 2 * MARKER)
