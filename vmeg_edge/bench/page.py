"""A bench report as one page: pictures and tables in a single file that asks nothing of any network."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable, Sequence
from importlib import resources

from vmeg_edge.bench import comparison_tables, tables
from vmeg_edge.bench.comparison import Comparison
from vmeg_edge.bench.plots import colour, cumulative, histograms, stage_bars
from vmeg_edge.bench.report import BenchReport, Case
from vmeg_edge.bench.svg import escape
from vmeg_edge.bench.tables import Sheet, point
from vmeg_edge.bench.timeline import traces, whiskers

_SHAPES = {
    "good": '<circle cx="8" cy="8" r="7" fill="none" stroke="currentColor" stroke-width="2"/>'
    '<path d="M4.5 8.5 7 11l4.5-6" fill="none" stroke="currentColor" stroke-width="2"/>',
    "bad": '<path d="M8 0 16 15H0z" fill="currentColor"/>',
    "plain": '<path d="M2 8h12" stroke="currentColor" stroke-width="3"/>',
}
_KINDS = {
    **dict.fromkeys(("VALID", "pass", "better"), "good"),
    **dict.fromkeys(("INVALID", "FAIL", "worse"), "bad"),
    **dict.fromkeys(("within noise", "unknown"), "plain"),
}


def html(report: BenchReport, comparison: Comparison | None = None) -> str:
    """The whole page. Everything that comes from a bundle or a machine is escaped; the page runs no script."""
    style = (resources.files("vmeg_edge.bench") / "page.css").read_text(encoding="utf-8")
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    policy = f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"
    made = f"vmeg-edge {report.vmeg_edge}, {_moment(report.made_at)}"
    title = f"Bench of {tables.heading(report)}"
    parts = [
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">',
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        '<meta name="referrer" content="no-referrer">',
        f"<title>{escape(title)}</title>\n<style>{style}</style>\n</head>\n<body>",
        *_header(report),
        "<main>",
        *_results(report),
        *([] if comparison is None else _compared(comparison)),
        *_details(report),
        "</main>",
        f"<footer>{_paragraphs((*tables.notices(report), made))}</footer>",
        "</body>\n</html>\n",
    ]
    return "\n".join(parts)


def _header(report: BenchReport) -> list[str]:
    settings, machine = report.settings, report.environment
    size = f"{settings.frame_width}x{settings.frame_height}"
    under = f"{settings.scenario}, {size} frames, {tables.lasting(settings)}"
    under += f"; {machine.cpu}, {machine.usable_processors} processors usable"
    under += "" if machine.quota_processors is None else f" under a CPU quota of {machine.quota_processors:g}"
    return [
        "<header>",
        f"<h1><small>vmeg-edge bench</small>{escape(tables.heading(report))}</h1>",
        f'<p class="under">{escape(under)}; <time>{escape(_moment(report.made_at))}</time></p>',
        f'<div class="notices" role="note">{_paragraphs(tables.notices(report))}</div>',
        f'<ul class="cases">{"".join(_card(report, case) for case in report.cases)}</ul>',
        _list("reasons", tables.reasons(report)),
        f'<p class="method">{escape(report.method)}</p>',
        "</header>",
    ]


def _card(report: BenchReport, case: Case) -> str:
    stage = case.stages_ms.get("end_to_end")
    more = f"p99 {point(stage, 'p99')} ms, {case.throughput_fps:.1f} fps"
    return (
        f'<li class="{colour(report, case)}"><b>{_in_two_lines(case)}</b>'
        f'<p class="figure">{escape(point(stage, "p50"))} <small>ms p50</small></p>'
        f'<p class="more">{escape(more)}</p>{_word(case.verdict.word)}</li>'
    )


def _in_two_lines(case: Case) -> str:
    """The model alone in the first, where a name begins with it."""
    model = f"{case.model}, "
    if not case.name.startswith(model):
        return escape(case.name)
    return f"{escape(model)}<span>{escape(case.name.removeprefix(model))}</span>"


def _results(report: BenchReport) -> list[str]:
    scaling = tables.threads(report)
    stages = "".join(f'<li class="s-{stage}"><span>{stage}</span></li>' for stage in _stages(report))
    return [
        "<h2>Latency</h2>",
        _table(tables.latency(report)),
        *(f'<p class="note">{escape(line)}</p>' for line in tables.footnotes(report)),
        '<div class="pair">',
        _figure(
            "Spread", "Each at its own height; a single frame still shows. Marks: p50 and p99.", histograms(report)
        ),
        _figure("Share of frames done", "The scale stretches towards 100 %, where the tail is.", cumulative(report)),
        "</div>",
        "<h2>Where the time goes</h2>",
        _figure(
            "Median of each stage",
            "The upright mark is the median of the whole, which need not be the sum of medians.",
            f'<ul class="key">{stages}</ul>',
            stage_bars(report),
            across=True,
        ),
        _table(tables.stages(report)),
        f'<p class="note">{escape(_about_stages(report))}</p>',
        "<h2>Over time</h2>",
        _figure(
            "Every frame, end to end",
            "Rounds alternate in ground. Long traces are thinned to the fastest and the slowest frame of each moment. "
            "Triangles are late frames.",
            traces(report),
            across=True,
        ),
        "<h2>Throughput, memory and start</h2>",
        _table(tables.memory(report)),
        '<p class="note">Resident memory of the case\'s own process, without the frames that the bench holds; '
        "growth is after warm-up.</p>",
        *([] if scaling is None else [_table(scaling)]),
        _table(tables.starts(report)),
    ]


def _about_stages(report: BenchReport) -> str:
    overhead = tables.overheads(report)
    if not any("decode" in case.stages_ms for case in report.cases):
        return overhead
    return f"decode is not part of end to end: frames are decoded once, ahead of the clock; {overhead}"


def _compared(comparison: Comparison) -> list[str]:
    return [
        "<h2>Compared with an older run</h2>",
        _list("lines", comparison_tables.comparison_lines(comparison)),
        *([] if not comparison.pairs else [_whiskers(comparison)]),
        *([] if not comparison.pairs else map(_table, comparison_tables.ratios(comparison))),
        '<p class="note">The intervals hold what varies within the two runs, not what a restart changes.</p>',
    ]


def _whiskers(comparison: Comparison) -> str:
    note = "Latency (circles) is better to the left of the dashed line, frames a second (squares) to its right."
    return _figure("Ratios with 99 % intervals", note, whiskers(comparison), across=True)


def _details(report: BenchReport) -> list[str]:
    rows = "".join(f"<dt>{escape(name)}</dt><dd>{escape(value)}</dd>" for name, value in tables.facts(report))
    return [
        "<h2>Parity</h2>",
        _table(tables.parity(report)),
        "<h2>What was measured, on what</h2>",
        _table(tables.engines(report), long=("details",)),
        f"<dl>{rows}</dl>",
    ]


def _stages(report: BenchReport) -> tuple[str, ...]:
    order = ("preprocess", "infer", "explain", "decide", "other")
    return tuple(stage for stage in order if any(stage in case.stages_ms for case in report.cases))


def _word(word: str) -> str:
    kind = _KINDS[word]
    shape = f'<svg viewBox="0 0 16 16" aria-hidden="true">{_SHAPES[kind]}</svg>'
    return f'<span class="word {kind}">{shape}{escape(word)}</span>'


def _table(sheet: Sheet, long: Sequence[str] = ()) -> str:
    kinds = ["text" if place < sheet.text_columns else "" for place in range(len(sheet.columns))]
    heads = "".join(
        f'<th scope="col"{_class(kind)}>{escape(name)}</th>' for name, kind in zip(sheet.columns, kinds, strict=True)
    )
    rows, before = [], None
    for row in sheet.rows:
        again = row[0] == before
        before = row[0]
        cells = [f'<th scope="row">{"" if again else escape(row[0])}</th>']
        for name, kind, cell in zip(sheet.columns[1:], kinds[1:], row[1:], strict=True):
            content = _word(cell) if cell in _KINDS else _starred(cell)
            cells.append(f"<td{_class(f'{kind} long' if name in long else kind)}>{content}</td>")
        rows.append(f"<tr{_class('group' if again else '')}>{''.join(cells)}</tr>")
    return (
        f'<div class="wide" tabindex="0" role="region" aria-label="{escape(sheet.title)}"><table>'
        f"<caption>{escape(sheet.title)}</caption><thead><tr>{heads}</tr></thead><tbody>{''.join(rows)}</tbody></table></div>"
    )


def _moment(made_at: str) -> str:
    """As people write it: without the T of ISO 8601."""
    return made_at.replace("T", " ").replace("+00:00", " UTC")


def _starred(cell: str) -> str:
    """The star hangs beside its column, so that digits stay under one another."""
    figure = cell.removesuffix("*")
    return escape(cell) if figure == cell else f'{escape(figure)}<span class="star">*</span>'


def _class(kind: str) -> str:
    return f' class="{kind.strip()}"' if kind else ""


def _figure(title: str, note: str, *content: str, across: bool = False) -> str:
    *key, drawing = content
    kind = "draw across" if across else "draw"
    return (
        f"<figure><figcaption><b>{escape(title)}</b>{escape(note)}</figcaption>{''.join(key)}"
        f'<div class="{kind}">{drawing}</div></figure>'
    )


def _paragraphs(lines: Iterable[str]) -> str:
    return "".join(f"<p>{escape(line)}</p>" for line in lines)


def _list(kind: str, lines: Sequence[str]) -> str:
    return f'<ul class="{kind}">{"".join(f"<li>{escape(line)}</li>" for line in lines)}</ul>' if lines else ""
