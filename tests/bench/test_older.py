"""Reports of versions 1 and 2 are read as if they had been written today, and stand beside those that are."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from bench.reports import make_case, make_model, make_report, make_samples
from conftest import ROOT
from vmeg_edge.bench import page, tables
from vmeg_edge.bench.comparison import compare
from vmeg_edge.bench.report import SCHEMA_VERSION, parse_report
from vmeg_edge.errors import UsageError

COMMITTED = sorted((ROOT / "benchmarks" / "results" / "bench").glob("*.json"))


def as_version_2() -> dict[str, Any]:
    """A report of one model as the second version wrote it."""
    model = make_model(not_run={"tensorrt": "no GPU"})
    raw: dict[str, Any] = json.loads(
        make_report([make_case(samples=make_samples(frames=8))], models=(model,)).to_json()
    )
    for name in ("affinity_processors", "quota_processors", "processor_class"):
        del raw["environment"][name]
    return {**raw, "schema_version": 2}


def as_version_1() -> dict[str, Any]:
    """A report of one model as the first version wrote it."""
    raw = as_version_2()
    (held,) = raw.pop("models")
    about = {name: held.pop(name) for name in ("notices", "not_run")}
    del held["label"]
    for case in raw["cases"]:
        del case["model"], case["artefact_mb"]
    return {**raw, "schema_version": 1, "model": held, **about}


def test_the_one_model_takes_its_cases_notices_and_unused_backends() -> None:
    raw = as_version_1()
    report = parse_report(json.dumps(raw).encode(), "old.json")
    (model,) = report.models
    assert (model.label, model.name, model.digest) == ("demo", "demo", raw["model"]["digest"])
    assert model.notices == tuple(raw["notices"])
    assert model.not_run == {"tensorrt": "no GPU"}
    assert [(case.name, case.model, case.artefact_mb) for case in report.cases] == [
        ("openvino, 2 threads", "demo", None)
    ]
    assert report.schema_version == SCHEMA_VERSION == 3
    assert parse_report(report.to_json().encode(), "new.json") == report


def test_an_old_run_is_held_against_a_new_one() -> None:
    old = parse_report(json.dumps(as_version_1()).encode(), "old.json")
    new = make_report([make_case(samples=make_samples(33, frames=8))], models=(make_model(digest="f" * 64),))
    comparison = compare(new, old)
    assert [pair.name for pair in comparison.pairs] == ["openvino, 2 threads"]
    assert comparison.differences == ("bundle: ffffffffffff, was 31cf83f1e539",)


def test_what_version_2_did_not_look_for_is_not_made_up() -> None:
    old = parse_report(json.dumps(as_version_2()).encode(), "old.json")
    machine = old.environment
    assert (machine.usable_processors, machine.affinity_processors, machine.quota_processors) == (2, None, None)
    assert machine.processors == "2 usable"
    assert machine.processor_class == "unknown"
    assert parse_report(old.to_json().encode(), "again.json") == old
    new = make_report(old.cases)
    comparison = compare(new, old)
    assert (comparison.same_machine, comparison.differences) == (True, ())
    held_to_one = new.environment.model_copy(update={"usable_processors": 1, "quota_processors": 1.5})
    under_quota = new.model_copy(update={"environment": held_to_one})
    comparison = compare(under_quota, new)
    assert not comparison.same_machine
    assert comparison.differences == ("usable processors: 1, was 2", "CPU quota: 1.5 processors, was none")
    amx = new.environment.model_copy(update={"processor_class": "x86-amx"})
    other = compare(new.model_copy(update={"environment": amx}), new)
    assert other.differences == ("processor class: x86-amx, was x86-avx512-vnni",)
    assert dict(tables.facts(new))["CPU"].endswith(", x86-avx512-vnni (avx, avx2, fma, avx512f, avx512vnni)")
    assert "1 usable (affinity 2, quota 1.5 processors), cores" in dict(tables.facts(under_quota))["processors"]
    assert "2 usable (affinity 2, quota none), cores" in dict(tables.facts(new))["processors"]
    assert "1 processors usable under a CPU quota of 1.5" in page.html(under_quota)


@pytest.mark.parametrize("path", COMMITTED, ids=[path.stem for path in COMMITTED])
def test_the_runs_that_are_published_are_still_read(path: Path) -> None:
    raw = json.loads(path.read_bytes())
    report = parse_report(path.read_bytes(), path.name)
    assert [case.throughput_fps for case in report.cases] == [case["throughput_fps"] for case in raw["cases"]]
    assert {case.model for case in report.cases} == {model.label for model in report.models}
    assert "Research use only" in tables.notices(report)[-1]


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("model", None, "models: Field required"),
        ("model", {"name": 3}, r"models\.0\.label: Input should be a valid string"),
        ("model", {"name": "x"}, r"models\.0\.architecture: Field required"),
        ("cases", "none", "models: Field required"),
        ("cases", ["none"], r"cases\.0: Input should be an object"),
        ("schema_version", True, "schema_version: Input should be 3"),
        ("extra", 1, "extra: Extra inputs"),
    ],
)
def test_what_has_not_the_form_of_version_1_is_refused_in_one_line(field: str, value: object, message: str) -> None:
    with pytest.raises(UsageError, match=rf"^old\.json: .*{message}") as caught:
        parse_report(json.dumps({**as_version_1(), field: value}).encode(), "old.json")
    assert str(caught.value).isprintable()
