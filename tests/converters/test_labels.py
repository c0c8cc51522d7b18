"""A table of labels is read whatever wrote it, and what is wrong in it is named with its line."""

from __future__ import annotations

from pathlib import Path

import pytest
from vmeg_edge.converters.labels import read_labels

from shared_data import shared_data
from vmeg_edge.errors import SourceError

LABELS = ("normal", "vm")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("a.png", "b.png", "p1_1_of_2.png", "p1_2_of_2.png"):
        (tmp_path / name).write_bytes(b"x")
    return tmp_path


def write(folder: Path, text: str | bytes) -> Path:
    path = folder / "labels.csv"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


@pytest.mark.parametrize(
    "text",
    [
        "path,label\na.png,normal\nb.png,vm\n",
        b"\xef\xbb\xbfpath,label\r\na.png,normal\r\nb.png,vm\r\n",
        "Path ; Label\na.png ; normal\nb.png;vm\n",
        "label,severity,path\nnormal,,a.png\n\nvm,mild,b.png",
        '"path","label"\n"a.png","normal"\n"b.png","vm"\n',
        "path,label\ra.png,normal\rb.png,vm\r",
    ],
)
def test_any_spreadsheets_csv_is_understood(folder: Path, text: str | bytes) -> None:
    rows = read_labels(write(folder, text), LABELS)
    assert [(row.path.name, row.label) for row in rows] == [("a.png", "normal"), ("b.png", "vm")]


def test_series_and_patients_group(folder: Path) -> None:
    rows = read_labels(write(folder, "path,label\np1_1_of_2.png,vm\np1_2_of_2.png,vm\na.png,normal\n"), LABELS)
    assert [row.group for row in rows] == ["p1", "p1", "a"]
    rows = read_labels(write(folder, "path,label,patient\na.png,vm,7\nb.png,normal,7\n"), LABELS)
    assert [row.group for row in rows] == ["7", "7"]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("file,label\na.png,normal\n", "has no column 'path'; its columns are: file, label"),
        ("path\na.png\n", "has no column 'label'"),
        ("", "has no column 'path'"),
        ("path,label\n", "holds no labelled file"),
        ("path,label\na.png,normal\nb.png,twins\n", "line 3: the label 'twins' is none of the bundle's: normal, vm"),
        ("path,label\na.png,\n", "line 2: the label ''"),
        ("path,label\nno.png,vm\nnor.png,vm\n", "2 files are not there: line 2 names no.png"),
        ("path,label\n,vm\n", "line 2: the path is empty"),
        ("path,label\na.png,vm\na.png,normal\n", "line 2 labels it and line 3 gives it another label"),
        ("path,label\na.png,vm\na.png,vm\n", "line 3 repeats it"),
        ("path,label,split\na.png,vm,train\n", "the split 'train' is none of: fit, test"),
        ("path,label,split\na.png,vm,fit\nb.png,vm,\n", "some lines have a split and some have none"),
        ("path,label,patient,split\na.png,vm,7,fit\nb.png,vm,7,test\n", "7 is in both splits"),
        (b"path,label\n\xff\xfe.png,vm\n", "not UTF-8"),
    ],
)
def test_what_is_wrong_is_named(folder: Path, text: str | bytes, words: str) -> None:
    with pytest.raises(SourceError) as caught:
        read_labels(write(folder, text), LABELS)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_table_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="check the path"):
        read_labels(tmp_path / "none.csv", LABELS)


def test_the_public_table_is_read_and_its_patients_are_told() -> None:
    rows = read_labels(shared_data("fetal_brain", "labels.csv"), ("normal", "ventriculomegaly"))
    assert len(rows) == 97
    assert sum(row.label == "normal" for row in rows) == 65
    assert len({row.group for row in rows}) < 97
