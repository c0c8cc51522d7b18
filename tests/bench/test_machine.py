"""What the operating system says is read as it is meant, and what it does not say is not guessed."""

from __future__ import annotations

import mmap
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from vmeg_edge.bench import machine
from vmeg_edge.bench.machine import Usage, environment, pin, probe_ms, usage
from vmeg_edge.errors import UsageError
from vmeg_edge.kernels import cpu_features
from vmeg_edge.processor_class import class_of
from vmeg_edge.processors import Processors

linux = pytest.mark.skipif(sys.platform != "linux", reason="Linux alone tells it")


def used(at_s: float, busy_s: float | None, own_s: float, stolen_s: float | None = 0.0) -> Usage:
    return Usage(at_s, busy_s, stolen_s, own_s, 0)


def test_others_are_what_the_machine_was_busy_with_less_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: 2)
    before = used(100.0, 50.0, 3.0, 1.0)
    share = used(110.0, 64.0, 12.0, 2.0).others_since(before)
    assert share == pytest.approx((14 + 1 - 9) / 20, abs=0.002)


def test_what_a_coarse_clock_cannot_tell_from_nothing_is_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: 2)
    tick_s = 1 / os.sysconf("SC_CLK_TCK")
    assert used(0.1, 0.1 + 2 * tick_s, 0.1).others_since(used(0.0, 0.0, 0.0)) == pytest.approx(0, abs=1e-9)
    assert used(0.1, 0.05, 0.1).others_since(used(0.0, 0.0, 0.0)) == 0, "never below zero"


@pytest.mark.parametrize("absent", [used(1, None, 0), used(1, 1, 0, None)])
def test_a_system_that_does_not_tell_is_not_guessed_at(absent: Usage) -> None:
    assert absent.others_since(used(0, 0, 0)) is None
    assert used(1, 1, 0).others_since(absent) is None


@linux
def test_own_work_is_not_taken_for_that_of_others_and_anothers_is() -> None:
    spin = "import time; end = time.perf_counter() + 0.6\nwhile time.perf_counter() < end: pass"
    before = usage()
    began = time.process_time()
    while time.process_time() - began < 0.3:
        pass
    after = usage()
    assert after.own_s - before.own_s == pytest.approx(0.3, abs=0.05)
    before = usage()
    subprocess.run([sys.executable, "-c", spin], check=True)
    share = usage().others_since(before)
    assert share is not None
    assert share > 0.2 / (os.cpu_count() or 1)


@linux
def test_resident_memory_grows_with_what_is_touched() -> None:
    before = machine.resident_mb()
    block = mmap.mmap(-1, 40_000_000)  # pages of its own: a heap may give back what others freed
    block.write(b"\x01" * len(block))
    after = machine.resident_mb()
    peak = machine.peak_resident_mb()
    assert before is not None
    assert after is not None
    assert peak is not None
    assert 30 < after - before < 90
    assert peak >= after - 1
    block.close()


def test_the_probe_takes_the_time_of_a_fixed_piece_of_work(monkeypatch: pytest.MonkeyPatch) -> None:
    assert probe_ms() > 0
    reads = iter(range(10**9))
    monkeypatch.setattr(time, "perf_counter_ns", lambda: next(reads) * 3_000_000)
    assert probe_ms() == pytest.approx(3), "in milliseconds, between two readings of the clock"


@linux
def test_a_process_is_kept_on_the_processors_that_were_named() -> None:
    code = (
        "import os; from vmeg_edge.bench.machine import pin; one = {min(os.sched_getaffinity(0))}; "
        "pin(one); assert os.sched_getaffinity(0) == one"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@linux
def test_a_processor_that_is_not_there_is_named_with_those_that_are() -> None:
    with pytest.raises(UsageError, match=r"no processor 98765 for this process; it may use \d"):
        pin([98765])


def test_where_a_system_pins_nothing_it_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "sched_setaffinity", raising=False)
    with pytest.raises(UsageError, match="--pin"):
        pin([0])


def test_the_environment_names_this_machine() -> None:
    found = environment(Processors(4, 3.5))
    assert (found.cores, found.cpu_features) == (os.cpu_count(), cpu_features())
    assert found.processor_class == class_of(found.cpu_features).name
    assert (found.usable_processors, found.affinity_processors, found.quota_processors) == (3, 4, 3.5)
    assert found.python.endswith(".".join(map(str, sys.version_info[:3])))
    assert {"numpy", "onnxruntime"} <= set(found.versions)
    assert found.cpu
    assert found.os


def test_a_system_without_its_files_gives_unknown_and_none(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(machine, "_text", lambda _path: None)
    monkeypatch.setattr(machine, "_CPU", tmp_path)
    found = environment(Processors(1))
    assert found.governor == "unknown"
    assert found.memory_mb is None
    assert found.cpu
    assert machine.resident_mb() is None
    assert usage().busy_s is None
    assert usage().throttled == 0


def test_throttling_is_counted_over_all_processors(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for number, text in enumerate(("2", "3", "not a number")):
        path = tmp_path / f"cpu{number}" / "thermal_throttle" / "core_throttle_count"
        path.parent.mkdir(parents=True)
        path.write_text(text)
    monkeypatch.setattr(machine, "_CPU", tmp_path)
    assert usage().throttled == 5
