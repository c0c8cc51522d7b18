"""One frame: preprocess, infer, explain, decide."""

from __future__ import annotations

import platform
import time
from dataclasses import asdict, replace
from types import TracebackType
from typing import Any

import numpy as np
import numpy.typing as npt

from vmeg_edge import kernels, processor_class
from vmeg_edge._version import __version__
from vmeg_edge.backends import Backend
from vmeg_edge.bundle import GOLDEN, Bundle
from vmeg_edge.decide import decide, judge, probabilities
from vmeg_edge.errors import ParityError
from vmeg_edge.explain import heat_map
from vmeg_edge.frames import Frame, Pixels, Region
from vmeg_edge.gate import PlaneGate, hold_back
from vmeg_edge.golden import Golden, parse_golden
from vmeg_edge.manifest import DecisionRule
from vmeg_edge.parity import Parity, Scores, compare, gate
from vmeg_edge.preprocess import Preprocessor
from vmeg_edge.results import FrameResult, Timings
from vmeg_edge.sector import SectorModels, fitted
from vmeg_edge.silence import telemetry_of

SELF_TEST_SKIPPED = "SELF-TEST SKIPPED: the golden frames were not run on this backend, so its scores are unproven."

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
        sector: SectorModels | None = None,
    ) -> None:
        """Put an opened backend behind one call. `loading.load` is the usual way in."""
        self.bundle = bundle
        self.manifest = bundle.manifest
        self.backend = backend
        self._preprocess = Preprocessor(bundle.manifest.input, region)
        self._whole = Preprocessor(bundle.manifest.input)
        self._direction = direction
        self._plane_gate = plane_gate
        self._sector = sector
        self.notices = bundle.manifest.notices
        self.provenance: dict[str, Any] = {
            "bundle": bundle.digest,
            "name": bundle.manifest.name,
            **asdict(backend.report),
            "merge": list(bundle.manifest.merge),
            "sector": [] if sector is None else sorted(sector.models),
            "processor": processor_class.current().name,
            "kernels": {key: kernels.describe()[key] for key in ("implementation", "isa")},
            "self_test": "not run",
            "telemetry": str(telemetry_of(backend.report.backend)),
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
        (logits, activations), tokens = self._inferred(pixels, frame, region)
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
            tokens=tokens,
            provenance=self.provenance,
            notices=self.notices,
        )

    def _inferred(
        self, pixels: Pixels, frame: Frame, region: Region
    ) -> tuple[tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]], int | None]:
        """What the whole model says, or the one that the stream's sector fits, and then its tokens."""
        chosen = None
        if self._sector is not None:
            chosen = self._sector.choose(pixels, (frame.source, frame.width, frame.height, region))
        if chosen is None:
            return self.backend.infer(pixels), None
        model, tokens, home = chosen
        return model.infer(pixels, home), tokens

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
        """`golden_parity`, held against the gate (`failures_of`). Raises `ParityError` on a mismatch."""
        parity = self.golden_parity(most=most)
        failures = self.failures_of(parity)
        if failures:
            raise ParityError(
                f"{self.bundle.path}: on {self.backend.report.backend} {self.backend.report.version} the golden frames "
                f"do not match their reference ({'; '.join(failures)}); convert the checkpoint again on this "
                "machine's versions, or choose another backend"
            )
        self._prove_sector(most)
        spot = f" on {parity.frames} golden frames; all of them passed on this engine before"
        self.provenance["self_test"] = "passed" if most is None else f"passed{spot}"
        return parity

    def _prove_sector(self, most: int | None) -> None:
        """Hold each sized model against the whole one on golden frames that fit it. Raises `ParityError`.

        Either may be as far from the float32 reference as the gate allows, so twice that is allowed between them on any
        frame; means and flips are for conversion, which has more frames than these few.
        """
        if self._sector is None:
            return
        golden = parse_golden(self.bundle.read(GOLDEN), self.manifest, str(self.bundle.path))
        spec = self.manifest.input
        for tokens, model in self._sector.models.items():
            whole: list[tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]] = []
            sized: list[tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]] = []
            for picture in golden.frames[:most]:
                pixels, home = fitted(self._whole(Frame(picture, source="golden frame")), tokens, self._sector.grid)
                for said, (logits, seen) in ((whole, self.backend.infer(pixels)), (sized, model.infer(pixels, home))):
                    map_ = heat_map(seen, self._sector.grid, Region(0, 0, spec.width, spec.height), self._direction)
                    said.append((logits.copy(), map_.values))
            sides = [
                self._judged(np.stack([s for s, _ in said]), np.stack([m for _, m in said]), self.manifest.decision)
                for said in (whole, sized)
            ]
            parity = compare(*sides)
            held = replace(parity, max_abs_dp=parity.max_abs_dp / 2, mean_abs_dp=0.0, flips_outside_band=0)
            failures = gate(held, self.backend.report.precision, merged=True)
            if failures:
                raise ParityError(
                    f"{self.bundle.path}: on {self.backend.report.backend} its model of {tokens} tokens does not match "
                    f"the whole one ({'; '.join(failures)}); convert again, or leave the sector out"
                )

    def failures_of(self, parity: Parity) -> list[str]:
        """Why a parity of this model fails its gate, one line each; an empty list passes."""
        return gate(parity, self.backend.report.precision, merged=self.manifest.merged)

    def skip_self_test(self) -> None:
        """Go on without `self_test`; every later result says so."""
        self.provenance["self_test"] = "skipped by request"
        self.notices = (SELF_TEST_SKIPPED, *self.manifest.notices)

    def close(self) -> None:
        """Free the engines."""
        self.backend.close()
        if self._sector is not None:
            self._sector.close()

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
