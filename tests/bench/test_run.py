"""A whole run: each case in a process of its own, in turns, and nothing left behind however it ends."""

from __future__ import annotations

import json
import math
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from vmeg_edge.bench import run as module
from vmeg_edge.bench.held import HeldFrames, gather
from vmeg_edge.bench.plan import CaseSpec, Plan
from vmeg_edge.bench.report import parse_report
from vmeg_edge.bench.run import bench
from vmeg_edge.bundle import open_bundle
from vmeg_edge.cli.options import DEMO_BUNDLE
from vmeg_edge.errors import BackendError, IntegrityError, ParityError, UsageError
from vmeg_edge.manifest import RESEARCH_USE_ONLY

ONE, TWO = (CaseSpec(DEMO_BUNDLE, "onnxruntime", threads=count) for count in (1, 2))
COLUMNS = ("round", "frame", "at_s", "preprocess_ms", "infer_ms", "explain_ms", "decide_ms", "end_to_end_ms", "late")


@pytest.fixture(scope="module")
def frames() -> HeldFrames:
    return gather("phantom:", size=(320, 240))


@pytest.fixture(autouse=True)
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Temporary files of a run go where they can be counted, and none may be left."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    yield folder
    assert list(folder.iterdir()) == []


@pytest.fixture
def processes(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Every process that a run starts."""
    started: list[Any] = []
    popen = module.subprocess.Popen

    def start(*arguments: Any, **options: Any) -> Any:
        started.append(popen(*arguments, **options))
        return started[-1]

    monkeypatch.setattr(module.subprocess, "Popen", start)
    return started


def assert_finite(value: object, where: str = "report") -> None:
    if isinstance(value, float):
        assert math.isfinite(value), where
    elif isinstance(value, dict):
        for name, item in value.items():
            assert_finite(item, f"{where}.{name}")
    elif isinstance(value, (list, tuple)):
        for item in value:
            assert_finite(item, where)


def test_two_cases_take_turns_and_report_everything(
    demo_bundle: Path,
    frames: HeldFrames,
    processes: list[Any],
    temporary: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ran: list[CaseSpec] = []
    run = module._CaseProcess.run
    monkeypatch.setattr(module._CaseProcess, "run", lambda self: (ran.append(self.case), run(self))[1])
    told: list[tuple[str, int, int, int]] = []
    plan = Plan(iterations=25, rounds=2, warm_up_frames=1)
    report = bench(
        plan,
        [ONE, TWO],
        frames,
        not_run={demo_bundle: {"tensorrt": "not installed"}},
        notices={demo_bundle: ("This one was made for a test.",)},
        progress=lambda *step: told.append((*step, len(list(temporary.iterdir())))),
    )
    assert [case.name for case in report.cases] == ["onnxruntime, 1 thread", "onnxruntime, 2 threads"]
    assert ran == [ONE, TWO, TWO, ONE], "another one begins each round"
    assert told[-1] == ("measuring", 4, 4, 0)
    assert len(processes) == 2
    assert all(process.returncode is not None for process in processes)
    for case in report.cases:
        assert (case.frames.arrived, case.frames.scored, case.frames.dropped, case.frames.failed) == (25, 25, 0, 0)
        assert {len(getattr(case.samples, name)) for name in COLUMNS} == {25}
        assert case.samples.round == (0,) * 13 + (1,) * 12
        assert (np.diff(case.samples.at_s) > 0).all()
        assert case.parity.passed
        assert case.parity.frames == 4
        assert case.parity.flips == 0
        assert case.throughput_fps > 0
        assert case.model == "demo"
        assert case.artefact_mb == pytest.approx((demo_bundle / "model.onnx").stat().st_size / 1e6, rel=1e-5)
        assert 0 < case.bench_overhead_ms < case.stages_ms["end_to_end"].p50_ms
        assert set(case.stages_ms) == {"preprocess", "infer", "explain", "decide", "other", "end_to_end"}
        assert case.stages_ms["end_to_end"].samples == 25
        start = case.start
        assert start.process_to_first_score_ms > start.import_ms + start.load_ms + start.first_inference_ms > 0
        assert not case.verdict.valid, "25 samples prove little"
        assert "too few samples: 25" in case.verdict.reasons[0]
        if sys.platform == "linux":
            memory = case.memory
            assert memory.peak_rss_mb is not None
            assert memory.steady_rss_mb is not None
            assert memory.peak_rss_mb >= memory.steady_rss_mb > 20
            assert memory.frames_held_mb == pytest.approx(64 * 320 * 240 * 3 / 1e6)
    (model,) = report.models
    bundle = open_bundle(demo_bundle)
    assert (model.label, model.name, model.input, model.digest) == ("demo", "demo", "224x224", bundle.digest)
    assert model.notices == ("This one was made for a test.", *bundle.manifest.notices)
    assert model.not_run == {"tensorrt": "not installed"}
    assert (report.settings.frame_width, report.settings.frame_height, report.settings.iterations) == (320, 240, 25)
    assert report.settings.fps is None
    assert_finite(report.model_dump())
    again = parse_report(report.to_json().encode(), "here")
    assert again == report
    assert again.to_json() == report.to_json()


@pytest.mark.parametrize(
    ("plan", "case"),
    [
        ({"scenario": "paced", "fps": 60.0, "deadline_ms": 500.0}, ONE),
        ({"scenario": "offline"}, replace(TWO, streams=2)),
    ],
)
def test_paced_and_offline_count_every_frame(frames: HeldFrames, plan: dict[str, Any], case: CaseSpec) -> None:
    report = bench(Plan(iterations=21, rounds=2, warm_up_frames=1, **plan), [case], frames)
    found = report.cases[0].frames
    assert found.arrived == 21 == found.scored + found.dropped + found.failed
    assert len(report.cases[0].samples.frame) == found.scored
    assert report.settings.deadline_ms == plan.get("deadline_ms")
    assert_finite(report.model_dump())


FOUR_FRAMES = Plan(iterations=4, rounds=2, warm_up_frames=0)


def run_and_meet(processes: list[Any], plan: Plan, frames: HeldFrames, at: str, what: Callable[[], None]) -> None:
    """A run in which ``what`` happens at the first word on the stage ``at``; then no process may be alive."""

    def step(stage: str, done: int, _total: int) -> None:
        if stage == at and done >= 1:
            what()

    try:
        bench(plan, [ONE, TWO], frames, progress=step)
    finally:
        assert processes
        assert all(process.returncode is not None for process in processes), "a process was left behind"


@pytest.mark.parametrize("stage", ["opening", "measuring"])
def test_a_process_that_is_killed_ends_the_run_in_one_line(
    frames: HeldFrames, processes: list[Any], stage: str
) -> None:
    with pytest.raises(BackendError, match=r"its process ended \(signal 9, perhaps for want of memory\)") as caught:
        run_and_meet(processes, FOUR_FRAMES, frames, stage, lambda: os.kill(processes[0].pid, signal.SIGKILL))
    assert "\n" not in str(caught.value)
    assert str(caught.value).startswith("onnxruntime, 1 thread: ")


def test_an_interrupted_run_leaves_no_process(frames: HeldFrames, processes: list[Any]) -> None:
    def interrupt() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_and_meet(processes, FOUR_FRAMES, frames, "measuring", interrupt)
    assert len(processes) == 2


@pytest.mark.parametrize("in_a_slice", [False, True])
def test_a_process_whose_parent_is_gone_ends_by_itself(
    frames: HeldFrames, processes: list[Any], in_a_slice: bool
) -> None:
    def leave() -> None:
        if in_a_slice:  # of thirty seconds
            processes[0].stdin.write('{"do": "run"}\n')
            processes[0].stdin.flush()
            time.sleep(0.2)
        processes[0].stdin.close()
        assert processes[0].wait(15) == 0
        raise KeyboardInterrupt

    plan = Plan(duration_s=30.0, rounds=1, warm_up_frames=0)
    with pytest.raises(KeyboardInterrupt):
        run_and_meet(processes, plan, frames, "opening", leave)


@pytest.fixture
def other(bundle_copy: Path, reseal: Callable[[Path], None]) -> Path:
    """The demo model as another one, which does not say that it was trained on phantoms."""
    manifest = json.loads((bundle_copy / "manifest.json").read_text())
    (bundle_copy / "manifest.json").write_text(json.dumps({**manifest, "name": "other", "trained_on": None}))
    reseal(bundle_copy)
    return bundle_copy


def test_two_bundles_take_turns_on_the_same_frames_under_their_names(
    demo_bundle: Path, other: Path, frames: HeldFrames, processes: list[Any]
) -> None:
    report = bench(
        FOUR_FRAMES,
        [ONE, replace(ONE, bundle=other)],
        frames,
        notices={other: ("This one was made for a test.",)},
        not_run={other: {"openvino": "not installed"}},
    )
    assert [case.name for case in report.cases] == ["demo, onnxruntime, 1 thread", "other, onnxruntime, 1 thread"]
    assert [case.model for case in report.cases] == [model.label for model in report.models] == ["demo", "other"]
    assert [model.digest for model in report.models] == [open_bundle(path).digest for path in (demo_bundle, other)]
    assert [model.not_run for model in report.models] == [{}, {"openvino": "not installed"}]
    assert report.models[0].notices == open_bundle(demo_bundle).manifest.notices
    assert report.models[1].notices == ("This one was made for a test.", RESEARCH_USE_ONLY)
    assert report.cases[0].samples.frame == report.cases[1].samples.frame
    assert len(processes) == 2
    assert parse_report(report.to_json().encode(), "here") == report


def test_a_bundle_that_fails_beside_another_is_named(
    other: Path, reseal: Callable[[Path], None], frames: HeldFrames, processes: list[Any]
) -> None:
    with np.load(other / "golden.npz") as arrays:
        content = {**arrays, "logits": arrays["logits"] + np.array([0.01, 0], dtype=np.float32)}
    np.savez_compressed(other / "golden.npz", **content)
    reseal(other)
    with pytest.raises(ParityError, match=r"^other, onnxruntime, 1 thread: .*golden frames do not match"):
        bench(Plan(), [ONE, replace(ONE, bundle=other)], frames)
    assert all(process.returncode is not None for process in processes)


def test_the_same_bundle_in_two_places_is_refused(bundle_copy: Path, frames: HeldFrames, processes: list[Any]) -> None:
    with pytest.raises(UsageError, match="the same bundle as"):
        bench(Plan(), [ONE, replace(ONE, bundle=bundle_copy)], frames)
    assert processes == []


def test_a_damaged_bundle_is_refused_before_a_process_is_started(
    bundle_copy: Path, frames: HeldFrames, processes: list[Any]
) -> None:
    (bundle_copy / "model.onnx").write_bytes(b"damaged")
    with pytest.raises(IntegrityError, match=r"model\.onnx"):
        bench(Plan(), [replace(ONE, bundle=bundle_copy)], frames)
    assert processes == []


def test_a_model_that_contradicts_its_golden_frames_is_not_timed(
    bundle_copy: Path, reseal: Callable[[Path], None], frames: HeldFrames, processes: list[Any]
) -> None:
    with np.load(bundle_copy / "golden.npz") as arrays:
        content = dict(arrays)
    content["logits"] = content["logits"] + np.array([0.01, 0], dtype=np.float32)
    np.savez_compressed(bundle_copy / "golden.npz", **content)
    reseal(bundle_copy)
    with pytest.raises(ParityError, match=r"^onnxruntime, 1 thread: .*golden frames do not match") as caught:
        bench(Plan(), [replace(ONE, bundle=bundle_copy)], frames)
    assert caught.value.exit_code == 1
    assert all(process.returncode is not None for process in processes)


def test_an_unproven_model_that_is_timed_on_request_fails_its_verdict(
    bundle_copy: Path, reseal: Callable[[Path], None], frames: HeldFrames
) -> None:
    with np.load(bundle_copy / "golden.npz") as arrays:
        content = dict(arrays)
    content["logits"] = content["logits"] + np.array([0.01, 0], dtype=np.float32)
    np.savez_compressed(bundle_copy / "golden.npz", **content)
    reseal(bundle_copy)
    plan = Plan(iterations=2, rounds=1, warm_up_frames=0, self_test=False)
    case = bench(plan, [replace(ONE, bundle=bundle_copy)], frames).cases[0]
    assert not case.parity.passed
    assert case.parity.failures
    assert any(reason.startswith("parity failed") for reason in case.verdict.reasons)


@pytest.mark.parametrize("cases", [[], [ONE, ONE]])
def test_cases_that_cannot_be_told_apart_are_refused(frames: HeldFrames, cases: list[CaseSpec]) -> None:
    with pytest.raises(UsageError, match="told apart by their names"):
        bench(Plan(), cases, frames)


FORKING = """
import multiprocessing, time
from vmeg_edge.bench import worker

class Case:
    def __init__(self, asked):
        time.sleep(0.2)  # until the words of the parent are waited for
        child = multiprocessing.get_context("fork").Process(target=int)
        child.start()
        child.join(5)
        self.opened = {"code": child.exitcode}
        child.kill()

worker._Case = Case
worker.main()
"""


@pytest.mark.skipif(sys.platform != "linux", reason="an engine forks on Linux alone")
def test_what_an_engine_forks_in_a_cases_process_ends() -> None:
    command = [sys.executable, "-W", "ignore", "-c", FORKING]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write("{}\n")
        process.stdin.flush()
        assert json.loads(process.stdout.readline()) == {"code": 0}
        process.stdin.close()
        assert process.wait(10) == 0
