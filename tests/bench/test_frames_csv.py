"""Every frame as a row: nothing lost, nothing rounded, and no half a file."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from bench.reports import make_case, make_report, make_samples, make_several
from vmeg_edge.bench.frames_csv import COLUMNS, write_csv
from vmeg_edge.errors import OutputError


def test_every_frame_of_every_case_is_a_row(tmp_path: Path) -> None:
    report = make_report()
    write_csv(report, tmp_path / "frames.csv")
    with (tmp_path / "frames.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert tuple(rows[0]) == COLUMNS
    assert len(rows) == sum(len(case.samples.at_s) for case in report.cases)
    at = 0
    for case in report.cases:
        for place in range(len(case.samples.at_s)):
            row = rows[at]
            assert row["case"] == case.name
            assert int(row["round"]) == case.samples.round[place]
            assert int(row["frame"]) == case.samples.frame[place]
            for name in COLUMNS[3:-1]:
                assert float(row[name]) == getattr(case.samples, name)[place]
            at += 1


def test_several_models_have_a_column_of_their_own(tmp_path: Path) -> None:
    report = make_several()
    write_csv(report, tmp_path / "frames.csv")
    with (tmp_path / "frames.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert tuple(rows[0]) == ("model", *COLUMNS)
    assert [(row["model"], row["case"]) for row in rows[::200]] == [
        (name, f"{name}, onnxruntime, 2 threads") for name in ("vit_base", "resnet50", "vgg19")
    ]
    assert float(rows[200]["infer_ms"]) == report.cases[1].samples.infer_ms[0]


def test_late_frames_and_names_with_commas_and_quotes_survive(tmp_path: Path) -> None:
    samples = make_samples(30, frames=50, deadline_ms=30.0)
    assert 0 < sum(samples.late) < 50
    report = make_report([make_case(samples=samples, name='a "b", c')])
    write_csv(report, tmp_path / "frames.csv")
    with (tmp_path / "frames.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert {row["case"] for row in rows} == {'a "b", c'}
    assert [row["late"] == "1" for row in rows] == list(samples.late)


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="nowhere"):
        write_csv(make_report([]), tmp_path / "nowhere" / "frames.csv")
    with pytest.raises(OutputError, match="is a folder"):
        write_csv(make_report([]), tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_failure_on_the_way_leaves_the_old_file(tmp_path: Path) -> None:
    target = tmp_path / "frames.csv"
    target.write_text("old")
    samples = make_samples(frames=10)
    uneven = samples.model_copy(update={"late": samples.late[:5]})
    with pytest.raises(ValueError, match="zip"):
        write_csv(make_report([make_case(samples=samples).model_copy(update={"samples": uneven})]), target)
    assert target.read_text() == "old"
    assert list(tmp_path.iterdir()) == [target]
