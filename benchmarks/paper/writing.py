"""What a run leaves in its folder: results.json, bench.json, table.md, worth.md and two pictures."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from vmeg_edge.bench.report import BenchReport
from vmeg_edge.outputs import PendingFile

from . import pictures, tables
from .data import Data, Phantoms
from .pictures import Column, Row

SHEET_ROWS = 4  # of each class


def write(results: Mapping[str, Any], said: Mapping[str, Any], report: BenchReport, data: Data, out: Path) -> None:
    """Write everything. Raises `OutputError`."""
    out.mkdir(parents=True, exist_ok=True)
    simulated = isinstance(data, Phantoms)
    footer = tables.FOOTER if simulated else tables.FOOTER_REAL
    _text(out / "results.json", json.dumps(results, indent=1, allow_nan=False))
    _text(out / "bench.json", report.to_json())
    _text(out / "table.md", _table(results, footer))
    _text(out / "worth.md", _worth(results, footer, simulated))
    _sheet(results, said, data, out / "contact_sheet.png", footer)
    pictures.f1_by_latency(
        results["device"],
        out / "f1_by_latency.png",
        title=_short(results, simulated),
        footer=footer,
    )


def _text(path: Path, content: str) -> None:
    with PendingFile(path) as pending:
        pending.write_text(content.rstrip() + "\n", encoding="utf-8")


def _short(results: Mapping[str, Any], simulated: bool) -> str:
    frames = results["frames"]["test"]
    what = f"{frames} test phantoms" if simulated else f"{frames} real frames, NOT MEANINGFUL"
    return f"F1 against latency: {results['settings']['name']} systems, {what}"


def _about(results: Mapping[str, Any]) -> str:
    machine, settings, frames = results["machine"], results["settings"], results["frames"]
    shown = ", ".join(f"{name} {number}" for name, number in results["versions"].items())
    minutes = results["duration"]["all_parts_s"] / 60
    return (
        f"{frames['labelled']} labelled frames of {frames['labelled_groups']} groups "
        f"({frames['labelled_positive']} positive) in {settings['folds']} folds, {frames['test']} test frames of "
        f"{frames['test_groups']} groups ({frames['test_positive']} positive), at {settings['image_size']} pixels. "
        f"{machine['cpu']}, {machine['usable_processors']} processors, {results['latency']['threads']} threads; {shown}"
        f". All parts together took {minutes:.0f} minutes."
    )


def _table(results: Mapping[str, Any], footer: str) -> str:
    choices = ", ".join(f"{system['name']}: {system['device_fold']}" for system in results["systems"])
    return "\n\n".join(
        [
            f"# The paper's protocol, size {results['settings']['name']}",
            *(f"**{notice}**" for notice in results["notices"]),
            _about(results),
            tables.of_metrics(results),
            "## On this device",
            f"One model a system: {results['choice']} ({choices}). {results['latency']['method']} "
            "The run is `bench.json`, as `vmeg-edge bench` writes it; its verdicts say there why a case is INVALID.",
            tables.of_device(results),
            "## Parity of the conversions",
            "Every candidate against float32 on the frames of the gate: float32 itself against torch, int8 against the "
            "float32 bundle that it is made from. The abstain band is 0.45 to 0.55. A target with no `kept` row has no "
            "artefact in its bundle.",
            tables.of_parity(results),
            "## Int8 against float32 on the test frames",
            "Of the same engine; a flip is a probability on the other side of 0.5, however near.",
            tables.of_agreement(results),
            f"*{footer}*",
        ]
    )


def _worth(results: Mapping[str, Any], footer: str, simulated: bool) -> str:
    how = (
        "Through the runtime: `vmeg_edge.load`, `score`, the heat map of its result. Intervals are 95 % bootstraps "
        "over the frames. Chance of the peak is that of a cell drawn at random; within one cell means one cell of the "
        "system's own grid, so a coarse grid has a high chance. Energy is the share of the stretched map's sum inside "
        "the ventricles, beside their share of the region's area. Deletion masks cells with the region's mean grey in "
        "sixteen steps and scores each: the area under the curve of the probability of the class that the whole frame "
        "was called, its start taken as 1, hottest cells first and in random orders "
        f"({results['settings']['random_orders']} a frame), on {results['deleted_on']} alone, for up to "
        f"{results['settings']['deletions']} frames of each class."
    )
    parts = ["# What the heat maps are worth", *(f"**{notice}**" for notice in results["notices"]), how]
    for group in ("dilated", "all"):
        name = "dilated phantoms" if simulated else f"frames labelled {results['positive']}"
        title = name if group == "dilated" else "all test frames"
        parts += [f"## {title[0].upper()}{title[1:]}", tables.of_pointing(results, group)]
        parts += ["Deletion:", tables.of_deletion(results, group)]
    return "\n\n".join([*parts, f"*{footer}*"])


def _sheet(results: Mapping[str, Any], said: Mapping[str, Any], data: Data, path: Path, footer: str) -> None:
    positives = data.test.positives
    places = [int(p) for side in (positives, ~positives) for p in np.flatnonzero(side)[:SHEET_ROWS]]
    rows = []
    for place in places:
        shown = data.shown(place)
        frame = shown.frame
        region = frame.region
        y, x = (slice(None), slice(None))
        if region is not None:
            y, x = slice(region.y, region.y + region.height), slice(region.x, region.x + region.width)
        width = "" if data.test.widths_mm is None else f"\natrium {data.test.widths_mm[place]:.1f} mm"
        label = data.test.labels[int(data.test.targets[place])]
        mask = None if shown.mask is None else shown.mask[y, x]
        rows.append(Row(f"{label}{width}", frame.pixels[y, x], mask))
    columns = []
    for system in results["systems"]:
        for precision in ("float32", "int8"):
            name = f"{system['key']} {precision} {results['deleted_on']}"
            if name in said:
                maps = [np.asarray(said[name]["maps"][place]) for place in places]
                scores = [said[name]["probabilities"][place] for place in places]
                columns.append(Column(f"{pictures.folded(system['name'])}\n{precision}", maps, scores))
    notice = "" if isinstance(data, Phantoms) else ": NOT MEANINGFUL, a smoke run"
    outline = "; yellow: the ventricles" if rows and rows[0].mask is not None else ""
    pictures.contact_sheet(
        rows,
        columns,
        path,
        title=f"Feature saliency (Eigen-CAM) on test frames, {results['deleted_on']}{outline}{notice}",
        footer=f"p is that of {data.test.positive}; the map shows what the features respond to, for no class. {footer}",
    )
