"""The figures as a table to read, as JSON, and as a plot."""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Sequence
from dataclasses import asdict, is_dataclass
from pathlib import Path
from typing import Any

from .app import AppRun
from .figures import Ratio

_HEAD = (
    "peer | p50 ms | p90 ms | min ms | n | x vmeg-edge's best | x raw OpenVINO int8 | RSS MB | max dp | mean dp "
    "| map cosine, min | other sign | gate"
)


def show(document: dict[str, Any]) -> None:
    print(markdown(document))


def write(document: dict[str, Any], folder: Path) -> None:
    """``results.json``, ``results.md``, ``results.png``."""
    folder.mkdir(parents=True, exist_ok=True)
    plain = json.dumps(document, default=_plain, indent=1)
    (folder / "results.json").write_text(plain + "\n", encoding="utf-8")
    (folder / "results.md").write_text(markdown(document), encoding="utf-8")
    _plot(document, folder / "results.png")


def markdown(document: dict[str, Any]) -> str:
    """One table, slowest first; the targets; and what it was measured on."""
    rows = sorted(document["rows"], key=lambda row: -row["times"].p50_ms)
    lines = ["# Peers: one 1080p frame to score and heat map", ""]
    lines += [f"| {_HEAD} |", "|---" + "|---:" * 11 + "|---|"]
    lines += [f"| {' | '.join(_cells(row, document))} |" for row in rows]
    lines += [f"| {name} | {' | '.join(['-'] * 11)} | did not run: {why} |" for name, why in document["broken"].items()]
    lines += [
        "",
        "`raw` peers start from a ready tensor and make no heat map; all others start from the frame. Ratios: median "
        "over rounds of the ratio of medians within a round, and its bootstrap interval at 95 %. `*`: fewer than 64 "
        "samples. Bold: the bases of the two ratios. `other sign`: maps whose sign differs from the peer's usual one. "
        "RSS: resident memory without the frames.",
        "",
    ]
    lines += _app_lines(document)
    lines += [f"- {target}" for target in document["targets"]]
    lines += ["", *(f"- {key}: {_said(value)}" for key, value in document["conditions"].items())]
    return "\n".join(lines) + "\n"


def _cells(row: dict[str, Any], document: dict[str, Any]) -> list[str]:
    times, parity, name = row["times"], row["parity"], row["entry"].name
    return [
        f"**{name}**" if name in (document["best"], document["base"]) else name,
        f"{times.p50_ms:.1f}",
        f"{times.p90_ms:.1f}" + ("" if times.p90_carried else "*"),
        f"{times.min_ms:.1f}",
        str(times.samples),
        _ratio_cell(row["to_best"]),
        _ratio_cell(row["to_raw"]),
        "-" if row["memory_mb"] is None else f"{row['memory_mb']:.0f}",
        f"{parity.max_abs_dp:.1e}",
        f"{parity.mean_abs_dp:.1e}",
        # Downwards: a map that is not exact does not read as 1.
        "no map" if parity.cosine_min is None else f"{math.floor(parity.cosine_min * 1e5) / 1e5:.5f}",
        "-" if parity.other_sign is None else str(parity.other_sign),
        "passed" if not row["failures"] else "FAILED: " + "; ".join(row["failures"]),
    ]


def _ratio_cell(ratio: Ratio | None) -> str:
    return "-" if ratio is None else f"{ratio.value:.2f} ({ratio.low:.2f} to {ratio.high:.2f})"


def _app_lines(document: dict[str, Any]) -> list[str]:
    runs: Sequence[AppRun] = document["benchmark_app"]
    if not runs:
        return []
    medians = [run.median_ms for run in runs]
    best = next((row["times"].p50_ms for row in document["rows"] if row["entry"].name == document["best"]), None)
    over = "" if best is None else f"; vmeg-edge's best p50 is {best / statistics.median(medians):.3f} times that"
    return [
        f"- OpenVINO's benchmark_app on the raw int8 models, {len(runs)} runs in between: median of medians "
        f"{statistics.median(medians):.1f} ms, {min(medians):.1f} to {max(medians):.1f}, lowest frame "
        f"{min(run.min_ms for run in runs):.1f}{over}",
    ]


def _said(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key} {item}" for key, item in value.items())
    return ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)


def _plain(value: Any) -> Any:
    """What JSON does not know: this benchmark's data classes; a target says whether it is met, too."""
    if is_dataclass(value) and not isinstance(value, type):
        return asdict(value) | ({"met": value.met} if hasattr(value, "met") else {})
    raise TypeError(f"{type(value).__name__} has no place in the results")


def _plot(document: dict[str, Any], path: Path) -> None:
    """Horizontal bars of the medians, p90 as a whisker; hatched where there is no heat map, grey where it failed."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    rows = sorted(document["rows"], key=lambda row: -row["times"].p50_ms)
    figure, axes = plt.subplots(figsize=(9, 1 + 0.34 * len(rows)), layout="constrained")
    for place, row in enumerate(rows):
        name, times = row["entry"].name, row["times"]
        colour = "#1f77b4" if name.startswith("vmeg-edge") else "#b0b0b0"
        hatch = "////" if row["entry"].scope == "inference" else None
        axes.barh(place, times.p50_ms, color=colour, hatch=hatch, edgecolor="white")
        axes.plot([times.p50_ms, times.p90_ms], [place, place], color="black", linewidth=1)
        axes.text(
            max(times.p90_ms, times.p50_ms) * 1.03,
            place,
            f"{times.p50_ms:.1f}" + (" FAILED" if row["failures"] else ""),
            va="center",
            fontsize=8,
        )
    axes.set_yticks(range(len(rows)), [row["entry"].name for row in rows], fontsize=8)
    axes.set_xlabel("ms a 1080p frame, p50 (line: to p90); hatched: bare inference, no preprocessing, no heat map")
    axes.margins(x=0.1)
    axes.spines[["top", "right"]].set_visible(False)
    condition = document["conditions"]
    axes.set_title(f"{condition['processor']}, {condition['threads']} threads, ViT-B/16", fontsize=9)
    figure.savefig(path, dpi=130)
    plt.close(figure)
