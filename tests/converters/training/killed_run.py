"""A training run that its parent kills, or that kills itself half way through writing its third state.

``python killed_run.py STATE train|write``: run by ``test_finetune_killed.py``; prints a line at every step.
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

import torch
from vmeg_edge.converters.finetune import finetune

from training_frames import made_examples, quick_recipe, tiny_vit


def half_a_file(writes: list[int]) -> None:
    """From now on, the third `torch.save` dies when half of its bytes are written."""
    whole = torch.save

    def save(content: object, path: Path) -> None:
        whole(content, path)
        writes.append(1)
        if len(writes) == 3:
            os.truncate(path, path.stat().st_size // 2)
            os.kill(os.getpid(), signal.SIGKILL)

    torch.save = save


def main() -> None:
    state, mode = Path(sys.argv[1]), sys.argv[2]
    if mode == "write":
        half_a_file([])

    def step(stage: str, done: int, total: int, note: str) -> None:
        sys.stdout.write(f"{stage} {done}/{total} {note}\n")
        sys.stdout.flush()

    model, recipe = tiny_vit(), quick_recipe(6, drop_path=0.2)
    finetune(model, made_examples(24), made_examples(8, first=24), recipe, state=state, progress=step, threads=1)


if __name__ == "__main__":
    main()
