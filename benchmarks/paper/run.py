"""A whole run: pre-train, cross-validate, convert, time, look, and write it all down."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import asdict
from datetime import datetime, timezone
from importlib.metadata import version
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import torch
from vmeg_edge.converters.architectures.known import AnyConfig
from vmeg_edge.converters.architectures.vit import ViTConfig
from vmeg_edge.converters.training.examples import Progress

from vmeg_edge.bench.report import BenchReport
from vmeg_edge.manifest import Precision

from . import data as frames
from .data import Data
from .device import PRECISIONS, Subject, agreement, converted, environment, latency, subjects, timings
from .pretraining import pretrain
from .protocol import THRESHOLD, chosen, cross_validate, piece, summary
from .store import Store
from .systems import Size, System
from .watch import DELETED_ON, watch, worth
from .worth import mean_of
from .writing import write

Conversions: TypeAlias = Mapping[str, Mapping[Precision, Mapping[str, Any]]]

VERSIONS = ("vmeg-edge", "torch", "onnxruntime", "openvino", "nncf", "onnx", "scikit-learn", "numpy")
RESAMPLES = 1000


def run(
    size: Size,
    out: Path,
    work: Path,
    progress: Progress,
    *,
    csv: Path | None = None,
    device: str = "auto",
    time_again: bool = False,
) -> dict[str, Any]:
    """Everything that is not in ``work`` yet; the files in ``out`` are written anew, and the results come back."""
    began = time.monotonic()
    cache = work / "frames"
    data = frames.phantoms(size, cache, progress) if csv is None else frames.table(csv, size, progress)
    store = Store(work, f"{size} {data.about} {data.test.digest()} torch {torch.__version__}")
    config = next(system.config for system in size.systems if system.pretrained)
    encoders = Store(work, f"{config} {size.pretraining} {size.unlabelled} phantoms torch {torch.__version__}")
    encoder = encoders.path("encoder.pt")
    pretraining = encoders.kept("pretraining", lambda: _pretrained(size, config, cache, encoder, progress, device))
    folds = cross_validate(size, data, store, encoder, progress, device=device)
    best = {system.key: chosen(folds[system.key]) for system in size.systems}
    conversions = {
        system.key: {
            precision: _converted(system, best[system.key], precision, store, data) for precision in PRECISIONS
        }
        for system in size.systems
    }
    everyone = subjects(conversions, store.folder)
    if time_again:
        store.forget("latency")
    timed = store.kept(
        "latency", lambda: _timed(lambda: {"bench": latency(everyone, size, progress).model_dump(mode="json")})
    )
    report = BenchReport.model_validate_json(json.dumps(timed["bench"]))
    watched = store.kept("watched", lambda: _timed(lambda: {"said": watch(everyone, data, size, progress)}))
    results = _results(size, data, folds, best, conversions, everyone, report, watched)
    results["pretraining"] = pretraining
    results["duration"] = _durations(pretraining, folds, conversions, timed, watched, time.monotonic() - began)
    write(results, watched["said"], report, data, out)
    return results


def _converted(system: System, fold: int, precision: Precision, store: Store, data: Data) -> Any:
    """The chosen fold's model as a bundle of this precision, and what its conversion said."""
    name = f"{system.key}-{precision}"

    def make() -> dict[str, Any]:
        checkpoint, exact = store.path(f"{piece(system, fold)}.pt"), store.path(f"{system.key}-float32.vmeg")
        source = checkpoint if precision == "float32" else exact
        return _timed(lambda: converted(source, store.path(f"{name}.vmeg"), precision, data.calibration))

    return store.kept(name, make)


def _timed(make: Any) -> dict[str, Any]:
    began = time.monotonic()
    made: dict[str, Any] = make()
    return {**made, "seconds": round(time.monotonic() - began, 1)}


def _pretrained(
    size: Size, config: AnyConfig, cache: Path, path: Path, progress: Progress, device: str
) -> dict[str, Any]:
    """The encoder of the systems that start from one, as MAE's own checkpoints are laid out."""
    if not isinstance(config, ViTConfig):
        raise AssertionError("a masked autoencoder is a ViT")
    images = frames.unlabelled(size, cache, progress)
    began = time.monotonic()
    losses = pretrain(config, size.pretraining, images, frames.spec_of(size), path, progress, device=device)
    return {
        "frames": len(images),
        "seed": frames.UNLABELLED_SEED,
        "loss_by_tenth": [round(loss, 4) for loss in losses],
        "seconds": round(time.monotonic() - began, 1),
    }


