"""The peers' figures: ratios round by round, targets, and what benchmark_app prints."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

FOLDER = Path(__file__).resolve().parents[2] / "benchmarks" / "peers"

# The end of what benchmark_app of OpenVINO 2026.4.1 prints.
PRINTED = """\
[Step 11/11] Dumping statistics report
[ INFO ] Execution Devices:['CPU']
[ INFO ] Count:            9 iterations
[ INFO ] Duration:         2029.32 ms
[ INFO ] Latency:
[ INFO ]    Median:        232.14 ms
[ INFO ]    Average:       224.85 ms
[ INFO ]    Min:           168.51 ms
[ INFO ]    Max:           248.46 ms
[ INFO ] Throughput:   4.43 FPS
"""


def _module(name: str) -> Any:
    """One of the benchmark's modules; benchmarks are scripts, no package."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(FOLDER))
        module = __import__(name)
    sys.modules.pop(name)
    return module


def test_a_ratio_is_of_each_rounds_medians_so_that_a_slow_round_cancels() -> None:
    ratio = _module("ratios").ratio
    found = ratio(
        [[2.0, 2.0, 90.0], [20.0, 20.0, 20.0], [3.0, 3.0, 3.0]], [[1.0, 1.0, 1.0], [10.0, 10.0, 10.0], [1.0] * 3]
    )
    assert found.median == 2.0
    assert (found.low, found.high) == (2.0, pytest.approx(2.9))  # of 2, 2 and 3, linear between the two


def test_rounds_of_different_numbers_are_refused() -> None:
    with pytest.raises(ValueError, match="shorter"):
        _module("ratios").ratio([[1.0], [1.0]], [[1.0]])


def test_latency_is_over_all_samples() -> None:
    found = _module("ratios").latency([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0], [7.0, 8.0, 9.0, 10.0, 11.0]])
    assert (found.samples, found.min_ms, found.p50_ms, found.p90_ms) == (11, 1.0, 6.0, 10.0)


@pytest.mark.parametrize(
    ("ours", "grad_cam", "met"),
    [(1.05, 5.25, [True, True, False]), (1.06, 5.29, [False, False, False]), (0.9, 4.4, [True, False, False])],
)
def test_targets_are_met_at_their_limits_and_not_beyond(ours: float, grad_cam: float, met: list[bool]) -> None:
    found = _module("ratios").targets([[ours]], [[1.0]], [[grad_cam]], [[3.5]], "float32")
    assert [target.met for target in found] == met
    assert ["NOT met" not in str(target) for target in found] == met


def test_benchmark_apps_median_is_read() -> None:
    assert _module("benchmark_app").median_ms(PRINTED) == 232.14


def test_benchmark_app_without_a_median_is_an_error() -> None:
    with pytest.raises(ValueError, match="no median latency"):
        _module("benchmark_app").median_ms("[ ERROR ] no such model")
