"""What the outside of the sector may share: dropped, or in one, four, eight or sixteen tokens, against all of them.

``python benchmarks/merging/sector.py --checkpoint demo.pt --data ../shared/data [--phantoms N] [--out FOLDER]``

Float32 torch, each frame by its own sector (`vmeg_edge.sector.Sector.seen`). Frames of which more than half lies
outside are left out: no model of a useful size would take them. Research use only: the real frames show other pictures
than the model was trained on, so that only the agreement means anything.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from vmeg_edge.converters import checkpoint
from vmeg_edge.converters.architectures.token_merging import Tokens, shared
from vmeg_edge.converters.architectures.vit import ViT
from vmeg_edge.converters.training.demo_recipe import INPUT, RULE

from vmeg_edge.decide import judge
from vmeg_edge.errors import VmegError
from vmeg_edge.explain import heat_map
from vmeg_edge.frames import Frame, Region
from vmeg_edge.manifest import RESEARCH_USE_ONLY
from vmeg_edge.parity import Parity, Scores, compare
from vmeg_edge.phantom import phantoms
from vmeg_edge.preprocess import Preprocessor
from vmeg_edge.sector import Sector, brightest_of
from vmeg_edge.sources import open_source

SEED = 2026
A_SOURCE = 3
WAYS = ("dropped", 1, 4, 8, 16)
Pictures = npt.NDArray[np.uint8]
Said = tuple[float, npt.NDArray[np.float32]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoint", type=Path, required=True)
    parser.add_argument("--data", type=Path, required=True, help="folder of stills and cines")
    parser.add_argument("--phantoms", type=int, default=300)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path, help="folder for sector.md")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    model = checkpoint.load(arguments.checkpoint).model()
    assert isinstance(model, ViT)
    preprocess = Preprocessor(INPUT)
    sets = {
        "phantoms": np.concatenate([preprocess(made.frame).copy() for made in phantoms(SEED, arguments.phantoms)]),
        "real frames": real(arguments.data, preprocess),
    }
    page = "\n\n".join(table(name, pictures, model) for name, pictures in sets.items()) + f"\n\n{RESEARCH_USE_ONLY}\n"
    print(page)
    if arguments.out:
        arguments.out.mkdir(parents=True, exist_ok=True)
        head = "# What the outside of the sector shares\n\n" + (__doc__ or "").split("\n\n")[2].replace("\n", " ")
        (arguments.out / "sector.md").write_text(f"{head}\n\n{page}", encoding="utf-8")


def real(folder: Path, preprocess: Preprocessor) -> Pictures:
    """The first frames of every source in the folder that opens."""
    made = []
    for path in sorted(folder.rglob("*")):
        try:
            with open_source(path) as source:
                frames = (item for item in source if isinstance(item, Frame))
                made += [preprocess(frame)[0].copy() for frame, _ in zip(frames, range(A_SOURCE), strict=False)]
        except (VmegError, OSError):
            continue
    return np.stack(made)


def table(name: str, pictures: Pictures, model: ViT) -> str:
    grid = model.grid
    sectors = [Sector.seen(brightest_of(picture[None], grid)) for picture in pictures]
    outside = np.array([int((~sector.inside).sum()) for sector in sectors])
    chosen = np.flatnonzero((outside > 0) & (outside <= grid[0] * grid[1] // 2))
    truth = scores([said(model, pictures[place], None, None) for place in chosen])
    lines = [
        f"{name}: {len(chosen)} of {len(pictures)} frames; outside lie {np.median(outside[chosen]):.0f} of "
        f"{grid[0] * grid[1]} patches in the median, {outside[chosen].max()} at most.",
        "",
        "| the outside | same decisions | mean \\|Δp\\| | max \\|Δp\\| | map cosine, mean | lowest |",
        "|---|--:|--:|--:|--:|--:|",
    ]
    for way in WAYS:
        found = compare(truth, scores([said(model, pictures[place], sectors[place], way) for place in chosen]))
        lines.append(row(way, found))
    return "\n".join(lines)


def row(way: str | int, found: Parity) -> str:
    label = way if isinstance(way, str) else f"shares {way} token{'s' if way > 1 else ''}"
    return (
        f"| {label} | {1 - found.flips / found.frames:.2%} | {found.mean_abs_dp:.4f} | {found.max_abs_dp:.3f} "
        f"| {found.heatmap_cosine_mean:.4f} | {found.heatmap_cosine_min:.3f} |"
    )


def scores(said: list[Said]) -> Scores:
    probabilities = np.array([p for p, _ in said])
    return Scores(probabilities, tuple(judge(float(p), RULE)[0] for p in probabilities), np.stack([m for _, m in said]))


@torch.inference_mode()
def said(model: ViT, picture: Pictures, sector: Sector | None, way: str | int | None) -> Said:
    """(probability, heat map) of one frame."""
    x = torch.from_numpy(picture[None].copy()).permute(0, 3, 1, 2).float() / 255
    mean, std = (torch.tensor(values).reshape(1, 3, 1, 1) for values in (INPUT.mean, INPUT.std))
    x = model.patch_embed((x - mean) / std)
    x = torch.cat((model.cls_token, x), dim=1) + model.pos_embed
    tokens, inside = Tokens(x), None
    if sector is not None and way == "dropped":
        inside = torch.from_numpy(np.flatnonzero(sector.inside))
        tokens = Tokens(torch.cat((x[:, :1], x[:, 1 + inside]), dim=1))
    elif sector is not None:
        own = int(sector.inside.sum())
        count = own + min(int(way or 0), sector.inside.size - own)
        tokens = shared(x, torch.from_numpy(home(sector, count)), count)
    seen = None
    for index, block in enumerate(model.blocks):
        before = tokens
        tokens, normed = block(tokens)
        if index == model.cam_block:
            seen = before.on_grid(normed)[0]
    assert seen is not None
    if inside is not None:  # a dropped patch says nothing: the mean of the others
        whole = seen.mean(dim=0).expand(model.pos_embed.shape[1] - 1, -1).clone()
        whole[inside] = seen
        seen = whole
    pooled = model.get_submodule("fc_norm")(tokens.mean())
    probability = float(model.head(pooled)[0].softmax(dim=0)[1])
    side = model.config.image_size
    return probability, heat_map(seen.numpy(), model.grid, Region(0, 0, side, side), None).values


def home(sector: Sector, count: int) -> npt.NDArray[np.int32]:
    """As `Sector.home`, with fewer shared tokens than it allows, too."""
    inside = sector.inside.ravel()
    own = int(inside.sum())
    made = np.empty((1, inside.size), np.int32)
    made[0, inside] = np.arange(own)
    others = inside.size - own
    made[0, ~inside] = own + np.arange(others) * (count - own) // others
    return made


if __name__ == "__main__":
    main()