def _results(
    size: Size,
    data: Data,
    folds: Mapping[str, list[dict[str, Any]]],
    best: Mapping[str, int],
    conversions: Conversions,
    everyone: list[Subject],
    report: BenchReport,
    watched: Mapping[str, Any],
) -> dict[str, Any]:
    said = watched["said"]
    names = {system.key: system.name for system in size.systems}
    positives = [bool(value) for value in data.test.positives]
    measured = timings(report, everyone)
    return {
        "made_at": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "notices": [*data.notices, "Research use only; not for diagnosis."],
        "data": data.about,
        "positive": data.test.positive,
        "frames": {
            "labelled": len(data.labelled),
            "labelled_groups": len(set(data.labelled.groups)),
            "labelled_positive": int(data.labelled.positives.sum()),
            "test": len(data.test),
            "test_groups": len(set(data.test.groups)),
            "test_positive": int(data.test.positives.sum()),
        },
        "seeds": {
            "labelled": frames.LABELLED_SEED,
            "test": frames.TEST_SEED,
            "unlabelled": frames.UNLABELLED_SEED,
            "split": frames.SPLIT_SEED,
        },
        "settings": asdict(size),
        "machine": environment(),
        "versions": {name: version(name) for name in VERSIONS},
        "torch_threads": torch.get_num_threads(),
        "systems": [
            {
                "key": system.key,
                "name": system.name,
                "paper": system.paper,
                "architecture": system.config.name,
                "weights": system.config.weights,
                "summary": summary(folds[system.key]),
                "device_fold": best[system.key],
                "folds": folds[system.key],
            }
            for system in size.systems
        ],
        "choice": "the device's model is that of the fold whose carved validation F1 is the best, the first of equals",
        "latency": {"method": report.method, "threads": report.cases[0].threads, "valid": report.valid},
        "device": [
            {
                **_key(subject, names),
                **measured[subject.name],
                "f1": _f1(said[subject.name]["probabilities"], positives),
            }
            for subject in everyone
        ],
        "parity": [
            {"system": names[key], **row}
            for key, by_precision in conversions.items()
            for made in by_precision.values()
            for row in made["rows"]
        ],
        "conversions": {
            key: {
                precision: {name: made[name] for name in ("digest", "backends", "warnings", "seconds")}
                for precision, made in by_precision.items()
            }
            for key, by_precision in conversions.items()
        },
        "agreement": [
            {"system": names[one.system], "backend": one.backend, **agreement(said[one.name], said[other.name])}
            for one in everyone
            for other in everyone
            if (one.system, one.backend) == (other.system, other.backend)
            and (one.precision, other.precision) == ("float32", "int8")
        ],
        "worth": [
            {
                **_key(subject, names),
                "grid": "x".join(str(side) for side in np.shape(said[subject.name]["maps"][0])),
                **worth(said[subject.name], positives),
            }
            for subject in everyone
        ],
        "deleted_on": DELETED_ON,
    }


def _key(subject: Subject, names: Mapping[str, str]) -> dict[str, str]:
    return {"system": names[subject.system], "precision": subject.precision, "backend": subject.backend}


def _f1(probabilities: list[float], positives: list[bool], seed: int = 0) -> dict[str, Any]:
    """F1 at one half with its 95 % interval: a percentile bootstrap over the frames."""
    called, truth = np.asarray(probabilities) >= THRESHOLD, np.asarray(positives)

    def f1(places: Any) -> float | None:
        both = int((called[places] & truth[places]).sum())
        whole = int(called[places].sum()) + int(truth[places].sum())
        return 2 * both / whole if whole else None

    rng = np.random.default_rng(seed)
    drawn = [f1(rng.integers(0, len(truth), len(truth))) for _ in range(RESAMPLES)]
    held = [value for value in drawn if value is not None]
    low, high = np.percentile(held, (2.5, 97.5)) if held else (np.nan, np.nan)
    point = f1(np.arange(len(truth)))
    return vars(mean_of([])) if point is None else {"n": len(truth), "value": point, "low": low, "high": high}


def _durations(
    pretraining: Mapping[str, Any],
    folds: Mapping[str, list[dict[str, Any]]],
    conversions: Conversions,
    timed: Mapping[str, Any],
    watched: Mapping[str, Any],
    this_run_s: float,
) -> dict[str, Any]:
    """Seconds of each part when it was made, whichever run made it."""
    parts = {
        "pretraining_s": pretraining["seconds"],
        **{f"folds_{key}_s": round(sum(fold["seconds"] for fold in made), 1) for key, made in folds.items()},
        "conversions_s": round(sum(made["seconds"] for one in conversions.values() for made in one.values()), 1),
        "timing_s": timed["seconds"],
        "test_frames_s": watched["seconds"],
    }
    return {**parts, "all_parts_s": round(sum(parts.values()), 1), "this_run_s": round(this_run_s, 1)}
