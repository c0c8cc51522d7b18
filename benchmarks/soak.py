"""Soak and chaos: a live stream at a stated rate for a stated time, faults injected; exit 1 when a bound is broken.

python benchmarks/soak.py --seconds 120                       # what CI runs
python benchmarks/soak.py --seconds 3600 --out soak-1h.json   # the hour in benchmarks/results/soak
python benchmarks/soak.py --kills 200                         # nothing but 200 kills
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import statistics
import sys
import tempfile
import threading
import time
from collections import Counter
from dataclasses import asdict
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent / "soak"))

import machine
import numpy as np
import numpy.typing as npt

import vmeg_edge
from vmeg_edge.backends import Backend
from vmeg_edge.bench.statistics import percentile
from vmeg_edge.cli.options import DEMO_BUNDLE
from vmeg_edge.errors import OutputError
from vmeg_edge.frames import Frame, Pixels
from vmeg_edge.phantom import PhantomCine
from vmeg_edge.results import FrameResult
from vmeg_edge.sinks import Callback, JsonLines
from vmeg_edge.sources.isolated import IsolatedSource, Patience

Floats = npt.NDArray[np.float32]

NONE_WITHIN_MS = 500.0
RECOVERY_WITHIN_S = 10.0
OVERHEAD_MS = 0.3
GROWTH_MB = 1.0
WARM_UP_S = 300.0

FULL = Path("/dev/full")  # every write to it meets a full disk
FAULTS = ("kill", "stall", "crash", "corrupt", "resize", "half", "freeze", "slow backend", "stalled sink", "disk full")
BREAKS = ("kill", "stall", "crash", "corrupt")  # the signal goes, and has to come back


class SlowBackend:
    """The real backend, made ten times slower while ``slow`` is set."""

    def __init__(self, backend: Backend) -> None:
        self.backend = backend
        self.report = backend.report
        self.slow = False

    def infer(self, pixels: Pixels) -> tuple[Floats, Floats]:
        began = time.perf_counter()
        answer = self.backend.infer(pixels)
        if self.slow:
            time.sleep(9 * (time.perf_counter() - began))
        return answer

    def close(self) -> None:
        self.backend.close()


class TroubledSink:
    """A sink that stalls, or whose disk is full, on command; what it writes is real, and so is /dev/full."""

    def __init__(self, folder: Path) -> None:
        self.stalled = threading.Event()
        self.full = False
        self.written = 0
        self._lines = JsonLines(folder / "results.jsonl")
        self._full = JsonLines(FULL.open("w"))
        self.refused = 0

    def __call__(self, frame: Frame, result: FrameResult) -> None:
        while self.stalled.is_set():
            time.sleep(0.05)
        if self.full:
            try:
                self._full.write(frame, result)
            except OutputError:
                self.refused += 1
            return
        self._lines.write(frame, result)
        self.written += 1


class Soak:
    """One run: the stream in this thread, faults and measurements in two others."""

    def __init__(self, arguments: argparse.Namespace, folder: Path) -> None:
        self.arguments = arguments
        self.commands = folder / "commands"
        self.commands.mkdir()
        pictures = [frame.pixels for frame in PhantomCine(frames=60, width=640, height=480)]
        np.save(folder / "frames.npy", np.stack(pictures))
        spec = {
            "kind": "python",
            "options": {
                "factory": "faulty_source:FaultySource",
                "arguments": {
                    "frames": str(folder / "frames.npy"),
                    "commands": str(self.commands),
                    "fps": arguments.fps,
                },
            },
        }
        self.blocks: set[str] = set()
        self.scorer = vmeg_edge.load(arguments.bundle, threads=arguments.threads)
        self.backend = SlowBackend(self.scorer.backend)
        self.scorer.backend = self.backend
        self.source = IsolatedSource(spec, Patience(stall_s=1.0))
        self.sink = TroubledSink(folder)
        self.run = vmeg_edge.stream(
            self.source,
            self.scorer,
            policy="latest",
            deadline_ms=arguments.deadline_ms,
            sinks=[Callback(self.sink), FullDisk()],
            duration_s=None if arguments.kills else arguments.seconds,
        )
        self.random = random.Random(arguments.seed)
        self.events: list[dict[str, Any]] = []
        self.samples: list[dict[str, float]] = []
        self.broken: list[str] = []
        self.over = threading.Event()
        self.ages = np.full(1 << 17, np.nan)
        self.overheads = np.full(1 << 17, np.nan)
        self.results = 0

    def go(self) -> dict[str, Any]:
        began = time.monotonic()
        helpers = [
            threading.Thread(target=self._inject, daemon=True),
            threading.Thread(target=self._measure, args=(began,), daemon=True),
        ]
        for helper in helpers:
            helper.start()
        for result in self.run:
            place = self.results % len(self.ages)
            self.ages[place] = result.age_ms
            self.overheads[place] = (
                np.nan if result.reused or self.backend.slow else result.age_ms - result.stages_ms.total
            )
            self.results += 1
            self._check(result)
        self.over.set()
        seconds = time.monotonic() - began
        for helper in helpers:
            helper.join(30)
        self.scorer.close()
        return self._report(seconds)

    def _check(self, result: FrameResult) -> None:
        deadline_ms = self.arguments.deadline_ms
        if result.late != (result.age_ms > deadline_ms):
            self._break(f"frame {result.frame}: age {result.age_ms:.1f} ms and late is {result.late}")

    def _inject(self) -> None:
        """One fault after the other, at random moments."""
        arguments = self.arguments
        if self.over.wait(arguments.quiet_s):
            return
        count = 0
        faults = list(FAULTS)
        while not self.over.is_set():
            if arguments.kills:
                if count == arguments.kills:
                    self.run.close()
                    return
                fault = "kill"
            else:
                if not faults:
                    faults = list(FAULTS)
                fault = faults.pop(self.random.randrange(len(faults)))
            self._fault(fault)
            count += 1
            pause_s = (
                self.random.uniform(0.1, 0.6) if arguments.kills else self.random.uniform(0.5, 1.5) * arguments.every_s
            )
            if self.over.wait(pause_s):
                return

    def _fault(self, fault: str) -> None:
        if not self._until(lambda: self.run.status().signal == "live", RECOVERY_WITHIN_S):
            self._break(f"before {fault}: no live signal within {RECOVERY_WITHIN_S:g} s")
            return
        event: dict[str, Any] = {"fault": fault}
        began = time.perf_counter()
        if fault == "kill":
            pid = self.source.child_pid
            if pid is None:
                return
            os.kill(pid, signal.SIGKILL)
        elif fault == "slow backend":
            self.backend.slow = True
            self.over.wait(3.0)
            self.backend.slow = False
        elif fault == "stalled sink":
            self.sink.stalled.set()
            self.over.wait(3.0)
            self.sink.stalled.clear()
        elif fault == "disk full":
            self.sink.full = True
            self.over.wait(2.0)
            self.sink.full = False
        else:
            (self.commands / fault).touch()
        if fault in BREAKS:
            limit_s = 5.0
            if not self._until(lambda: self.run.status().signal == "none", limit_s):
                self._break(f"{fault}: the signal was not none within {limit_s:g} s")
            event["none_ms"] = (time.perf_counter() - began) * 1e3
            if not self._until(lambda: self.run.status().signal == "live", RECOVERY_WITHIN_S):
                self._break(f"{fault}: no recovery within {RECOVERY_WITHIN_S:g} s")
            event["recovery_s"] = time.perf_counter() - began
            if fault == "kill" and event["none_ms"] > NONE_WITHIN_MS:
                self._break(f"kill: none after {event['none_ms']:.0f} ms")
        elif fault == "freeze":
            if not self._until(lambda: self.run.status().signal == "frozen", 5.0):
                self._break("freeze: never called frozen")
            event["frozen_ms"] = (time.perf_counter() - began) * 1e3
            if not self._until(lambda: self.run.status().signal == "live", 8.0):
                self._break("freeze: never live again")
        self.events.append(event)

    def _until(self, holds: Any, limit_s: float) -> bool:
        end = time.monotonic() + limit_s
        while not self.over.is_set():
            if holds():
                return True
            if time.monotonic() > end:
                return False
            time.sleep(0.002)
        return True

    def _measure(self, began: float) -> None:
        """Every 50 ms the promises, every two seconds the process."""
        depth = self.run.rules.depth or 1
        turn = 0
        while not self.over.wait(0.05):
            status = self.run.status()
            if status.waiting > depth:
                self._break(f"{status.waiting} frames waited, and the depth is {depth}")
            if (status.signal == "none") != (status.result is None) and status.scored and status.result is not None:
                self._break("a score was shown without a signal")
            if (block := self.source.memory_name) is not None:
                self.blocks.add(block.lstrip("/"))
            if turn % 40 == 0:
                self.samples.append(
                    {
                        "at_s": round(time.monotonic() - began, 1),
                        "resident_mb": round(machine.resident_mb(), 3),
                        "child_resident_mb": round(machine.resident_mb(self.source.child_pid), 3),
                        "descriptors": machine.descriptors(),
                        "threads": machine.threads(),
                    }
                )
            turn += 1

    def _break(self, what: str) -> None:
        if len(self.broken) < 100:
            self.broken.append(what)

    def _report(self, seconds: float) -> dict[str, Any]:
        summary = self.run.summary
        leaked = machine.shared_memory() & self.blocks
        if leaked:
            self._break(f"shared memory left behind: {sorted(leaked)}")
        if summary.open:
            self._break(f"{summary.open} frames without an end")
        memory = self._growth(seconds)
        ages = self.ages[~np.isnan(self.ages)].tolist()
        overheads = self.overheads[~np.isnan(self.overheads)].tolist()
        overhead_ms = statistics.median(overheads) if overheads else 0.0
        times: dict[str, Any] = {}
        for fault in FAULTS:
            mine = [event for event in self.events if event["fault"] == fault]
            if mine:
                times[fault] = {"count": len(mine)}
                for figure in ("none_ms", "recovery_s", "frozen_ms"):
                    values = [event[figure] for event in mine if figure in event]
                    if values:
                        times[fault][figure] = {
                            "median": round(statistics.median(values), 3),
                            "max": round(max(values), 3),
                        }
        return {
            "seconds": round(seconds, 1),
            "fps": self.arguments.fps,
            "bundle": self.scorer.provenance,
            "machine": machine.describe(),
            "seed": self.arguments.seed,
            "deadline_ms": self.arguments.deadline_ms,
            "frames": summary.frames,
            "scored": summary.scored,
            "reused": summary.reused,
            "late": summary.late,
            "lost": summary.lost,
            "failed": summary.failed,
            "dropped": dict(Counter(summary.drops)),
            "reconnects": summary.reconnects,
            "age_ms": {f"p{q:g}": round(percentile(ages, q), 3) for q in (50, 90, 99)}
            | {"max": round(max(ages), 3), "samples": len(ages)},
            "overhead_ms": {"p50": round(overhead_ms, 4), "samples": len(overheads)},
            "sinks": [asdict(sink) for sink in summary.sinks],
            "disk_full_refusals": self.sink.refused,
            "faults": times,
            "memory": memory,
            "samples": self.samples[:: max(1, len(self.samples) // 200)],
            "broken": self.broken,
        }

    def _growth(self, seconds: float) -> dict[str, float]:
        """Medians over the first window after the warm-up and over the last."""
        warm_s = min(WARM_UP_S, seconds / 3)
        window_s = min(300.0, seconds / 6)
        early = [s for s in self.samples if warm_s <= s["at_s"] < warm_s + window_s]
        late = [s for s in self.samples if s["at_s"] >= seconds - window_s]
        if not early or not late:
            return {}
        memory: dict[str, float] = {"warm_up_s": warm_s, "window_s": window_s}
        for figure in ("resident_mb", "descriptors", "threads"):
            first = statistics.median(sample[figure] for sample in early)
            last = statistics.median(sample[figure] for sample in late)
            memory |= {f"{figure}_early": first, f"{figure}_late": last}
        growth_mb = memory["resident_mb_late"] - memory["resident_mb_early"]
        memory["growth_mb"] = round(growth_mb, 3)
        if growth_mb > self.arguments.max_growth_mb:
            self._break(f"resident memory grew by {growth_mb:.2f} MB")
        for figure in ("descriptors", "threads"):
            if memory[f"{figure}_late"] > memory[f"{figure}_early"]:
                self._break(f"{figure}: {memory[f'{figure}_early']:g} became {memory[f'{figure}_late']:g}")
        return memory


class FullDisk:
    """A sink that writes to a disk that is full from the first line: it is given up, and the stream goes on."""

    def __init__(self) -> None:
        self._lines = JsonLines(FULL.open("w"))

    def write(self, frame: Frame, result: FrameResult) -> None:
        self._lines.write(frame, result)

    def signal(self, state: str, reason: str) -> None:
        pass

    def close(self) -> None:
        pass

    def abort(self) -> None:
        pass


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seconds", type=float, default=120.0)
    parser.add_argument("--kills", type=int, default=0, help="nothing but so many kills, then the end")
    parser.add_argument("--fps", type=float, default=15.0)
    parser.add_argument("--every-s", type=float, default=5.0, help="mean pause between faults")
    parser.add_argument("--quiet-s", type=float, default=3.0, help="no fault before")
    parser.add_argument("--deadline-ms", type=float, default=100.0)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--bundle", type=Path, default=DEMO_BUNDLE)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--max-growth-mb", type=float, default=GROWTH_MB, help="resident memory, after the warm-up")
    parser.add_argument("--out", type=Path, help="JSON report")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        report = Soak(arguments, Path(folder)).go()
    if arguments.out is not None:
        arguments.out.write_text(json.dumps(report, indent=1) + "\n")
    for name in ("seconds", "frames", "scored", "reused", "late", "lost", "failed", "dropped", "reconnects"):
        print(f"{name}: {report[name]}")
    for name in ("age_ms", "overhead_ms", "memory", "faults"):
        print(f"{name}: {json.dumps(report[name])}")
    for what in report["broken"]:
        print(f"BROKEN: {what}")
    print("every bound held" if not report["broken"] else f"{len(report['broken'])} bounds broken")
    return 1 if report["broken"] else 0


if __name__ == "__main__":
    sys.exit(main())
