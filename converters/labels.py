"""A table of labelled frames: ``path,label`` and, where they are known, ``patient`` and ``split``."""

from __future__ import annotations

import csv
import io
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any

from vmeg_edge.errors import SourceError

from .series import series_of

FOR_FITTING = ("fit", "test")
FOR_TRAINING = ("train", "validation", "test")


@dataclass(frozen=True)
class Labelled:
    """One file and what it shows. ``group`` is what is resampled and split as a whole: the patient, or the series."""

    path: Path
    label: str
    group: str
    split: str = ""


def read_labels(
    path: str | PathLike[str],
    labels: tuple[str, ...] | None,
    *,
    splits: tuple[str, ...] = FOR_FITTING,
    whose: str = "the bundle's",
) -> list[Labelled]:
    """Read a CSV with the columns ``path`` (relative to it) and ``label`` (one of ``labels``, or any where ``None``).

    The column ``patient`` groups files; without it, a file's series (``_1_of_3``) does. The column ``split`` may say
    one of ``splits``. A byte order mark, any line ending, commas or semicolons are understood. ``whose`` says in
    messages where ``labels`` come from.

    Raises `SourceError` that names the line: a column, a label or a file that is not there, labels that clash, or a
    patient in two splits.
    """
    source = Path(path)
    rows, columns = _table(source)
    found: dict[Path, tuple[int, Labelled]] = {}
    missing: list[str] = []
    for row in rows:
        line = rows.line_num
        cell = {key: (row.get(name) or "").strip() for key, name in columns.items()}
        if not any(cell.values()):
            continue
        if labels is not None and cell["label"] not in labels:
            raise SourceError(
                f"{source}: line {line}: the label {cell['label']!r} is none of {whose}: {', '.join(labels)}"
            )
        for needed in ("path", "label"):
            if not cell[needed]:
                raise SourceError(f"{source}: line {line}: the {needed} is empty; give one")
        split = cell.get("split", "").lower()
        if split and split not in splits:
            raise SourceError(f"{source}: line {line}: the split {split!r} is none of: {', '.join(splits)}")
        file = source.parent / cell["path"]
        if not file.exists():
            missing.append(f"line {line} names {cell['path']}")
            continue
        made = Labelled(file, cell["label"], cell.get("patient") or series_of(cell["path"]), split)
        if file in found:
            first, other = found[file]
            what = "gives it another label" if other.label != made.label else "repeats it"
            raise SourceError(f"{source}: {cell['path']}: line {first} labels it and line {line} {what}; keep one")
        found[file] = (line, made)
    if missing:
        raise SourceError(
            f"{source}: {len(missing)} files are not there: {missing[0]}; paths are relative to the CSV's folder"
        )
    if not found:
        raise SourceError(f"{source}: holds no labelled file; give lines of path,label")
    _check_splits(source, [made for _, made in found.values()])
    return [made for _, made in found.values()]


def _table(source: Path) -> tuple[csv.DictReader[Any], dict[str, str]]:
    """The rows, and each column's own name by its name in small letters."""
    try:
        text = source.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise SourceError(f"{source}: cannot be read ({error.strerror or error}); check the path") from None
    except UnicodeDecodeError:
        raise SourceError(f"{source}: is not UTF-8 text; save it as CSV in UTF-8") from None
    head = text.split("\n", 1)[0]
    delimiter = ";" if head.count(";") > head.count(",") else ","
    rows = csv.DictReader(io.StringIO(text, newline=""), delimiter=delimiter)
    columns = {(name or "").strip().lower(): name for name in rows.fieldnames or ()}
    for needed in ("path", "label"):
        if needed not in columns:
            held = ", ".join(name for name in columns if name) or "none"
            raise SourceError(f"{source}: has no column {needed!r}; its columns are: {held}")
    return rows, columns


def _check_splits(source: Path, rows: list[Labelled]) -> None:
    """A patient on both sides of a split would be tested on what was learnt."""
    sides: dict[str, str] = {}
    for row in rows:
        if row.split and (before := sides.setdefault(row.group, row.split)) != row.split:
            raise SourceError(
                f"{source}: {row.group} is in both splits, {before} and {row.split}; keep a patient in one"
            )
    if any(row.split for row in rows) and not all(row.split for row in rows):
        raise SourceError(f"{source}: some lines have a split and some have none; fill the column or leave it out")
