"""Progress on stderr: a bar on a terminal, plain lines in a log."""

from __future__ import annotations

import sys
import time
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

_LINE_EVERY_S = 5.0


class ProgressReport:
    """Call `update` as often as you like; it draws a bar, or prints a line at most every five seconds."""

    def __init__(self) -> None:
        """Look whether stderr is a terminal."""
        self._bar: Progress | None = None
        self._tasks: dict[str, TaskID] = {}
        self._printed = 0.0
        if sys.stderr.isatty():
            self._bar = Progress(
                TextColumn("{task.description}"),
                BarColumn(),
                TextColumn("{task.completed:.0f}{task.fields[of]}"),
                TimeRemainingColumn(),
                TextColumn("{task.fields[note]}"),
                console=Console(stderr=True),
            )

    def update(self, stage: str, done: int, total: int | None, note: str = "") -> None:
        """Say that ``done`` of ``total`` (``None`` if unknown) of ``stage`` is behind us."""
        of = "" if total is None else f"/{total}"
        if self._bar is not None:
            if stage not in self._tasks:
                self._tasks[stage] = self._bar.add_task(stage, total=total, of=of, note=note)
            self._bar.update(self._tasks[stage], completed=done, total=total, of=of, note=note)
            return
        now = time.monotonic()
        if now - self._printed >= _LINE_EVERY_S or done == total:
            self._printed = now
            print(f"{stage}: {done}{of} {note}".rstrip(), file=sys.stderr, flush=True)  # noqa: T201

    def __enter__(self) -> ProgressReport:
        """Start drawing."""
        if self._bar is not None:
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop drawing."""
        if self._bar is not None:
            self._bar.stop()
