"""What is fastest on this device, threads and backend: measured when asked for, kept in the cache, recalled later."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from vmeg_edge import kernels, processor_class
from vmeg_edge.backends import EngineCache, Placement, availability, no_progress, why_unusable
from vmeg_edge.bundle import GOLDEN, Bundle
from vmeg_edge.frames import Frame
from vmeg_edge.golden import parse_golden
from vmeg_edge.scorer import Scorer
from vmeg_edge.tuning import TURNS, thread_counts, timed, tune


class Tuner:
    """Tries threads and backends for one bundle, each on an engine that passes the golden frames.

    ``placed(backend)`` is a placement with all threads, ``opened(backend, placement)`` a scorer that has proven nothing
    yet; ``notes`` keep the choice of the backend, and each placement's own cache that of its threads.
    """

    def __init__(
        self,
        bundle: Bundle,
        placed: Callable[[str], Placement],
        opened: Callable[[str, Placement], Scorer],
        notes: EngineCache | None,
    ) -> None:
        """Measure and read nothing yet."""
        self._bundle = bundle
        self._placed = placed
        self._opened = opened
        self._notes = notes
        self._known: dict[str, dict[str, Any]] = {}
        self._backends = ""

    def tune(self, backends: Sequence[str]) -> str:
        """Find each backend's fastest number of threads, keep them, and return the fastest backend.

        Raises `ParityError` where none of a backend's settings passes, and what opening it raises.
        """
        for name in backends:
            self._tune_threads(name)
        fastest = min(backends, key=lambda name: float(self._known[name]["p50_ms"]))
        if len(backends) > 1:
            times = ", ".join(f"{name}: {self._known[name]['p50_ms']:.1f} ms" for name in backends)
            self._backends = f"; {fastest} is the fastest backend here ({times})"
            if self._notes is not None:
                self._notes.note(self._about("tuned backend"), {"backend": fastest, "said": self._backends})
        return fastest

    def backend(self) -> str | None:
        """Return the backend that an earlier `tune` found fastest, where it can still be used."""
        found = None if self._notes is None else self._notes.recall(self._about("tuned backend"))
        if found is None or found["backend"] not in self._bundle.manifest.artefacts or why_unusable(found["backend"]):
            return None
        self._backends = str(found["said"])
        return str(found["backend"])

    def threads(self, name: str, placement: Placement) -> int | None:
        """Return the number of threads that was found fastest for a backend, now or earlier."""
        if name not in self._known and placement.cache is not None:
            found = placement.cache.recall(self._about_threads(name, placement))
            if found is not None:
                self._known[name] = found
        return int(self._known[name]["threads"]) if name in self._known else None

    def said(self, name: str) -> str:
        """Return a line on what was tried."""
        return f"{self._known[name]['said']}{self._backends}"

    def _tune_threads(self, name: str) -> None:
        placement = self._placed(name)
        golden = parse_golden(self._bundle.read(GOLDEN), self._bundle.manifest, str(self._bundle.path))
        frames = [Frame(picture, index=place, source="golden frame") for place, picture in enumerate(golden.frames)]
        counts = thread_counts(placement.threads)
        done = 0

        def measure(threads: int) -> list[float]:
            nonlocal done
            placement.progress("tuning threads", done, TURNS * len(counts))
            done += 1
            alone = replace(placement, threads=threads, cache=None, progress=no_progress)
            with self._opened(name, alone) as tried:
                tried.self_test()
                return timed(lambda index: tried.score(frames[index]), len(frames))

        choice = tune(counts, measure)
        placement.progress("tuning threads", TURNS * len(counts), TURNS * len(counts))
        self._known[name] = {"threads": choice.threads, "p50_ms": choice.p50_ms, "said": str(choice)}
        if placement.cache is not None:
            placement.cache.note(self._about_threads(name, placement), self._known[name])

    def _about_threads(self, name: str, placement: Placement) -> dict[str, str | int]:
        """What the best number of threads depends on."""
        return {
            **self._about("tuned threads"),
            "backend": name,
            "version": str(availability(name).version),
            "device": placement.device,
            "hint": placement.hint,
            "processors": placement.threads,
        }

    def _about(self, what: str) -> dict[str, str | int]:
        return {
            "what": what,
            "bundle": self._bundle.digest,
            "processor": processor_class.current().name,
            "cpu": ",".join(kernels.cpu_features()),
        }
