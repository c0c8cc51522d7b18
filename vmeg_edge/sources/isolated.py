"""Any source in a process of its own: a read that blocks or crashes costs that process, not the scorer."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

from vmeg_edge.errors import FrameError, SourceError, UsageError
from vmeg_edge.frames import Disconnected, Frame, LostFrame, Pixels, Region
from vmeg_edge.sources.base import MAX_PIXELS, Source
from vmeg_edge.sources.filesource import printable
from vmeg_edge.sources.ring import Ring
from vmeg_edge.sources.spec import SourceSpec, open_spec
from vmeg_edge.spawning import NO_WINDOW

_SLOTS = 4
_MAX_LINE = 1 << 16


@dataclass(frozen=True)
class Patience:
    """How long to wait, in seconds: for a source to open, for a frame before the child is killed, and between attempts.

    A source that states a slow rate has three frame periods, if that is longer than ``stall_s``. Attempts follow one
    another after ``first_retry_s``, then twice that, up to ``last_retry_s``, until a frame comes. ``give_up_s`` ends a
    live source that has been gone for so long; ``None`` never does.
    """

    open_s: float = 20.0
    stall_s: float = 2.0
    first_retry_s: float = 0.05
    last_retry_s: float = 5.0
    give_up_s: float | None = None

    def __post_init__(self) -> None:
        """Refuse times that are not positive."""
        if not min(self.open_s, self.stall_s, self.first_retry_s, self.last_retry_s, self.give_up_s or 1.0) > 0:
            raise UsageError("the times that a source is waited for must be above 0 seconds")


class _Child:
    """One capture process and the ring that it writes to."""

    def __init__(self, spec: dict[str, Any]) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "vmeg_edge.sources.child"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            encoding="utf-8",
            errors="replace",
            creationflags=NO_WINDOW,
        )
        self.ring: Ring | None = None
        self.waiting_since: float | None = None
        self.stalled = False
        self.tell({"spec": spec, "path": [entry or str(Path.cwd()) for entry in sys.path]})

    def tell(self, what: dict[str, Any]) -> None:
        """Send one line; a child that is gone is noticed when it is read from."""
        pipe = self.process.stdin
        try:
            if pipe is not None:
                pipe.write(json.dumps(what) + "\n")
                pipe.flush()
        except (OSError, ValueError):
            pass

    def hear(self) -> dict[str, Any] | None:
        """The next message, ``None`` when the child is gone. Raises `ValueError` for what no child sends."""
        pipe = self.process.stdout
        self.waiting_since = time.monotonic()
        try:
            line = "" if pipe is None else pipe.readline(_MAX_LINE)
        except (OSError, ValueError):
            line = ""
        finally:
            self.waiting_since = None
        if not line.endswith("\n"):
            return None
        told = json.loads(line)
        if not isinstance(told, dict):
            raise ValueError("not a message")
        return told

    def offer_ring(self, slot_bytes: int) -> None:
        """A new ring, large enough for what the child was asked to hand over."""
        if not 0 < slot_bytes <= 3 * MAX_PIXELS:
            raise ValueError(f"a picture of {slot_bytes} bytes")
        if self.ring is not None:
            self.ring.close()
        self.ring = Ring.create(_SLOTS, slot_bytes)
        self.tell({"do": "ring", "name": self.ring.name, "slots": _SLOTS, "bytes": slot_bytes})

    def kill(self) -> None:
        """End the process; what it was doing is lost."""
        self.process.kill()

    def bury(self) -> None:
        """Kill, wait, and let go of pipes and memory."""
        self.kill()
        for pipe in (self.process.stdin, self.process.stdout):
            try:
                if pipe is not None:
                    pipe.close()
            except OSError:
                pass
        self.process.wait()
        if self.ring is not None:
            self.ring.close()


class IsolatedSource:
    """Frames of the source that ``spec`` (the JSON form of a `SourceSpec`) describes, read in a child process.

    A live source that crashes, stalls or loses its device says `Disconnected`, and is opened again, with
    back-off until it delivers. A file whose reader crashes raises `SourceError`. ``index`` and ``captured_s`` go on
    over reconnects. Raises `SourceError` when the source cannot be opened in the first place.
    """

    def __init__(self, spec: dict[str, Any], patience: Patience | None = None) -> None:
        """Start the child and wait until its source is open."""
        self._spec = spec
        self._patience = patience or Patience()
        self._lock = threading.Lock()
        self._closing = threading.Event()
        self._index = 0
        self._first_ns: int | None = None
        self._child: _Child | None = None
        self._retry_s = self._patience.first_retry_s
        self._gone_since: float | None = None
        self._limit_s = self._patience.open_s
        threading.Thread(target=self._watch, name="capture watch", daemon=True).start()
        try:
            ready = self._start()
            self.name, self.kind = printable(ready["name"]), f"isolated {printable(ready['kind'])}"
            self.fps: float | None = ready["fps"]
            self.frame_count: int | None = ready["frames"]
            self.live = bool(ready["live"])
        except (KeyError, ValueError) as error:
            self.close()
            raise SourceError(f"the capture process cannot be understood ({error}); install vmeg-edge again") from None
        except BaseException:
            self.close()
            raise

    @property
    def child_pid(self) -> int | None:
        """The capture process, ``None`` between two of them."""
        child = self._child
        return None if child is None else child.process.pid

    @property
    def memory_name(self) -> str | None:
        """The block of shared memory that pictures come through, ``None`` while there is none."""
        child = self._child
        ring = None if child is None else child.ring
        return None if ring is None else ring.name

    def __iter__(self) -> Iterator[Frame | LostFrame | Disconnected]:
        """Deliver frames; a live source waits out its interruptions."""
        while not self._closing.is_set():
            reason = yield from self._run()
            if reason is None or self._closing.is_set():
                return
            if not self.live:
                raise SourceError(f"{self.name}: {reason}; copy the file again, or convert it")
            yield Disconnected(reason, self.name)
            if not self._reconnect():
                raise SourceError(f"{self.name}: gone for {self._patience.give_up_s:g} s ({reason}); check the device")

    def close(self) -> None:
        """Kill the child and remove its memory; safe from any thread, and twice."""
        self._closing.set()
        child = self._child
        if child is not None:
            child.kill()  # wakes a reader that holds no lock
        with self._lock:
            self._bury()

    def __enter__(self) -> IsolatedSource:
        """Return itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close."""
        self.close()

    def _start(self) -> dict[str, Any]:
        """A child whose source is open. Raises `SourceError` with the child's reason."""
        with self._lock:
            self._bury()
            if self._closing.is_set():
                raise SourceError("the source is closed; open it again")
            self._child = child = _Child(self._spec)
        self._limit_s = self._patience.open_s
        told = child.hear()
        if told is None:
            raise SourceError(f"the source did not open: {self._last_words(child)}")
        if told.get("do") == "error":
            raise SourceError(printable(told.get("reason")))
        if told.get("do") != "ready":
            raise ValueError("no ready")
        fps = told.get("fps")
        slowest_s = 3 / fps if isinstance(fps, (int, float)) and fps > 0 else 0.0
        self._limit_s = max(self._patience.stall_s, slowest_s)
        return told

    def _run(self) -> Generator[Frame | LostFrame | Disconnected, None, str | None]:
        """Frames of one child; returns why it ended, ``None`` when the source is done."""
        child = self._child
        offset_s: float | None = None
        gone: str | None = None
        while child is not None:
            try:
                told = child.hear()
                if told is None:
                    return gone or self._last_words(child)
                done = told.get("do")
                if done == "frame":
                    pixels = self._copy(child, told)
                    if pixels is None:
                        return None
                    offset_s = self._offset_s(told) if offset_s is None else offset_s
                    frame = self._frame(told, pixels, offset_s)
                    self._index += 1
                    gone = self._gone_since = None
                    self._retry_s = self._patience.first_retry_s
                    yield frame
                    child.tell({"do": "free"})  # once the frame is on its way
                elif done == "lost":
                    yield LostFrame(self._index, printable(told["reason"]), printable(told["source"]))
                    self._index += 1
                elif done == "gone":
                    gone = printable(told["reason"])
                    yield Disconnected(gone, self.name)
                elif done == "need":
                    with self._lock:
                        child.offer_ring(int(told["bytes"]))
                elif done == "error":
                    return printable(told["reason"]).removeprefix(f"{self.name}: ")
                elif done == "end":
                    return gone
                else:
                    raise ValueError(f"message {printable(done)[:40]}")
            except (ValueError, KeyError, TypeError) as error:
                return f"the capture process sent what none sends ({printable(error)[:80]})"
            except OSError as error:
                return f"no shared memory for its frames ({error.strerror})"
        return None

    def _copy(self, child: _Child, told: dict[str, Any]) -> Pixels | None:
        """The pixels of one message, ``None`` when the source was closed."""
        shape = tuple(int(side) for side in told["shape"])
        if len(shape) not in (2, 3) or min(shape) < 1:
            raise ValueError(f"a picture of shape {shape}")
        with self._lock:
            if self._closing.is_set() or child.ring is None:
                return None
            return child.ring.read(int(told["sequence"]), shape)

    def _offset_s(self, told: dict[str, Any]) -> float:
        """What to add to this child's capture times, so that they go on from those before a reconnect."""
        arrived_ns, captured_s = int(told["arrived_ns"]), told["captured_s"]
        if self._first_ns is None:
            self._first_ns = arrived_ns
            return 0.0
        return (arrived_ns - self._first_ns) * 1e-9 - float(captured_s or 0.0)

    def _frame(self, told: dict[str, Any], pixels: Pixels, offset_s: float) -> Frame | LostFrame:
        captured_s = told["captured_s"]
        spacing, region = told["spacing_mm"], told["region"]
        try:
            return Frame(
                pixels,
                self._index,
                None if captured_s is None else float(captured_s) + offset_s,
                None if spacing is None else (float(spacing[0]), float(spacing[1])),
                None if region is None else Region(**region),
                printable(told["source"]),
                arrived_ns=int(told["arrived_ns"]),
            )
        except FrameError as error:
            return LostFrame(self._index, printable(error), self.name)

    def _reconnect(self) -> bool:
        """Open again, with a back-off that only a frame resets; false when that was given up."""
        self._gone_since = time.monotonic() if self._gone_since is None else self._gone_since
        give_up_s = self._patience.give_up_s
        while not self._closing.wait(self._retry_s):
            if give_up_s is not None and time.monotonic() - self._gone_since > give_up_s:
                return False
            self._retry_s = min(2 * self._retry_s, self._patience.last_retry_s)
            try:
                self._start()
                return True
            except (SourceError, ValueError, OSError):
                continue
        return True

    def _watch(self) -> None:
        """Kill a child that has kept us waiting for too long."""
        while not self._closing.wait(0.05):
            child = self._child
            since = None if child is None else child.waiting_since
            if child is not None and since is not None and time.monotonic() - since > self._limit_s:
                child.stalled = True
                child.kill()

    def _last_words(self, child: _Child) -> str:
        if child.stalled:
            return f"nothing came for {self._limit_s:g} s, so its capture process was killed"
        try:
            code = child.process.wait(1.0)
        except subprocess.TimeoutExpired:
            return "the capture process closed its pipe"
        return f"the capture process died (exit {code})"

    def _bury(self) -> None:
        if self._child is not None:
            self._child.bury()
            self._child = None


def open_where_due(spec: SourceSpec, isolate: bool | None = None) -> Source:
    """Open ``spec`` in a process of its own where ``isolate`` says so; ``None``: where its reads can block for ever.

    Those are cameras, network streams and OpenIGTLink. Raises `SourceError` or `UsageError`.
    """
    apart = spec.kind in ("camera", "url", "igtl") if isolate is None else isolate
    return IsolatedSource(spec.to_json()) if apart else open_spec(spec)
