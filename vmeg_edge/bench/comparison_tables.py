"""A comparison's tables and lines as plain text, the same in a terminal and on a page."""

from __future__ import annotations

from vmeg_edge.bench.comparison import MINIMUM_EFFECT, Comparison, Pair
from vmeg_edge.bench.statistics import Ratio
from vmeg_edge.bench.tables import NOTHING, Sheet, plain


def ratios(comparison: Comparison) -> tuple[Sheet, Sheet]:
    """New over old: latency, then throughput and what it takes."""
    slow, rest = [], []
    for pair in comparison.pairs:
        measured = (pair.end_to_end_p50, pair.end_to_end_p99, pair.infer_p50)
        slow.append((plain(pair.name), pair.word, *map(interval, measured)))
        simple = (pair.steady_rss, pair.peak_rss, pair.load, pair.first_inference)
        shown = (NOTHING if value is None else f"{value:.2f}" for value in simple)
        rest.append((plain(pair.name), pair.throughput_word, interval(pair.throughput), *shown))
    latencies = ("case", "latency", "p50", "p99", "infer p50")
    others = ("case", "throughput", "fps", "RSS steady", "RSS peak", "load", "first inference")
    return (
        Sheet("Latency, new over old, with 99 % intervals (below 1 is faster)", latencies, tuple(slow), text_columns=2),
        Sheet("Throughput (above 1 is faster), memory and start, new over old", others, tuple(rest), text_columns=2),
    )


def interval(ratio: Ratio | None) -> str:
    """A ratio and where it lies with 99 % confidence."""
    return NOTHING if ratio is None else f"{ratio.value:.3f} ({ratio.low:.3f}-{ratio.high:.3f})"


def comparison_lines(comparison: Comparison) -> tuple[str, ...]:
    """What must be read with the ratios."""
    lines = [
        f"compared with the run of {plain(comparison.old_made_at)}; a difference below {MINIMUM_EFFECT:.0%} is noise"
    ]
    if not comparison.same_machine:
        lines.append("the machines differ: a ratio across machines is no regression")
    lines += [f"differs: {plain(line)}" for line in comparison.differences]
    lines += [f"one of the two runs is INVALID: {plain(pair.name)}" for pair in comparison.pairs if not pair.valid]
    lines += [_pair_line(pair) for pair in comparison.pairs if pair.differences]
    lines += [f"only in the new run: {plain(name)}" for name in comparison.only_new]
    lines += [f"only in the old run: {plain(name)}" for name in comparison.only_old]
    return tuple(lines)


def _pair_line(pair: Pair) -> str:
    return plain(f"differs in {pair.name}: {'; '.join(pair.differences)}")
