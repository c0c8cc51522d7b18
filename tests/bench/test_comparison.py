"""Two runs side by side: what is a difference, what is noise, and what makes the two incomparable."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from bench.reports import make_case, make_model, make_report, make_samples, make_several
from vmeg_edge.bench.comparison import Comparison, compare, regressions
from vmeg_edge.bench.report import BenchReport, Case
from vmeg_edge.errors import UsageError


def of(infer_ms: float, *, seed: int = 0, frames: int = 900, **changes: Any) -> BenchReport:
    return make_report([make_case(samples=make_samples(infer_ms, frames=frames, seed=seed), **changes)])


def only(new: BenchReport, old: BenchReport) -> Comparison:
    comparison = compare(new, old)
    assert len(comparison.pairs) == 1
    return comparison


def test_a_run_equals_itself() -> None:
    report = make_report()
    comparison = compare(report, report)
    assert len(comparison.pairs) == len(report.cases)
    for pair in comparison.pairs:
        assert pair.word == pair.throughput_word == "within noise"
        for ratio in (pair.end_to_end_p50, pair.end_to_end_p99, pair.infer_p50, pair.throughput):
            assert ratio is not None
            assert ratio.value == 1
            assert ratio.low <= 1 <= ratio.high
        assert pair.steady_rss == pair.peak_rss == pair.load == pair.first_inference == 1
    assert comparison.differences == comparison.only_new == comparison.only_old == ()
    assert comparison.same_machine
    assert regressions(comparison, 0) == ()


@pytest.mark.parametrize("seed", range(5))
def test_two_runs_of_the_same_thing_are_within_noise(seed: int) -> None:
    comparison = only(of(30, seed=seed), of(30, seed=seed + 100))
    assert comparison.pairs[0].word == "within noise"
    assert regressions(comparison, 0) == ()


def test_a_tenth_slower_is_worse_and_the_other_way_round_better() -> None:
    slow, fast = of(33, seed=1), of(30, seed=2)
    pair = only(slow, fast).pairs[0]
    assert (pair.word, pair.throughput_word) == ("worse", "worse")
    assert pair.end_to_end_p50 is not None
    assert pair.end_to_end_p50.value == pytest.approx(1.1, abs=0.02)
    assert pair.end_to_end_p50.low < pair.end_to_end_p50.value < pair.end_to_end_p50.high
    assert pair.throughput is not None
    assert pair.throughput.value == pytest.approx(1 / 1.1, abs=0.02)
    pair = only(fast, slow).pairs[0]
    assert (pair.word, pair.throughput_word) == ("better", "better")


def test_a_certain_difference_of_less_than_one_percent_is_within_noise() -> None:
    samples = make_samples(frames=200)
    steady = np.random.default_rng(0).normal(30, 0.01, 200)
    new, old = (
        make_case(samples=samples.model_copy(update={"end_to_end_ms": tuple(factor * steady), "at_s": tuple(at_s)}))
        for factor in (1.008, 1.0)
        for at_s in [np.cumsum(factor * steady / 1e3)]
    )
    pair = only(make_report([new]), make_report([old])).pairs[0]
    assert pair.end_to_end_p50 is not None
    assert pair.end_to_end_p50.low > 1
    assert pair.word == "within noise"
    assert regressions(only(make_report([new]), make_report([old])), 0) != ()  # a limit of 0 % is taken by its word


def test_a_p99_needs_its_samples_on_both_sides() -> None:
    assert only(of(30, frames=662), of(30, frames=662, seed=1)).pairs[0].end_to_end_p99 is not None
    assert only(of(30, frames=661), of(30, frames=662, seed=1)).pairs[0].end_to_end_p99 is None
    assert only(of(30, frames=662), of(30, frames=661, seed=1)).pairs[0].end_to_end_p99 is None


def test_a_regression_is_one_whose_lower_bound_is_above_the_limit() -> None:
    comparison = only(of(36, seed=1), of(30, seed=2))
    ratio = comparison.pairs[0].end_to_end_p50
    assert ratio is not None
    (line,) = regressions(comparison, 10)
    assert "openvino, 2 threads" in line
    assert f"{ratio.value:.3f}" in line
    between = (ratio.low - 1) * 100
    assert len(regressions(comparison, between - 0.01)) == 1
    assert regressions(comparison, between + 0.01) == ()
    assert regressions(only(of(30, seed=2), of(36, seed=1)), 0) == ()


@pytest.mark.parametrize("limit", [-1.0, float("nan"), float("inf")])
def test_a_limit_that_is_none_is_refused(limit: float) -> None:
    with pytest.raises(UsageError, match="give 0 or more"):
        regressions(compare(of(30), of(30)), limit)


def test_scenarios_that_differ_are_refused_with_the_mend() -> None:
    with pytest.raises(UsageError, match="--scenario paced") as raised:
        compare(of(30), make_report(scenario="paced", fps=10.0))
    assert "\n" not in str(raised.value)


def test_other_cases_are_listed() -> None:
    a, b, c = (make_case(threads=threads) for threads in (1, 2, 4))
    comparison = compare(make_report([a, b]), make_report([b, c]))
    assert [pair.name for pair in comparison.pairs] == ["openvino, 2 threads"]
    assert comparison.only_new == ("openvino, 1 thread",)
    assert comparison.only_old == ("openvino, 4 threads",)


def test_what_differs_is_said_in_plain_lines() -> None:
    old = of(30)
    machine = old.environment.model_copy(update={"cpu": "Cortex-A78", "versions": {"numpy": "2.3.5", "openvino": "9"}})
    model = old.models[0].model_copy(update={"digest": "f" * 64})
    settings = old.settings.model_copy(update={"duration_s": 5.0})
    case = old.cases[0].model_copy(update={"threads": 4, "details": {"scheduling": "throughput"}})
    new = old.model_copy(update={"environment": machine, "models": (model,), "settings": settings, "cases": (case,)})
    comparison = only(new, old)
    assert not comparison.same_machine
    assert comparison.differences == (
        "CPU: Cortex-A78, was AMD EPYC 9B14",
        "bundle: ffffffffffff, was 31cf83f1e539",
        "duration: 5 s, was 30 s",
        "onnxruntime: absent, was 1.32.0",
        "openvino: 9, was 2026.4.1",
    )
    assert comparison.pairs[0].differences == (
        "threads: 4, was 2",
        "inference_precision: None, was f32",
        "scheduling: throughput, was latency",
    )
    slower = only(new.model_copy(update={"cases": of(60).cases}), old)
    assert "the machines differ" in regressions(slower, 10)[0]


def test_runs_of_several_models_say_which_of_them_differ() -> None:
    old = make_several()
    vit, resnet, vgg = old.models
    changed = resnet.model_copy(update={"digest": "e" * 64, "input": "320x320"})
    comparison = compare(old.model_copy(update={"models": (vit, changed, vgg)}), old)
    assert comparison.differences == (
        "resnet50, bundle: eeeeeeeeeeee, was 555555555555",
        "resnet50, model input: 320x320, nearest, was 224x224, nearest",
    )
    fewer = make_report(old.cases[:2], models=(vit, resnet))
    comparison = compare(fewer, old)
    assert [pair.name for pair in comparison.pairs] == [case.name for case in old.cases[:2]]
    assert comparison.only_old == ("vgg19, onnxruntime, 2 threads",)
    assert comparison.differences == ()


def test_one_model_stands_for_another_whatever_they_are_called() -> None:
    new = make_report(of(30).cases, models=(make_model(name="v9"),))
    assert compare(new, of(30)).differences == ("model: v9, was demo",)


def test_what_is_missing_on_a_side_has_no_ratio() -> None:
    memory = make_case().memory.model_copy(update={"steady_rss_mb": None, "peak_rss_mb": None})
    samples = make_samples()
    empty = type(samples)(**dict.fromkeys(type(samples).model_fields, ()))
    silent = Case.model_copy(make_case(memory=memory), update={"samples": empty, "throughput_fps": 0.0})
    for new, old in ((silent, make_case()), (make_case(), silent), (silent, silent)):
        pair = compare(make_report([new]), make_report([old])).pairs[0]
        assert pair.word == pair.throughput_word == "unknown"
        assert (
            pair.end_to_end_p50 is pair.end_to_end_p99 is pair.infer_p50 is pair.throughput is pair.steady_rss is None
        )


def test_a_pair_is_as_valid_as_its_sides() -> None:
    report = make_report()
    valid = {pair.name: pair.valid for pair in compare(report, report).pairs}
    assert valid["onnxruntime, 1 thread"] is False
    assert valid["openvino, 2 threads"] is True


def test_the_same_reports_give_the_same_intervals() -> None:
    new, old = of(30, seed=1), of(31, seed=2)
    assert compare(new, old) == compare(new, old)
