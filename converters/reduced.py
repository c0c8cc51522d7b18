"""The model with its tokens merged: as asked, or the cheapest that says the same, found by screening in float32."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np
import numpy.typing as npt

from vmeg_edge.errors import UsageError
from vmeg_edge.parity import Scores, compare, cosines_too_low

from .answers import maps_of
from .control import Control
from .measure import judged
from .origin import Merging, Origin
from .token_reduction import Reduction, Schedule, arithmetic, asked, cost, mean_tokens, schedules
from .workshop import Report

Direction = npt.NDArray[np.float32] | None

SCREEN_MARGIN = 0.5
"""The share of the gate's allowance that merging may use up in float32; rounding to int8 takes its own."""


def variants(
    origin: Origin, reduction: Reduction, control: Control | None, direction: Direction, report: Report
) -> Iterator[Origin]:
    """The origins to try, in order, until one passes: with merged tokens, and under ``auto`` at last without.

    Raises `UsageError` where tokens cannot be merged.
    """
    if reduction == "off":
        yield origin
        return
    merging = merging_of(origin)
    if reduction != "auto":
        yield _merged(origin, merging, asked(merging.config, reduction), report)
        return
    if control is None:
        raise AssertionError("auto has frames: check_frames sees to it")
    screen = _Screen(origin, merging, control, direction, report)
    ladders = schedules(merging.config)
    places = {name: _first(ladder, screen.passes) for name, ladder in ladders.items()}
    while True:
        open_ends = {name: ladders[name][place] for name, place in places.items() if place < len(ladders[name])}
        if not open_ends:
            break
        name = min(open_ends, key=lambda name: cost(merging.config, open_ends[name]))
        if screen.passes(open_ends[name]):
            yield _merged(origin, merging, open_ends[name], report)
        places[name] += 1
    report("no schedule of merging passes; no tokens are merged")
    yield origin


def _first(ladder: Sequence[Schedule], passes: Callable[[Schedule], bool]) -> int:
    """The first place that passes, where the ladder fails up to some place and passes from there on; by halving."""
    low, high = 0, len(ladder)
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if passes(ladder[middle]) else (middle + 1, high)
    return low


def merging_of(origin: Origin, option: str = "--reduce-tokens") -> Merging:
    """The way to have fewer tokens than this origin, as ``option`` asks. Raises `UsageError` where there is none."""
    if origin.merging is not None:
        return origin.merging
    if origin.manifest.architecture.family != "vit":
        raise UsageError(
            f"{option} is for a ViT's tokens, and this is a {origin.manifest.architecture.summary}; leave it out"
        )
    raise UsageError(f"{option} starts from the checkpoint, and a bundle was given; give the checkpoint")


def _merged(origin: Origin, merging: Merging, schedule: Schedule, report: Report) -> Origin:
    report(f"merging tokens, {_said(merging, schedule)}")
    manifest = origin.manifest.model_copy(update={"merge": schedule})
    return replace(origin, manifest=manifest, onnx=merging.onnx(schedule), reference=merging.reference(schedule))


def _said(merging: Merging, schedule: Schedule) -> str:
    config = merging.config
    share = arithmetic(config, schedule) / arithmetic(config, ())
    return f"{mean_tokens(config, schedule):.0f} of {1 + config.grid**2} in the mean, {share:.0%} of the arithmetic"


@dataclass(frozen=True, eq=False)
class _Screen:
    """Whether merging alone, in float32, leaves room in the gate on the control frames."""

    origin: Origin
    merging: Merging
    control: Control
    direction: Direction
    report: Report
    known: dict[Schedule, bool] = field(default_factory=dict)

    def passes(self, schedule: Schedule) -> bool:
        if schedule not in self.known:
            self.known[schedule] = self._agrees(schedule)
            word = "passes" if self.known[schedule] else "fails"
            self.report(f"screening in float32: {_said(self.merging, schedule)}: {word}")
        return self.known[schedule]

    def _agrees(self, schedule: Schedule) -> bool:
        logits, activations = self.merging.reference(schedule)(self.control.tensors)
        if self.control.used(logits) > SCREEN_MARGIN:
            return False
        manifest = self.origin.manifest
        theirs = judged(logits, maps_of(activations, manifest, self.direction), manifest)
        return not cosines_too_low(compare(self._whole, theirs))

    @cached_property
    def _whole(self) -> Scores:
        manifest = self.origin.manifest
        _, activations = self.origin.reference(self.control.tensors)
        return judged(self.control.logits, maps_of(activations, manifest, self.direction), manifest)
