"""The test frames through the runtime, on every bundle: scores, heat maps, and what each map is worth."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from typing import Any

import numpy as np
from vmeg_edge.converters.pointing_game import holds, widened
from vmeg_edge.converters.training.examples import Progress

import vmeg_edge
from vmeg_edge.explain import over_region
from vmeg_edge.frames import Frame, Pixels, Region
from vmeg_edge.results import HeatMap

from .data import Data, Shown
from .device import Subject
from .systems import Size
from .worth import area_under, chance, deletion, energy_inside, hottest_first, mean_of

DELETED_ON = "onnxruntime"
DELETION_SEED = 5
GROUPS = ("dilated", "all")


def watch(subjects: Sequence[Subject], data: Data, size: Size, progress: Progress) -> dict[str, dict[str, Any]]:
    """What every subject says of every test frame, by its name; maps are rounded to four places.

    Deletion curves are of ``size.deletions`` frames of each class, the first of the test, on one backend.
    """
    said: dict[str, dict[str, Any]] = {subject.name: _nothing() for subject in subjects}
    deleted = places_to_delete(data, size)
    with ExitStack() as stack:
        scorers = [
            stack.enter_context(vmeg_edge.load(subject.bundle, backend=subject.backend, cache=False))
            for subject in subjects
        ]
        for place in range(len(data.test)):
            shown = data.shown(place)
            for subject, scorer in zip(subjects, scorers, strict=True):
                about = said[subject.name]
                result = scorer.score(shown.frame)
                _note(about, result.prediction.probability, result.heat_map, shown)
                if place in deleted and subject.backend == DELETED_ON:
                    curves = _curves(scorer, shown.frame, result.heat_map, place, size.random_orders)
                    about["deletions"].append({"place": place, **curves})
            progress("test frames on the device", place + 1, len(data.test), "")
    return said


def places_to_delete(data: Data, size: Size) -> set[int]:
    """The first ``size.deletions`` test frames of each class."""
    positives = data.test.positives
    return {int(place) for side in (positives, ~positives) for place in np.flatnonzero(side)[: size.deletions]}


def _nothing() -> dict[str, Any]:
    names = ("probabilities", "maps", "inside", "near", "chance_inside", "chance_near", "energy", "area", "deletions")
    return {name: [] for name in names}


def _note(about: dict[str, Any], probability: float, heat: HeatMap, shown: Shown) -> None:
    about["probabilities"].append(probability)
    about["maps"].append(np.round(heat.values.astype(np.float64), 4).tolist())
    if shown.mask is None:
        return
    region, (rows, columns) = heat.region, heat.values.shape
    grid = (rows, columns)
    near = widened(shown.mask, region, grid)
    inside = shown.mask[region.y : region.y + region.height, region.x : region.x + region.width]
    about["inside"].append(holds(shown.mask, heat.peak_xy))
    about["near"].append(holds(near, heat.peak_xy))
    about["chance_inside"].append(chance(shown.mask, region, grid))
    about["chance_near"].append(chance(near, region, grid))
    about["energy"].append(energy_inside(over_region(heat), inside))
    about["area"].append(float(inside.mean()))


def _curves(scorer: vmeg_edge.Scorer, frame: Frame, heat: HeatMap, place: int, random_orders: int) -> dict[str, Any]:
    """Deletion curves of the class that the whole frame was called: hottest first, and in random orders."""
    positive = scorer.score(frame).prediction.probability >= 0.5

    def score(pixels: Pixels) -> float:
        p = scorer.score(replace(frame, pixels=pixels)).prediction.probability
        return p if positive else 1 - p

    region: Region = heat.region
    grid = (heat.values.shape[0], heat.values.shape[1])
    orders = [hottest_first(heat.values, np.random.default_rng([DELETION_SEED, place]))]
    orders += [
        np.random.default_rng([DELETION_SEED, place, order]).permutation(heat.values.size)
        for order in range(1, random_orders + 1)
    ]
    hottest, *others = ([round(p, 5) for p in deletion(score, frame.pixels, region, grid, order)] for order in orders)
    return {"hottest": hottest, "random": others}


def worth(about: Mapping[str, Any], positives: Sequence[bool]) -> dict[str, dict[str, Any]]:
    """A subject's figures over the dilated test frames, and over all of them."""
    found = {}
    for group in GROUPS:
        places = [place for place, positive in enumerate(positives) if positive or group == "all"]
        figures: dict[str, Any] = {}
        if about["inside"]:
            for name in ("inside", "near", "chance_inside", "chance_near", "energy", "area"):
                values = [about[name][place] for place in places]
                figures[name] = vars(mean_of([None if value is None else float(value) for value in values]))
            figures["hits"] = sum(about["inside"][place] for place in places)
            figures["near_hits"] = sum(about["near"][place] for place in places)
        curves = [curve for curve in about["deletions"] if curve["place"] in set(places)]
        hottest = [area_under(curve["hottest"]) for curve in curves]
        random = [float(np.mean([area_under(one) for one in curve["random"]])) for curve in curves]
        figures["hottest_area"] = vars(mean_of(hottest))
        figures["random_area"] = vars(mean_of(random))
        figures["gain"] = vars(mean_of([other - own for own, other in zip(hottest, random, strict=True)]))
        found[group] = {"frames": len(places), **figures}
    return found
