"""A bench report for people, in a terminal: tables, reasons in words, and what must be said with the figures."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable

from rich.console import Console
from rich.table import Table

from vmeg_edge.bench import comparison_tables, tables
from vmeg_edge.bench.comparison import Comparison
from vmeg_edge.bench.report import BenchReport
from vmeg_edge.bench.tables import Sheet
from vmeg_edge.cli.console import table


def show(report: BenchReport, console: Console, comparison: Comparison | None = None) -> None:
    """Print the whole report; with ``comparison``, how it stands to an older one."""
    whole = tables.overview(report)
    fits = _width(_made(whole)) <= console.width
    _print(console, [whole] if fits else [tables.latency(report), tables.yields(report)])
    _lines(console, tables.reasons(report), first="INVALID ")
    _lines(console, tables.footnotes(report))
    console.print()
    sheets = [tables.stages(report), tables.starts(report), tables.threads(report)]
    _print(console, [sheet for sheet in sheets if sheet is not None])
    if comparison is not None:
        _print(console, comparison_tables.ratios(comparison) if comparison.pairs else [])
        _lines(console, comparison_tables.comparison_lines(comparison))
        console.print()
    _lines(console, [tables.overheads(report)])
    _lines(console, [f"{name}: {value}" for name, value in tables.facts(report)])
    _lines(console, [tables.plain(report.method), *tables.notices(report)])


def _made(sheet: Sheet) -> Table:
    rows = _stars_aside(_without_repeats(sheet.rows))
    made = table(sheet.title, sheet.columns, rows, text_columns=sheet.text_columns)
    made.collapse_padding = True
    return made


def _without_repeats(rows: Iterable[tuple[str, ...]]) -> list[tuple[str, ...]]:
    """A case of several rows is named in its first."""
    shown, before = [], None
    for row in rows:
        shown.append(("", *row[1:]) if row[0] == before else row)
        before = row[0]
    return shown


def _stars_aside(rows: list[tuple[str, ...]]) -> list[tuple[str, ...]]:
    """A star stands to the right of its column's figures, so that their digits stay under one another."""
    starred = {place for row in rows for place, cell in enumerate(row) if cell.endswith("*")}
    return [
        tuple(f"{cell} " if place in starred and not cell.endswith("*") else cell for place, cell in enumerate(row))
        for row in rows
    ]


def _width(made: Table) -> int:
    """Columns that the table takes when nothing in it wraps."""
    wide = Console(width=10_000)
    return wide.measure(made).maximum


def _fitted(sheet: Sheet, width: int) -> list[Sheet]:
    """The table, or its columns in as many tables as the width asks for, each with the words in front."""
    words, count = sheet.text_columns, len(sheet.columns)
    if _width(_made(sheet)) <= width or count - words < 2:
        return [sheet]
    middle = words + (count - words + 1) // 2
    parts = []
    for title, places in (
        (sheet.title, [*range(middle)]),
        (f"{sheet.title.removesuffix(', continued')}, continued", [*range(words), *range(middle, count)]),
    ):
        rows = tuple(tuple(row[place] for place in places) for row in sheet.rows)
        parts += _fitted(Sheet(title, tuple(sheet.columns[place] for place in places), rows, words), width)
    return parts


def _print(console: Console, sheets: Iterable[Sheet]) -> None:
    for sheet in sheets:
        for part in _fitted(sheet, console.width):
            console.print(_made(part))


def _lines(console: Console, lines: Iterable[str], *, first: str = "") -> None:
    for line in lines:
        console.print(textwrap.fill(first + line, console.width, subsequent_indent="  ", break_on_hyphens=False))
