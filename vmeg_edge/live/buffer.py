"""Frames that wait for the scorer, under one of three policies; it never holds more than its depth."""

from __future__ import annotations

from collections import deque
from typing import Generic, Literal, TypeVar, get_args

from vmeg_edge.errors import UsageError

T = TypeVar("T")

Policy = Literal["latest", "block", "queue"]

MAX_DEPTH = 1024
DEFAULT_DEPTH: dict[Policy, int] = {"latest": 1, "block": 1, "queue": 8}


class FrameBuffer(Generic[T]):
    """``latest`` drops the oldest to take the newest; ``queue`` refuses the newest when full; ``block`` makes wait.

    Raises `UsageError` for an unknown policy or a depth outside 1 to 1,024.
    """

    def __init__(self, policy: Policy, depth: int | None = None) -> None:
        """Start empty. Without ``depth``: 1 for ``latest`` and ``block``, 8 for ``queue``."""
        if policy not in get_args(Policy):
            raise UsageError(f"policy {policy!r} is unknown; choose one of {', '.join(get_args(Policy))}")
        depth = DEFAULT_DEPTH[policy] if depth is None else depth
        if not 1 <= depth <= MAX_DEPTH:
            raise UsageError(f"a buffer of {depth} frames; its depth must be 1 to {MAX_DEPTH}")
        self.policy: Policy = policy
        self.depth = depth
        self._waiting: deque[T] = deque()

    def __len__(self) -> int:
        """Entries that wait."""
        return len(self._waiting)

    @property
    def must_wait(self) -> bool:
        """Whether the source has to wait before it may `offer`: only under ``block``, only when full."""
        return self.policy == "block" and len(self._waiting) >= self.depth

    def offer(self, entry: T) -> T | None:
        """Take an entry in; what comes back was displaced by it, or is the entry itself where it found no room."""
        if len(self._waiting) < self.depth:
            self._waiting.append(entry)
            return None
        if self.policy == "latest":
            self._waiting.append(entry)
            return self._waiting.popleft()
        return entry

    def pop(self) -> T | None:
        """The oldest that waits, ``None`` when none does."""
        return self._waiting.popleft() if self._waiting else None

    def clear(self) -> list[T]:
        """Empty the buffer; what waited comes back, oldest first."""
        waiting = list(self._waiting)
        self._waiting.clear()
        return waiting
