"""The stream in Prometheus's text format, from a registry of its own."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, get_args

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

from vmeg_edge._version import __version__
from vmeg_edge.results import Signal, StreamStatus

if TYPE_CHECKING:
    from vmeg_edge.serve.view import LiveView

CONTENT_TYPE = CONTENT_TYPE_LATEST
EXAMS = ("undetermined", "normal", "suspected")


class ViewCollector(Collector):
    """A `LiveView`'s counts at the moment of the scrape."""

    def __init__(self, view: LiveView) -> None:
        """Read from ``view``."""
        self._view = view

    def collect(self) -> Iterator[Metric]:
        """All families. Scored, reused, lost, failed and dropped frames, and those still open, add up to arrived."""
        status = self._view.now()
        yield CounterMetricFamily(
            "vmeg_edge_frames_arrived", "Frames that the source delivered or announced.", value=status.arrived
        )
        yield _ends(status)
        yield CounterMetricFamily(
            "vmeg_edge_frames_late", "Scored frames that were past their deadline.", value=status.late
        )
        yield GaugeMetricFamily("vmeg_edge_buffer_frames", "Frames that wait to be scored.", value=status.waiting)
        yield CounterMetricFamily(
            "vmeg_edge_reconnects", "Times that a lost signal came back.", value=status.reconnects
        )
        yield _one_hot("vmeg_edge_signal", "State of the signal.", get_args(Signal), status.signal)
        yield _one_hot("vmeg_edge_exam", "State of the exam. Research use only.", EXAMS, status.exam)
        yield GaugeMetricFamily("vmeg_edge_uptime_seconds", "Age of the stream.", value=status.uptime_s)
        ages, stages = self._view.durations()
        yield HistogramMetricFamily(
            "vmeg_edge_frame_age_seconds",
            "From a frame's capture to its result.",
            buckets=ages.buckets(),
            sum_value=ages.sum_s,
        )
        took = HistogramMetricFamily(
            "vmeg_edge_stage_seconds", "Time in each stage, of results that were not reused.", labels=["stage"]
        )
        for stage, tally in stages.items():
            took.add_metric([stage], buckets=tally.buckets(), sum_value=tally.sum_s)
        yield took
        yield InfoMetricFamily("vmeg_edge_build", "What scores.", value={"vmeg_edge": __version__, **self._view.about})


def registry_of(view: LiveView) -> CollectorRegistry:
    """A registry that holds nothing but ``view``."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(ViewCollector(view))
    return registry


def text(registry: CollectorRegistry) -> bytes:
    """What a scrape is answered with."""
    return generate_latest(registry)


def _ends(status: StreamStatus) -> CounterMetricFamily:
    family = CounterMetricFamily(
        "vmeg_edge_frames_ended",
        "Frames by their one end; reused ones were answered without inference and are not among scored.",
        labels=["end", "reason"],
    )
    family.add_metric(["scored", ""], status.scored - status.reused)
    family.add_metric(["reused", ""], status.reused)
    family.add_metric(["lost", ""], status.lost)
    family.add_metric(["failed", ""], status.failed)
    for reason, count in sorted(status.dropped.items()):
        family.add_metric(["dropped", reason], count)
    return family


def _one_hot(name: str, text: str, states: tuple[str, ...], now: str) -> GaugeMetricFamily:
    family = GaugeMetricFamily(name, text, labels=["state"])
    for state in states:
        family.add_metric([state], float(state == now))
    return family
