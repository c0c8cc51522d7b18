"""The tables, in Markdown: metrics by system, the device's figures, parity, and what the heat maps are worth."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from vmeg_edge.converters.evaluation import METRICS

from . import published

FOOTER = "Research use only; simulated heads."
FOOTER_REAL = "Research use only; a smoke run, its figures are not meaningful."
_PARTS = (("held_out", "folds", "held-out folds"), ("test", "test", "independent test"))


def table(head: Sequence[str], rows: Sequence[Sequence[str]], left: int = 1) -> str:
    """A table whose first ``left`` columns are words and the others figures."""
    rule = ["---"] * left + ["--:"] * (len(head) - left)
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (head, rule, *rows))


def percent(figure: Mapping[str, Any]) -> str:
    """Mean and deviation of a `Spread`, in percent."""
    if figure["mean"] is None:
        return "undefined"
    sd = "" if figure["sd"] is None else f" ± {100 * figure['sd']:.2f}"
    return f"{100 * figure['mean']:.2f}{sd}"


def interval(figure: Mapping[str, Any], scale: float = 100, digits: int = 1) -> str:
    """A `Mean` with its 95 % interval."""
    if figure["value"] is None:
        return "none"
    value, low, high = (scale * figure[name] for name in ("value", "low", "high"))
    return f"{value:.{digits}f} ({low:.{digits}f} to {high:.{digits}f})"


def of_metrics(results: Mapping[str, Any]) -> str:
    """Six metrics a system, mean and deviation over the folds' models, in percent; F1 beside the paper's own."""
    lines = []
    for part, known, title in _PARTS:
        rows = []
        for system in results["systems"]:
            figures = system["summary"][part]
            rows.append(
                [
                    system["name"],
                    system["paper"],
                    *(percent(figures[name]) for name in METRICS),
                    published.said(system["paper"], known),
                ]
            )
        head = ["system", "stands for", *METRICS, published.SOURCE]
        count = results["frames"]["labelled" if part == "held_out" else "test"]
        heading = f"## {title[0].upper()}{title[1:]}"
        lines += [heading, "", _sentence(results, part, count), "", table(head, rows, 2), ""]
    lines.append(
        "The published column is from the paper's abstract. Where a baseline's own figure is not in it, the "
        "abstract's distance from USF-MAE is given as it stands there: whether in points or in percent is not said."
    )
    return "\n".join(lines)


def _sentence(results: Mapping[str, Any], part: str, count: int) -> str:
    models = results["settings"]["folds"]
    what = (
        f"Each of {models} models on the frames of its own fold, {count} in all"
        if part == "held_out"
        else f"Each of the same {models} models on the same {count} frames"
    )
    return f"{what}. Mean ± standard deviation over the models, in percent, at the threshold 0.5; AUC times 100."


def of_device(results: Mapping[str, Any]) -> str:
    """Latency and size of one model a system, beside its F1 on the test frames by this very bundle."""
    rows = [
        [
            row["system"],
            row["precision"],
            row["backend"],
            f"{row['p50_ms']:.2f}",
            f"{row['lowest_turn_p50_ms']:.2f} to {row['highest_turn_p50_ms']:.2f}",
            f"{row['samples']}",
            row["verdict"],
            f"{row['artefact_mb']:.2f}",
            interval(row["f1"]),
        ]
        for row in results["device"]
    ]
    head = ["system", "precision", "engine", "p50 ms", "p50 of the turns", "samples", "run", "size MB"]
    return table([*head, "test F1, % (95 %)"], rows, 3)


def of_parity(results: Mapping[str, Any]) -> str:
    """Every candidate of the conversions, against the float32 reference, on the frames of the gate."""
    rows = [
        [
            row["system"],
            row["precision"],
            row["target"],
            row["recipe"],
            row["status"],
            f"{row['frames']}",
            _power(row["max_abs_dp"]),
            _power(row["mean_abs_dp"]),
            f"{row['flips']}",
            _four(row["heatmap_cosine_min"]),
            f"{len(row['float_layers'])}",
        ]
        for row in results["parity"]
    ]
    head = ["system", "precision", "engine", "recipe", "gate", "frames", "max abs dp", "mean abs dp", "flips"]
    return table([*head, "least cosine of maps", "layers left in float"], rows, 5)


def of_agreement(results: Mapping[str, Any]) -> str:
    """Int8 against float32 of the same engine, on the test frames."""
    rows = [
        [
            row["system"],
            row["backend"],
            f"{row['frames']}",
            _power(row["max_abs_dp"]),
            _power(row["mean_abs_dp"]),
            f"{row['flips']}",
            _four(row["heatmap_cosine_min"]),
            _four(row["heatmap_cosine_mean"]),
            f"{row['peak_distance_mean']:.2f}",
        ]
        for row in results["agreement"]
    ]
    head = ["system", "engine", "frames", "max abs dp", "mean abs dp", "flips", "least cosine of maps"]
    return table([*head, "mean cosine", "mean distance of peaks, cells"], rows, 2)


def of_pointing(results: Mapping[str, Any], group: str) -> str:
    """Pointing game and energy of every subject over one group of frames, chance beside each; none without masks."""
    rows = []
    for row in results["worth"]:
        found = row[group]
        if "inside" in found:
            rows.append(
                [
                    *_subject(row),
                    f"{found['hits']} of {found['frames']} ({100 * found['inside']['value']:.1f} %)",
                    f"{100 * found['chance_inside']['value']:.1f}",
                    f"{found['near_hits']} of {found['frames']} ({100 * found['near']['value']:.1f} %)",
                    f"{100 * found['chance_near']['value']:.1f}",
                    interval(found["energy"]),
                    f"{found['energy']['n']}",
                    f"{100 * found['area']['value']:.1f}",
                ]
            )
    if not rows:
        return "There are no masks of these frames, so there is no pointing game and no energy."
    head = ["system", "precision", "engine", "grid", "peak in the ventricle", "chance, %", "within one cell"]
    return table([*head, "chance, %", "energy in the ventricle, % (95 %)", "n", "area, %"], rows, 4)


def of_deletion(results: Mapping[str, Any], group: str) -> str:
    """The area under the deletion curve, hottest first against random, over one group of frames."""
    rows = [
        [
            *_subject(row),
            *(interval(row[group][name], 1, 3) for name in ("hottest_area", "random_area", "gain")),
            f"{row[group]['gain']['n']}",
        ]
        for row in results["worth"]
        if row[group]["gain"]["n"]
    ]
    head = ["system", "precision", "engine", "grid", "hottest first (95 %)", "random first (95 %)"]
    return table([*head, "random less hottest (95 %)", "n"], rows, 4)


def _subject(row: Mapping[str, Any]) -> list[str]:
    return [row["system"], row["precision"], row["backend"], row["grid"]]


def _power(value: float | None) -> str:
    return "none" if value is None else f"{value:.1e}"


def _four(value: float | None) -> str:
    return "none" if value is None else f"{value:.4f}"
