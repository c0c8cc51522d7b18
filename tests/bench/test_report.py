"""The schema: its figures are NumPy's, it survives its own JSON, and it refuses what is none."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from bench.reports import make_case, make_cases, make_report, make_samples
from vmeg_edge.bench.report import (
    SCHEMA_VERSION,
    STAGES,
    Distribution,
    Samples,
    key,
    parse_report,
    report_schema,
)
from vmeg_edge.bench.statistics import PERCENTILES
from vmeg_edge.errors import UsageError

SIX_DIGITS = 1e-5


@given(st.lists(st.floats(1e-3, 1e4), min_size=2, max_size=300))
def test_a_distribution_is_numpys(samples: list[float]) -> None:
    found = Distribution.of(samples)
    assert found.samples == len(samples)
    assert found.mean_ms == pytest.approx(np.mean(samples), rel=SIX_DIGITS)
    spread = float(np.std(samples, ddof=1))
    # The two sum in another order: what is left of equal samples is rounding.
    assert found.sd_ms == pytest.approx(spread, rel=SIX_DIGITS, abs=1e-9 * max(samples))
    assert found.cv == pytest.approx(spread / np.mean(samples), rel=2 * SIX_DIGITS, abs=1e-8)
    assert found.min_ms == pytest.approx(min(samples), rel=SIX_DIGITS)
    assert found.max_ms == pytest.approx(max(samples), rel=SIX_DIGITS)
    for percent in PERCENTILES:
        expected = np.percentile(samples, percent, method="inverted_cdf")
        assert getattr(found, f"{key(percent)}_ms") == pytest.approx(expected, rel=SIX_DIGITS)


@given(st.lists(st.floats(0, 1e6), min_size=1, max_size=100))
def test_a_distribution_is_ordered_and_has_no_nan(samples: list[float]) -> None:
    found = Distribution.of(samples)
    names = ("min", *(key(percent) for percent in PERCENTILES), "max")
    values = [getattr(found, f"{name}_ms") for name in names]
    assert values == sorted(values)
    assert found.min_ms * (1 - SIX_DIGITS) <= found.mean_ms <= found.max_ms * (1 + SIX_DIGITS)
    assert all(math.isfinite(value) for value in (*values, found.mean_ms, found.sd_ms, found.cv))


def test_one_sample_and_zeros_have_no_spread() -> None:
    one = Distribution.of([7.5])
    assert (one.mean_ms, one.sd_ms, one.cv, one.p50_ms, one.p99_9_ms) == (7.5, 0, 0, 7.5, 7.5)
    assert Distribution.of([0.0, 0.0]).cv == 0
    with pytest.raises(UsageError, match="at least one sample"):
        Distribution.of([])


@pytest.mark.parametrize(
    ("count", "short"),
    [
        (1, ("p90", "p95", "p99", "p99_9")),
        (64, ("p95", "p99", "p99_9")),
        (130, ("p99", "p99_9")),
        (662, ("p99_9",)),
        (6636, ()),
    ],
)
def test_percentiles_with_too_few_samples_are_named(count: int, short: tuple[str, ...]) -> None:
    assert Distribution.of([1.0] * count).too_few_samples_for == short


def test_a_report_survives_its_json() -> None:
    report = make_report()
    again = parse_report(report.to_json().encode(), "old.json")
    assert again == report
    assert again.to_json() == report.to_json()
    assert again.cases[0].verdict.word == "INVALID"
    assert again.cases[1].verdict.word == "VALID"
    assert not again.valid
    assert make_report(report.cases[1:]).valid


@settings(max_examples=30, deadline=None)
@given(st.text(max_size=30), st.floats(0, 1e9), st.integers(0, 2**40), st.booleans())
def test_any_names_and_figures_survive(name: str, figure: float, count: int, late: bool) -> None:
    name = name.encode("utf-8", "replace").decode()
    samples = make_samples(frames=3).model_copy(update={"end_to_end_ms": (figure,) * 3, "late": (late,) * 3})
    case = make_case(samples=make_samples(frames=3), name=name, details={name: figure, "x": count})
    report = make_report([case.model_copy(update={"samples": samples})])
    assert parse_report(report.to_json().encode(), "old.json") == report


def test_every_number_is_a_number() -> None:
    def numbers(value: Any) -> list[float]:
        if isinstance(value, dict):
            return [found for item in value.values() for found in numbers(item)]
        if isinstance(value, list):
            return [found for item in value for found in numbers(item)]
        return [value] if isinstance(value, float) else []

    def no_constant(name: str) -> float:
        raise AssertionError(f"{name} is no JSON")

    found = numbers(json.loads(make_report().to_json(), parse_constant=no_constant))
    assert len(found) > 1000
    assert all(math.isfinite(value) for value in found)
    with pytest.raises(ValidationError):
        Samples(**{**make_samples(frames=1).model_dump(), "infer_ms": (math.nan,)})


def test_a_column_of_samples_is_one_line_of_the_file() -> None:
    lines = make_report(make_cases(frames=200)).to_json().splitlines()
    assert len(lines) < 1500
    assert sum('"end_to_end_ms": [' in line for line in lines) == 5


def test_the_schema_is_closed_and_names_its_version() -> None:
    schema = report_schema()
    assert schema["additionalProperties"] is False
    assert schema["properties"]["schema_version"]["const"] == SCHEMA_VERSION
    for part in schema["$defs"].values():
        assert part.get("additionalProperties") is False
    assert set(make_case().stages_ms) == set(STAGES)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "not JSON"),
        (b"\xff\xfe\x00", "not JSON"),
        (b"{", "not JSON"),
        (b"[" * 100_000, "not JSON"),
        (b"9" * 5_000, "not JSON"),
        (b"null", "schema_version is None"),
        (b"[]", "schema_version is None"),
        (b'{"schema_version": 4}', "schema_version is 4, and this vmeg-edge reads up to version 3"),
        (b'{"schema_version": 2}', "made_at: Field required"),
        (b'{"schema_version": "1"}', "schema_version is '1'"),
        (b'{"schema_version": 1}', "made_at: Field required"),
    ],
)
def test_what_is_no_report_is_refused_in_one_line(data: bytes, message: str) -> None:
    _refused(data, message)


def _set(*path: str | int, value: Any) -> Callable[[Any], None]:
    def change(raw: Any) -> None:
        for part in path[:-1]:
            raw = raw[part]
        raw[path[-1]] = value

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (_set("schema_version", value="x\n" * 500), "schema_version is 'x"),
        (_set("extra", value=1), "extra: Extra inputs"),
        (_set("a\nb\x1b[31m", value=1), r"a\?b\?\[31m: Extra inputs"),
        (_set("cases", 0, "throughput_fps", value=math.nan), "cases.0.throughput_fps: Input should be a finite"),
        (_set("cases", 0, "throughput_fps", value=10**400), "cases.0.throughput_fps: Input should be a finite"),
        (_set("cases", 0, "threads", value="many"), "cases.0.threads"),
        (_set("cases", 0, "samples", "late", value=[True]), "cases.0.samples: .*the columns differ in length"),
        (_set("cases", 1, "name", value="onnxruntime, 1 thread"), "two cases have the same name"),
        (_set("cases", 1, "model", value="x\n"), r"the model of case onnxruntime, 2 threads is not among the models"),
        (lambda raw: raw["models"].append(raw["models"][0]), "two models have the same label"),
        (_set("settings", "scenario", value="fast"), "settings.scenario"),
        (_set("cases", 0, "name", value="\ud800"), "Invalid JSON"),
    ],
)
def test_a_hostile_field_is_named_in_one_line(change: Callable[[Any], None], message: str) -> None:
    raw = json.loads(make_report(make_cases(frames=4)).to_json())
    change(raw)
    _refused(json.dumps(raw).encode(), message)


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=200))
def test_any_bytes_are_a_usage_error(data: bytes) -> None:
    with pytest.raises(UsageError):
        parse_report(data, "old.json")


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_a_report_cut_or_changed_anywhere_is_read_or_refused(data: st.DataObject) -> None:
    whole = SMALL.to_json().encode()
    at = data.draw(st.integers(0, len(whole) - 1))
    broken = whole[:at] + bytes([data.draw(st.integers(0, 255))]) + whole[at + data.draw(st.integers(0, 2)) :]
    said = ""
    try:
        parse_report(broken, "old.json")
    except UsageError as error:
        said = str(error)
    assert not said or (said.startswith("old.json: ") and said.isprintable())


SMALL = make_report([make_case(samples=make_samples(frames=2))])


def _refused(data: bytes, message: str) -> None:
    with pytest.raises(UsageError, match=message) as raised:
        parse_report(data, "old.json")
    said = str(raised.value)
    assert said.startswith("old.json: ")
    assert said.isprintable()
    assert len(said) < 500
