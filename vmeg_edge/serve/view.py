"""What a browser is shown of a live stream: the newest result with its picture, and never one whose signal is gone."""

from __future__ import annotations

import base64
import secrets
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

from vmeg_edge.frames import Frame
from vmeg_edge.manifest import DecisionRule
from vmeg_edge.results import FrameResult, Signal, StreamStatus
from vmeg_edge.serve.pictures import encode
from vmeg_edge.serve.tally import Tally
from vmeg_edge.serve.trace import STEP_S, STEPS, Trace

NOTHING_YET = StreamStatus(
    signal="none",
    signal_reason="no frame has come yet",
    signal_since_s=0.0,
    exam="undetermined",
    exam_reason="no evidence yet",
    uptime_s=0.0,
    arrived=0,
    scored=0,
    reused=0,
    lost=0,
    failed=0,
    dropped={},
    late=0,
    waiting=0,
    arrival_fps=0.0,
    scored_fps=0.0,
    reconnects=0,
    result=None,
)
STAGES = ("decode", "preprocess", "infer", "explain", "decide")

_PICTURES_EVERY_S = 0.1
_STALE_AFTER_S = 2.0
_ABOUT = ("name", "bundle", "backend", "version", "device", "precision", "self_test", "vmeg_edge")


@dataclass(eq=False)
class _Shot:
    """One result as it is shown. Its pictures are made when the first browser asks for them."""

    number: int
    frame: Frame
    result: FrameResult
    written_s: float
    pictures: dict[str, Any] | None = None


