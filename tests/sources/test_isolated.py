"""A source that blocks, crashes, shrinks or lies costs its own process; the parent reads on, and leaks nothing."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from itertools import islice
from multiprocessing import shared_memory
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from vmeg_edge.errors import SourceError, UsageError
from vmeg_edge.frames import Disconnected, Frame, LostFrame, Region
from vmeg_edge.sources.isolated import IsolatedSource, Patience
from vmeg_edge.sources.ring import Ring

QUICK = Patience(stall_s=1.5, first_retry_s=0.02, last_retry_s=0.2)


@pytest.fixture(autouse=True)
def _made_sources_can_be_imported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(Path(__file__).parent))


def made(factory: str = "Made", **arguments: Any) -> dict[str, Any]:
    return {"kind": "python", "options": {"factory": f"made_sources:{factory}", "arguments": arguments}}


def opened(patience: Patience = QUICK, **arguments: Any) -> IsolatedSource:
    return IsolatedSource(made(**arguments), patience)


def alive(pid: int | None) -> bool:
    try:
        os.kill(pid or -1, 0)
    except (ProcessLookupError, OSError):
        return False
    return True


def test_frames_come_through_shared_memory_as_they_were() -> None:
    with opened(good=12) as source:
        assert (source.name, source.kind, source.fps, source.live) == ("made", "isolated made", 100.0, True)
        frames = list(source)
    assert [frame.index for frame in frames if isinstance(frame, Frame)] == list(range(12))
    for index, frame in enumerate(frames):
        assert isinstance(frame, Frame)
        assert frame.pixels.shape == (48, 64, 3)
        assert (frame.pixels == index).all()
        assert frame.captured_s == pytest.approx(index / 100)
        assert (frame.spacing_mm, frame.region) == ((0.5, 0.25), Region(0, 0, 40, 40))
        assert frame.arrived_ns is not None
        assert 0 <= time.perf_counter_ns() - frame.arrived_ns < 60e9


def test_a_change_of_size_mid_stream_is_followed() -> None:
    with opened(good=8, then="resize") as source:
        widths = [item.width for item in source if isinstance(item, Frame)]
    assert widths == [64] * 3 + [128] * 5


@pytest.mark.parametrize(
    ("then", "reason"),
    [
        ("crash", "the capture process died"),
        ("exit", "the capture process died (exit 7)"),
        ("hang", "nothing came for 1.5 s, so its capture process was killed"),
        ("gone", "cable pulled"),
        ("raise", "the source failed (RuntimeError: two lines)"),
    ],
)
def test_a_source_that_breaks_is_told_of_and_comes_back(then: str, reason: str, tmp_path: Path) -> None:
    with opened(good=4, then=then, once=str(tmp_path / "once")) as source:
        items = list(islice(source, 12))
    frames = [item for item in items if isinstance(item, Frame)]
    gone = [item for item in items if isinstance(item, Disconnected)]
    assert gone[0].reason.startswith(reason)
    assert len(gone) <= 2
    assert [frame.index for frame in frames] == list(range(len(frames)))
    assert [int(frame.pixels[0, 0, 0]) for frame in frames[:6]] == [0, 1, 2, 3, 0, 1]
    captured = [frame.captured_s for frame in frames if frame.captured_s is not None]
    assert captured == sorted(captured)
    assert captured[4] > captured[3]


def test_what_libraries_print_is_no_message() -> None:
    with opened(good=3, then="noise") as source:
        assert sum(isinstance(item, Frame) for item in source) == 3


def test_lost_frames_keep_their_place() -> None:
    with opened(good=2, then="lost") as source:
        items = list(source)
    assert isinstance(items[2], LostFrame)
    assert (items[2].index, items[2].reason) == (2, "torn")


def test_a_file_whose_reader_crashes_is_an_error() -> None:
    with opened(good=2, then="crash", live=False) as source, pytest.raises(SourceError, match="process died"):
        list(source)


@pytest.mark.parametrize(
    ("factory", "message"),
    [
        ("refuses", "made: no such device; plug it in"),
        ("speaks_out_of_turn", r"the capture process died \(exit 3\)"),
        ("opens_never", r"did not open: nothing came for 1.5 s"),
        ("nothing_of_that_name", "AttributeError"),
    ],
)
def test_what_cannot_be_opened_is_an_error_in_one_line(factory: str, message: str) -> None:
    with pytest.raises(SourceError, match=message) as caught:
        IsolatedSource(made(factory), Patience(open_s=1.5))
    assert "\n" not in str(caught.value)


def test_a_live_source_that_stays_away_is_given_up_only_when_asked() -> None:
    patience = Patience(first_retry_s=0.02, last_retry_s=0.05, give_up_s=0.3, open_s=5.0)
    with opened(patience, good=2, then="exit") as source:
        source._spec["options"]["factory"] = "made_sources:refuses"
        with pytest.raises(SourceError, match=r"gone for 0.3 s \(the capture process died"):
            list(source)


def test_a_source_that_opens_and_never_delivers_backs_off_and_is_given_up() -> None:
    patience = Patience(first_retry_s=0.05, last_retry_s=5.0, give_up_s=1.5, stall_s=5.0)
    began = time.monotonic()
    with opened(patience, good=0, then="exit") as source:
        told: list[object] = []
        with pytest.raises(SourceError, match=r"gone for 1.5 s"):
            told.extend(source)
    assert {type(item) for item in told} == {Disconnected}
    assert 2 <= len(told) <= 6  # 0.05, 0.1, 0.2, 0.4, 0.8 seconds between the attempts, and what starting takes
    assert time.monotonic() - began < 30


def test_close_from_another_thread_ends_a_read_that_blocks() -> None:
    source = opened(Patience(stall_s=60.0), good=1, then="hang")
    seen: list[object] = []
    reader = threading.Thread(target=lambda: seen.extend(source))
    reader.start()
    while not seen:
        time.sleep(0.01)
    pid = source.child_pid
    source.close()
    reader.join(5)
    assert not reader.is_alive()
    assert not alive(pid)
    source.close()


def test_killed_at_random_moments_it_recovers_and_leaves_no_process_and_no_memory() -> None:
    rng = np.random.default_rng(5)
    source = opened(good=10_000, fps=200.0)
    pids, names = set(), set()
    kills, gone, frames_since = 0, 0, 0
    for item in source:
        if isinstance(item, Disconnected):
            gone += 1
            frames_since = 0
            if kills == 6:
                break
        elif isinstance(item, Frame):
            assert (item.pixels == item.pixels[0, 0, 0]).all()  # never half a frame
            frames_since += 1
            pid, child = source.child_pid, source._child
            if frames_since == 3 and pid is not None and child is not None and child.ring is not None:
                pids.add(pid)
                names.add(child.ring.name)
                time.sleep(float(rng.uniform(0, 0.02)))
                os.kill(pid, signal.SIGKILL)
                kills += 1
    source.close()
    assert (kills, gone, len(pids)) == (6, 6, 6)
    assert not any(map(alive, pids))
    for name in names:
        with pytest.raises(FileNotFoundError):
            shared_memory.SharedMemory(name)


def test_a_child_that_writes_nonsense_is_replaced(tmp_path: Path) -> None:
    with opened(good=6, then="exit", once=str(tmp_path / "once")) as source:
        items: Iterator[object] = iter(source)
        assert isinstance(next(items), Frame)
        child = source._child
        assert child is not None
        assert child.ring is not None
        child.ring._memory.buf[:8] = b"\xff" * 8  # a writer that ran wild over the sequence numbers
        for slot in range(child.ring.slots):
            child.ring._memory.buf[child.ring._start(slot) : child.ring._start(slot) + 8] = b"\xff" * 8
        rest = list(islice(items, 12))
    assert sum(isinstance(item, Frame) for item in rest) >= 6


def test_when_the_parent_is_killed_the_child_ends_and_its_memory_goes(tmp_path: Path) -> None:
    code = (
        f"import sys; sys.path.insert(0, {str(Path(__file__).parent)!r})\n"
        "from vmeg_edge.sources.isolated import IsolatedSource\n"
        "spec = {'kind': 'python', 'options': {'factory': 'made_sources:Made',"
        " 'arguments': {'good': 1, 'then': 'hang'}}}\n"
        "source = IsolatedSource(spec); next(iter(source))\n"
        "print(source.child_pid, source._child.ring.name, flush=True); import time; time.sleep(60)\n"
    )
    parent = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, cwd=tmp_path)
    assert parent.stdout is not None
    pid, name = parent.stdout.readline().split()
    parent.kill()
    parent.wait()
    end = time.monotonic() + 10
    gone = False
    while time.monotonic() < end and not gone:
        time.sleep(0.05)
        try:
            shared_memory.SharedMemory(name).close()
        except FileNotFoundError:
            gone = not alive(int(pid))
    parent.stdout.close()
    assert gone


def test_a_ring_refuses_what_does_not_fit_and_what_it_does_not_hold() -> None:
    ring = Ring.create(2, 100)
    try:
        other = Ring.attach(ring.name, 2, 100)
        picture = np.arange(100, dtype=np.uint8).reshape(10, 10)
        other.write(0, picture)
        other.write(1, picture.T)
        assert np.array_equal(ring.read(0, (10, 10)), picture)
        assert np.array_equal(ring.read(1, (10, 10)), picture.T)
        with pytest.raises(ValueError, match="holds picture 0, not 2"):
            ring.read(2, (10, 10))
        with pytest.raises(ValueError, match="does not fit"):
            other.write(2, np.zeros((10, 11), np.uint8))
        other.close()
    finally:
        ring.close()
    with pytest.raises(FileNotFoundError):
        Ring.attach(ring.name, 2, 100)


@pytest.mark.parametrize("wrong", [{"stall_s": 0.0}, {"open_s": -1.0}, {"give_up_s": -0.5}])
def test_a_wait_that_is_none_is_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(UsageError, match="above 0"):
        Patience(**wrong)
