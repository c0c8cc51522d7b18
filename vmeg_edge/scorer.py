"""One frame: preprocess, infer, explain, decide; and `load`, which opens nothing that it has not verified."""

from __future__ import annotations

import io
import os
import platform
import time
from dataclasses import asdict
from types import TracebackType
from typing import Any

import numpy as np
import numpy.typing as npt

from vmeg_edge import kernels
from vmeg_edge._version import __version__
from vmeg_edge.backends import (
    BACKENDS,
    Backend,
    EngineCache,
    Hint,
    Progress,
    cache_folder,
    no_progress,
    open_backend,
    place,
    why_unusable,
)
from vmeg_edge.backends.base import backend_entry
from vmeg_edge.bundle import DIRECTION, GOLDEN, Bundle, LazyFiles, open_bundle
from vmeg_edge.decide import decide, judge, probabilities
from vmeg_edge.errors import BackendMissingError, BundleError, ManifestError, ParityError, UsageError
from vmeg_edge.explain import heat_map
from vmeg_edge.frames import Frame, Pixels, Region
from vmeg_edge.gate import PLANE_GATE, PlaneGate, hold_back, parse_plane_gate
from vmeg_edge.golden import Golden, parse_golden
from vmeg_edge.manifest import DecisionRule
from vmeg_edge.parity import Parity, Scores, compare, gate
from vmeg_edge.preprocess import Preprocessor
from vmeg_edge.results import FrameResult, Timings

SELF_TEST_SKIPPED = "SELF-TEST SKIPPED: the golden frames were not run on this backend, so its scores are unproven."

SPOT_CHECK_FRAMES = 2

_MS = 1e-6


class Scorer:
    """A verified bundle on an opened backend. Use it from one thread; `close` it, or use it as a context.

    ``provenance`` says what produced every score: the bundle's digest, the backend with its version, device
    and precision, the kernels, and whether the golden frames were run again.
    """

    def __init__(
        self,
        bundle: Bundle,
        backend: Backend,
        *,
        region: Region | None = None,
        direction: npt.NDArray[np.float32] | None = None,
        plane_gate: PlaneGate | None = None,
    ) -> None:
        """Put an opened backend behind one call. `load` is the usual way in."""
        self.bundle = bundle
        self.manifest = bundle.manifest
        self.backend = backend
        self._preprocess = Preprocessor(bundle.manifest.input, region)
        self._whole = Preprocessor(bundle.manifest.input)
        self._direction = direction
        self._plane_gate = plane_gate
        self.notices = bundle.manifest.notices
        self.provenance: dict[str, Any] = {
            "bundle": bundle.digest,
            "name": bundle.manifest.name,
            **asdict(backend.report),
            "kernels": {key: kernels.describe()[key] for key in ("implementation", "isa")},
            "self_test": "not run",
            "vmeg_edge": __version__,
            "platform": platform.machine(),
        }

    def score(self, frame: Frame | Pixels, *, decode_ms: float = 0.0, entered_ns: int | None = None) -> FrameResult:
        """Score one frame: uint8 ``[H, W]`` or ``[H, W, 3]`` RGB, or a `Frame`.

        ``decode_ms`` and ``entered_ns`` (of ``time.perf_counter_ns``) come from a stream that decoded it.
        Raises `FrameError`, `ActivationError` or `BackendError`.
        """
        entered = time.perf_counter_ns() if entered_ns is None else entered_ns
        if not isinstance(frame, Frame):
            frame = Frame(frame)
        return self._score(frame, self._preprocess, decode_ms, entered)

    def logits(self, frame: Frame | Pixels) -> npt.NDArray[np.float32]:
        """The model's bare answer to one frame, float32 ``[classes]``: what a decision rule is fitted on.

        Raises `FrameError` or `BackendError`.
        """
        return self.answer(frame)[0]

    def answer(self, frame: Frame | Pixels) -> tuple[npt.NDArray[np.float32], float | None]:
        """`logits`, and the distance to the calibration frames (``None`` where the bundle has no plane gate).

        Raises `FrameError`, `ActivationError` or `BackendError`.
        """
        pixels = self._preprocess(frame if isinstance(frame, Frame) else Frame(frame))
        logits, activations = self.backend.infer(pixels)
        return np.array(logits), self._distance(activations)

    def _distance(self, activations: npt.NDArray[np.float32]) -> float | None:
        return None if self._plane_gate is None else self._plane_gate.distance(activations)

    def _score(self, frame: Frame, preprocess: Preprocessor, decode_ms: float, entered: int) -> FrameResult:
        start = time.perf_counter_ns()
        region = preprocess.region_of(frame)
        pixels = preprocess(frame)
        ready = time.perf_counter_ns()
        logits, activations = self.backend.infer(pixels)
        inferred = time.perf_counter_ns()
        heat = heat_map(activations, self.manifest.explanation.grid, region, self._direction)
        explained = time.perf_counter_ns()
        prediction = decide(logits, self.manifest)
        distance = self._distance(activations)
        if distance is not None and self.manifest.plane_gate is not None:
            prediction = hold_back(prediction, distance, self.manifest.plane_gate)
        decided = time.perf_counter_ns()
        return FrameResult(
            frame=frame.index,
            source=frame.source,
            captured_s=frame.captured_s,
            prediction=prediction,
            heat_map=heat,
            stages_ms=Timings(
                decode_ms,
                (ready - start) * _MS,
                (inferred - ready) * _MS,
                (explained - inferred) * _MS,
                (decided - explained) * _MS,
            ),
            age_ms=(decided - entered) * _MS,
            out_of_plane=distance,
            provenance=self.provenance,
            notices=self.notices,
        )

    def golden_parity(self, *, most: int | None = None) -> Parity:
        """Run the bundle's golden frames on this backend and compare with the float32 reference's answers.

        ``most`` takes the first so many alone.
        """
        golden = parse_golden(self.bundle.read(GOLDEN), self.manifest, str(self.bundle.path))
        if most is not None:
            golden = Golden(golden.frames[:most], golden.logits[:most], golden.heat_maps[:most])
        reference = self._judged(golden.logits, golden.heat_maps, self.manifest.decision)
        return compare(reference, self._scores_of(golden))

    def self_test(self, *, most: int | None = None) -> Parity:
        """`golden_parity`, held against the gate of this precision. Raises `ParityError` on a mismatch."""
        parity = self.golden_parity(most=most)
        failures = gate(parity, self.backend.report.precision)
        if failures:
            raise ParityError(
                f"{self.bundle.path}: on {self.backend.report.backend} {self.backend.report.version} the golden frames "
                f"do not match their reference ({'; '.join(failures)}); convert the checkpoint again on this "
                "machine's versions, or choose another backend"
            )
        spot = f" on {parity.frames} golden frames; all of them passed on this engine before"
        self.provenance["self_test"] = "passed" if most is None else f"passed{spot}"
        return parity

    def skip_self_test(self) -> None:
        """Go on without `self_test`; every later result says so."""
        self.provenance["self_test"] = "skipped by request"
        self.notices = (SELF_TEST_SKIPPED, *self.manifest.notices)

    def close(self) -> None:
        """Free the engine."""
        self.backend.close()

    def __enter__(self) -> Scorer:
        """Return itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close."""
        self.close()

    def _scores_of(self, golden: Golden) -> Scores:
        """What this backend says of the golden frames, through the very steps that score live frames."""
        explanation, rule = self.manifest.explanation, self.manifest.decision
        logits, maps = [], []
        for index, picture in enumerate(golden.frames):
            frame = Frame(picture, index=index, source="golden frame")
            scores, activations = self.backend.infer(self._whole(frame))
            logits.append(scores.copy())
            heat = heat_map(activations, explanation.grid, self._whole.region_of(frame), self._direction)
            maps.append(heat.values)
        return self._judged(np.stack(logits), np.stack(maps), rule)

    def _judged(
        self, logits: npt.NDArray[np.float32], heat_maps: npt.NDArray[np.float32], rule: DecisionRule
    ) -> Scores:
        positive = probabilities(logits, rule.temperature)[:, self.manifest.positive_index]
        return Scores(positive, tuple(judge(float(p), rule)[0] for p in positive), heat_maps, logits)


