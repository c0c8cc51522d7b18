"""The number of threads is chosen by what was measured, only among proven engines, and kept on this device."""

from __future__ import annotations

from pathlib import Path

import pytest

import vmeg_edge
from vmeg_edge.backends import usable_processors
from vmeg_edge.errors import ParityError, UsageError
from vmeg_edge.tuning import TURNS, thread_counts, tune


def measured(times_ms: dict[int, float], refused: tuple[int, ...] = ()) -> tuple[list[int], object]:
    asked: list[int] = []

    def measure(threads: int) -> list[float]:
        asked.append(threads)
        if threads in refused:
            raise ParityError("the golden frames do not match")
        return [times_ms[threads]] * 5

    return asked, measure


@pytest.mark.parametrize(
    ("processors", "counts"), [(1, (1,)), (2, (2, 1)), (4, (4, 2, 1)), (8, (8, 4, 2)), (20, (20, 10, 5))]
)
def test_all_half_and_a_quarter_of_the_processors_are_tried(processors: int, counts: tuple[int, ...]) -> None:
    assert thread_counts(processors) == counts


def test_the_fastest_wins_and_each_is_measured_in_turns() -> None:
    asked, measure = measured({4: 10.0, 2: 7.0, 1: 13.0})
    choice = tune((4, 2, 1), measure)
    assert choice.threads == 2
    assert asked == [4, 2, 1, 1, 2, 4][: 3 * TURNS]
    assert str(choice) == "2 threads, the fastest here that pass parity (4: 10.0 ms, 2: 7.0 ms, 1: 13.0 ms)"


def test_fewer_threads_win_a_tie() -> None:
    _, measure = measured({4: 10.0, 2: 10.2, 1: 13.0})
    assert tune((4, 2, 1), measure).threads == 2


def test_what_fails_parity_is_never_chosen_and_is_said() -> None:
    asked, measure = measured({4: 1.0, 2: 10.0, 1: 13.0}, refused=(4,))
    choice = tune((4, 2, 1), measure)
    assert choice.threads == 2
    assert "4: refused, the golden frames do not match" in str(choice)
    assert asked.count(4) == 1, "not tried again"
    with pytest.raises(ParityError, match="golden frames"):
        tune((2, 1), measured({2: 1.0, 1: 1.0}, refused=(1, 2))[1])


def test_a_tuned_choice_is_kept_on_this_device_for_loads_that_leave_it_open(demo_bundle: Path, tmp_path: Path) -> None:
    told: list[str] = []
    with vmeg_edge.load(
        demo_bundle, cache=tmp_path, tune=True, progress=lambda stage, _done, _total: told.append(stage)
    ) as scorer:
        chosen, said = scorer.provenance["threads"], scorer.provenance["tuned"]
    assert "tuning threads" in told
    assert chosen in thread_counts(usable_processors())
    assert said.startswith(f"{chosen} threads, the fastest here")
    with vmeg_edge.load(demo_bundle, cache=tmp_path) as scorer:
        assert scorer.provenance["threads"] == chosen
        assert scorer.provenance["tuned"] == said
    with vmeg_edge.load(demo_bundle, cache=tmp_path, threads=1) as scorer:
        assert scorer.provenance["threads"] == 1
        assert "tuned" not in scorer.provenance
    with vmeg_edge.load(demo_bundle, cache=False) as scorer:
        assert "tuned" not in scorer.provenance
    with pytest.raises(UsageError, match="leave one"):
        vmeg_edge.load(demo_bundle, threads=2, tune=True)
