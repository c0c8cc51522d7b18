"""The rule over an exam: from decisions on frames, which flicker, to one state that does not."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Literal

from vmeg_edge.errors import UsageError
from vmeg_edge.results import FrameResult

ExamVerdict = Literal["undetermined", "normal", "suspected"]

RULE_VERSION = 1


@dataclass(frozen=True)
class ExamRule:
    """Version 1 of the rule.

    A frame is evidence when its signal is live, its pixels are new and its decision is not ``no-decision``. Over the
    evidence of the last ``window_s`` seconds, the share of ``suspected`` decisions is taken. With fewer than
    ``minimum_evidence`` frames the exam is undetermined. Otherwise it becomes suspected when the share reaches
    ``enter``, normal when it falls to ``leave`` or below, and between the two it stays what it was. After a change, no
    other follows within ``dwell_s``. Raises `UsageError` for figures that contradict one another.
    """

    version: Literal[1] = 1
    window_s: float = 3.0
    minimum_evidence: int = 10
    enter: float = 0.7
    leave: float = 0.3
    dwell_s: float = 1.5

    def __post_init__(self) -> None:
        """Refuse a rule that could flicker or never speak."""
        if self.version != RULE_VERSION:
            raise UsageError(
                f"exam rule version {self.version!r} is unknown; this vmeg-edge has version {RULE_VERSION}"
            )
        if not (0 < self.window_s <= 3600 and 0 <= self.dwell_s <= 3600):
            raise UsageError("an exam's window must be above 0 and its dwell at least 0, both at most 3600 seconds")
        if not 1 <= self.minimum_evidence <= 100_000:
            raise UsageError("an exam's minimum evidence must be 1 to 100,000 frames")
        if not 0 <= self.leave < self.enter <= 1:
            raise UsageError("an exam's thresholds must hold 0 <= leave < enter <= 1, or it would flicker")


@dataclass(frozen=True)
class ExamState:
    """Where the exam stands. ``share`` is that of suspected frames in the window, ``None`` without evidence."""

    verdict: ExamVerdict = "undetermined"
    reason: str = "no evidence yet"
    since_s: float = 0.0
    evidence: int = 0
    share: float | None = None


def is_evidence(result: FrameResult) -> bool:
    """Whether a result may count: the signal live, the pixels new, a decision made."""
    return result.signal == "live" and not result.reused and result.prediction.decision != "no-decision"


class Exam:
    """`ExamRule` applied to results as they come; it depends on nothing but them and their times.

    Times are seconds on one clock and may not go back. Memory is bounded by the frames of one window.
    """

    def __init__(self, rule: ExamRule) -> None:
        """Begin undetermined."""
        self.rule = rule
        self.state = ExamState()
        self._evidence: deque[tuple[float, bool]] = deque()
        self._changed_s: float | None = None
        self._suspected = 0

    def add(self, at_s: float, result: FrameResult) -> bool:
        """Count one result that was captured at ``at_s``; whether the verdict changed."""
        if is_evidence(result):
            suspected = result.prediction.decision == "suspected"
            self._evidence.append((at_s, suspected))
            self._suspected += suspected
        return self.pass_to(at_s)

    def pass_to(self, at_s: float) -> bool:
        """Let time pass without a result; whether the verdict changed."""
        while self._evidence and self._evidence[0][0] <= at_s - self.rule.window_s:
            self._suspected -= self._evidence.popleft()[1]
        count = len(self._evidence)
        share = self._suspected / count if count else None
        verdict, reason = self._verdict(count, share)
        held = self.state
        changed = verdict != held.verdict and self._may_change(at_s)
        if changed:
            self._changed_s = at_s
            self.state = ExamState(verdict, reason, at_s, count, share)
        elif (count, share) != (held.evidence, held.share):
            self.state = ExamState(held.verdict, held.reason, held.since_s, count, share)
        return changed

    def _verdict(self, count: int, share: float | None) -> tuple[ExamVerdict, str]:
        rule = self.rule
        if count < rule.minimum_evidence or share is None:
            return "undetermined", f"fewer than {rule.minimum_evidence} frames of evidence in {rule.window_s:g} s"
        if share >= rule.enter:
            return "suspected", f"at least {rule.enter:g} of the frames in {rule.window_s:g} s are suspected"
        if share <= rule.leave:
            return "normal", f"at most {rule.leave:g} of the frames in {rule.window_s:g} s are suspected"
        return self.state.verdict, self.state.reason

    def _may_change(self, at_s: float) -> bool:
        return self._changed_s is None or at_s - self._changed_s >= self.rule.dwell_s


def exam_states(results: Iterable[tuple[float, FrameResult]], rule: ExamRule) -> Iterator[ExamState]:
    """The state after each of ``results``, given as (seconds, result) in order: the rule as a pure function."""
    exam = Exam(rule)
    for at_s, result in results:
        exam.add(at_s, result)
        yield exam.state
