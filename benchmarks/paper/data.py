"""The frames of a run: for folds, test and pre-training, rendered once and kept; and test frames in full size."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
from vmeg_edge.converters.calibration import PHANTOMS
from vmeg_edge.converters.training.examples import PHANTOM_LABELS, Examples, Progress, phantom_examples, read_examples
from vmeg_edge.converters.training.splits import carve

from vmeg_edge.errors import SourceError
from vmeg_edge.frames import Frame
from vmeg_edge.manifest import Input
from vmeg_edge.outputs import PendingFile
from vmeg_edge.phantom import phantom
from vmeg_edge.processors import usable_processors
from vmeg_edge.sources import open_source

from .systems import Size

# Each set of phantoms has a seed of its own; calibration's (4242) and the demo model's (7, 1007) are none of them.
LABELLED_SEED, TEST_SEED, UNLABELLED_SEED = 61, 1061, 2061
SPLIT_SEED = 0
TEST_SHARE = 0.2
MEAN = STD = (0.25, 0.25, 0.25)

NOT_MEANINGFUL = (
    "NOT MEANINGFUL: a smoke run of the protocol on few real frames whose classes come from different sources, so that "
    "a model can tell the sources apart without looking at a ventricle; the training is short too. "
    "No figure here says anything about patients."
)


@dataclass(frozen=True, eq=False)
class Shown:
    """A test frame as a device gets it, and the mask of what is to be found in it, ``[height, width]``, if known."""

    frame: Frame
    mask: npt.NDArray[np.bool_] | None


@dataclass(frozen=True, eq=False)
class Phantoms:
    """Simulated heads with ground truth; every frame is a head of its own, so every frame is a group.

    ``about`` tells the frames of one run from those of another; ``calibration`` are the sources for int8.
    """

    labelled: Examples
    test: Examples
    about: str
    notices: tuple[str, ...] = ("Phantoms are simulated heads: no figure here says anything about patients.",)
    calibration: tuple[str, ...] = (PHANTOMS,)

    def shown(self, place: int) -> Shown:
        """Render the head again: full frames of a whole set would fill the memory."""
        seed, index = self.test.names[place].removeprefix("phantom ").split("/")
        made = phantom(int(seed), int(index))
        return Shown(made.frame, made.ventricles)


@dataclass(frozen=True, eq=False)
class Table:
    """Labelled stills; patients, or series where none is named, stay on one side of every split."""

    labelled: Examples
    test: Examples
    about: str
    notices: tuple[str, ...] = (NOT_MEANINGFUL,)

    @property
    def calibration(self) -> tuple[str, ...]:
        """The files that training may see."""
        return self.labelled.names

    def shown(self, place: int) -> Shown:
        """Open the file."""
        with open_source(self.test.names[place]) as source:
            for item in source:
                if isinstance(item, Frame):
                    return Shown(item, None)
        raise SourceError(f"{self.test.names[place]}: holds no frame any more")


Data: TypeAlias = Phantoms | Table


def spec_of(size: Size) -> Input:
    """What the size's networks take."""
    return Input(width=size.image_size, height=size.image_size, resize="bilinear", mean=MEAN, std=STD)


def phantoms(size: Size, cache: Path, progress: Progress) -> Phantoms:
    """The size's phantoms, from ``cache`` where they were rendered before."""
    labelled = rendered(LABELLED_SEED, size.labelled, spec_of(size), cache, progress)
    test = rendered(TEST_SEED, size.test, spec_of(size), cache, progress)
    return Phantoms(labelled, test, f"phantoms {LABELLED_SEED} and {TEST_SEED}")


def unlabelled(size: Size, cache: Path, progress: Progress) -> npt.NDArray[np.uint8]:
    """Grey frames ``[n, H, W]`` that are in no fold and no test set."""
    return rendered(UNLABELLED_SEED, size.unlabelled, spec_of(size), cache, progress).images


def rendered(seed: int, count: int, spec: Input, cache: Path, progress: Progress) -> Examples:
    """`phantom_examples` of these arguments, rendered once."""
    cache.mkdir(parents=True, exist_ok=True)
    path = cache / f"phantoms-{seed}-{count}-at-{spec.width}.npz"
    if not path.exists():
        made = phantom_examples(seed, count, spec, progress, workers=usable_processors())
        with PendingFile(path) as pending:
            np.savez(pending, images=made.images, targets=made.targets, widths=np.asarray(made.widths_mm))
    names = tuple(f"phantom {seed}/{index}" for index in range(count))
    with np.load(path, allow_pickle=False) as held:
        images, targets, widths = held["images"], held["targets"], held["widths"]
    return Examples(images, targets, names, names, PHANTOM_LABELS, PHANTOM_LABELS[1], spec, widths_mm=widths)


def table(csv: Path, size: Size, progress: Progress) -> Table:
    """Read a table of labels; its split ``test`` is the test split, or a share of the groups where it has none."""
    examples, splits, _ = read_examples(csv, spec_of(size), progress=progress)
    test = np.array([split == "test" for split in splits])
    if test.any():
        kept, held_out = np.flatnonzero(~test), np.flatnonzero(test)
    else:
        kept, held_out = carve(examples.targets, examples.groups, TEST_SHARE, SPLIT_SEED, examples.labels)
    return Table(examples.at(kept), examples.at(held_out), f"{csv.name} {examples.digest()}")
