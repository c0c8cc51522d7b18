"""Labelled frames as the runtime would see them: read from a table, or rendered with their ground truth."""

from __future__ import annotations

import hashlib
import multiprocessing
from collections.abc import Callable, Iterable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, fields, replace
from functools import partial
from os import PathLike
from typing import NamedTuple, TypeAlias

import cv2
import numpy as np
import numpy.typing as npt

from vmeg_edge.errors import SourceError, UsageError, VmegError
from vmeg_edge.frames import Frame
from vmeg_edge.manifest import Input
from vmeg_edge.phantom import phantom
from vmeg_edge.preprocess import Preprocessor
from vmeg_edge.sources import open_source
from vmeg_edge.spawning import MOST_WORKERS

from ..labels import FOR_TRAINING, Labelled, read_labels

Progress: TypeAlias = Callable[[str, int, int, str], None]

PATCH = 16
PHANTOM_LABELS = ("normal", "ventriculomegaly")


@dataclass(frozen=True, eq=False)
class Examples:
    """``n`` labelled frames, exactly as the runtime's `Preprocessor` makes them.

    ``images`` is uint8 ``[n, H, W]`` (grey) or ``[n, H, W, 3]``; ``targets`` int64 ``[n]``, places in ``labels``.
    ``groups`` names each frame's patient, or its series where no patient is named; ``names`` its file, or ``phantom
    SEED/INDEX``. Phantoms alone have ``coverage``, float32 ``[n, g, g]``: the share of each 16-pixel patch that is
    ventricle, and ``widths_mm``, float32 ``[n]``: the atrial width.
    """

    images: npt.NDArray[np.uint8]
    targets: npt.NDArray[np.int64]
    groups: tuple[str, ...]
    names: tuple[str, ...]
    labels: tuple[str, ...]
    positive: str
    input: Input
    coverage: npt.NDArray[np.float32] | None = None
    widths_mm: npt.NDArray[np.float32] | None = None

    def __len__(self) -> int:
        """How many frames."""
        return len(self.targets)

    def at(self, places: npt.ArrayLike) -> Examples:
        """The frames at these places, in this order."""
        chosen = np.asarray(places, dtype=np.intp)
        return replace(
            self,
            images=self.images[chosen],
            targets=self.targets[chosen],
            groups=tuple(self.groups[place] for place in chosen),
            names=tuple(self.names[place] for place in chosen),
            coverage=None if self.coverage is None else self.coverage[chosen],
            widths_mm=None if self.widths_mm is None else self.widths_mm[chosen],
        )

    @property
    def positives(self) -> npt.NDArray[np.bool_]:
        """``[n]``: which frames are of the positive class."""
        return np.asarray(self.targets == self.labels.index(self.positive))

    @property
    def phantoms(self) -> bool:
        """Whether these are simulated heads."""
        return self.widths_mm is not None

    def digest(self) -> str:
        """SHA-256 of everything here, as hexadecimal text."""
        found = hashlib.sha256()
        for field in fields(self):
            value = getattr(self, field.name)
            if isinstance(value, np.ndarray):
                found.update(f"{field.name} {value.dtype} {value.shape}".encode())
                found.update(np.ascontiguousarray(value).data)
            else:
                found.update(f"{field.name} {value!r}".encode())
        return found.hexdigest()


@dataclass(frozen=True)
class Table:
    """A table of labels, read and checked, before any frame is."""

    path: str
    rows: tuple[Labelled, ...]
    labels: tuple[str, ...]
    positive: str


class ReadExamples(NamedTuple):
    """What a table held: its frames, each one's split (empty where the table has none), and what did not open."""

    examples: Examples
    splits: tuple[str, ...]
    unreadable: tuple[str, ...]


def quiet(*_: object) -> None:
    """Progress that nobody watches."""


def read_examples(
    csv_path: str | PathLike[str],
    spec: Input,
    labels: tuple[str, ...] | None = None,
    positive: str | None = None,
    progress: Progress = quiet,
    *,
    skip_unreadable: bool = False,
) -> ReadExamples:
    """`read_table`, then `read_frames`."""
    return read_frames(read_table(csv_path, labels, positive), spec, progress, skip_unreadable=skip_unreadable)


def read_table(
    csv_path: str | PathLike[str],
    labels: tuple[str, ...] | None = None,
    positive: str | None = None,
    *,
    whose: str = "--labels",
) -> Table:
    """Read a table of labels (`labels.read_labels`; its splits are train, validation and test), and no frame.

    Without ``labels``, they are the table's own: ``normal`` first if it is there, the others by the alphabet; ``whose``
    says in messages where they come from. Without ``positive``, the second of two labels is the positive one.

    Raises `SourceError` for a table that is wrong or has one class; `UsageError` where the positive label is open or
    none of the labels.
    """
    rows = read_labels(csv_path, labels, splits=FOR_TRAINING, whose=whose)
    used = {row.label for row in rows}
    if len(used) < 2:
        raise SourceError(f"{csv_path}: every file has the label {used.pop()!r}; training needs two classes")
    if labels is None:
        labels = tuple(sorted(used, key=lambda name: (name.lower() != "normal", name)))
    return Table(str(csv_path), tuple(rows), labels, _positive(labels, positive))


