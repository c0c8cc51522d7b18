"""How much of a cine's picture is unchanged from frame to frame, and whether reusing what is unchanged would pay.

``python benchmarks/merging/temporal.py --checkpoint demo.pt --data ../shared/data --out benchmarks/results/merging``

Every source with five frames or more goes through the runtime's own preprocessing. The checkpoint's network then
scores every frame, so that what a skipped frame would have shown can be held against its own score. A phantom cine
joins, since the real ones show other planes than the demo model knows.
"""

from __future__ import annotations

import argparse
import json
import sys
import warnings
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import temporal_page
import torch
from reuse import STEPS, Skips, at_border, changes, dark, exact_share, pushed, skips
from trained import Images, Trained, conditions, read, said_of, set_threads
from vmeg_edge.converters.architectures.vit import ViTConfig

from vmeg_edge.errors import VmegError
from vmeg_edge.frames import Frame
from vmeg_edge.manifest import Input
from vmeg_edge.phantom import PhantomCine
from vmeg_edge.preprocess import Preprocessor
from vmeg_edge.sources import open_source

LEVELS = (0, 1, 2, 4, 8)
FEWEST_FRAMES = 5
PUSHED_FRAMES = 4
PHANTOM = "phantom cine (simulated)"
BASE = ViTConfig()


@dataclass(frozen=True)
class Row:
    """One cine. Shares are of patches over all pairs of frames, or of frames that have one before them.

    ``dark`` is the share of patches that stay dark for the whole cine, ``dark_at_border`` the share of those that hang
    together with the border; ``identical_lit`` is of the patches that are not dark. ``saved_exactly`` is the most that
    exact reuse of patches saves of ViT-B/16's arithmetic.
    ``pushed`` is how far each of `LEVELS` above none, a pixel, moved the probability of `PUSHED_FRAMES` frames at most.
    """

    source: str
    real: bool
    frames: int
    identical: float
    identical_lit: float
    within_2: float
    within_8: float
    frames_identical: float
    frames_within_2: float
    dark: float
    dark_at_border: float | None
    saved_exactly: float
    skips: tuple[Skips, ...]
    pushed: tuple[float, ...]


def cines(data: Path, spec: Input) -> Iterator[tuple[str, bool, Images]]:
    """Name, whether it is real, and uint8 ``[n, H, W, 3]`` of each source that has enough frames."""
    warnings.simplefilter("ignore")  # of regions that do not fit: the whole frame is taken
    preprocess = Preprocessor(spec)
    for path in sorted(path for path in data.rglob("*") if path.is_file()):
        try:
            with open_source(path) as source:
                images = [preprocess(item)[0].copy() for item in source if isinstance(item, Frame)]
        except VmegError:
            continue
        if len(images) >= FEWEST_FRAMES:
            yield str(path.relative_to(data)), True, np.stack(images)
    yield PHANTOM, False, np.stack([preprocess(frame)[0].copy() for frame in PhantomCine()])


def row_of(name: str, images: Images, trained: Trained, batch: int, *, real: bool) -> Row:
    patch = trained.config.patch
    changed = changes(images, patch)
    same = changed == 0
    black = dark(images, patch)
    network = trained.network()
    said = said_of(network, images, trained, batch, name)
    some = images[np.linspace(0, len(images) - 1, min(PUSHED_FRAMES, len(images))).astype(int)]
    return Row(
        source=name,
        real=real,
        frames=len(images),
        identical=float(same.mean()),
        identical_lit=float(same[:, ~black].mean()),
        within_2=float((changed <= 2).mean()),
        within_8=float((changed <= 8).mean()),
        frames_identical=float(same.all(axis=(1, 2)).mean()),
        frames_within_2=float((changed <= 2).all(axis=(1, 2)).mean()),
        dark=float(black.mean()),
        dark_at_border=float(at_border(black).sum() / black.sum()) if black.any() else None,
        saved_exactly=exact_share(BASE, same.mean(axis=(1, 2)).tolist()),
        skips=tuple(skips(images, said, trained, levels) for levels in LEVELS),
        pushed=tuple(float(pushed(network, some, trained, levels).max()) for levels in LEVELS[1:]),
    )


def measure(trained: Trained, data: Path, batch: int) -> dict[str, Any]:
    """All cines; the arithmetic is ViT-B/16's, whose 196 patches are the demo model's too."""
    rows = []
    for name, real, images in cines(data, trained.manifest.input):
        print(name, file=sys.stderr, flush=True)
        rows.append(row_of(name, images, trained, batch, real=real))
    return {
        "notices": trained.notices,
        "conditions": conditions(),
        "checkpoint": {"name": trained.name, "sha256": trained.sha256},
        "input": trained.manifest.input.model_dump(mode="json"),
        "patches": trained.config.grid**2,
        "ascent_steps": STEPS,
        "most_saved_exactly": exact_share(BASE, [1.0]),
        "rows": [asdict(row) for row in rows],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoint", type=Path, required=True, help="of a ViT trained by vmeg-edge finetune")
    parser.add_argument("--data", type=Path, required=True, help="folder with the cines")
    parser.add_argument("--out", type=Path, help="folder for temporal.json, temporal.md and temporal.png")
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads(), help="torch's; 1 on a busy machine")
    arguments = parser.parse_args()
    set_threads(arguments.threads)
    report = measure(read(arguments.checkpoint), arguments.data, arguments.batch)
    page = temporal_page.markdown(report)
    print(page)
    if arguments.out is not None:
        arguments.out.mkdir(parents=True, exist_ok=True)
        (arguments.out / "temporal.json").write_text(json.dumps(report, indent=1) + "\n")
        (arguments.out / "temporal.md").write_text(page + "\n")
        temporal_page.draw(report, arguments.out / "temporal.png")


if __name__ == "__main__":
    main()
