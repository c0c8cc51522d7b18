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
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias

SOURCE = Path(__file__).with_name("peak.cpp")
FLAGS = ("-O3", "-std=c++17", "-pthread", *(("-mcpu=native",) if platform.machine() == "aarch64" else ()))
REPETITIONS, MILLISECONDS = 15, 50
HOW = (
    "peak.cpp: one instruction on independent accumulators in registers, operands of one, threads pinned to a "
    "processor each; the result is the count of the multiply-adds, and is checked"
)

Type: TypeAlias = Literal["int8", "bfloat16", "float32"]


@dataclass(frozen=True)
class Rate:
    """What one instruction reached, in multiply-adds a second over all threads; ``per_cycle`` is one thread's."""

    kernel: str
    type: Type
    best_per_s: float
    median_per_s: float
    per_cycle: float
    samples: int


@dataclass(frozen=True)
class Peak:
    """What ``threads`` threads reached together. ``clock_ghz`` is the median of a chain of dependent adds, a thread."""

    processor: str
    threads: int
    clock_ghz: float
    rates: tuple[Rate, ...]
    how: str = HOW

    def best(self, kind: Type) -> Rate | None:
        """The fastest instruction of this type, ``None`` where the processor has none."""
        return max((rate for rate in self.rates if rate.type == kind), key=lambda r: r.best_per_s, default=None)

    def per_s(self, kind: Type) -> float:
        """The peak: the best that was seen of the fastest instruction. Raises `SystemExit` where there is none."""
        rate = self.best(kind)
        if rate is None:
            sys.exit(f"this processor has no instruction for {kind} that peak.cpp knows; add one there")
        return rate.best_per_s


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
    cycles = next(statistics.median(item["per_s"]) for item in found if item["type"] == "clock")
    rates = tuple(
        Rate(
            kernel=item["kernel"],
            type=item["type"],
            best_per_s=max(item["per_s"]),
            median_per_s=statistics.median(item["per_s"]),
            per_cycle=round(statistics.median(item["per_s"]) / cycles, 1),
            samples=len(item["per_s"]),
        )
        for item in found
        if item["type"] != "clock"
    )
    return Peak(processor(), threads, round(cycles / threads / 1e9, 2), rates)


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
    alone = {rate.kernel: rate.median_per_s for rate in peaks[0].rates}
    lines += [
        f"| {rate.kernel} | {rate.type} | {peak.threads} | {rate.best_per_s / 1e9:.1f} "
        f"| {rate.median_per_s / 1e9:.1f} | {rate.per_cycle:g} | {rate.median_per_s / alone[rate.kernel]:.2f} |"
        for peak in peaks
        for rate in peak.rates
    ]
    clocks = ", ".join(f"{peak.clock_ghz:g} GHz with {peak.threads}" for peak in peaks)
    lines += ["", f"{peaks[0].processor}; clock by a chain of dependent adds, by threads: {clocks}."]
    if has_amx():
        lines.append("This processor has AMX, which is not measured: its true int8 and bfloat16 peaks are higher.")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repetitions", type=int, default=REPETITIONS, help=f"samples (default {REPETITIONS})")
    parser.add_argument("--json", type=Path, help="write the figures to this file too")
    arguments = parser.parse_args()
    usable = len(os.sched_getaffinity(0))
    peaks = [measure(threads, repetitions=arguments.repetitions) for threads in sorted({1, usable})]
    document: dict[str, Any] = {
        "load_1min": os.getloadavg()[0],
        "flags": " ".join(FLAGS),
        "amx": has_amx(),
        "peaks": [asdict(peak) for peak in peaks],
    }
    print(json.dumps(document, indent=2))
    print(table(peaks), file=sys.stderr)
    if arguments.json is not None:
        arguments.json.parent.mkdir(parents=True, exist_ok=True)
        arguments.json.write_text(json.dumps(document, indent=2) + "\n")


if __name__ == "__main__":
    main()
