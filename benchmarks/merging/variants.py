"""What is held against the whole network in float32: merged by schedules, pruned, and int8 bundles on an engine."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias

import numpy as np
import pruning
from proof_frames import FrameSet
from trained import Images, Said, Trained, progress, said_of
from vmeg_edge.converters import token_reduction as reduction
from vmeg_edge.converters.answers import maps_of
from vmeg_edge.converters.architectures.network import Network
from vmeg_edge.converters.architectures.vit import CHANNELS, ViTConfig
from vmeg_edge.converters.token_reduction import Schedule

from vmeg_edge.bundle import open_bundle
from vmeg_edge.loading import direction_of, load
from vmeg_edge.manifest import Manifest

Family: TypeAlias = Literal["whole", "merged", "pruned", "int8"]
Cost: TypeAlias = tuple[float, float]  # mean tokens, share of the arithmetic

WHOLE = "none"
ENGINE = "openvino"
BASE = ViTConfig()
KINDS: dict[str, Callable[[ViTConfig, int], Schedule]] = {
    "tapering": reduction.tapering,
    "constant": reduction.constant,
}
MERGED = (
    *(("tapering", r) for r in (8, 12, 16, 17, 20)),
    *(("constant", r) for r in (8, 12, 16)),
)
PRUNED: dict[str, pruning.Kind] = {
    "EViT 0.7": "attention",
    "EViT 0.7 fused": "attention, fused",
    "random 0.7": "random",
}
DARK = "dark dropped"
FEW = (WHOLE, "tapering 16", "tapering 17", "constant 12", "EViT 0.7")


@dataclass(frozen=True, eq=False)
class Variant:
    """One way to save. ``cost`` is of a set's images, since how much is dark differs by frame.

    ``kept_as`` is a name that no other bundle has.
    """

    name: str
    family: Family
    say: Callable[[FrameSet], Said]
    cost: Callable[[Images], Cost]
    schedule: Schedule = ()
    kept_as: str = ""


def variants(trained: Trained, batch: int, *, few: bool) -> list[Variant]:
    """The whole network first; a slow one gets only `FEW`."""
    config = trained.config
    made = [_torch(WHOLE, "whole", trained.network, (), trained, batch)]
    for kind, r in MERGED:
        schedule = matched(config, kind, r)
        made.append(_merged(f"{kind} {r}", schedule, trained, batch))
    made += [_pruned(name, kind, trained, batch) for name, kind in PRUNED.items()]
    dark = _torch(DARK, "pruned", lambda: pruning.without_dark(trained), (), trained, batch)
    made.append(Variant(DARK, "pruned", dark.say, lambda images: _cost_without_dark(config, images)))
    return [variant for variant in made if not few or variant.name in FEW]


def matched(config: ViTConfig, kind: str, r: int) -> Schedule:
    """The schedule whose mean tokens come nearest to those of ViT-B/16 with ``r``; its very own in 12 blocks."""
    wanted = reduction.mean_tokens(BASE, KINDS[kind](BASE, r))
    tried = (KINDS[kind](config, each) for each in range(1, config.grid**2 // 2 + 1))
    return min(tried, key=lambda schedule: abs(reduction.mean_tokens(config, schedule) - wanted))


def bundle_variant(path: Path, trained: Trained, known: list[Variant]) -> Variant | None:
    """An int8 bundle of this checkpoint, or of one that this one taught, on its engine; ``None`` for another's."""
    bundle = open_bundle(path)
    manifest = bundle.manifest
    tuned = any(f"the teacher is {trained.name}" in note and trained.sha256[:12] in note for note in manifest.notes)
    if manifest.checkpoint.sha256 != trained.sha256 and not tuned:
        return None
    same = [each.name for each in known if each.family in ("whole", "merged") and _same(each.schedule, manifest.merge)]
    schedule = manifest.merge
    by_block = f"{schedule[0]} a block" if len(set(schedule)) == 1 else ",".join(map(str, schedule))
    said = same[0] if same else by_block
    return Variant(
        f"int8 {said}, tuned" if tuned else f"int8 {said}",
        "int8",
        lambda frames: _said_by_engine(path, manifest, frames),
        lambda _: _cost(trained.config, schedule),
        schedule,
        f"int8 {bundle.digest[:12]}",
    )


def _same(one: Schedule, other: Schedule) -> bool:
    """Whether two schedules merge alike; no numbers are as good as zeros."""
    return one == other or not (any(one) or any(other))


def _said_by_engine(path: Path, manifest: Manifest, frames: FrameSet) -> Said:
    images, direction = frames.images, direction_of(open_bundle(path))
    logits, maps = [], []
    with load(path, backend=ENGINE) as scorer:
        for place in progress(range(len(images)), f"{path.name}, {frames.name}"):
            image = images[place]
            pixels = np.repeat(image[:, :, None], CHANNELS, axis=2) if image.ndim == 2 else image
            scores, activations = scorer.backend.infer(pixels[None])
            logits.append(scores.copy())
            maps.append(maps_of(activations[None], manifest, direction)[0])
    return Said(np.stack(logits), np.stack(maps))


def _merged(name: str, schedule: Schedule, trained: Trained, batch: int) -> Variant:
    return _torch(name, "merged", lambda: trained.network(schedule), schedule, trained, batch)


def _pruned(name: str, kind: pruning.Kind, trained: Trained, batch: int) -> Variant:
    schedule = pruning.schedule(trained.config, kind)
    return _torch(name, "pruned", lambda: pruning.pruned(trained, kind), schedule, trained, batch)


def _torch(
    name: str, family: Family, build: Callable[[], Network], schedule: Schedule, trained: Trained, batch: int
) -> Variant:
    return Variant(
        name,
        family,
        lambda frames: said_of(build(), frames.images, trained, batch, f"{trained.name}, {frames.name}, {name}"),
        lambda _: _cost(trained.config, schedule),
        schedule,
    )


def _cost(config: ViTConfig, schedule: Schedule) -> Cost:
    share = reduction.arithmetic(config, schedule) / reduction.arithmetic(config, ())
    return reduction.mean_tokens(config, schedule), share


def _cost_without_dark(config: ViTConfig, images: Images) -> Cost:
    """The mean over frames of what their lit patches cost."""
    n, rows, columns, patch = len(images), config.grid, config.grid, config.patch
    brightest = images.reshape(n, rows, patch, columns, -1).max(axis=(2, 4))
    lit = (brightest > pruning.DARK).sum(axis=(1, 2)).astype(np.float64)
    tokens = 1 + lit
    block = tokens * (4 * config.dim**2 + 2 * config.dim * config.hidden) + 2 * tokens**2 * config.dim
    madds = lit * CHANNELS * patch**2 * config.dim + config.depth * block
    return float(tokens.mean()), float(madds.mean() / reduction.arithmetic(config, ()))
