"""A bench run: each case in a process of its own, slices of all cases in turn, and one report at the end."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from queue import Empty, SimpleQueue
from types import TracebackType
from typing import IO, Any, cast

from vmeg_edge import errors
from vmeg_edge._version import __version__
from vmeg_edge.bench import held, machine
from vmeg_edge.bench.models import model_of, open_models
from vmeg_edge.bench.plan import CaseSpec, Plan
from vmeg_edge.bench.report import BenchReport, Case, Settings
from vmeg_edge.bench.summing import case_of
from vmeg_edge.errors import BackendError, UsageError
from vmeg_edge.processors import processors
from vmeg_edge.spawning import NO_WINDOW

Progress = Callable[[str, int, int], None]

_LOOK_EVERY_S = 0.5

_SCENARIOS = {
    "single": "one frame in flight, the next one entering when the last is done",
    "paced": "behind a source that delivers {fps:g} frames a second whether or not the last one is done, overtaken "
    "frames being dropped",
    "offline": "as many frames in flight as it has streams",
}
_METHOD = (
    "Each case runs in a process of its own, {scenario}; the cases take turns in {rounds} rounds, each begun with "
    "{warm} frames that are not counted. Times are by the monotonic clock from {entry} to its result with the heat "
    "map, over {distinct} different frames held in memory; percentiles are nearest rank, and memory is the process's "
    "own without these frames."
)


def bench(
    plan: Plan,
    cases: Sequence[CaseSpec],
    frames: held.HeldFrames,
    *,
    notices: Mapping[Path, Sequence[str]] | None = None,
    not_run: Mapping[Path, Mapping[str, str]] | None = None,
    progress: Progress = lambda _stage, _done, _total: None,
) -> BenchReport:
    """Measure ``cases`` on ``frames``. ``progress`` is told of openings and rounds: (stage, done, total).

    ``notices`` and ``not_run`` (backends that were left out, and why) go into the report, by the bundle that they are
    of. A case's name begins with its model's label where there are several bundles.

    Raises `UsageError` for two cases of one name and for one bundle in two places, and `BackendError` (or what opening
    raised, in its words) where a case cannot be opened or its process ends.
    """
    models = open_models(dict.fromkeys(case.bundle for case in cases))
    labels = {bundle.path: label for label, bundle in models.items()}
    names = [case.name if len(models) == 1 else f"{labels[case.bundle]}, {case.name}" for case in cases]
    if not cases or len(set(names)) != len(names):
        raise UsageError(f"cases are told apart by their names, and these are {', '.join(names) or 'none'}")
    done = 0
    steps = len(cases) * plan.rounds
    with ExitStack() as running:
        processes = []
        with tempfile.TemporaryDirectory(prefix="vmeg-edge-bench-") as folder:  # gone before the measuring begins
            held.store(frames.frames, Path(folder))
            for place, (name, case) in enumerate(zip(names, cases, strict=True)):
                progress("opening", place, len(cases))
                process = _CaseProcess(name, labels[case.bundle], case, plan, Path(folder))
                processes.append(running.enter_context(process))
        progress("opening", len(cases), len(cases))
        for turn in range(plan.rounds):
            for process in _rotated(processes, turn):
                process.run()
                done += 1
                progress("measuring", done, steps)
    said = {label: list((notices or {}).get(bundle.path, ())) for label, bundle in models.items()}
    for process in processes:
        said[process.model] += process.opened["notices"]
    return BenchReport(
        made_at=datetime.now(timezone.utc).isoformat(timespec="seconds"),
        vmeg_edge=__version__,
        method=_method(plan, len(frames.frames)),
        settings=_settings(plan, frames),
        environment=machine.environment(processors()),
        models=tuple(
            model_of(label, bundle, said[label], (not_run or {}).get(bundle.path, {}))
            for label, bundle in models.items()
        ),
        cases=tuple(process.measured(frames.decode_ms) for process in processes),
    )


@dataclass
class _CaseProcess:
    """One case's process: opened on entering, told to run a slice at a time, ended on leaving."""

    name: str
    model: str
    case: CaseSpec
    plan: Plan
    folder: Path
    opened: dict[str, Any] = field(default_factory=dict)
    slices: list[dict[str, Any]] = field(default_factory=list)

    def __enter__(self) -> _CaseProcess:
        spawned_ns = time.perf_counter_ns()
        self._process = subprocess.Popen(
            [sys.executable, "-m", "vmeg_edge.bench.worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=None if os.environ.get("VMEG_EDGE_DEBUG") else subprocess.DEVNULL,
            text=True,
            encoding="utf-8",
            creationflags=NO_WINDOW,
        )
        self._answers: SimpleQueue[str] = SimpleQueue()
        self._reader = threading.Thread(target=self._read, args=(self._process.stdout,), daemon=True)
        self._reader.start()
        try:
            self.opened = self._ask(
                case=self.case.to_json(),
                plan=asdict(self.plan),
                frames=str(self.folder),
                spawned_ns=spawned_ns,
            )
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end()

    def run(self) -> None:
        """Have one slice run."""
        self.slices.append(self._ask(do="run"))

    def measured(self, decode_ms: Sequence[float]) -> Case:
        """What all slices say together."""
        return case_of(self.name, self.model, self.case, self.opened, self.slices, decode_ms)

    def _ask(self, **what: Any) -> dict[str, Any]:
        to = cast(IO[str], self._process.stdin)
        with contextlib.suppress(OSError):  # the answer, or its absence, tells why
            to.write(json.dumps(what) + "\n")
            to.flush()
        # A Ctrl-C that comes just ahead of a blocking read would be raised after it: a whole slice later.
        line: str | None = None
        while line is None:
            with contextlib.suppress(Empty):
                line = self._answers.get(timeout=_LOOK_EVERY_S)
        if not line:
            how = _how(self._process.wait())
            raise BackendError(f"{self.name}: its process ended{how}; the bench stops here")
        answer: dict[str, Any] = json.loads(line)
        if "error" in answer:
            kind = getattr(errors, answer["kind"], BackendError)
            raise kind(f"{self.name}: {answer['error']}")
        return answer

    def _read(self, back: IO[str]) -> None:
        """Pass on what the process says; an empty line stands for its end. A pipe cannot be waited for on Windows."""
        with contextlib.suppress(OSError, ValueError):
            for line in back:
                self._answers.put(line)
        self._answers.put("")

    def _end(self) -> None:
        self._process.kill()
        self._process.wait()
        self._reader.join(_LOOK_EVERY_S)
        # While something that the process started holds the pipe open, closing it would wait for the reader.
        for pipe in (self._process.stdin, None if self._reader.is_alive() else self._process.stdout):
            if pipe is not None:
                with contextlib.suppress(OSError):
                    pipe.close()


def _how(code: int) -> str:
    if code < 0:
        memory = ", perhaps for want of memory" if code == -9 else ""
        return f" (signal {-code}{memory})"
    return f" (exit code {code}; VMEG_EDGE_DEBUG=1 shows what it said)"


def _rotated(processes: Sequence[_CaseProcess], turn: int) -> list[_CaseProcess]:
    """Another one begins each round, so that none always follows the same neighbour's heat."""
    start = turn % len(processes)
    return [*processes[start:], *processes[:start]]


def _method(plan: Plan, distinct: int) -> str:
    return _METHOD.format(
        scenario=_SCENARIOS[plan.scenario].format(fps=plan.fps),
        rounds=plan.rounds,
        warm=plan.warm_up_frames,
        entry="a frame's arrival" if plan.scenario == "paced" else "a frame's entry",
        distinct=distinct,
    )


def _settings(plan: Plan, frames: held.HeldFrames) -> Settings:
    paced = plan.scenario == "paced"
    return Settings(
        scenario=plan.scenario,
        duration_s=plan.duration_s,
        iterations=plan.iterations,
        rounds=plan.rounds,
        warm_up_frames=plan.warm_up_frames,
        fps=plan.fps if paced else None,
        deadline_ms=plan.deadline_ms if paced else None,
        source=frames.source,
        distinct_frames=len(frames.frames),
        frame_width=frames.frames[0].width,
        frame_height=frames.frames[0].height,
    )
