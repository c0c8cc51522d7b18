"""The contact sheet of heat maps, and F1 against latency: two PNGs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import cv2
import matplotlib as mpl
import numpy as np
import numpy.typing as npt
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter
from PIL import Image

from vmeg_edge.outputs import PendingFile

# Okabe and Ito's colours, which colour-blind readers tell apart; markers differ too.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7")
MARKERS = {"onnxruntime": "o", "openvino": "s"}
ENGINES = {"onnxruntime": "ONNX Runtime", "openvino": "OpenVINO"}
PALETTE = 200
_SHORT = 19


@dataclass(frozen=True, eq=False)
class Row:
    """A frame of the sheet: grey or RGB pixels of its region, the outline of its mask, its label."""

    title: str
    pixels: npt.NDArray[np.uint8]
    mask: npt.NDArray[np.bool_] | None


@dataclass(frozen=True, eq=False)
class Column:
    """A subject of the sheet: its maps and probabilities, one a row."""

    title: str
    maps: Sequence[npt.NDArray[np.float64]]
    probabilities: Sequence[float]


def contact_sheet(rows: Sequence[Row], columns: Sequence[Column], path: Path, *, title: str, footer: str) -> None:
    """Write the sheet: a row a frame, a column a subject, the frame itself first."""
    wide = len(columns) + 1
    with mpl.rc_context({"font.size": 9}):
        figure = Figure(figsize=(1.75 * wide + 0.9, 1.68 * len(rows) + 1.5), layout="constrained")
        axes = figure.subplots(len(rows), wide, squeeze=False)
        for place, row in enumerate(rows):
            for number, axis in enumerate(axes[place]):
                axis.set_xticks([])
                axis.set_yticks([])
                axis.spines[:].set_visible(False)
                axis.imshow(row.pixels, cmap="gray", vmin=0, vmax=255, interpolation="antialiased")
                if row.mask is not None and number == 0:
                    axis.contour(row.mask, levels=[0.5], colors="#F0E442", linewidths=0.9)
                if number:
                    column = columns[number - 1]
                    size = (row.pixels.shape[1], row.pixels.shape[0])
                    heat = cv2.resize(column.maps[place], size, interpolation=cv2.INTER_LINEAR)
                    axis.imshow(heat, cmap="inferno", vmin=0, vmax=1, alpha=np.clip(0.15 + 0.6 * heat, 0, 0.75))
                    axis.set_xlabel(f"p = {column.probabilities[place]:.2f}", fontsize=8, labelpad=2)
                if place == 0:
                    axis.set_title("frame" if number == 0 else columns[number - 1].title, fontsize=9)
            axes[place][0].set_ylabel(row.title, fontsize=9)
        figure.suptitle(title, fontsize=12, fontweight="bold")
        figure.supxlabel(footer, fontsize=9)
        drawn = BytesIO()
        figure.savefig(drawn, format="png", dpi=80)
        with PendingFile(path) as pending:  # speckle does not compress; a palette takes a third
            Image.open(drawn).convert("RGB").quantize(PALETTE).save(pending, format="png", optimize=True)


def f1_by_latency(device: Sequence[Mapping[str, Any]], path: Path, *, title: str, footer: str) -> None:
    """Write the plot: a point a system, precision and engine; hollow points are float32."""
    names = list(dict.fromkeys(row["system"] for row in device))
    with mpl.rc_context({"font.size": 10}):
        figure = Figure(figsize=(11, 6), layout="constrained")
        axis = figure.subplots()
        for row in device:
            if row["f1"]["value"] is None:
                continue
            colour = COLOURS[names.index(row["system"]) % len(COLOURS)]
            f1, p50 = row["f1"], row["p50_ms"]
            axis.errorbar(
                p50,
                100 * f1["value"],
                xerr=[[p50 - row["lowest_turn_p50_ms"]], [row["highest_turn_p50_ms"] - p50]],
                yerr=[[100 * (f1["value"] - f1["low"])], [100 * (f1["high"] - f1["value"])]],
                color=colour,
                marker=MARKERS.get(row["backend"], "^"),
                markersize=9,
                markerfacecolor="white" if row["precision"] == "float32" else colour,
                markeredgewidth=1.8,
                elinewidth=1,
                capsize=2.5,
                alpha=0.95,
                linestyle="none",
            )
        axis.set_xscale("log")
        axis.xaxis.set_major_locator(LogLocator(subs=(1, 1.5, 2, 3, 5, 7)))
        axis.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:g}"))
        axis.xaxis.set_minor_formatter(NullFormatter())
        axis.set_xlabel("p50 of a whole 1920x1080 frame, score and heat map, ms (bars: lowest and highest turn)")
        axis.set_ylabel("F1 on the test frames by this very bundle, % (bars: 95 % bootstrap)")
        axis.grid(color="#dddddd")
        axis.spines[["top", "right"]].set_visible(False)
        entries = [
            *(_entry(folded(name, 27), color=COLOURS[place % 4], marker="o") for place, name in enumerate(names)),
            *(
                _entry(ENGINES.get(name, name), color="#444444", marker=MARKERS.get(name, "^"))
                for name in dict.fromkeys(row["backend"] for row in device)
            ),
            _entry("int8", color="#444444", marker="D"),
            _entry("float32", color="#444444", marker="D", markerfacecolor="white"),
        ]
        figure.legend(handles=entries, loc="outside right upper", fontsize=9, frameon=False)
        figure.suptitle(title, fontsize=12, fontweight="bold")
        figure.supxlabel(footer, fontsize=9)
        with PendingFile(path) as pending:
            figure.savefig(pending, format="png", dpi=110)


def _entry(label: str, **style: Any) -> Any:
    from matplotlib.lines import Line2D

    return Line2D([], [], linestyle="none", markersize=8, label=label, **style)


def folded(name: str, width: int = _SHORT) -> str:
    """A long name on several lines."""
    lines = [""]
    for word in name.split():
        if lines[-1] and len(lines[-1]) + len(word) >= width:
            lines.append("")
        lines[-1] = f"{lines[-1]} {word}".strip()
    return "\n".join(lines)
