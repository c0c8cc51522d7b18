"""What a run was asked for, made ready: frames in their parts, a network, and a recipe that both can honour."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from vmeg_edge.bundle import sha256_of
from vmeg_edge.errors import SourceError, UsageError
from vmeg_edge.manifest import DecisionRule, Input, ResizeMethod
from vmeg_edge.processors import usable_processors

from .. import checkpoint as checkpoints
from ..architectures.known import ARCHITECTURES, AnyConfig
from ..architectures.known import network as build
from ..architectures.network import Network
from ..architectures.vit import Pool
from ..checkpoint import Checkpoint
from ..origin import DEFAULT_RULE, IMAGENET_MEAN, IMAGENET_STD
from . import demo_recipe
from .distillation import merging
from .examples import PHANTOM_LABELS, Examples, Progress, phantom_examples, read_frames, read_table
from .recipe import Guidance, Recipe, default_recipe, distillation_recipe
from .splits import carve

PHANTOM_COUNT = 1500
PHANTOM_SIZE = 112
TEST_SEED_AFTER = 1000
"""From the seed of the phantoms to learn from to that of those to be tested on."""


@dataclass(frozen=True)
class Asked:
    """What the network shall be and see; ``None`` is left to the encoder, else to the defaults.

    With ``reduce_tokens``, the encoder is a trained classifier, and the teacher of a copy that merges so many a block.
    """

    encoder: Path | None = None
    arch: str | None = None
    pool: Pool | None = None
    image_size: int | None = None
    resize: ResizeMethod | None = None
    mean: tuple[float, float, float] | None = None
    std: tuple[float, float, float] | None = None
    seed: int = 0
    reduce_tokens: int | None = None


@dataclass(frozen=True, eq=False)
class Plan:
    """A run that can start. ``origin`` says where the weights begin; ``skipped`` are files that did not open.

    ``teacher`` is the classifier whose answers are learnt, where tokens are merged.
    """

    network: Network
    origin: str
    train: Examples
    validation: Examples
    test: Examples | None
    recipe: Recipe
    rule: DecisionRule = DEFAULT_RULE
    skipped: tuple[str, ...] = ()
    teacher: Checkpoint | None = None

    @property
    def phantoms(self) -> bool:
        """Whether what is learnt comes from simulated heads: these frames', or the teacher's before."""
        record = None if self.teacher is None else self.teacher.record
        return self.train.phantoms or (record is not None and record.trained_on == "phantoms")


def from_table(
    path: Path,
    labels: tuple[str, ...] | None,
    positive: str | None,
    asked: Asked,
    share: float,
    changes: Mapping[str, Any],
    progress: Progress,
    *,
    skip_unreadable: bool = False,
) -> Plan:
    """Read a table of labels; where it says no validation part, ``share`` of its groups become one.

    Raises what `read_table`, `checkpoint.load`, `read_frames` and `carve` raise.
    """
    teacher = _teacher(asked)
    if asked.encoder is None and asked.arch is None:
        raise UsageError("give a pre-trained --encoder FILE, or --arch NAME to train one from scratch")
    if labels is not None and (len(labels) < 2 or len(set(labels)) != len(labels)):
        raise UsageError(f"--labels {','.join(labels)}: give two or more names that differ")
    whose = "--labels"
    if teacher is not None and teacher.record is not None:
        if labels is None:
            labels, whose = teacher.record.labels, f"those that {teacher.source} tells apart"
        positive = positive or teacher.record.positive
    table = read_table(path, labels, positive, whose=whose)
    network, spec, origin = _start(asked, table.labels, teacher)
    read = read_frames(table, spec, progress, skip_unreadable=skip_unreadable)
    train, validation, test = parts(str(path), read.examples, read.splits, share, asked.seed)
    recipe = changed(_recipe(network, asked), changes, asked.seed)
    return Plan(network, origin, train, validation, test, recipe, skipped=read.unreadable, teacher=teacher)


def from_phantoms(
    count: int | None, asked: Asked, share: float, changes: Mapping[str, Any], progress: Progress
) -> Plan:
    """Render phantoms, and more of another seed to be tested on: a try of the command where no data is at hand."""
    teacher = _teacher(asked)
    if asked.encoder is None:
        own = demo_recipe.INPUT
        asked = replace(asked, resize=asked.resize or own.resize, mean=asked.mean or own.mean, std=asked.std or own.std)
        asked = replace(asked, image_size=asked.image_size or PHANTOM_SIZE)
    network, spec, origin = _start(asked, PHANTOM_LABELS, teacher)
    count = count or PHANTOM_COUNT
    data = _rendered(asked.seed, count, spec, progress)
    train, validation = carve(data.targets, data.groups, share, asked.seed, data.labels)
    test = _rendered(asked.seed + TEST_SEED_AFTER, max(20, round(count * share)), spec, progress)
    recipe = _recipe(network, asked)
    if teacher is None:
        recipe = replace(recipe, guidance=Guidance())
    recipe = changed(recipe, changes, asked.seed)
    return Plan(network, origin, data.at(train), data.at(validation), test, recipe, teacher=teacher)


def demo(count: int | None, seed: int, saliency_weight: float, progress: Progress) -> Plan:
    """The embedded demo model's run."""
    network = build(demo_recipe.CONFIG)
    network.initialise(seed)
    data = _rendered(seed, count or demo_recipe.PHANTOMS, demo_recipe.INPUT, progress)
    train, validation = carve(data.targets, data.groups, demo_recipe.VALIDATION_SHARE, seed, data.labels)
    recipe = demo_recipe.recipe(seed, saliency_weight)
    if len(train) < demo_recipe.EPOCH_FRAMES:
        recipe = replace(recipe, schedule=replace(recipe.schedule, epoch_frames=len(train)))
    origin = f"{network.config.name} from scratch"
    return Plan(network, origin, data.at(train), data.at(validation), None, recipe, demo_recipe.RULE)


