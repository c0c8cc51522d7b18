"""The processor's measured arithmetic peak: multiply-adds a second in int8, bfloat16 and float32, and its clock.

``python benchmarks/peak/measure.py [--json peak.json]``
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shlex
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any, Literal, TypeAlias

from vmeg_edge.processors import usable_processors

SOURCE = Path(__file__).with_name("peak.cpp")
FLAGS = ("-O3", "-std=c++17", "-pthread", *(("-mcpu=native",) if platform.machine() == "aarch64" else ()))
REPETITIONS, MILLISECONDS = 15, 50
BUSY = 0.9
HOW = (
    "peak.cpp: one instruction on independent accumulators in registers, operands of one, threads pinned to a "
    "processor each; the result is the count of the multiply-adds, and is checked"
)

Type: TypeAlias = Literal["int8", "bfloat16", "float32"]


@dataclass(frozen=True)
class Rate:
    """What one instruction reached, in multiply-adds a second over all threads, a sample a repetition."""

    kernel: str
    type: Type
    per_s: tuple[float, ...]

    @property
    def best(self) -> float:
        """The fastest sample."""
        return max(self.per_s)

    @property
    def median(self) -> float:
        """The middle one."""
        return statistics.median(self.per_s)


@dataclass(frozen=True)
class Peak:
    """What ``threads`` threads reached together; ``cycles_per_s`` is by a chain of dependent adds, over all threads."""

    processor: str
    threads: int
    cycles_per_s: tuple[float, ...]
    rates: tuple[Rate, ...]

    @property
    def clock_ghz(self) -> float:
        """A thread's clock, as the fastest sample saw it."""
        return max(self.cycles_per_s) / self.threads / 1e9

    def per_cycle(self, rate: Rate) -> float:
        """Multiply-adds a cycle of one thread, medians."""
        return rate.median / statistics.median(self.cycles_per_s)

    def per_s(self, kind: Type) -> float:
        """The peak: the best sample of the fastest instruction. Raises `SystemExit` where there is none."""
        found = [rate.best for rate in self.rates if rate.type == kind]
        if not found:
            sys.exit(f"this processor has no instruction for {kind} that peak.cpp knows; add one there")
        return max(found)

    def to_json(self) -> dict[str, Any]:
        """All of it, with the samples."""
        return {
            "processor": self.processor,
            "threads": self.threads,
            "how": HOW,
            "clock_ghz": round(self.clock_ghz, 3),
            "cycles_per_s": self.cycles_per_s,
            "rates": [
                {
                    "kernel": rate.kernel,
                    "type": rate.type,
                    "best_per_s": rate.best,
                    "median_per_s": rate.median,
                    "per_cycle_and_thread": round(self.per_cycle(rate), 1),
                    "samples_per_s": rate.per_s,
                }
                for rate in self.rates
            ],
        }


def measure(threads: int, *, repetitions: int = REPETITIONS, milliseconds: int = MILLISECONDS) -> Peak:
    """Compile the kernels with the system's C++ compiler (``CXX``, else ``c++``) and run them.

    Raises `subprocess.CalledProcessError` when it does not compile or a kernel miscounts.
    """
    with tempfile.TemporaryDirectory() as scratch:
        program = Path(scratch) / "peak"
        compiler = shlex.split(os.environ.get("CXX", "c++"))
        subprocess.run([*compiler, *FLAGS, str(SOURCE), "-o", str(program)], check=True)
        command = [str(program), str(threads), str(repetitions), str(milliseconds)]
        found = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout)
    clock, *kernels = found
    rates = tuple(Rate(item["kernel"], item["type"], tuple(item["per_s"])) for item in kernels)
    return Peak(processor(), threads, tuple(clock["per_s"]), rates)


def pooled(peaks: Sequence[Peak]) -> Peak:
    """Measurements of one machine at several times as one: the peak is the best of all."""
    first = peaks[0]
    rates = tuple(
        Rate(rate.kernel, rate.type, tuple(chain.from_iterable(peak.rates[index].per_s for peak in peaks)))
        for index, rate in enumerate(first.rates)
    )
    return Peak(first.processor, first.threads, tuple(chain.from_iterable(peak.cycles_per_s for peak in peaks)), rates)


def processor() -> str:
    """The processor's name, where the system tells."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def has_amx() -> bool:
    """Whether there are matrix units, which these kernels do not use: the true peak is then higher."""
    try:
        return "amx_int8" in Path("/proc/cpuinfo").read_text()
    except OSError:
        return False


def table(peaks: list[Peak]) -> str:
    """The peaks as a Markdown table, one row an instruction and a count of threads."""
    lines = [
        "| instruction | type | threads | G multiply-adds/s, best | median | a cycle and thread | over one thread |",
        "|---|---|--:|--:|--:|--:|--:|",
    ]
    alone = {rate.kernel: rate.median for rate in peaks[0].rates}
    lines += [
        f"| {rate.kernel} | {rate.type} | {peak.threads} | {rate.best / 1e9:.1f} | {rate.median / 1e9:.1f} "
        f"| {peak.per_cycle(rate):.1f} | {rate.median / alone[rate.kernel]:.2f} |"
        for peak in peaks
        for rate in peak.rates
    ]
    clocks = ", ".join(f"{peak.clock_ghz:.2f} GHz with {peak.threads}" for peak in peaks)
    lines += ["", f"{peaks[0].processor}; a thread's clock by a chain of dependent adds, by threads: {clocks}."]
    if peaks[-1].clock_ghz < BUSY * peaks[0].clock_ghz:
        lines.append("All threads together ran slower than one: other work was running, or processors share a core.")
    if has_amx():
        lines.append("This processor has AMX, which is not measured: its true int8 and bfloat16 peaks are higher.")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repetitions", type=int, default=REPETITIONS, help=f"samples (default {REPETITIONS})")
    parser.add_argument("--json", type=Path, help="write the figures to this file too")
    arguments = parser.parse_args()
    usable = usable_processors()
    peaks = [measure(threads, repetitions=arguments.repetitions) for threads in sorted({1, usable})]
    document: dict[str, Any] = {
        "load_1min": os.getloadavg()[0],
        "flags": " ".join(FLAGS),
        "amx": has_amx(),
        "peaks": [peak.to_json() for peak in peaks],
    }
    print(json.dumps(document, indent=2))
    print(table(peaks), file=sys.stderr)
    if arguments.json is not None:
        arguments.json.parent.mkdir(parents=True, exist_ok=True)
        arguments.json.write_text(json.dumps(document, indent=2) + "\n")


if __name__ == "__main__":
    main()
