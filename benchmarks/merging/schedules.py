"""Where to merge, and by what likeness: schedules of about the same cost, and what each changes on phantoms.

``python benchmarks/merging/schedules.py --checkpoint vit.pt [--phantoms N] --scratch FOLDER [--out FOLDER]``

Float32 torch against the same network without merging. The cost is `token_reduction.cost`, the share of the whole
network's: each kind of schedule is taken where it comes nearest to one of `COSTS`, and left out where that is far off.
Likeness is the cosine of the tokens themselves, as in the converter; for `BY_KEYS` once more that of their keys, as in
ToMe.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from contextlib import nullcontext
from functools import partial
from pathlib import Path

import torch
from kinds import at_once, by_keys, every_second
from proof_frames import phantoms
from trained import Trained, read, said_of, set_threads
from vmeg_edge.converters import token_reduction as reduction
from vmeg_edge.converters.architectures.vit import ViTConfig
from vmeg_edge.converters.token_reduction import Schedule

from vmeg_edge.parity import compare

SEED = 2026
COSTS = (0.7, 0.55)
TOO_FAR = 0.05
KINDS: dict[str, Callable[[ViTConfig, int], Schedule]] = {
    "constant (ToMe)": reduction.constant,
    "constant from the second block": partial(reduction.constant, start=1),
    "decreasing": reduction.decreasing,
    "every second block from the second": partial(every_second, start=1),
    "two blocks from the third": partial(at_once, start=2),
    "tapering from the second block (ours)": reduction.tapering,
    "tapering from the third block": partial(reduction.tapering, start=2),
}
BY_KEYS = ("constant (ToMe)", "tapering from the second block (ours)")
HEAD = (
    "| schedule | tokens merged, block by block | cost | by | decisions turned | mean \\|Δp\\| | max \\|Δp\\| "
    "| map cosine, mean |\n|---|---|--:|---|--:|--:|--:|--:|"
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoint", type=Path, action="append", required=True, help="of vmeg-edge finetune; a ViT")
    parser.add_argument("--phantoms", type=int, default=1000)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--scratch", type=Path, required=True, help="folder that keeps the phantoms")
    parser.add_argument("--out", type=Path, help="folder for schedules.md")
    arguments = parser.parse_args()
    set_threads(arguments.threads)
    parts = [f"# Where to merge, and by what likeness\n\n{arguments.phantoms} phantoms of the set {SEED}, float32."]
    for path in arguments.checkpoint:
        trained = read(path)
        parts.append(f"## {trained.config.name}, {trained.config.depth} blocks ({trained.sha256[:12]})")
        parts.append("\n".join([HEAD, *rows(trained, arguments.phantoms, arguments.scratch)]))
        print("\n\n".join(parts[-2:]), flush=True)
    if arguments.out:
        arguments.out.mkdir(parents=True, exist_ok=True)
        text = "\n\n".join([*parts, *trained.notices]) + "\n"
        (arguments.out / "schedules.md").write_text(text, encoding="utf-8")


def rows(trained: Trained, count: int, scratch: Path) -> list[str]:
    """A line for each kind, cost and likeness."""
    manifest, config = trained.manifest, trained.config
    images = phantoms(SEED, count, manifest.input, manifest.explanation.grid, scratch).images
    whole = said_of(trained.network(), images, trained, 32).scores(manifest)
    lines = []
    for wanted in COSTS:
        for name, kind in KINDS.items():
            schedule = nearest(config, kind, wanted)
            share = reduction.cost(config, schedule) / reduction.cost(config, ())
            if abs(share - wanted) > TOO_FAR:
                continue
            likenesses = {"tokens": nullcontext(), **({"keys": by_keys()} if name in BY_KEYS else {})}
            for likeness, by in likenesses.items():
                with by:
                    said = said_of(trained.network(schedule), images, trained, 32, f"{name}, {wanted}").scores(manifest)
                found = compare(whole, said)
                lines.append(
                    f"| {name} | {', '.join(map(str, schedule))} | {share:.2f} | {likeness} | {found.flips} "
                    f"| {found.mean_abs_dp:.4f} | {found.max_abs_dp:.3f} | {found.heatmap_cosine_mean:.4f} |"
                )
    return lines


def nearest(config: ViTConfig, kind: Callable[[ViTConfig, int], Schedule], wanted: float) -> Schedule:
    """The schedule of this kind whose share of the whole network's cost is nearest to ``wanted``."""
    whole = reduction.cost(config, ())
    tried = (kind(config, r) for r in range(1, config.grid**2 // 2 + 1))
    return min(tried, key=lambda schedule: abs(reduction.cost(config, schedule) / whole - wanted))


if __name__ == "__main__":
    main()
