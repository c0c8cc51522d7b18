"""``vmeg-edge bench``: what it prints and writes, when it says no, and how it refuses what cannot be measured."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from bench.reports import make_case, make_report, make_samples
from conftest import Ran
from vmeg_edge.bench.plan import CaseSpec
from vmeg_edge.bench.report import BenchReport, parse_report
from vmeg_edge.bundle import open_bundle

SHORT = ("--backend", "onnxruntime", "--threads", "1", "--size", "320x240", "--warm-up", "1")


def assert_ran(ran: Ran, report: BenchReport) -> None:
    """Exit 0, or 1 where the run itself is INVALID, as it may be on a busy machine; nothing else went wrong."""
    assert ran.code == (0 if report.valid else 1), ran.err
    assert "error" not in ran.err
    assert "Traceback" not in ran.err


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Ran]:
    """The folder in which one real run of two rounds has left its three files, and what it printed."""
    folder = tmp_path_factory.mktemp("bench")
    outputs = [part for kind in ("json", "csv", "html") for part in (f"--{kind}", folder / f"run.{kind}")]
    command = [sys.executable, "-m", "vmeg_edge", "bench", *SHORT, "--iterations", "65", "--rounds", "2", *outputs]
    done = subprocess.run(command, capture_output=True, text=True)
    return folder, Ran(done.returncode, done.stdout, done.stderr)


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch) -> Callable[[BenchReport], None]:
    """Have the command find a report that is made by hand."""
    return lambda report: monkeypatch.setattr("vmeg_edge.cli.bench._measured", lambda _options: report)


def valid_report(infer_ms: float = 30.0, frames: int = 900) -> BenchReport:
    return make_report([make_case(samples=make_samples(infer_ms, frames=frames))])


def test_a_run_prints_its_verdict_stages_and_machine(written: tuple[Path, Ran]) -> None:
    ran = written[1]
    assert ran.code == (1 if "INVALID" in ran.out else 0), ran.err
    for word in ("1 thread", "p50", "p99", "parity", "pass", "infer", "explain", "end to end", "Research use only"):
        assert word in ran.out
    assert "too few samples: " not in ran.out, "65 were asked for, and 64 are enough for a verdict"


def test_the_files_of_a_run_agree(written: tuple[Path, Ran]) -> None:
    folder, ran = written
    report = parse_report((folder / "run.json").read_bytes(), "run.json")
    assert_ran(ran, report)
    (case,) = report.cases
    assert case.frames.scored == 65
    rows = list(csv.DictReader((folder / "run.csv").open()))
    assert [float(row["infer_ms"]) for row in rows] == list(case.samples.infer_ms)
    page = (folder / "run.html").read_text(encoding="utf-8")
    assert page.startswith("<!")
    assert case.name in page
    assert sorted(path.name for path in folder.iterdir()) == ["run.csv", "run.html", "run.json"]


def test_json_alone_goes_to_the_standard_output_and_nothing_with_it(vmeg_edge: Callable[..., Ran]) -> None:
    ran = vmeg_edge("bench", *SHORT, "--scenario", "paced", "--fps", 50, "--duration", 0.4, "--rounds", 1, "--json")
    report = parse_report(ran.out.encode(), "stdout")
    assert_ran(ran, report)
    frames = report.cases[0].frames
    assert frames.arrived == 20 == frames.scored + frames.dropped
    assert (report.settings.fps, report.settings.deadline_ms) == (50, 20), "the deadline is the period, unless given"


def test_the_schema_has_every_field_of_a_report(vmeg_edge: Callable[..., Ran], written: tuple[Path, Ran]) -> None:
    ran = vmeg_edge("bench", "--schema")
    assert ran.code == 0
    schema = json.loads(ran.out)
    content = json.loads((written[0] / "run.json").read_text(encoding="utf-8"))
    assert set(schema["required"]) <= set(content) <= set(schema["properties"])
    for name, inside in (("Case", content["cases"][0]), ("Settings", content["settings"])):
        definition = schema["$defs"][name]
        assert set(definition["required"]) <= set(inside) <= set(definition["properties"])


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--max-p99-ms", 29), "p99 is "),
        (("--min-fps", 1e9), "frames a second, below --min-fps 1e+09"),
    ],
)
def test_a_limit_that_is_not_kept_is_a_no(
    vmeg_edge: Callable[..., Ran],
    measured: Callable[[BenchReport], None],
    options: tuple[str, float],
    said: str,
) -> None:
    measured(valid_report())
    ran = vmeg_edge("bench", *options)
    assert ran.code == 1
    assert said in ran.err
    assert vmeg_edge("bench", "--max-p99-ms", 1e6, "--min-fps", 0.01).code == 0


def test_a_p99_that_too_few_samples_carry_is_a_no_however_high_the_limit(
    vmeg_edge: Callable[..., Ran], measured: Callable[[BenchReport], None]
) -> None:
    measured(valid_report(frames=661))
    ran = vmeg_edge("bench", "--max-p99-ms", 1e6)
    assert ran.code == 1
    assert "661 samples prove no p99; give --iterations 662 or more" in ran.err
    measured(valid_report(frames=662))
    assert vmeg_edge("bench", "--max-p99-ms", 1e6).code == 0


def test_an_invalid_run_is_a_no(vmeg_edge: Callable[..., Ran], measured: Callable[[BenchReport], None]) -> None:
    measured(make_report())
    ran = vmeg_edge("bench")
    assert ran.code == 1
    assert "INVALID" in ran.out


def test_a_run_against_itself_is_within_noise_and_no_regression(
    vmeg_edge: Callable[..., Ran], measured: Callable[[BenchReport], None], tmp_path: Path
) -> None:
    report = valid_report()
    measured(report)
    old = tmp_path / "old.json"
    old.write_text(report.to_json(), encoding="utf-8")
    ran = vmeg_edge("bench", "--compare", old, "--max-regression", 0)
    assert ran.code == 0, ran.err
    assert "within noise" in ran.out
    measured(valid_report(infer_ms=40.0))
    ran = vmeg_edge("bench", "--compare", old, "--max-regression", 10)
    assert ran.code == 1
    assert "p50 is 1.3" in ran.err
    assert vmeg_edge("bench", "--compare", old, "--max-regression", 50).code == 0


@pytest.mark.parametrize(
    ("words", "cases"),
    [
        ("--backend onnxruntime --threads 1,2,1", [("onnxruntime", 1, 1), ("onnxruntime", 2, 1)]),
        ("--backend onnxruntime --pin 0", [("onnxruntime", 1, 1)]),
        ("--backend onnxruntime --threads 4 --scenario offline", [("onnxruntime", 4, 4)]),
        ("--backend onnxruntime --threads 4 --scenario offline --streams 2", [("onnxruntime", 4, 2)]),
        ("--backend onnxruntime --backend onnxruntime --threads 3", [("onnxruntime", 3, 1)]),
    ],
)
def test_the_options_make_these_cases(
    vmeg_edge: Callable[..., Ran], monkeypatch: pytest.MonkeyPatch, words: str, cases: list[tuple[str, int, int]]
) -> None:
    asked: list[CaseSpec] = []

    def bench(_plan: object, chosen: list[CaseSpec], _frames: object, **_: object) -> BenchReport:
        asked.extend(chosen)
        return valid_report(frames=64)

    monkeypatch.setattr("vmeg_edge.bench.run.bench", bench)
    assert vmeg_edge("bench", "--size", "64x48", *words.split()).code == 0
    assert [(case.backend, case.threads, case.streams) for case in asked] == cases


@pytest.fixture
def other(bundle_copy: Path, reseal: Callable[[Path], None]) -> Path:
    """The demo bundle under another name, for one engine alone."""
    manifest = json.loads((bundle_copy / "manifest.json").read_text())
    artefacts = {"onnxruntime": manifest["artefacts"]["onnxruntime"]}
    (bundle_copy / "manifest.json").write_text(json.dumps({**manifest, "name": "other", "artefacts": artefacts}))
    reseal(bundle_copy)
    return bundle_copy


def test_two_bundles_are_measured_in_one_run(
    vmeg_edge: Callable[..., Ran], demo_bundle: Path, other: Path, tmp_path: Path
) -> None:
    bundles = ("--bundle", other, "--bundle", demo_bundle)
    ran = vmeg_edge("bench", *SHORT, *bundles, "--iterations", 4, "--rounds", 2, "--json", tmp_path / "run.json")
    report = parse_report((tmp_path / "run.json").read_bytes(), "run.json")
    assert_ran(ran, report)
    assert [case.name for case in report.cases] == ["other, onnxruntime, 1 thread", "demo, onnxruntime, 1 thread"]
    assert [model.label for model in report.models] == ["other", "demo"]
    assert "INVALID other, onnxruntime, 1 thread: too few samples: 4" in " ".join(ran.out.split())
    assert ran.out.count("DEMO MODEL") == 1


def test_every_bundle_meets_every_engine_that_it_holds(
    vmeg_edge: Callable[..., Ran], monkeypatch: pytest.MonkeyPatch, demo_bundle: Path, other: Path
) -> None:
    asked: list[CaseSpec] = []
    left_out: dict[Path, dict[str, str]] = {}

    def bench(
        _plan: object, chosen: list[CaseSpec], _frames: object, **told: dict[Path, dict[str, str]]
    ) -> BenchReport:
        asked.extend(chosen)
        left_out.update(told["not_run"])
        return valid_report(frames=64)

    absent = {"openvino": None, "onnxruntime": None, "tensorrt": "no GPU"}
    monkeypatch.setattr("vmeg_edge.bench.run.bench", bench)
    monkeypatch.setattr("vmeg_edge.cli.bench_plan.why_unusable", absent.__getitem__)
    bundles = ("--bundle", demo_bundle, "--bundle", other)
    assert vmeg_edge("bench", "--size", "64x48", *bundles, "--threads", "1,2").code == 0
    engines = [name for name in open_bundle(demo_bundle).manifest.artefacts if absent[name] is None]
    assert [(case.bundle, case.backend, case.threads) for case in asked] == [
        *((demo_bundle, name, threads) for name in engines for threads in (1, 2)),
        *((other, "onnxruntime", threads) for threads in (1, 2)),
    ]
    assert left_out[other] == {"openvino": "the bundle holds no artefact for it"}
    assert "--device GPU with 2 backends" in vmeg_edge("bench", *bundles, "--device", "GPU").error


@pytest.mark.skipif(sys.platform != "linux", reason="looks for the processes in /proc")
def test_an_interrupt_ends_the_processes_too(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "vmeg_edge", "bench", *SHORT, "--duration", "300", "--json", tmp_path / "run.json"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    line = ""
    while not line.startswith("opening: 1/1"):
        line = process.stderr.readline()
        assert line, "it ended before it was interrupted"
    children = _children(process.pid)
    assert children
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=30)
    assert process.returncode == 130
    assert (out, err.splitlines()[-1]) == ("", "vmeg-edge: error: interrupted")
    deadline_s = time.monotonic() + 10
    while any(Path(f"/proc/{child}").exists() for child in children):
        assert time.monotonic() < deadline_s, "a process was left behind"
        time.sleep(0.05)
    assert list(tmp_path.iterdir()) == []


def _children(parent: int) -> list[int]:
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            told = path.read_text().rpartition(")")[2].split()
        except OSError:  # it ended meanwhile
            continue
        if int(told[1]) == parent:
            found.append(int(path.parent.name))
    return found


def test_a_reader_that_leaves_early_is_told_nothing() -> None:
    command = [sys.executable, "-m", "vmeg_edge", "bench", "--schema"]
    read, write = os.pipe()
    process = subprocess.Popen(command, stdout=write, stderr=subprocess.PIPE, text=True)
    os.close(write)
    os.close(read)
    _, err = process.communicate(timeout=60)
    assert err == ""
