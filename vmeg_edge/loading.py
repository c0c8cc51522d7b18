"""A bundle to a scorer that was proven on this machine: digests first, then the engine, then the golden frames."""

from __future__ import annotations

import io
import os
from dataclasses import replace
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from vmeg_edge import kernels
from vmeg_edge._version import __version__
from vmeg_edge.backends import (
    BACKENDS,
    Backend,
    EngineCache,
    Hint,
    Placement,
    Progress,
    availability,
    cache_folder,
    no_progress,
    open_backend,
    place,
    why_unusable,
)
from vmeg_edge.backends.base import backend_entry
from vmeg_edge.bundle import DIRECTION, GOLDEN, Bundle, LazyFiles, open_bundle
from vmeg_edge.errors import BackendMissingError, BundleError, ManifestError, UsageError
from vmeg_edge.frames import Frame, Region
from vmeg_edge.gate import PLANE_GATE, PlaneGate, parse_plane_gate
from vmeg_edge.golden import parse_golden
from vmeg_edge.scorer import Scorer
from vmeg_edge.sector import Sector, SectorModels, read_sector
from vmeg_edge.tuning import TURNS, thread_counts, timed
from vmeg_edge.tuning import tune as tune_threads

SPOT_CHECK_FRAMES = 2


def load(
    path: str | os.PathLike[str],
    *,
    backend: str | None = None,
    device: str | None = None,
    threads: int | None = None,
    hint: Hint = "LATENCY",
    region: Region | None = None,
    cache: str | os.PathLike[str] | bool = True,
    tune: bool = False,
    sector: Sector | str | os.PathLike[str] = "off",
    self_test: bool = True,
    progress: Progress = no_progress,
) -> Scorer:
    """Open a bundle: digests checked, backend opened, golden frames run again, so warm and proven.

    ``backend`` defaults to the first of the bundle's that is installed and finds a device here, ``device`` to the
    backend's own. ``threads`` is the budget for inference, by default all processors that this process may use.
    ``hint`` is OpenVINO's performance hint. ``region`` overrides the frames' own. ``cache`` is the folder that keeps
    compiled engines (``True``: `cache_folder`, ``False``: none). Where all golden frames passed before on this device,
    with the same bundle, versions and options, two of them are run again. ``tune`` tries how many threads are fastest
    here (seconds; only such as pass the golden frames) and keeps the answer in the cache, where every later load that
    leaves ``threads`` open finds it. ``sector`` opens the bundle's models of fewer tokens beside the whole one, for a
    stream whose dark surroundings share tokens: ``auto`` learns each stream's sector from its first frames; a `Sector`,
    or a picture of it (`sector.read_sector`), is known beforehand. ``self_test=False`` skips the golden frames, which
    every later result says.
    ``progress`` is told of long steps: (stage, done, total).

    Raises `BundleError` (`IntegrityError`, `ManifestError`), `BackendError` (`BackendMissingError`),
    `UsageError`, `KernelError`, or `ParityError` when the golden frames do not match.
    """
    bundle = open_bundle(path)
    manifest = bundle.manifest
    name = _choose_backend(bundle, backend)
    names = manifest.artefacts[name].files
    folder = cache_folder() if cache is True else cache
    kept = None if folder is False else EngineCache(folder, {file: bundle.digests[file] for file in names})
    files = LazyFiles(bundle, names)
    placement = place(name, device=device, threads=threads, hint=hint, cache=kept, progress=progress)
    tuned = None
    if threads is None:
        tuned = _tuned(bundle, name, files, placement) if tune else _remembered(bundle, name, placement)
    elif tune:
        raise UsageError(f"threads is {threads} and tune asks to find the number; leave one of the two out")
    if tuned is not None:
        placement = replace(placement, threads=int(tuned["threads"]))
    opened = open_backend(name, manifest, files, placement)
    models = None
    try:
        models = None if sector == "off" else _sized(bundle, name, placement, folder, sector)
        scorer = Scorer(
            bundle,
            opened,
            region=region,
            direction=direction_of(bundle),
            plane_gate=plane_gate_of(bundle),
            sector=models,
        )
        if tuned is not None:
            scorer.provenance["tuned"] = tuned["said"]
        if self_test:
            _prove(scorer, kept, hint)
        else:
            scorer.skip_self_test()
    except BaseException:
        opened.close()
        if models is not None:
            models.close()
        raise
    return scorer


def _sized(
    bundle: Bundle,
    name: str,
    placement: Placement,
    folder: str | os.PathLike[str] | Literal[False],
    sector: Sector | str | os.PathLike[str],
) -> SectorModels:
    """The bundle's sized models, opened like the whole one. Raises `UsageError` where it has none."""
    artefact = bundle.manifest.artefacts[name]
    if not artefact.sized:
        raise UsageError(
            f"{bundle.path}: holds no model for a known sector on {name}; convert the checkpoint with --sector-tokens, "
            "or leave the sector out"
        )
    grid = bundle.manifest.explanation.grid
    known = sector if isinstance(sector, Sector) else None if sector == "auto" else read_sector(sector, grid)
    models: dict[int, Backend] = {}
    try:
        for model in artefact.sized:
            kept = None if folder is False else EngineCache(folder, {f: bundle.digests[f] for f in model.files})
            alone = artefact.model_copy(update={"files": model.files, "sized": ()})
            manifest = bundle.manifest.model_copy(update={"artefacts": {name: alone}})
            files = LazyFiles(bundle, model.files)
            models[model.tokens] = open_backend(name, manifest, files, replace(placement, cache=kept))
        return SectorModels(models, grid, known)
    except BaseException:
        for opened in models.values():
            opened.close()
        raise