def changed(recipe: Recipe, changes: Mapping[str, Any], seed: int) -> Recipe:
    """A recipe with the fields of ``changes`` set, whichever part they are in; ``None`` leaves a field as it is.

    A batch that is changed alone changes the rate in proportion. Raises `UsageError` for a value out of range.
    """
    given = {name: value for name, value in changes.items() if value is not None}
    if "batch" in given and "learning_rate" not in given:
        given["learning_rate"] = recipe.optimizer.learning_rate * given["batch"] / recipe.schedule.batch
    inside: dict[str, Any] = {}
    for part in ("optimizer", "schedule"):
        before = getattr(recipe, part)
        inside[part] = replace(before, **{name: given.pop(name) for name in list(given) if hasattr(before, name)})
    return replace(recipe, **inside, **given, seed=seed)


def parts(
    source: str, data: Examples, splits: tuple[str, ...], share: float, seed: int
) -> tuple[Examples, Examples, Examples | None]:
    """(to train on, for validation, for the test or ``None``): as the table says, else ``share`` for validation.

    Raises `SourceError` where the table leaves nothing to train on; `UsageError` where no validation part can be made.
    """
    said = np.array(splits)
    test = np.flatnonzero(said == "test")
    validation = np.flatnonzero(said == "validation")
    train = np.flatnonzero((said == "train") | (said == ""))
    if len(train) == 0:
        raise SourceError(f"{source}: its column 'split' leaves no frame to train on; mark some lines train")
    if len(validation) == 0:
        groups = [data.groups[place] for place in train]
        kept, held_out = carve(data.targets[train], groups, share, seed, data.labels)
        train, validation = train[kept], train[held_out]
    return data.at(train), data.at(validation), data.at(test) if len(test) else None


def _teacher(asked: Asked) -> Checkpoint | None:
    """The classifier whose tokens shall be merged, if any. Raises `UsageError`, and what `checkpoint.load` raises."""
    if asked.reduce_tokens is None:
        return None
    if asked.encoder is None:
        raise UsageError("--reduce-tokens starts from a trained classifier; give its checkpoint with --encoder FILE")
    untrained = "--reduce-tokens starts from a trained classifier; run finetune without it, and give what that writes"
    read = checkpoints.load(
        asked.encoder, arch=asked.arch, pool=asked.pool, image_size=asked.image_size, headless=untrained
    )
    merging(read.model(), asked.reduce_tokens)
    return read


def _check_classes(teacher: Checkpoint, labels: tuple[str, ...]) -> None:
    """Its head is kept, so what it tells apart must be the labels, in this order."""
    if teacher.record is not None and teacher.record.labels != labels:
        raise UsageError(
            f"{teacher.source}: its head tells apart {', '.join(teacher.record.labels)}, and the labels are "
            f"{', '.join(labels)}; give frames of its own classes, and leave --labels out"
        )
    if teacher.config.classes != len(labels):
        raise UsageError(
            f"{teacher.source}: its head has {teacher.config.classes} classes, and there are {len(labels)} labels, "
            f"{', '.join(labels)}; name them all with --labels, in the head's order"
        )


def _recipe(network: Network, asked: Asked) -> Recipe:
    """The defaults for what was asked for."""
    if asked.reduce_tokens is not None:
        return distillation_recipe(asked.reduce_tokens)
    return default_recipe(network, from_scratch=asked.encoder is None)


def _start(asked: Asked, labels: tuple[str, ...], teacher: Checkpoint | None = None) -> tuple[Network, Input, str]:
    """(the network with its first weights, its input, where the weights come from)."""
    record = None
    if asked.encoder is not None:
        if teacher is not None:
            _check_classes(teacher, labels)
        read = teacher or checkpoints.load(
            asked.encoder,
            arch=asked.arch,
            new_head=len(labels),
            pool=asked.pool,
            image_size=asked.image_size,
            seed=asked.seed,
        )
        network, record = read.model(), read.record
        origin = f"{network.config.name} from {asked.encoder.name} ({sha256_of(asked.encoder)[:12]})"
    else:
        shape = demo_recipe.CONFIG if asked.arch is None else _size_called(asked.arch)
        size = asked.image_size or shape.image_size
        network = build(replace(shape, image_size=size, classes=len(labels)))
        network.initialise(asked.seed)
        origin = f"{network.config.name} from scratch"
    size = network.config.image_size
    spec = Input(
        width=size,
        height=size,
        resize=asked.resize or (record.resize if record else "nearest"),
        mean=asked.mean or (record.mean if record else IMAGENET_MEAN),
        std=asked.std or (record.std if record else IMAGENET_STD),
    )
    return network, spec, origin


def _size_called(arch: str) -> AnyConfig:
    """The published size of this name. Raises `UsageError` for a family, which has several."""
    if arch not in ARCHITECTURES:
        sizes = ", ".join(name for name in ARCHITECTURES if name.startswith(arch))
        raise UsageError(f"--arch {arch} is a family; to train from scratch, choose a size: {sizes}")
    return ARCHITECTURES[arch]


def _rendered(seed: int, count: int, spec: Input, progress: Progress) -> Examples:
    workers = usable_processors() if count > 100 else 1
    return phantom_examples(seed, count, spec, progress, workers=workers)
