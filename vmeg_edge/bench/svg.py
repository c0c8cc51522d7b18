"""Drawing with inline SVG: text that is safe, scales with round ticks, and the frame of a picture."""

from __future__ import annotations

import html
import math
from collections.abc import Iterable
from dataclasses import dataclass

from vmeg_edge.bench.tables import plain

COLOURS = 7
"""Classes c0 to c6 of the style sheet: Okabe and Ito's colours, told apart by the colour-blind too."""

_LEAST = 1e-6


def escape(text: object) -> str:
    """For HTML and SVG, in content and in quoted attributes."""
    return html.escape(plain(text), quote=True)


@dataclass(frozen=True)
class Scale:
    """Values ``low`` to ``high`` onto ``start`` to ``end`` in the picture, logarithmic where they span much."""

    low: float
    high: float
    start: float
    end: float
    log: bool = False

    @staticmethod
    def over(values: Iterable[float], start: float, end: float, *, log_from: float = 5.0) -> Scale:
        """Over all ``values`` with a margin; logarithmic where the highest is ``log_from`` times the lowest."""
        held = list(values) or [0.0, 1.0]
        low, high = min(held), max(held)
        if low > 0 and high / low >= log_from and high > _LEAST:
            return Scale(max(low, high * _LEAST) / 1.08, high * 1.08, start, end, log=True)
        margin = max((high - low) * 0.04 or abs(high) * 0.1, _LEAST)
        return Scale(max(0.0, low - margin) if low >= 0 else low - margin, high + margin, start, end)

    def __call__(self, value: float) -> float:
        """Where ``value`` lies; what is outside lies on the edge."""
        value = min(max(value, self.low), self.high)
        share = (
            math.log(value / self.low) / math.log(self.high / self.low)
            if self.log
            else (value - self.low) / (self.high - self.low)
        )
        return self.start + min(share, 1.0) * (self.end - self.start)

    def edges(self, count: int) -> list[float]:
        """``count`` bins of equal width in the picture, as ``count + 1`` values."""
        if self.log:
            factor = (self.high / self.low) ** (1 / count)
            return [self.low * factor**place for place in range(count + 1)]
        return [self.low + (self.high - self.low) * place / count for place in range(count + 1)]

    def ticks(self, most: int = 8) -> list[float]:
        """Round values within the scale."""
        if not self.log:
            return _round_steps(self.low, self.high, most)
        decades = range(math.floor(math.log10(self.low)), math.ceil(math.log10(self.high)) + 1)
        for parts in ((1, 1.5, 2, 3, 4, 5, 6, 8), (1, 2, 3, 5), (1, 2, 5), (1, 3), (1,)):
            found = [part * 10.0**decade for decade in decades for part in parts]
            found = [value for value in found if self.low <= value <= self.high]
            if len(found) <= most:
                break
        return found if len(found) > 1 else _round_steps(self.low, self.high, most)


def _round_steps(low: float, high: float, most: int) -> list[float]:
    rough = (high - low) / most
    decade = 10.0 ** math.floor(math.log10(rough))
    step = next(part * decade for part in (1, 2, 2.5, 5, 10) if part * decade >= rough * 0.999)
    return [place * step for place in range(math.ceil(low / step), math.floor(high / step) + 1)]


def number(value: float) -> str:
    """A coordinate, as short as it may be."""
    return f"{value:.1f}".removesuffix(".0")


def text(x: float, y: float, content: object, kind: str = "", anchor: str = "start") -> str:
    """A word in the picture; ``content`` is escaped."""
    classes = f' class="{kind}"' if kind else ""
    at = f' text-anchor="{anchor}"' if anchor != "start" else ""
    return f'<text x="{number(x)}" y="{number(y)}"{classes}{at}>{escape(content)}</text>'


def line(x1: float, y1: float, x2: float, y2: float, kind: str) -> str:
    """A straight line."""
    ends = " ".join(f'{name}="{number(value)}"' for name, value in (("x1", x1), ("y1", y1), ("x2", x2), ("y2", y2)))
    return f'<line {ends} class="{kind}"/>'


def box(x: float, y: float, width: float, height: float, kind: str) -> str:
    """A filled rectangle."""
    ends = f'x="{number(x)}" y="{number(y)}" width="{number(width)}" height="{number(height)}"'
    return f'<rect {ends} class="{kind}"/>'


def x_axis(scale: Scale, top: float, bottom: float, label: str, *, most: int = 8) -> str:
    """Ticks with grid lines from ``top`` to ``bottom``, and what they measure."""
    parts = []
    for value in scale.ticks(most):
        parts.append(line(scale(value), top, scale(value), bottom, "grid"))
        parts.append(text(scale(value), bottom + 15, f"{value:g}", "tick", "middle"))
    note = f"{label}, logarithmic" if scale.log else label
    parts.append(text((scale.start + scale.end) / 2, bottom + 32, note, "label", "middle"))
    return "".join(parts)


def picture(name: str, title: str, description: str, width: int, height: float, body: Iterable[str]) -> str:
    """The whole drawing, with a title and a description for those who do not see it."""
    return (
        f'<svg id="{name}" role="img" aria-labelledby="{name}-t {name}-d" viewBox="0 0 {width} {number(height)}" '
        f'preserveAspectRatio="xMinYMin meet"><title id="{name}-t">{escape(title)}</title>'
        f'<desc id="{name}-d">{escape(description)}</desc>{"".join(body)}</svg>'
    )
