"""A bundle to a scorer that was proven on this machine: digests first, then the engine, then the golden frames."""

from __future__ import annotations

import io
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from vmeg_edge import kernels
from vmeg_edge._version import __version__
from vmeg_edge.backends import (
    Backend,
    EngineCache,
    Hint,
    Placement,
    Progress,
    cache_folder,
    no_progress,
    open_backend,
    place,
)
from vmeg_edge.bundle import DIRECTION, SUMS, Bundle, LazyFiles, open_bundle
from vmeg_edge.errors import ManifestError, UsageError
from vmeg_edge.frames import Region
from vmeg_edge.gate import PLANE_GATE, PlaneGate, parse_plane_gate
from vmeg_edge.matching import choose_backend, on_this_processor, usable_backends
from vmeg_edge.processors import keep_opencv_within
from vmeg_edge.scorer import Scorer
from vmeg_edge.sector import Sector, SectorModels, read_sector
from vmeg_edge.tuner import Tuner

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

    Of artefacts made for several classes of processors, the one that was proven for this machine's is taken
    (`matching`). Where all golden frames passed before on this device, with the same bundle, versions and options, two
    of them are run again.

    Args:
        path: the bundle folder.
        backend: by default the one that an earlier ``tune`` found fastest, else the fastest of the bundle's for this
            class of processors, of those that are installed and find a device here.
        device: by default the backend's own.
        threads: the budget for inference; by default as many as this process may keep busy
            (`processors.Processors.usable`: affinity and CPU quota; OpenCV is kept within them too).
        hint: OpenVINO's performance hint.
        region: the part of every frame to score, in place of the frames' own.
        cache: the folder that keeps compiled engines (``True``: `cache_folder`, ``False``: none).
        tune: try how many threads are fastest here, and which backend where ``backend`` and ``device`` are left open
            (seconds; only such as pass the golden frames). The answer is kept in the cache, where every later load that
            leaves them open finds it.
        sector: open the bundle's models of fewer tokens beside the whole one, for a stream whose dark surroundings
            share tokens: ``auto`` learns each stream's sector from its first frames; a `Sector`, or a picture of it
            (`sector.read_sector`), is known beforehand.
        self_test: ``False`` skips the golden frames, which every later result says.
        progress: told of long steps: (stage, done, total).

    Returns:
        The scorer, ready for the first frame.

    Raises:
        BundleError: no bundle, a changed file (`IntegrityError`), an unknown manifest (`ManifestError`), or no artefact
            for this class of processors.
        BackendError: the engine cannot open the model (`BackendMissingError`: it is not installed).
        ParityError: the golden frames do not match.
        UsageError: arguments that do not go together.
        KernelError: the kernels that were asked for are not at hand.
    """
    keep_opencv_within()
    if tune and threads is not None:
        raise UsageError(f"threads is {threads} and tune asks to find the number; leave one of the two out")
    whole = open_bundle(path)
    bundle = on_this_processor(whole)
    folder = None if cache is False else Path(cache_folder() if cache is True else cache)

    def placed(name: str) -> Placement:
        files = bundle.manifest.artefacts[name].files
        kept = None if folder is None else EngineCache(folder, {file: bundle.digests[file] for file in files})
        return place(name, device=device, threads=threads, hint=hint, cache=kept, progress=progress)

    def engine(name: str, placement: Placement) -> Backend:
        files = LazyFiles(bundle, bundle.manifest.artefacts[name].files)
        return open_backend(name, bundle.manifest, files, placement)

    tuner = Tuner(
        bundle,
        placed,
        lambda name, placement: Scorer(bundle, engine(name, placement), direction=direction_of(bundle)),
        None if folder is None else EngineCache(folder, {SUMS: bundle.digest}),
    )
    left_open = backend is None and device is None
    name = (tuner.backend() if left_open and not tune else None) or choose_backend(whole, bundle, backend)
    if tune:
        name = tuner.tune(usable_backends(bundle) if left_open else [name])
    placement = placed(name)
    kept = placement.cache
    tuned = tuner.threads(name, placement) if threads is None else None
    if tuned is not None:
        placement = replace(placement, threads=tuned)
    opened = engine(name, placement)
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
            scorer.provenance["tuned"] = tuner.said(name)
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
    folder: Path | None,
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
            kept = None if folder is None else EngineCache(folder, {f: bundle.digests[f] for f in model.files})
            alone = artefact.model_copy(update={"files": model.files, "sized": ()})
            manifest = bundle.manifest.model_copy(update={"artefacts": {name: alone}})
            files = LazyFiles(bundle, model.files)
            models[model.tokens] = open_backend(name, manifest, files, replace(placement, cache=kept))
        return SectorModels(models, grid, known)
    except BaseException:
        for opened in models.values():
            opened.close()
        raise


def _prove(scorer: Scorer, kept: EngineCache | None, hint: Hint) -> None:
    """All golden frames, once for each engine that this device opens; then a spot check each time."""
    if kept is None:
        scorer.self_test()
        return
    said = scorer.provenance
    cpu = ",".join(kernels.cpu_features())
    about: dict[str, str | int] = {"what": "golden frames passed", "hint": hint, "cpu": cpu}
    about |= {
        key: said[key]
        for key in ("bundle", "backend", "version", "device", "precision", "float_precision", "processor")
    }
    about |= {"threads": said["threads"], "kernels": str(said["kernels"]), "vmeg_edge": __version__}
    if said["sector"]:
        about["sector"] = ",".join(map(str, said["sector"]))
    if kept.recall(about) is not None:
        scorer.self_test(most=SPOT_CHECK_FRAMES)
        return
    parity = scorer.self_test()
    kept.note(about, {"frames": parity.frames})


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
