"""The process of one case: opens it, runs its slices when told to, says what it found. Run by `run`, never by hand.

One JSON object a line. First comes what to open; then ``{"do": "run"}`` for each slice. What it prepares beyond that
comes after the first score, so that start and memory are those of a process that does nothing but score.
"""

from __future__ import annotations

import gc
import json
import os
import sys
import threading
import time
from pathlib import Path
from queue import SimpleQueue
from typing import IO, Any


def main() -> None:
    """Serve one case until the parent's end of the pipe closes."""
    out = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what engines print must not be taken for a message
    # Not by sys.stdin: what an engine forks closes that, and would wait for ever for a reader that it has not.
    words = os.fdopen(os.dup(0), encoding="utf-8")
    asked = json.loads(words.readline())
    turns: SimpleQueue[str] = SimpleQueue()
    threading.Thread(target=_listen, args=(words, turns), daemon=True).start()

    def say(**told: Any) -> None:
        out.write(json.dumps(told) + "\n")
        out.flush()

    try:
        case = _Case(asked)
        say(**case.opened)
        while turns.get():
            say(**case.slice())
    except BrokenPipeError:
        pass
    except Exception as error:
        from vmeg_edge.errors import VmegError

        known = isinstance(error, VmegError)
        if not known and os.environ.get("VMEG_EDGE_DEBUG"):
            raise
        text = " ".join(str(error).split())
        say(error=text if known else f"{type(error).__name__}: {text}", kind=type(error).__name__)


def _listen(words: IO[str], turns: SimpleQueue[str]) -> None:
    """Pass the parent's words on. When its end of the pipe closes it is gone, and no slice is run to its end."""
    for line in words:
        turns.put(line)
    os._exit(0)


class _Case:
    """An opened case. ``opened`` is all there is to say of its start."""

    def __init__(self, asked: dict[str, Any]) -> None:
        from_parent_ms = (time.perf_counter_ns() - asked["spawned_ns"]) * 1e-6
        began_ns = time.perf_counter_ns()
        if asked["case"]["pinned_to"]:
            from vmeg_edge.bench.machine import pin

            pin(asked["case"]["pinned_to"])
        from importlib import import_module

        from vmeg_edge import loading
        from vmeg_edge.backends import BACKENDS

        import_module(BACKENDS[asked["case"]["backend"]].module)
        imported_ns = time.perf_counter_ns()
        case, plan = asked["case"], asked["plan"]
        self._streams = case["streams"]
        options = {name: case[name] for name in ("backend", "device", "hint")}
        options |= {"threads": case["threads"] // self._streams, "cache": plan["cache"]}
        self._scorers = [loading.load(case["bundle"], self_test=plan["self_test"], **options)]
        loaded_ns = time.perf_counter_ns()

        from vmeg_edge.bench import held, machine, models, scenarios
        from vmeg_edge.bench.plan import Plan

        self._machine, self._scenarios = machine, scenarios
        self._plan = Plan(**plan)
        peak_mb = machine.peak_resident_mb()
        before_mb = machine.resident_mb()
        self._frames = held.fetch(Path(asked["frames"]))
        held_mb = sum(frame.pixels.nbytes for frame in self._frames) / 1e6
        fetched_mb = machine.resident_mb()
        self._held_mb = held_mb if before_mb is None or fetched_mb is None else fetched_mb - before_mb

        first_ns = time.perf_counter_ns()
        result = self._scorers[0].score(self._frames[0])
        scored_ns = time.perf_counter_ns()
        first_ms = (scored_ns - first_ns) * 1e-6
        load_ms, import_ms = (loaded_ns - imported_ns) * 1e-6, (imported_ns - began_ns) * 1e-6
        golden_ns = time.perf_counter_ns()
        parity = self._scorers[0].golden_parity()
        golden_ms = (time.perf_counter_ns() - golden_ns) * 1e-6
        report = self._scorers[0].backend.report
        self._cursor = scenarios.Cursor(self._frames)
        self._turn = 0
        self.opened = {
            "start": {
                "import_ms": import_ms,
                "load_ms": load_ms,
                "self_test_ms": golden_ms,
                "first_inference_ms": first_ms,
                "process_to_first_score_ms": from_parent_ms + import_ms + load_ms + first_ms,
                "cache": str(report.details.get("cache", "none")),
            },
            "parity": parity.to_json(),
            "failures": self._scorers[0].failures_of(parity),
            "provenance": self._scorers[0].provenance,
            "notices": list(self._scorers[0].notices),
            "artefact_mb": models.artefact_mb(self._scorers[0].bundle, case["backend"]),
            "frames_held_mb": held_mb,
            "peak_mb": peak_mb,
            "overhead_ms": scenarios.own_overhead_ms(result, self._frames),
        }
        while len(self._scorers) < self._streams:
            self._scorers.append(loading.load(case["bundle"], self_test=False, **options))
        gc.collect()

    def slice(self) -> dict[str, Any]:
        """Run one slice and say what it gave."""
        plan = self._plan
        duration_s = plan.duration_s / plan.rounds
        iterations = plan.iterations_of(self._turn)
        self._turn += 1
        if plan.scenario != "paced":
            self._warm_up()
        probes = [self._machine.probe_ms()]
        before = self._machine.usage()
        if plan.scenario == "paced":
            ran = self._scenarios.paced(
                self._scorers[0],
                self._cursor,
                fps=plan.fps,
                duration_s=duration_s,
                deadline_ms=plan.deadline_ms,
                warm_up_frames=plan.warm_up_frames,
                iterations=iterations,
            )
        elif plan.scenario == "offline":
            scores = [scorer.score for scorer in self._scorers]
            ran = self._scenarios.offline(scores, self._cursor, duration_s=duration_s, iterations=iterations)
        else:
            score = self._scorers[0].score
            ran = self._scenarios.single(score, self._cursor, duration_s=duration_s, iterations=iterations)
        after = self._machine.usage()
        probes.append(self._machine.probe_ms())
        resident, peak = self._machine.resident_mb(), self._machine.peak_resident_mb()
        gc.collect()
        blocks = sys.getallocatedblocks()
        return {
            "columns": {name: values.tolist() for name, values in ran.columns.items()},
            "wall_s": ran.wall_s,
            "arrived": ran.arrived,
            "dropped": ran.dropped,
            "failed": ran.failed,
            "resident_mb": None if resident is None else resident - self._held_mb,
            "peak_mb": None if peak is None else peak - self._held_mb,
            "blocks": blocks,
            "others": after.others_since(before),
            "throttled": after.throttled - before.throttled,
            "probes_ms": probes,
        }

    def _warm_up(self) -> None:
        for scorer in self._scorers:
            for _ in range(self._plan.warm_up_frames):
                scorer.score(self._cursor.next())


if __name__ == "__main__":
    main()
