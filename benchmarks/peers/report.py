"""The table in Markdown, the figures for JSON, and the bars."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import matplotlib as mpl
from cases import GRAD_CAM, GRAD_CAM_AS_INSTALLED, OURS, OURS_BFLOAT16, RAW_INT8, RAW_INT8_BFLOAT16
from ratios import Latency, Ratio, Target, latency, ratio, targets
from rounds import Result
from truth import Agreement

mpl.use("Agg")
import matplotlib.pyplot as plt

# Okabe and Ito's colours, which colour-blind readers tell apart.
OUR_COLOUR, RAW_COLOUR, PEER_COLOUR = "#0072B2", "#767676", "#E69F00"


@dataclass(frozen=True)
class Row:
    """One peer's line."""

    result: Result
    latency: Latency
    to_raw: Ratio
    to_ours: Ratio
    agreement: Agreement

    def to_json(self) -> dict[str, Any]:
        case = self.result.case
        return {
            "name": case.name,
            "label": case.label,
            "settings": self.result.settings,
            "versions": self.result.versions,
            **asdict(self.latency),
            "ratio_to_raw_openvino_int8": asdict(self.to_raw),
            "ratio_to_vmeg_openvino_int8": asdict(self.to_ours),
            "resident_mb": self.result.resident_mb,
            **asdict(self.agreement),
            "map_sign": "by the rule" if case.signed else "either",
            "rounds_ms": [[round(ms, 3) for ms in samples] for samples in self.result.rounds_ms],
        }


def rows_of(results: Sequence[Result], agreements: Sequence[Agreement]) -> list[Row]:
    """Slowest first."""
    rounds = {result.case.name: result.rounds_ms for result in results}
    rows = [
        Row(
            result,
            latency(result.rounds_ms),
            ratio(result.rounds_ms, rounds[RAW_INT8]),
            ratio(result.rounds_ms, rounds[OURS]),
            agreed,
        )
        for result, agreed in zip(results, agreements, strict=True)
    ]
    return sorted(rows, key=lambda row: -row.latency.p50_ms)


def targets_of(results: Sequence[Result]) -> list[Target]:
    """Held against the rest in float32, and in bfloat16 where it runs: each against raw inference of its own kind."""
    rounds = {result.case.name: result.rounds_ms for result in results}
    found = []
    for ours, raw, rest in ((OURS, RAW_INT8, "float32"), (OURS_BFLOAT16, RAW_INT8_BFLOAT16, "bfloat16")):
        if ours in rounds:
            peers = rounds[GRAD_CAM_AS_INSTALLED], rounds[GRAD_CAM]
            found += targets(rounds[ours], rounds[raw], *peers, rest)
    return found


def markdown(setting: dict[str, Any], rows: Sequence[Row], promised: Sequence[Target], app: dict[str, Any]) -> str:
    lines = ["# Peers side by side", "", *(f"- {key}: {value}" for key, value in setting.items()), ""]
    for whole, title in ((True, "1920x1080 frame to score and heat map"), (False, "Raw inference")):
        lines += [f"## {title}", "", _table([row for row in rows if row.result.case.whole == whole], maps=whole), ""]
    lines += ["## benchmark_app, raw int8", "", "| rest in | medians, ms | best, ms |", "|---|---|--:|"]
    for precision, medians in app.items():
        each = ", ".join(f"{ms:.1f}" for ms in medians)
        lines.append(f"| {precision} | {each} | {min(medians):.1f} |")
    lines += ["", "## Targets", "", *(f"- {target}" for target in promised)]
    lines += [
        "",
        "## Settings",
        "",
        "- NumPy's OpenBLAS: one thread in every process, except grad-cam as installed",
        *(f"- {row.result.case.label}: {_settings(row.result)}" for row in rows),
    ]
    return "\n".join([*lines, "", "![p50 of each](peers.png)"])


def _settings(result: Result) -> str:
    versions = ", ".join(f"{name} {version}" for name, version in result.versions.items())
    return f"{versions}; {result.settings}"


def _table(rows: Sequence[Row], *, maps: bool) -> str:
    head = [
        "peer",
        "samples",
        "min ms",
        "p50 ms",
        "p90 ms",
        "to raw OpenVINO int8",
        "to vmeg-edge OpenVINO int8",
        "RSS MB",
    ]
    head += ["max abs dp", "mean abs dp", "gate", *(["1 - lowest map cosine"] if maps else [])]
    lines = [f"| {' | '.join(head)} |", f"|---|{'--:|' * (len(head) - 1)}"]
    for row in rows:
        found, agreed, case = row.latency, row.agreement, row.result.case
        cells = [case.label, f"{found.samples}", *(f"{ms:.1f}" for ms in (found.min_ms, found.p50_ms, found.p90_ms))]
        cells += [str(row.to_raw), str(row.to_ours), f"{row.result.resident_mb:.0f}"]
        cells += [f"{agreed.max_abs_dp:.1e}", f"{agreed.mean_abs_dp:.1e}"]
        cells.append(f"{case.gate} {'passes' if agreed.passes else '**FAILS**'}")
        if maps:
            apart = max(0.0, 1 - (agreed.map_cosine or 0.0))
            cells.append(f"{apart:.0e}{'' if case.signed else ' (either sign)'}")
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def draw(rows: Sequence[Row], processor: str, threads: int, target: Path) -> None:
    """Write ``target``, a PNG: p50, the fastest on top, whiskers from the fastest to the 90th percentile."""
    figure, axes = plt.subplots(figsize=(10, 0.42 * len(rows) + 1.4), layout="constrained")
    for place, row in enumerate(rows):
        found, case = row.latency, row.result.case
        colour = OUR_COLOUR if case.name.startswith("vmeg") else PEER_COLOUR if case.whole else RAW_COLOUR
        whiskers = [[found.p50_ms - found.min_ms], [found.p90_ms - found.p50_ms]]
        axes.barh(place, found.p50_ms, xerr=whiskers, color=colour, error_kw={"elinewidth": 1, "capsize": 2})
        axes.annotate(
            f"{found.p50_ms:.1f} ms" + ("" if row.agreement.passes else ", fails its gate"),
            xy=(max(found.p50_ms, found.p90_ms), place),
            xytext=(6, 0),
            textcoords="offset points",
            va="center",
            fontsize=9,
        )
    axes.set_yticks(range(len(rows)), [row.result.case.label for row in rows])
    axes.set_xlabel("ms a frame, p50; whiskers from the fastest to p90")
    axes.set_title(f"1920x1080 frame to score and heat map, ViT-B/16, {processor}, {threads} threads", fontsize=11)
    axes.legend(
        handles=[plt.Rectangle((0, 0), 1, 1, color=colour) for colour in (OUR_COLOUR, PEER_COLOUR, RAW_COLOUR)],
        labels=["vmeg-edge", "peers, whole frame", "inference alone"],
        loc="upper right",
        frameon=False,
    )
    axes.margins(x=0.12)
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(target, dpi=110)
    plt.close(figure)
