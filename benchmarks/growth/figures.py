"""A point's samples become a row: percentiles, the arithmetic floor at the measured peak, and the share of it."""

from __future__ import annotations

import statistics
from dataclasses import dataclass

from arithmetic import Madds, count, floor_ms
from peak.measure import Peak
from points import Point
from turns import Result


@dataclass(frozen=True)
class Row:
    """One line of a table. ``share`` is floor over p50: 1 would be arithmetic and nothing else.

    With streams, the floor of a frame is that of all streams' frames, since they share the processors, and
    ``share`` is frames a second over the most that the peak allows.
    """

    point: Point
    label: str
    x: float
    p50_ms: float
    min_ms: float
    fps: float
    floor_ms: float
    share: float
    resident_mb: float
    peak_resident_mb: float
    max_abs_dp: float
    samples: int
    streams_p50_ms: tuple[float, ...] = ()


def work_of(point: Point) -> tuple[Madds, int]:
    """Multiply-adds of one call, and how many of them run in int8: OpenVINO's recipe takes the patch embedding too."""
    madds = count(point.model.config, point.batch)
    if point.precision == "float32":
        return madds, 0
    return madds, madds.in_int8(patch_embedding=point.engine == "openvino")


def floor_of(point: Point, peak: Peak) -> float:
    """The least time that one call's multiply-adds can take, alone on the processors."""
    return floor_ms(*work_of(point), peak.per_s("int8"), peak.per_s("float32"))


def row_of(result: Result, peak: Peak) -> Row:
    point, p50 = result.point, statistics.median(result.samples_ms)
    alone = floor_of(point, peak)
    fps = statistics.median(result.fps) if point.streams else 1e3 * point.batch / p50
    return Row(
        point=point,
        label=point.label,
        x=point.x,
        p50_ms=p50,
        min_ms=min(result.samples_ms),
        fps=fps,
        floor_ms=alone * max(1, point.streams),
        share=fps * alone / 1e3 / point.batch,
        resident_mb=result.resident_mb,
        peak_resident_mb=result.peak_resident_mb,
        max_abs_dp=result.max_abs_dp,
        samples=len(result.samples_ms),
        streams_p50_ms=tuple(statistics.median(samples) for samples in result.streams_ms),
    )
