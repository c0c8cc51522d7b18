"""Tables and lines for people, the same in a terminal and in a log."""

from __future__ import annotations

from collections.abc import Iterable

from rich import box
from rich.console import Console
from rich.table import Table

_LOG_WIDTH = 120


def open_console(*, stderr: bool = False) -> Console:
    """A console that wraps at the terminal's width, or at 120 columns in a log or a pipe."""
    console = Console(stderr=stderr, highlight=False, markup=False, emoji=False, soft_wrap=True)
    if not console.is_terminal:
        console = Console(stderr=stderr, highlight=False, markup=False, emoji=False, soft_wrap=True, width=_LOG_WIDTH)
    return console


def table(title: str, columns: Iterable[str], rows: Iterable[Iterable[str]], *, text_columns: int = 1) -> Table:
    """A table whose first ``text_columns`` columns are words and the others figures."""
    made = Table(title=title, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD, pad_edge=False)
    for place, column in enumerate(columns):
        words = place < text_columns
        made.add_column(column, justify="left" if words else "right", overflow="fold", no_wrap=not words)
    for row in rows:
        made.add_row(*row)
    return made
