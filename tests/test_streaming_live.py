"""A live stream on real threads: it keeps up, tells of gaps, survives its sinks, and a record of it replays."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import vmeg_edge
from vmeg_edge.errors import OutputError, SourceError, UsageError
from vmeg_edge.frames import Disconnected, Frame, LostFrame, Pixels
from vmeg_edge.live.core import NEWER
from vmeg_edge.phantom import PhantomCine
from vmeg_edge.recording import is_record, open_record
from vmeg_edge.replaying import Replay
from vmeg_edge.results import FrameResult, HeatMap, Signal
from vmeg_edge.sinks import Callback, JsonLines
from vmeg_edge.sources.memory import MemorySource
from vmeg_edge.sources.replay import ReplaySource

SLOW = vmeg_edge.SignalRules(none_after_s=30.0, frozen_after_s=30.0)


@pytest.fixture(scope="module")
def scorer(demo_bundle: Path) -> Iterator[vmeg_edge.Scorer]:
    with vmeg_edge.load(demo_bundle, self_test=False, threads=1) as opened:
        yield opened


@pytest.fixture(scope="module")
def phantoms() -> list[Frame]:
    return list(PhantomCine(frames=24, width=320, height=240))


class Script:
    """A live source that plays what it is given; a number is a pause in seconds."""

    kind, name, fps, frame_count, live = "script", "script", None, None, True

    def __init__(self, *items: Frame | LostFrame | Disconnected | float | BaseException) -> None:
        self._items = items
        self._closing = threading.Event()

    def __iter__(self) -> Iterator[Frame | LostFrame | Disconnected]:
        for item in self._items:
            if isinstance(item, float):
                if self._closing.wait(item):
                    return
            elif isinstance(item, BaseException):
                raise item
            else:
                yield item

    def close(self) -> None:
        self._closing.set()

    def __enter__(self) -> Script:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def test_latest_passes_over_frames_that_a_slow_scorer_cannot_take(
    scorer: vmeg_edge.Scorer, phantoms: list[Frame]
) -> None:
    run = vmeg_edge.stream(Script(*phantoms, 1.0), scorer, signal=SLOW)
    results = list(run)
    assert run.summary.policy == "latest"
    assert run.summary.frames == 24 == run.summary.scored + run.summary.dropped
    assert results[-1].frame == 23
    assert [r.frame for r in results] == sorted(r.frame for r in results)
    assert sum(r.dropped_before for r in results) == run.summary.drops[NEWER] == run.summary.dropped
    assert run.summary.dropped > 0


def test_block_scores_every_frame_of_a_live_source(scorer: vmeg_edge.Scorer, phantoms: list[Frame]) -> None:
    run = vmeg_edge.stream(Script(*phantoms), scorer, policy="block", signal=SLOW)
    assert [result.frame for result in run] == list(range(24))
    assert (run.summary.scored, run.summary.dropped) == (24, 0)


def test_a_file_under_latest_is_read_on_a_thread_too(scorer: vmeg_edge.Scorer, phantoms: list[Frame]) -> None:
    run = vmeg_edge.stream(MemorySource(phantoms), scorer, policy="latest", depth=2, signal=SLOW)
    results = list(run)
    assert results[-1].frame == 23
    assert run.summary.scored + run.summary.dropped == 24


def test_the_score_is_cleared_when_frames_stop_and_while_one_is_being_scored(
    scorer: vmeg_edge.Scorer, phantoms: list[Frame]
) -> None:
    rules = vmeg_edge.SignalRules(none_after_s=0.4)
    script = Script(phantoms[0], 1.5, phantoms[1], Disconnected("unplugged", "script"), 0.3, phantoms[2], 0.05)
    told: list[tuple[Signal, str]] = []
    run = vmeg_edge.stream(
        script, scorer, signal=rules, sinks=[Callback(lambda *_: None, lambda s, r: told.append((s, r)))]
    )
    states = []
    results = iter(run)
    assert next(results).signal == "live"
    for _ in range(40):
        status = run.status()
        states.append(status.signal)
        assert (status.result is None) == (status.signal == "none")
        time.sleep(0.02)
    assert states[0] == "live"
    assert states[-1] == "none"
    list(results)
    assert [state for state, _ in told][:2] == ["live", "none"]
    assert ("none", "no frame for 0.4 s") in told
    assert ("none", "unplugged") in told
    assert run.summary.reconnects == 1


def test_an_identical_frame_gives_its_result_again_and_infers_nothing(
    scorer: vmeg_edge.Scorer, phantoms: list[Frame], monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = []
    real = scorer.backend.infer

    def counted(pixels: Pixels) -> object:
        calls.append(1)
        return real(pixels)

    monkeypatch.setattr(scorer.backend, "infer", counted)
    still = [Frame(phantoms[0].pixels.copy(), index) for index in range(6)]
    rules = vmeg_edge.SignalRules(none_after_s=30.0, frozen_after_s=0.08)
    script = Script(*(item for frame in still for item in (frame, 0.06)))
    run = vmeg_edge.stream(script, scorer, policy="block", signal=rules)
    results = list(run)
    assert len(calls) == 1
    assert [result.reused for result in results] == [False] + [True] * 5
    assert {result.prediction.probability for result in results} == {results[0].prediction.probability}
    assert [result.frame for result in results] == list(range(6))
    assert results[-1].signal == "frozen"
    assert run.summary.reused == 5


class Stuck:
    """A sink that never comes back from its first write until it is let go."""

    def __init__(self) -> None:
        self.go = threading.Event()

    def write(self, frame: Frame, result: FrameResult) -> None:  # noqa: ARG002
        self.go.wait(30)

    def signal(self, state: Signal, reason: str) -> None:
        pass

    def close(self) -> None:
        pass

    def abort(self) -> None:
        pass


class Full(Stuck):
    """A sink whose disk is full."""

    def write(self, frame: Frame, result: FrameResult) -> None:  # noqa: ARG002
        raise OutputError("disk full")


def test_a_sink_that_stalls_or_breaks_never_holds_up_scoring(
    scorer: vmeg_edge.Scorer, phantoms: list[Frame], tmp_path: Path
) -> None:
    stuck, full = Stuck(), Full()
    lines = tmp_path / "out.jsonl"
    run = vmeg_edge.stream(
        Script(*phantoms), scorer, policy="block", signal=SLOW, sinks=[stuck, full, JsonLines(lines)]
    )
    results = []
    for result in run:
        results.append(result)
        if len(results) == 24:
            stuck.go.set()
    assert len(results) == 24
    reports = {report.name: report for report in run.summary.sinks}
    assert reports["Full"].problem == "disk full"
    assert (reports["Full"].written, reports["Full"].dropped) == (0, 24)
    assert reports["Stuck"].written + reports["Stuck"].dropped == 24
    assert reports["Stuck"].dropped >= 24 - 1 - 8
    assert reports["JsonLines"].written + reports["JsonLines"].dropped == 24
    assert sum('"probability"' in line for line in lines.read_text().splitlines()) == reports["JsonLines"].written


def test_a_source_that_fails_keeps_what_was_written_and_is_an_error(
    scorer: vmeg_edge.Scorer, phantoms: list[Frame], tmp_path: Path
) -> None:
    lines = tmp_path / "out.jsonl"
    script = Script(phantoms[0], 0.2, SourceError("burnt"))
    with pytest.raises(SourceError, match="burnt"):
        list(vmeg_edge.stream(script, scorer, sinks=[JsonLines(lines)]))
    assert lines.read_text().count('"probability"') == 1
    with pytest.raises(SourceError, match=r"reading failed \(ZeroDivisionError: by hand\)"):
        list(vmeg_edge.stream(Script(phantoms[0], 0.1, ZeroDivisionError("by hand")), scorer))


def test_duration_close_and_leaving_end_it_without_threads_left(
    scorer: vmeg_edge.Scorer, phantoms: list[Frame]
) -> None:
    before = set(threading.enumerate())

    def looped() -> ReplaySource:
        return ReplaySource(MemorySource(phantoms, fps=40.0), fps=40.0, loop=True)

    run = vmeg_edge.stream(looped(), scorer, duration_s=0.4)
    results = list(run)
    assert 1 <= len(results) <= 20
    closed = vmeg_edge.stream(looped(), scorer)
    for count, _ in enumerate(closed):
        if count == 2:
            closed.close()
    left = iter(vmeg_edge.stream(looped(), scorer))
    next(left)
    left.close()
    idle = vmeg_edge.stream(Script(phantoms[0], 30.0), scorer, duration_s=0.5)
    began = time.monotonic()
    assert len(list(idle)) == 1
    assert time.monotonic() - began < 10
    for summary in (run.summary, closed.summary, idle.summary):
        assert summary.open == 0
    assert set(threading.enumerate()) <= before


def test_a_stream_runs_once_and_takes_the_words_of_the_command_line(
    scorer: vmeg_edge.Scorer, phantoms: list[Frame]
) -> None:
    run = vmeg_edge.stream(MemorySource(phantoms[:2]), scorer)
    assert len(list(run)) == 2
    with pytest.raises(UsageError, match="runs once"):
        list(run)
    live = vmeg_edge.stream("phantom:", scorer, duration_s=0.5)
    assert live.source.live
    assert len(list(live)) >= 1
    with pytest.raises(SourceError, match="no connection"):
        vmeg_edge.stream("igtl://127.0.0.1:9", scorer)


def test_a_record_that_cannot_be_begun_aborts_the_sinks(
    scorer: vmeg_edge.Scorer, phantoms: list[Frame], tmp_path: Path
) -> None:
    run = vmeg_edge.stream(
        MemorySource(phantoms[:2]), scorer, record=tmp_path / "record", sinks=[JsonLines(tmp_path / "o.jsonl")]
    )
    for path in sorted((tmp_path / "record").rglob("*"), reverse=True):
        path.unlink() if path.is_file() else path.rmdir()
    (tmp_path / "record").rmdir()
    with pytest.raises(OutputError):
        list(run)
    assert list(tmp_path.iterdir()) == []


def test_lost_frames_count_in_a_live_stream(scorer: vmeg_edge.Scorer, phantoms: list[Frame]) -> None:
    run = vmeg_edge.stream(Script(LostFrame(0, "torn"), phantoms[1], 0.3), scorer, signal=SLOW)
    (result,) = list(run)
    assert (result.dropped_before, run.summary.lost, dict(run.summary.reasons)) == (1, 1, {"torn": 1})


def test_a_recorded_stream_replays_byte_for_byte(
    scorer: vmeg_edge.Scorer, phantoms: list[Frame], tmp_path: Path
) -> None:
    folder = tmp_path / "record"
    rules = vmeg_edge.SignalRules(none_after_s=0.15, frozen_after_s=0.1)
    story: list[Frame | LostFrame | Disconnected | float] = []
    for frame in phantoms[:12]:
        story += [frame, 0.004]
    story += [LostFrame(12, "torn"), 0.3, Disconnected("unplugged", "script"), 0.05]
    for index in range(13, 20):
        story += [Frame(phantoms[3].pixels.copy(), index, None, (0.1, 0.2)), 0.04]
    story += [Frame(np.full((100, 90, 3), 7, np.uint8), 20), 0.2]
    run = vmeg_edge.stream(Script(*story), scorer, signal=rules, deadline_ms=30.0, record=folder)
    live = list(run)
    assert run.summary.record_problem is None
    assert is_record(folder)
    record = open_record(folder)
    assert (record.header.complete, record.header.missing) == (True, 0)
    assert len(list((folder / "frames").iterdir())) <= 14 + 1
    again = Replay(record, scorer, keep_log=True)
    replayed = list(again)
    assert again.difference is None
    assert ("\n".join(again.log) + "\n").encode() == (folder / "events.jsonl").read_bytes()
    assert [(r.frame, r.signal, r.age_ms, r.late, r.reused) for r in replayed] == [
        (r.frame, r.signal, r.age_ms, r.late, r.reused) for r in live
    ]
    kinds = {line.split('"')[3] for line in again.log}
    assert {"frame", "result", "signal", "lost", "end"} <= kinds
    assert again.summary.drops == run.summary.drops
    assert again.summary.open == 0


def test_a_replay_that_differs_names_the_first_event(
    scorer: vmeg_edge.Scorer, phantoms: list[Frame], tmp_path: Path
) -> None:
    folder = tmp_path / "record"
    list(vmeg_edge.stream(MemorySource(phantoms[:3]), scorer, record=folder))
    events = folder / "events.jsonl"
    lines = events.read_text().splitlines(keepends=True)
    events.write_text("".join(line.replace('"normal"', '"suspected"') for line in lines))
    again = Replay(open_record(folder), scorer)
    assert len(list(again)) == 3
    assert again.difference is not None
    assert again.difference.startswith("event 2: recorded ")
    events.write_text("".join(lines) + '{"event": "more"}\n')
    longer = Replay(open_record(folder), scorer)
    list(longer)
    assert longer.difference == 'the record goes on with {"event": "more"}'


def test_records_that_are_not_sound_are_refused_in_one_line(
    scorer: vmeg_edge.Scorer, phantoms: list[Frame], tmp_path: Path
) -> None:
    folder = tmp_path / "record"
    list(vmeg_edge.stream(MemorySource(phantoms[:3]), scorer, record=folder))
    header, journal = folder / "record.json", folder / "journal.jsonl"
    sound_header, sound_journal = header.read_text(), journal.read_text()
    with pytest.raises(OutputError, match="holds something already"):
        vmeg_edge.stream(MemorySource(phantoms[:3]), scorer, record=folder)
    for text, message in [
        (sound_header.replace('"record_version": 1', '"record_version": 9'), "a record of version 9"),
        (sound_header.replace('"enter": 0.7', '"enter": 0.1'), "leave < enter"),
        (sound_header.replace('"complete"', '"whole"'), "copy the record again"),
        ("{", "not JSON"),
        ("[" * 100_000, "not JSON"),
    ]:
        header.write_text(text)
        with pytest.raises(SourceError, match=message):
            open_record(folder)
    header.write_text(sound_header)
    for text, message in [
        (sound_journal.replace("00000001.png", "../../etc.png"), "which no recorder writes"),
        (sound_journal.replace("00000001.png", "00000777.png"), "missing or damaged"),
        (sound_journal.replace('"do": "take"', '"do": "give"', 1), "journal.jsonl, line 2"),
        (sound_journal.replace('"file": "00000001.png"', '"file": null'), "faster than it could be kept"),
        (sound_journal.replace('"at_ns": ', '"at_ns": -', 1), "line 1"),
    ]:
        assert text != sound_journal
        journal.write_text(text)
        with pytest.raises(SourceError, match=message):
            list(Replay(open_record(folder), scorer))
    journal.write_text(sound_journal[: len(sound_journal) // 2])  # the power went while it was written
    assert len(list(Replay(open_record(folder), scorer))) >= 1


def test_rules_that_contradict_are_refused_before_anything_opens(scorer: vmeg_edge.Scorer) -> None:
    with pytest.raises(UsageError, match="deadline"):
        vmeg_edge.stream(MemorySource([]), scorer, deadline_ms=-1)
    with pytest.raises(UsageError, match="choose one of"):
        vmeg_edge.stream(MemorySource([]), scorer, policy="newest")  # type: ignore[arg-type]


def test_a_map_is_the_same_object_when_reused(scorer: vmeg_edge.Scorer, phantoms: list[Frame]) -> None:
    run = vmeg_edge.stream(
        Script(phantoms[0], 0.2, Frame(phantoms[0].pixels.copy(), 1), 0.2), scorer, policy="block", signal=SLOW
    )
    first, second = list(run)
    maps: list[HeatMap] = [first.heat_map, second.heat_map]
    assert maps[0] is maps[1]