def read_frames(
    table: Table, spec: Input, progress: Progress = quiet, *, skip_unreadable: bool = False
) -> ReadExamples:
    """Read a table's frames; every frame of a file that holds several is an example.

    Raises `SourceError` for files that do not open, unless ``skip_unreadable`` leaves those out.
    """
    rows, csv_path = table.rows, table.path
    pictures: list[npt.NDArray[np.uint8]] = []
    kept: list[tuple[Labelled, str]] = []
    unreadable: list[str] = []
    preprocess = Preprocessor(spec)
    for place, row in enumerate(rows):
        try:
            made = _pictures(row, preprocess)
        except VmegError as error:
            unreadable.append(str(error))
            made = []
        pictures += made
        kept += [(row, str(row.path) if len(made) == 1 else f"{row.path}#{index}") for index in range(len(made))]
        progress("reading frames", place + 1, len(rows), "")
    if unreadable and not skip_unreadable:
        raise SourceError(
            f"{csv_path}: {len(unreadable)} of {len(rows)} files do not open, the first: {unreadable[0]}; mend them, "
            "or pass --skip-unreadable to train without them"
        )
    if not pictures:
        raise SourceError(f"{csv_path}: not one of {len(rows)} files opens, the first: {unreadable[0]}")
    examples = Examples(
        images=np.stack(_grey(pictures)),
        targets=np.array([table.labels.index(row.label) for row, _ in kept], dtype=np.int64),
        groups=tuple(row.group for row, _ in kept),
        names=tuple(name for _, name in kept),
        labels=table.labels,
        positive=table.positive,
        input=spec,
    )
    return ReadExamples(examples, tuple(row.split for row, _ in kept), tuple(unreadable))


def phantom_examples(seed: int, count: int, spec: Input, progress: Progress = quiet, *, workers: int = 1) -> Examples:
    """Render the first ``count`` phantoms of the set ``seed``, through the runtime's preprocessing."""
    grid = (spec.height // PATCH, spec.width // PATCH)
    images = np.empty((count, spec.height, spec.width), dtype=np.uint8)
    coverage = np.empty((count, *grid), dtype=np.float32)
    widths = np.empty(count, dtype=np.float32)
    targets = np.empty(count, dtype=np.int64)

    def take(rendered: Iterable[_Rendered]) -> None:
        for index, (image, share, width_mm, dilated) in enumerate(rendered):
            images[index], coverage[index], widths[index], targets[index] = image, share, width_mm, dilated
            progress("phantoms", index + 1, count, "")

    one = partial(_rendered, seed, spec)
    if workers == 1:
        take(map(one, range(count)))
    else:
        with ProcessPoolExecutor(min(workers, MOST_WORKERS), mp_context=multiprocessing.get_context("spawn")) as pool:
            take(pool.map(one, range(count), chunksize=32))
    names = tuple(f"phantom {seed}/{index}" for index in range(count))
    return Examples(images, targets, names, names, PHANTOM_LABELS, PHANTOM_LABELS[1], spec, coverage, widths)


_Rendered: TypeAlias = tuple[npt.NDArray[np.uint8], npt.NDArray[np.float32], float, bool]


def _rendered(seed: int, spec: Input, index: int) -> _Rendered:
    """(image, share of each patch that is ventricle, atrial width, label) of one phantom."""
    cv2.setNumThreads(1)
    made = phantom(seed, index)
    preprocess = Preprocessor(spec)
    image = preprocess(made.frame)[0, :, :, 0].copy()
    region = preprocess.region_of(made.frame)
    inside = made.ventricles[region.y : region.y + region.height, region.x : region.x + region.width]
    grid = (spec.width // PATCH, spec.height // PATCH)
    share = cv2.resize(inside.astype(np.float32), grid, interpolation=cv2.INTER_AREA)
    return image, np.asarray(share, dtype=np.float32), made.atrial_width_mm, made.dilated


def _pictures(row: Labelled, preprocess: Preprocessor) -> list[npt.NDArray[np.uint8]]:
    """Every frame of a file, uint8 ``[H, W, 3]``. Raises `SourceError` where one is lost or none is there."""
    made = []
    with open_source(row.path) as source:
        for item in source:
            if not isinstance(item, Frame):
                raise SourceError(f"{row.path}: {item.reason}")
            made.append(preprocess(item)[0].copy())
    if not made:
        raise SourceError(f"{row.path}: holds no frame")
    return made


def _grey(pictures: list[npt.NDArray[np.uint8]]) -> list[npt.NDArray[np.uint8]]:
    """One channel of each where no picture has colour: a third of the memory."""
    if all(np.array_equal(p[..., 0], p[..., 1]) and np.array_equal(p[..., 0], p[..., 2]) for p in pictures):
        return [np.ascontiguousarray(p[..., 0]) for p in pictures]
    return pictures


def _positive(labels: tuple[str, ...], positive: str | None) -> str:
    if positive is None:
        if len(labels) != 2:
            raise UsageError(f"of {len(labels)} labels, say which is the positive one: --positive {labels[-1]}")
        return labels[1]
    if positive not in labels:
        raise UsageError(f"--positive {positive!r} is none of the labels: {', '.join(labels)}")
    return positive
