"""A kill costs one epoch at most, wherever it hits, and a run that goes on ends where it would have ended."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from vmeg_edge.converters.finetune import Finetuned, finetune
from vmeg_edge.converters.training.run_state import discard, identity_of, load

from training_frames import made_examples, quick_recipe, tiny_vit

CHILD = Path(__file__).parent / "training" / "killed_run.py"
TRAIN, VALIDATION = made_examples(24), made_examples(8, first=24)
RECIPE = quick_recipe(6, drop_path=0.2)


def run(state: Path | None) -> Finetuned:
    before = torch.get_num_threads()
    try:
        return finetune(tiny_vit(), TRAIN, VALIDATION, RECIPE, state=state, threads=1)
    finally:
        torch.set_num_threads(before)


@pytest.fixture(scope="module")
def undisturbed() -> Finetuned:
    return run(None)


def check(state: Path, undisturbed: Finetuned, epochs_kept: set[int]) -> None:
    """The state is whole, and the run that goes on from it ends with the very weights of one without a break."""
    kept = load(state, identity_of(tiny_vit(), TRAIN, VALIDATION, RECIPE))
    assert len(kept.history) in epochs_kept
    resumed = run(state)
    assert [epoch.epoch for epoch in resumed.history] == [1, 2, 3, 4, 5, 6]
    assert resumed.history[: len(kept.history)] == kept.history
    ours, theirs = resumed.network.state_dict(), undisturbed.network.state_dict()
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
    for epoch, wanted in zip(resumed.history, undisturbed.history, strict=True):
        assert (epoch.train_loss, epoch.f1, epoch.learning_rate) == (wanted.train_loss, wanted.f1, wanted.learning_rate)


def test_a_run_killed_in_an_epoch_goes_on_from_the_one_before(tmp_path: Path, undisturbed: Finetuned) -> None:
    state = tmp_path / "c.pt.state"
    command = [sys.executable, str(CHILD), str(state), "train"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        for line in child.stdout:
            if line.startswith("training 11/18"):  # the second step of three of the fourth epoch
                child.kill()
        assert child.wait() == -signal.SIGKILL
    check(state, undisturbed, {3, 4})


def test_a_run_killed_in_the_middle_of_writing_keeps_the_last_whole_state(
    tmp_path: Path, undisturbed: Finetuned
) -> None:
    state = tmp_path / "c.pt.state"
    done = subprocess.run([sys.executable, str(CHILD), str(state), "write"], capture_output=True, text=True)
    assert done.returncode == -signal.SIGKILL, done.stderr
    left = [path for path in tmp_path.iterdir() if path != state]
    assert len(left) == 1
    assert 0 < left[0].stat().st_size < state.stat().st_size
    check(state, undisturbed, {2})
    discard(state)
    assert list(tmp_path.iterdir()) == []


def test_a_run_that_was_done_gives_its_result_again(tmp_path: Path, undisturbed: Finetuned) -> None:
    state = tmp_path / "c.pt.state"
    first, again = run(state), run(state)
    assert again.history == first.history
    assert again.best == first.best
    ours, theirs = again.network.state_dict(), undisturbed.network.state_dict()
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