def _tuned(bundle: Bundle, name: str, files: LazyFiles, placement: Placement) -> dict[str, Any]:
    """Try how many threads are fastest, each on an engine that passes the golden frames, and note the answer."""
    golden = parse_golden(bundle.read(GOLDEN), bundle.manifest, str(bundle.path))
    frames = [Frame(picture, index=place, source="golden frame") for place, picture in enumerate(golden.frames)]
    counts = thread_counts(placement.threads)
    done = 0

    def measure(threads: int) -> list[float]:
        nonlocal done
        placement.progress("tuning threads", done, TURNS * len(counts))
        done += 1
        alone = replace(placement, threads=threads, cache=None, progress=no_progress)
        with Scorer(bundle, open_backend(name, bundle.manifest, files, alone), direction=direction_of(bundle)) as tried:
            tried.self_test()
            return timed(lambda index: tried.score(frames[index]), len(frames))

    choice = tune_threads(counts, measure)
    placement.progress("tuning threads", TURNS * len(counts), TURNS * len(counts))
    content = {"threads": choice.threads, "said": str(choice)}
    if placement.cache is not None:
        placement.cache.note(_tuning(bundle, name, placement), content)
    return content


def _remembered(bundle: Bundle, name: str, placement: Placement) -> dict[str, Any] | None:
    return None if placement.cache is None else placement.cache.recall(_tuning(bundle, name, placement))


def _tuning(bundle: Bundle, name: str, placement: Placement) -> dict[str, str | int]:
    """What the best number of threads depends on."""
    found = availability(name)
    return {
        "what": "tuned threads",
        "bundle": bundle.digest,
        "backend": name,
        "version": str(found.version),
        "device": placement.device,
        "hint": placement.hint,
        "processors": placement.threads,
        "cpu": ",".join(kernels.describe()["cpu_features"]),
    }


def _prove(scorer: Scorer, kept: EngineCache | None, hint: Hint) -> None:
    """All golden frames, once for each engine that this device opens; then a spot check each time."""
    if kept is None:
        scorer.self_test()
        return
    said = scorer.provenance
    cpu = ",".join(kernels.describe()["cpu_features"])
    about: dict[str, str | int] = {"what": "golden frames passed", "hint": hint, "cpu": cpu}
    about |= {key: said[key] for key in ("bundle", "backend", "version", "device", "precision", "float_precision")}
    about |= {"threads": said["threads"], "kernels": str(said["kernels"]), "vmeg_edge": __version__}
    if said["sector"]:
        about["sector"] = ",".join(map(str, said["sector"]))
    if kept.recall(about) is not None:
        scorer.self_test(most=SPOT_CHECK_FRAMES)
        return
    parity = scorer.self_test()
    kept.note(about, {"frames": parity.frames})


def _choose_backend(bundle: Bundle, asked: str | None) -> str:
    held = bundle.manifest.artefacts
    if asked is not None:
        backend_entry(asked)
        if asked not in held:
            raise UsageError(f"{bundle.path}: holds no artefact for {asked}; it holds: {', '.join(held)}")
        return asked
    known = [name for name in held if name in BACKENDS]
    if not known:
        raise BundleError(f"{bundle.path}: holds artefacts for {', '.join(held)} only; upgrade vmeg-edge")
    reasons = []
    for name in known:
        why = why_unusable(name)
        if why is None:
            return name
        reasons.append(f"{name}: {why}")
    raise BackendMissingError(f"{bundle.path}: none of its backends can be used here: {'; '.join(reasons)}")


def direction_of(bundle: Bundle) -> npt.NDArray[np.float32] | None:
    """The model's own orientation of its leading singular vector, float32 ``[channels]``."""
    if DIRECTION not in bundle.digests:
        return None
    try:
        direction = np.load(io.BytesIO(bundle.read(DIRECTION)), allow_pickle=False)
    except ValueError as error:
        raise ManifestError(f"{bundle.path}: {DIRECTION} cannot be read ({error}); convert again") from None
    if direction.shape != (bundle.manifest.explanation.channels,) or direction.dtype != np.float32:
        raise ManifestError(f"{bundle.path}: {DIRECTION} does not fit the manifest; convert the checkpoint again")
    return np.asarray(direction)


def plane_gate_of(bundle: Bundle) -> PlaneGate | None:
    """The bundle's plane gate, if it has one. Raises `ManifestError` where file and manifest do not go together."""
    if (PLANE_GATE in bundle.digests) != (bundle.manifest.plane_gate is not None):
        lacking = "plane_gate" if PLANE_GATE in bundle.digests else PLANE_GATE
        raise ManifestError(f"{bundle.path}: a plane gate without its {lacking}; convert the checkpoint again")
    if bundle.manifest.plane_gate is None:
        return None
    return parse_plane_gate(bundle.read(PLANE_GATE), bundle.manifest, str(bundle.path))
