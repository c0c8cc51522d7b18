"""``vmeg-edge stream`` as a newcomer uses it: live, recorded, replayed, interrupted, and given nonsense."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import pytest

from vmeg_edge.phantom import PhantomCine

Run = Callable[..., Any]


@pytest.fixture(scope="module")
def stills(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of phantom frames, as a recorded source."""
    folder = tmp_path_factory.mktemp("stills")
    for frame in PhantomCine(frames=8, width=320, height=240):
        cv2.imwrite(str(folder / f"{frame.index:03d}.png"), frame.pixels)
    return folder


def test_a_paced_replay_is_scored_recorded_and_replayed_as_it_was(vmeg_edge: Run, stills: Path, tmp_path: Path) -> None:
    out, record, overlay = tmp_path / "out.jsonl", tmp_path / "record", tmp_path / "o.mp4"
    live = vmeg_edge(
        "stream", f"replay:{stills}", "--fps", 20, "--loop", "--duration", 1.5, "--deadline-ms", 500,
        "--out", out, "--overlay", overlay, "--record", record, "--json", "--exam-evidence", 3,
    )  # fmt: skip
    assert live.code == 0, live.err
    summary = json.loads(live.out)
    dropped = sum(summary["dropped"].values())
    assert summary["frames"] == summary["scored"] + dropped + summary["lost"] + summary["failed"]
    assert summary["scored"] >= 5
    assert (summary["policy"], summary["deadline_ms"]) == ("latest", 500.0)
    assert summary["stages_ms"]["age"]["p50_ms"] > summary["stages_ms"]["total"]["p50_ms"]
    assert "Research use only" in live.err
    lines = [json.loads(line) for line in out.read_text().splitlines()]
    assert lines[0] == {"signal": "live", "reason": ""}
    assert sum("probability" in line for line in lines) == summary["scored"]
    assert overlay.stat().st_size > 1000
    again = vmeg_edge("stream", record, "--json")
    assert again.code == 0, again.err
    replayed = json.loads(again.out)
    assert replayed["as_recorded"] is True
    assert (replayed["scored"], replayed["dropped"]) == (summary["scored"], summary["dropped"])
    told = vmeg_edge("stream", record)
    assert f"{replayed['events']} events replayed, all as recorded" in told.err
    events = record / "events.jsonl"
    events.write_text(events.read_text().replace('"late": false', '"late": true', 1))
    differs = vmeg_edge("stream", record)
    assert differs.code == 1
    assert "not as recorded: event" in differs.err


def test_a_file_is_scored_in_full_by_default(vmeg_edge: Run, stills: Path) -> None:
    ran = vmeg_edge("stream", stills, "--out", "-")
    assert ran.code == 0
    assert [json.loads(line)["frame"] for line in ran.out.splitlines()] == list(range(8))
    assert "policy block" in ran.err


def test_an_isolated_source_reads_the_same_frames(vmeg_edge: Run, stills: Path) -> None:
    here = vmeg_edge("stream", stills, "--out", "-")
    apart = vmeg_edge("stream", stills, "--isolate", "--out", "-")
    assert apart.code == 0, apart.err
    pick = [[json.loads(line)["probability"] for line in ran.out.splitlines()] for ran in (here, apart)]
    assert pick[0] == pick[1]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["replay:/nowhere.mp4"], "no such file"),
        (["camera:97"], "there is no /dev/video97"),
        (["camera:97", "--no-isolate"], "there is no /dev/video97"),
        (["igtl://127.0.0.1:9"], "no connection"),
        (["gopher://x/y"], "is no stream"),
        (["replay:x.mp4", "--fps", "0"], "above 0 and at most 240"),
        (["replay:x.mp4", "--fps", "10000"], "above 0 and at most 240"),
        (["x.mp4", "--fps", "15"], "pass replay:x.mp4"),
        (["phantom:", "--deadline-ms", "0"], "deadline"),
        (["phantom:", "--depth", "0"], "--depth"),
        (["phantom:", "--policy", "newest"], "--policy"),
        (["phantom:", "--exam-enter", "0.2"], "leave < enter"),
        (["phantom:", "--none-after-s", "0"], "above 0"),
        (["phantom:", "--size", "big"], "not a size"),
        (["phantom:", "--size", "640x480"], "no --size"),
        (["phantom:", "--serve", "nonsense"], "HOST:PORT"),
        (["phantom:", "--json", "--out", "-"], "--out FILE"),
    ],
)
def test_bad_input_is_one_line_that_names_the_mend(vmeg_edge: Run, arguments: list[str], message: str) -> None:
    ran = vmeg_edge("stream", *arguments, "--no-self-test")
    assert ran.code == 2, ran.err
    assert message in ran.error