class LiveView:
    """A sink that keeps the newest result, the score's trace over five minutes and the durations, in bounded memory.

    The stream's counts come with `status`, or are asked for whenever somebody looks, after `follow`. Pictures are
    encoded on the thread that looks, at most ten a second. A score is cleared when the signal goes, when the stream
    ends, and when no other followed it for two seconds (or twice the time that it took itself). Every method may be
    called from any thread.
    """

    def __init__(
        self,
        rule: DecisionRule,
        notices: Sequence[str] = (),
        *,
        provenance: Mapping[str, Any] | None = None,
        source: str = "",
        clock_s: Callable[[], float] = time.monotonic,
    ) -> None:
        """Show ``rule``'s threshold and abstain band, and ``notices`` at all times."""
        self.rule = rule
        self._notices = tuple(notices)
        self._provenance = dict(provenance or {})
        self._source = source
        self._clock_s = clock_s
        self._lock = threading.Lock()
        self._encoding = threading.Lock()
        self._stream = secrets.token_hex(8)  # tells a page that the server behind an address is another one
        self._began_s = clock_s()
        self._ask: Callable[[], StreamStatus] | None = None
        self._status = NOTHING_YET
        self._state: Signal | None = None
        self._reason = ""
        self._since_s = self._began_s
        self._ended = False
        self._numbered = 0
        self._cleared = 0  # results up to this number may not be shown again
        self._newest: _Shot | None = None
        self._on_air: _Shot | None = None
        self._aired_s = float("-inf")
        self._trace = Trace()
        self._ages = Tally()
        self._stages = {stage: Tally() for stage in STAGES}

    def write(self, frame: Frame, result: FrameResult) -> None:
        """Take the newest result. One whose signal is gone already is counted, not shown."""
        with self._lock:
            if self._ended:
                return
            now_s = self._clock_s()
            self._ages.add(result.age_ms * 1e-3)
            if not result.reused:
                for stage in STAGES:
                    self._stages[stage].add(getattr(result.stages_ms, stage) * 1e-3)
            self._provenance = result.provenance or self._provenance
            self._source = result.source
            if "none" in (result.signal, self._state):  # it was still on its way when the signal went
                return
            if self._state is None:  # a file has no signal to watch, so nothing is ever told of it
                self._become(result.signal, "", now_s)
            self._numbered += 1
            self._newest = _Shot(self._numbered, frame, result, now_s)
            self._trace.add(now_s - self._began_s, result)

    def signal(self, state: Signal, reason: str) -> None:
        """The signal changed; on ``none`` score, heat map and picture are cleared."""
        with self._lock:
            self._become(state, reason, self._clock_s())

    def status(self, status: StreamStatus) -> None:
        """Take the stream's counts and states; on a signal of ``none`` the score is cleared."""
        with self._lock:
            self._take(status)

    def follow(self, ask: Callable[[], StreamStatus]) -> None:
        """Ask for the status whenever somebody looks, so that none has to be sent: ``view.follow(stream.status)``."""
        with self._lock:
            self._ask = ask

    def close(self) -> None:
        """The stream is over: nothing is live any more, and the counts stay."""
        ask = self._ask
        last = None if ask is None else ask()
        with self._lock:
            if last is not None:
                self._take(last)
            self._become("none", "the stream has ended", self._clock_s())
            self._ended = True

    def abort(self) -> None:
        """The same as `close`: nothing was written anywhere."""
        self.close()

    def now(self) -> StreamStatus:
        """The newest status; its ``result`` is what a browser may be shown now."""
        return self._look(aired=False)[0]

    def durations(self) -> tuple[Tally, dict[str, Tally]]:
        """The ages of all results, and the time that each stage took for those that were not reused."""
        return self._ages, self._stages

    @property
    def about(self) -> dict[str, str]:
        """What scores: bundle, backend, device, precision and versions, as far as they are known."""
        held = self._provenance
        return {name: str(held[name]) for name in _ABOUT if held.get(name) is not None}

    def look(self, seen: int = 0, since: int = 0) -> dict[str, Any]:
        """All that the page shows, ready for ``json.dumps``.

        The picture is left out where ``seen`` is its number already; of the trace, steps from ``since`` on are given.
        Score, heat map and picture are always those of one frame.
        """
        self._air()
        status, shot, now_s = self._look(aired=True)
        with self._lock:
            result = None if shot is None else shot.result
            notices = dict.fromkeys((*self._notices, *(() if result is None else result.notices)))
            return {
                "stream": self._stream,
                "now_s": round(now_s - self._began_s, 3),
                "source": self._source,
                "ended": self._ended,
                "signal": status.signal,
                "signal_reason": status.signal_reason,
                "signal_for_s": round(max(0.0, now_s - self._since_s), 2),
                "result": None if shot is None else _shown(shot, now_s),
                "pictures": None if shot is None or shot.number == seen else shot.pictures,
                "status": counts(status),
                "rule": {"threshold": self.rule.threshold, "abstain": self.rule.abstain},
                "about": self.about,
                "notices": list(notices),
                "trace": {
                    "step_s": STEP_S,
                    "steps": STEPS,
                    "points": self._trace.since(since, now_s - self._began_s),
                },
            }

    def _air(self) -> None:
        """Put the newest result on air with its pictures, at most ten times a second."""
        with self._encoding:
            with self._lock:
                now_s, shot = self._clock_s(), self._newest
                if shot is None or shot is self._on_air or now_s - self._aired_s < _PICTURES_EVERY_S:
                    return
            frame, heat = encode(shot.frame, shot.result.heat_map)
            shot.pictures = {
                "number": shot.number,
                "frame": base64.b64encode(frame).decode(),
                "heat": base64.b64encode(heat).decode(),
            }
            with self._lock:
                if shot.number > self._cleared:  # the signal may have gone in the meantime
                    self._on_air, self._aired_s = shot, now_s

    def _look(self, *, aired: bool) -> tuple[StreamStatus, _Shot | None, float]:
        """The status as it is shown, the result (the one on air, or the newest) if it may be shown, and the time."""
        ask = self._ask
        asked = None if ask is None or self._ended else ask()  # not under the lock: the stream has a lock of its own
        with self._lock:
            if asked is not None and not self._ended:
                self._take(asked)
            now_s = self._clock_s()
            shot = self._on_air if aired else self._newest
            if shot is not None and now_s - shot.written_s > _held_s(shot.result):
                shot = None
            status = replace(
                self._status,
                signal=self._state or "none",
                signal_reason=NOTHING_YET.signal_reason if self._state is None else self._reason,
                result=None if shot is None else shot.result,
            )
            return status, shot, now_s

    def _take(self, status: StreamStatus) -> None:
        self._status = status
        now_s = self._clock_s()
        if not self._ended:
            self._become(status.signal, status.signal_reason, now_s)
            self._since_s = now_s - max(0.0, status.uptime_s - status.signal_since_s)

    def _become(self, state: Signal, reason: str, now_s: float) -> None:
        if self._ended:
            return
        if state != self._state:
            self._since_s = now_s
        self._state, self._reason = state, reason
        if state == "none":
            self._newest = self._on_air = None
            self._cleared = self._numbered
            self._aired_s = float("-inf")


def counts(status: StreamStatus) -> dict[str, Any]:
    """A status without its result, ready for ``json.dumps``."""
    return {field.name: getattr(status, field.name) for field in fields(status) if field.name != "result"}


def _held_s(result: FrameResult) -> float:
    """How long a score may be shown when no other follows it."""
    return max(_STALE_AFTER_S, 2e-3 * result.stages_ms.total)


def _shown(shot: _Shot, now_s: float) -> dict[str, Any]:
    result = shot.result
    return {
        "number": shot.number,
        "frame": result.frame,
        "captured_s": result.captured_s,
        "probability": result.prediction.probability,
        "decision": result.prediction.decision,
        "reason": result.prediction.reason,
        "reused": result.reused,
        "late": result.late,
        "signal": result.signal,
        "age_ms": round(result.age_ms, 2),
        "since_ms": round((now_s - shot.written_s) * 1e3, 1),
        "stages_ms": {name: round(value, 3) for name, value in asdict(result.stages_ms).items()},
    }
