"""Each policy keeps its promise and its bound."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vmeg_edge.errors import UsageError
from vmeg_edge.live import FrameBuffer, Policy


def test_latest_drops_the_oldest_and_queue_refuses_the_newest() -> None:
    latest: FrameBuffer[int] = FrameBuffer("latest", 2)
    queue: FrameBuffer[int] = FrameBuffer("queue", 2)
    assert [latest.offer(i) for i in range(4)] == [None, None, 0, 1]
    assert [queue.offer(i) for i in range(4)] == [None, None, 2, 3]
    assert latest.clear() == [2, 3]
    assert (queue.pop(), queue.pop(), queue.pop()) == (0, 1, None)


def test_block_makes_the_source_wait_once_it_is_full() -> None:
    block: FrameBuffer[int] = FrameBuffer("block", 2)
    seen = []
    for i in range(3):
        seen.append(block.must_wait)
        block.offer(i)
    assert seen == [False, False, True]
    assert not FrameBuffer[int]("latest", 1).must_wait


@given(st.sampled_from(["latest", "block", "queue"]), st.integers(1, 5), st.lists(st.booleans(), max_size=60))
def test_nothing_is_held_twice_lost_or_beyond_the_depth(policy: Policy, depth: int, moves: list[bool]) -> None:
    buffer: FrameBuffer[int] = FrameBuffer(policy, depth)
    out: list[int] = []
    entered = 0
    for offer in moves:
        if offer:
            displaced = buffer.offer(entered)
            entered += 1
            out += [] if displaced is None else [displaced]
        elif (popped := buffer.pop()) is not None:
            out.append(popped)
        assert len(buffer) <= depth
    assert sorted(out + buffer.clear()) == list(range(entered))


@pytest.mark.parametrize(("policy", "depth"), [("newest", 1), ("latest", 0), ("queue", 1025)])
def test_what_no_buffer_can_be_is_refused(policy: Policy, depth: int) -> None:
    with pytest.raises(UsageError, match=r"choose one of|must be 1 to"):
        FrameBuffer(policy, depth)
