"""A running stream in the terminal: redrawn in place, or as plain lines where there is no terminal."""

from __future__ import annotations

import threading
import time
from collections import deque
from types import TracebackType

from rich.console import Console, Group
from rich.live import Live
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from vmeg_edge.results import StreamStatus
from vmeg_edge.streaming import Stream

_REDRAW_S = 0.2
_LINE_EVERY_S = 5.0
_TRACE = 60
_BARS = "▁▂▃▄▅▆▇█"
_GAP = "·"
_SIGNAL_STYLE = {"live": "bold green", "frozen": "bold yellow", "none": "bold red"}
_SIGNAL_WORD = {"live": "LIVE", "frozen": "FROZEN", "none": "NO SIGNAL"}
_DECISION = {
    "normal": ("○ NORMAL", "bold cyan"),
    "suspected": ("▲ SUSPECTED", "bold orange1"),
    "no-decision": ("□ NO DECISION", "dim"),
}


class LiveView:
    """Asks the stream for its status five times a second, on a thread of its own, until the block ends."""

    def __init__(self, stream: Stream, console: Console, *, title: str, notices: tuple[str, ...]) -> None:
        """Draw on ``console``; ``notices`` stay in sight with every score."""
        self._stream = stream
        self._console = console
        self._title = title
        self._notices = notices
        self._trace: deque[str] = deque(maxlen=_TRACE)
        self._shown_frame = -1
        self._told = ("", "")
        self._printed_s = 0.0
        self._ending = threading.Event()
        self._live = Live(console=console, auto_refresh=False, transient=True) if console.is_terminal else None
        self._thread = threading.Thread(target=self._run, name="live view", daemon=True)

    def __enter__(self) -> LiveView:
        """Start drawing."""
        if self._live is not None:
            self._live.start()
        else:
            for notice in self._notices:
                self._console.print(notice)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop drawing, and give the terminal back."""
        self._ending.set()
        self._thread.join(2.0)
        if self._live is not None:
            self._live.stop()

    def _run(self) -> None:
        while not self._ending.wait(_REDRAW_S):
            status = self._stream.status()
            if self._live is not None:
                self._live.update(self._picture(status), refresh=True)
            else:
                self._lines(status)

    def _lines(self, status: StreamStatus) -> None:
        """A line every five seconds, and one at once when signal or exam change."""
        told = (status.signal, status.exam)
        now_s = time.monotonic()
        if told != self._told or now_s - self._printed_s >= _LINE_EVERY_S:
            self._told, self._printed_s = told, now_s
            self._console.print(status_line(status))

    def _picture(self, status: StreamStatus) -> Panel:
        result = status.result
        grid = Table.grid(padding=(0, 2))
        grid.add_column(style="dim", no_wrap=True)
        grid.add_column(no_wrap=True)
        signal = Text(_SIGNAL_WORD[status.signal], _SIGNAL_STYLE[status.signal])
        if status.signal_reason:
            signal.append(f"  {status.signal_reason}", "dim")
        grid.add_row("signal", signal)
        if result is None:
            grid.add_row("score", Text("—", "dim"))
        else:
            word, style = _DECISION[result.prediction.decision]
            score = Text(f"{word}  {result.prediction.probability:.3f}", style)
            score.append(f"  {result.prediction.reason}", "dim")
            grid.add_row("score", score)
        grid.add_row("trace", self._trace_of(status))
        grid.add_row("exam", Text(f"{status.exam}  ").append(status.exam_reason, "dim"))
        age = "—" if result is None else f"{result.age_ms:.0f} ms{' LATE' if result.late else ''}"
        grid.add_row("age", f"{age}   late {status.late}")
        grid.add_row("rate", f"{status.arrival_fps:.1f} frames/s in   {status.scored_fps:.1f} scored")
        grid.add_row("frames", counts(status))
        footer = [Text(notice, "yellow") for notice in self._notices]
        return Panel(
            Group(grid, Text(""), *footer), title=f"{self._title}  {status.uptime_s:.0f} s", title_align="left"
        )

    def _trace_of(self, status: StreamStatus) -> Text:
        result = status.result
        if result is None:
            self._trace.append(_GAP)
        elif result.frame != self._shown_frame:
            self._shown_frame = result.frame
            level = min(len(_BARS) - 1, int(result.prediction.probability * len(_BARS)))
            self._trace.append(_BARS[level] if result.prediction.decision != "no-decision" else _GAP)
        return Text("".join(self._trace))


def status_line(status: StreamStatus) -> str:
    """The status on one line, for a log."""
    result = status.result
    if result is None:
        score = f"{_SIGNAL_WORD[status.signal]} ({status.signal_reason})" if status.signal_reason else "no score yet"
    else:
        signal = "" if status.signal == "live" else f"{_SIGNAL_WORD[status.signal]}: "
        score = f"{signal}{result.prediction.decision} {result.prediction.probability:.3f}, age {result.age_ms:.0f} ms"
    return (
        f"{status.uptime_s:.0f} s: {score}; exam {status.exam}; {status.arrival_fps:.1f} frames/s in, "
        f"{status.scored_fps:.1f} scored; {counts(status)}"
    )


def counts(status: StreamStatus) -> str:
    """Frames by their ends, leaving out what did not happen."""
    parts = [f"{status.arrived} came", f"{status.scored} scored"]
    if status.reused:
        parts.append(f"{status.reused} of them reused")
    parts += [f"{number} dropped ({reason})" for reason, number in status.dropped.items()]
    if status.lost:
        parts.append(f"{status.lost} lost")
    if status.failed:
        parts.append(f"{status.failed} failed")
    if status.reconnects:
        parts.append(f"{status.reconnects} reconnects")
    return ", ".join(parts)
