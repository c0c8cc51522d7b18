"""The page of `temporal`: tables in Markdown, and a bar for each cine."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("Agg")
import matplotlib.pyplot as plt

# Okabe and Ito's colours, which colour-blind readers tell apart; pale for what changes most.
BARS = (
    ("identical", "bit-identical", "#0072B2"),
    ("within_2", "by 1 or 2 levels", "#56B4E9"),
    ("within_8", "by 3 to 8 levels", "#E69F00"),
    ("all", "by more", "#DDDDDD"),
)


PATCHES = (
    "{count} patches of {side} x {side} pixels after the runtime's own preprocessing; a patch's change is the largest "
    "of its pixels and channels, in levels of 256"
)
NETWORK = (
    "network: `{name}`, SHA-256 {sha256:.12}; the real cines show other planes than it was trained on, so its scores "
    "mean nothing there, only how far they move"
)
EXACTLY = (
    "Exact reuse: a patch that is bit-identical keeps its embedding, its first LayerNorm and its queries, keys and "
    "values in the first block, and with another such patch their product; from the first softmax on, every token "
    "depends on every patch. That is {most:.2%} of ViT-B/16's multiply-adds if all patches are unchanged (and then the "
    "whole result is, which needs no network at all)."
)
CODED = (
    "The videos are compressed, and a codec copies the blocks that change little: a live signal repeats fewer bits. "
    "The MetaImage sequences are lossless."
)
BOUND = (
    "A bound is proven for L = 0 alone: the same bits give the same result. For any other L it would take a Lipschitz "
    "constant; self-attention has none over all inputs (Kim et al., ICML 2021, arXiv 2006.04710), and over pictures "
    "there is the product of the layers' norms, which was not worked out here. The last table is a lower bound of what "
    "any such constant allows: one level a pixel, well chosen, moves the probability by {pushed:.2f}, so no proven "
    "bound can be below that. What was seen is far less: the frames that L = {level} would have skipped, of {frames}, "
    "differ by {seen:.1e} at most. That is no proof."
)


def markdown(report: dict[str, Any]) -> str:
    rows, count = report["rows"], report["patches"]
    levels = [found["levels"] for found in rows[0]["skips"]]
    lines = ["# What is unchanged from frame to frame", "", *(f"> {notice}" for notice in report["notices"]), ""]
    lines += [
        f"- {PATCHES.format(count=count, side=round(report['input']['width'] / count**0.5))}",
        f"- {NETWORK.format(**report['checkpoint'])}",
        *(f"- {key}: {_plain(value)}" for key, value in report["conditions"].items()),
    ]
    head = ["cine", "frames", "patches identical", "of the lit ones", "within 2 levels", "within 8", "frames identical"]
    head += ["all patches within 2", "patches dark throughout", "of those, joined to the border"]
    lines += ["", "## Unchanged patches and frames", "", *_head([*head, "exact reuse saves at most"])]
    for row in rows:
        border = "" if row["dark_at_border"] is None else f"{row['dark_at_border']:.0%}"
        shares = (
            row[name]
            for name in ("identical", "identical_lit", "within_2", "within_8", "frames_identical", "frames_within_2")
        )
        cells = [_name(row), f"{row['frames']}", *(f"{share:.1%}" for share in shares), f"{row['dark']:.1%}", border]
        lines.append(f"| {' | '.join(cells)} | {row['saved_exactly']:.2%} |")
    lines += ["", CODED, "", EXACTLY.format(most=report["most_saved_exactly"])]

    names = [f"L = {level}" for level in levels]
    lines += ["", "## A frame is not scored while every patch is within L levels of the last scored one", ""]
    lines += _head(["cine", *names])
    lines += [f"| {_name(row)} | {' | '.join(_skipped(found) for found in row['skips'])} |" for row in rows]
    lines += ["", "Frames not scored, and the greatest |Δp| between what is shown and the frame's own score.", ""]
    lines += _together([row for row in rows if row["real"]])

    frames = sum(row["frames"] for row in rows)
    lines += ["", f"## What L levels a pixel can do, by {report['ascent_steps']} steps of gradient ascent", ""]
    lines += _head(["cine", *names[1:]])
    lines += [f"| {_name(row)} | {' | '.join(f'{moved:.3f}' for moved in row['pushed'])} |" for row in rows]
    seen = max(row["skips"][-1]["max_abs_dp"] for row in rows)
    pushed = max(row["pushed"][0] for row in rows)
    lines += [
        "",
        BOUND.format(seen=seen, level=levels[-1], pushed=pushed, frames=frames),
        "",
        "![Unchanged patches](temporal.png)",
    ]
    return "\n".join(lines)


def _head(names: list[str]) -> list[str]:
    return [f"| {' | '.join(names)} |", f"|---|{'--:|' * (len(names) - 1)}"]


def _together(rows: list[dict[str, Any]]) -> list[str]:
    """A line a level, over all of ``rows``."""
    lines = _head(
        ["all real cines", "frames not scored", "max \\|Δp\\|", "flips", "outside the band", "lowest map cosine"]
    )
    for found in zip(*(row["skips"] for row in rows), strict=True):
        share = sum(each["skipped"] for each in found) / sum(each["frames"] for each in found)
        flips, outside = (sum(each[name] for each in found) for name in ("flips", "flips_outside_band"))
        worst, cosine = max(each["max_abs_dp"] for each in found), min(each["map_cosine_min"] for each in found)
        level = found[0]["levels"]
        lines.append(f"| L = {level} | {share:.1%} | {_small(worst)} | {flips} | {outside} | {cosine:.3f} |")
    return lines


def _skipped(found: dict[str, Any]) -> str:
    if not found["skipped"]:
        return "none"
    return f"{found['skipped'] / found['frames']:.1%}, {_small(found['max_abs_dp'])}"


def _small(value: float) -> str:
    return f"{value:.1e}" if value else "0"


def _name(row: dict[str, Any]) -> str:
    return row["source"].rpartition("/")[2]


def _plain(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def draw(report: dict[str, Any], target: Path) -> None:
    """Write ``target``, a PNG: each cine's patches by how much they change."""
    rows = sorted(report["rows"], key=lambda row: (row["real"], row["identical"], row["within_2"]))
    figure, axes = plt.subplots(figsize=(10, 0.42 * len(rows) + 1.6), layout="constrained")
    for place, row in enumerate(rows):
        left = 0.0
        for key, label, colour in BARS:
            share = 100 * row.get(key, 1.0)
            axes.barh(place, share - left, left=left, color=colour, label=label if place == 0 else None)
            left = share
        axes.annotate(
            f"saves {row['saved_exactly']:.1%}",
            xy=(100, place),
            xytext=(6, 0),
            textcoords="offset points",
            va="center",
            fontsize=9,
            annotation_clip=False,
        )
    axes.set_yticks(range(len(rows)), [f"{_short(row)} ({row['frames']})" for row in rows])
    axes.set_xlim(0, 100)
    axes.set_xlabel("patches, % of all pairs of frames")
    figure.suptitle(
        "Change of patches from frame to frame, and what exact reuse saves of ViT-B/16 at most", fontsize=11
    )
    figure.legend(loc="outside lower center", ncols=len(BARS), frameon=False, fontsize=9)
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(target, dpi=110)
    plt.close(figure)


def _short(row: dict[str, Any]) -> str:
    name = _name(row)
    return name if len(name) <= 40 else f"{name[:37]}..."