def load(
    path: str | os.PathLike[str],
    *,
    backend: str | None = None,
    device: str | None = None,
    threads: int | None = None,
    hint: Hint = "LATENCY",
    region: Region | None = None,
    cache: str | os.PathLike[str] | bool = True,
    self_test: bool = True,
    progress: Progress = no_progress,
) -> Scorer:
    """Open a bundle: digests checked, backend opened, golden frames run again, so warm and proven.

    ``backend`` defaults to the first of the bundle's that is installed and finds a device here, ``device`` to the
    backend's own. ``threads`` is the budget for inference, by default all processors that this process may use.
    ``hint`` is OpenVINO's performance hint. ``region`` overrides the frames' own. ``cache`` is the folder that keeps
    compiled engines (``True``: `cache_folder`, ``False``: none). Where all golden frames passed before on this device,
    with the same bundle, versions and options, two of them are run again. ``self_test=False`` skips them, which every
    later result says. ``progress`` is told of long steps: (stage, done, total).

    Raises `BundleError` (`IntegrityError`, `ManifestError`), `BackendError` (`BackendMissingError`),
    `UsageError`, `KernelError`, or `ParityError` when the golden frames do not match.
    """
    bundle = open_bundle(path)
    manifest = bundle.manifest
    name = _choose_backend(bundle, backend)
    names = manifest.artefacts[name].files
    folder = cache_folder() if cache is True else cache
    kept = None if folder is False else EngineCache(folder, {file: bundle.digests[file] for file in names})
    placement = place(name, device=device, threads=threads, hint=hint, cache=kept, progress=progress)
    opened = open_backend(name, manifest, LazyFiles(bundle, names), placement)
    try:
        scorer = Scorer(bundle, opened, region=region, direction=direction_of(bundle), plane_gate=plane_gate_of(bundle))
        if self_test:
            _prove(scorer, kept, hint)
        else:
            scorer.skip_self_test()
    except BaseException:
        opened.close()
        raise
    return scorer


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