def test_a_busy_port_and_a_record_folder_in_use_are_refused(vmeg_edge: Run, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as held:
        ran = vmeg_edge("stream", "phantom:", "--serve", f"127.0.0.1:{held.getsockname()[1]}", "--no-self-test")
    assert ran.code == 2
    assert "port" in ran.error
    (tmp_path / "record").mkdir()
    (tmp_path / "record" / "notes.txt").write_text("mine")
    ran = vmeg_edge("stream", "phantom:", "--record", tmp_path / "record", "--no-self-test")
    assert (ran.code, (tmp_path / "record" / "notes.txt").read_text()) == (2, "mine")
    assert "holds something already" in ran.error


def test_what_fails_before_the_stream_leaves_no_file_behind(vmeg_edge: Run, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as held:
        busy = f"127.0.0.1:{held.getsockname()[1]}"
        out = tmp_path / "o.jsonl"
        ran = vmeg_edge("stream", "phantom:", "--serve", busy, "--out", out, "--overlay", tmp_path / "o.mp4")
    assert ran.code == 2
    assert list(tmp_path.iterdir()) == []


def test_a_record_takes_no_rules_but_its_own(vmeg_edge: Run, stills: Path, tmp_path: Path) -> None:
    record = tmp_path / "record"
    assert vmeg_edge("stream", stills, "--record", record).code == 0
    for option in (["--policy", "latest"], ["--deadline-ms", "5"], ["--serve", "127.0.0.1:0"], ["--loop"]):
        ran = vmeg_edge("stream", record, *option)
        assert ran.code == 2
        assert ran.error.startswith(f"{option[0]}: a record is run again as it was recorded")
    assert vmeg_edge("stream", record, "--threads", 1).code == 0


def test_a_streams_address_is_never_shown_by_a_command_that_reads_files(vmeg_edge: Run) -> None:
    for command in ("score", "stream"):
        text = "rtsp://user:hunter2@127.0.0.1:9/x" if command == "score" else "replay:rtsp://user:hunter2@h/x"
        ran = vmeg_edge(command, text, "--out", "-")
        assert ran.code == 2
        assert "hunter2" not in ran.err


def test_a_record_of_another_version_is_refused(vmeg_edge: Run, tmp_path: Path) -> None:
    (tmp_path / "record.json").write_text('{"record_version": 2}')
    (tmp_path / "journal.jsonl").write_text("")
    ran = vmeg_edge("stream", tmp_path)
    assert ran.code == 2
    assert "a record of version 2" in ran.error


@pytest.mark.skipif(os.name == "nt", reason="SIGINT is sent to one process")
def test_ctrl_c_ends_cleanly_with_the_summary_and_whole_files(stills: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.jsonl"
    command = [sys.executable, "-m", "vmeg_edge", "stream", f"replay:{stills}", "--fps", "15", "--loop", "--isolate"]
    process = subprocess.Popen(
        [*command, "--out", str(out), "--record", str(tmp_path / "record"), "--serve", "127.0.0.1:0"],
        stderr=subprocess.PIPE,
        text=True,
    )
    errors = process.stderr
    assert errors is not None
    seen: list[str] = []
    reader = threading.Thread(target=lambda: seen.extend(iter(errors.readline, "")))
    reader.start()
    end = time.monotonic() + 60
    while time.monotonic() < end and not any("scored" in line for line in seen):
        time.sleep(0.1)
    time.sleep(1.0)
    process.send_signal(signal.SIGINT)
    assert process.wait(30) == 0
    reader.join(10)
    text = "".join(seen)
    assert "frames a second" in text
    assert "exam at the end" in text
    assert "Traceback" not in text
    assert json.loads((tmp_path / "record" / "record.json").read_text())["complete"] is True
    assert out.read_text().count('"probability"') >= 3
