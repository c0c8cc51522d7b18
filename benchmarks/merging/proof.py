"""On every trained model given: what merging and pruning tokens change, against float32 that does neither.

``python benchmarks/merging/proof.py --checkpoint demo.pt --checkpoint small.pt --bundle demo-r36.vmeg
--real ../shared/data --scratch SCRATCH --out benchmarks/results/merging --times times.json``

Phantoms and real frames are told apart. A bundle is of one of the checkpoints, made with
``vmeg-edge convert CHECKPOINT --precision int8 --target openvino --calibration phantoms --reduce-tokens R``.

``--scratch`` keeps the rendered phantoms, and what each variant said of them: a run that was cut off goes on, and one
more model or bundle costs only itself. Delete it when the code of a network has changed. ``--few`` names checkpoints
that are too slow for all variants.

``--times`` is milliseconds of ViT-B/16 in int8, for the figure; without it the axis is the share of the arithmetic:

    {"what": "ViT-B/16 int8, OpenVINO, 2 threads of ...",
     "p50_ms": {"none": 30.6, "constant 12": 25.5, "tapering 16": 20.4},
     "peers": {"NNCF int8, logits alone": 31.2},
     "floor_ms": 14.0}

Names in ``p50_ms`` are the table's. A variant without one is drawn where its share of the arithmetic would put it, and
marked; ``floor_ms`` is the least that the whole network's arithmetic takes at the processor's peak.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import proof_page
import torch
from proof_frames import FrameSet, Truth, phantoms, real
from pruning import check as check_pruning
from trained import Said, Trained, conditions, read, set_threads
from variants import Variant, bundle_variant, variants

from vmeg_edge.manifest import Manifest
from vmeg_edge.parity import GATES, MERGED_COSINES, Scores, compare, gate

SEED = 2026
VALIDATION = 128  # frames that `convert --reduce-tokens auto` asks for, at least


def figures(reference: Said, said: Said, manifest: Manifest, truth: Truth | None) -> dict[str, Any]:
    """One variant on one set, by the runtime's own measures; with a truth, how right it is as well."""
    ours, theirs = reference.scores(manifest), said.scores(manifest)
    parity = compare(ours, theirs)
    found = {
        **parity.to_json(),
        "same_decisions": 1 - parity.flips / parity.frames,
        "failures": gate(parity, "int8", merged=True),
        **_by_parts(ours, theirs),
    }
    return found if truth is None else found | _right(said, theirs, truth)


def _by_parts(ours: Scores, theirs: Scores) -> dict[str, Any]:
    """Frames that break a bound that holds for each frame, and how many sets as small as `convert`'s pass."""
    frames = len(ours.decisions)
    most, least = GATES["int8"][0], MERGED_COSINES[1]
    singles = [compare(_part(ours, place, 1), _part(theirs, place, 1)) for place in range(frames)]
    beyond = sum(not (one.max_abs_dp <= most and one.heatmap_cosine_min >= least) for one in singles)
    starts = range(0, frames - VALIDATION + 1, VALIDATION)
    sets = [compare(_part(ours, start, VALIDATION), _part(theirs, start, VALIDATION)) for start in starts]
    passed = sum(not gate(parity, "int8", merged=True) for parity in sets)
    return {"frames_beyond_bounds": beyond, "small_sets": len(sets), "small_sets_passed": passed}


def _part(scores: Scores, start: int, count: int) -> Scores:
    part = slice(start, start + count)
    return Scores(scores.probabilities[part], scores.decisions[part], scores.heat_maps[part])


def _right(said: Said, scores: Scores, truth: Truth) -> dict[str, Any]:
    """The decisions and the peaks against the phantoms' truth; an abstention is no decision."""
    frames = len(truth.dilated)
    decided = np.array([decision != "no-decision" for decision in scores.decisions])
    called = np.array([decision == "suspected" for decision in scores.decisions])
    flat = said.maps.reshape(frames, -1)
    peak, has_peak = flat.argmax(axis=1), flat.max(axis=1) > 0
    hits = {
        name: float((mask.reshape(frames, -1)[np.arange(frames), peak] & has_peak).mean())
        for name, mask in (("peak_in_ventricle", truth.inside), ("peak_within_one_patch", truth.near))
    }
    return {
        "accuracy": float(((scores.probabilities >= 0.5) == truth.dilated).mean()),
        "abstained": float(1 - decided.mean()),
        "accuracy_where_decided": float((called == truth.dilated)[decided].mean()),
        **hits,
    }


def kept(variant: Variant, trained: Trained, frames: FrameSet, scratch: Path) -> Said:
    """What the variant says, from ``scratch`` where it has been asked before."""
    name = (variant.kept_as or variant.name).replace(" ", "_")
    path = scratch / f"{trained.sha256[:12]}-{frames.key}-{name}.npz"
    if path.exists():
        with np.load(path) as held:
            return Said(held["logits"], held["maps"])
    said = variant.say(frames)
    part = path.with_name(f"{path.stem}.part.npz")
    np.savez(part, logits=said.logits, maps=said.maps)
    os.replace(part, path)
    return said


def judged(trained: Trained, entrants: list[Variant], frames: FrameSet, scratch: Path) -> Iterator[dict[str, Any]]:
    """A row a variant, the whole network first."""
    reference = kept(entrants[0], trained, frames, scratch)
    for variant in entrants:
        started = time.monotonic()
        said = kept(variant, trained, frames, scratch)
        tokens, share = variant.cost(frames.images)
        found = figures(reference, said, trained.manifest, frames.truth)
        took = f"{found['flips']} flips, {time.monotonic() - started:.0f} s"
        print(f"{trained.name}, {frames.name}, {variant.name}: {took}", file=sys.stderr, flush=True)
        yield {
            "variant": variant.name,
            "family": variant.family,
            "schedule": list(variant.schedule),
            "mean_tokens": tokens,
            "arithmetic": share,
            **found,
        }


def prove(trained: Trained, arguments: argparse.Namespace) -> dict[str, Any]:
    """All sets, one model."""
    manifest = trained.manifest
    check_pruning(trained)
    entrants = variants(trained, arguments.batch, few=trained.name in arguments.few)
    of_bundles = (bundle_variant(path, trained, entrants) for path in arguments.bundle)
    entrants += [variant for variant in of_bundles if variant is not None]
    grid, scratch = manifest.explanation.grid, arguments.scratch
    sets = [phantoms(arguments.seed, arguments.phantoms, manifest.input, grid, scratch)]
    if arguments.real is not None:
        sets.append(real(arguments.real, manifest.input, arguments.cine_frames))
    return {
        "name": trained.name,
        "network": trained.config.name,
        "blocks": trained.config.depth,
        "pool": trained.config.pool,
        "sha256": trained.sha256,
        "notices": trained.notices,
        "trained": list(trained.checkpoint.record.notes) if trained.checkpoint.record is not None else [],
        "sets": [
            {"name": each.name, "about": each.about, "rows": list(judged(trained, entrants, each, scratch))}
            for each in sets
        ],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoint", type=Path, action="append", required=True, help="of vmeg-edge finetune; a ViT")
    parser.add_argument("--bundle", type=Path, action="append", default=[], help="int8, of one of the checkpoints")
    parser.add_argument("--phantoms", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=SEED, help="of the phantoms' set; training must not have seen it")
    parser.add_argument("--real", type=Path, help="folder with real stills and cines")
    parser.add_argument("--cine-frames", type=int, default=40, help="frames of one cine at most")
    parser.add_argument("--few", action="append", default=[], metavar="NAME", help="checkpoint that gets few variants")
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads(), help="torch's; 1 on a busy machine")
    parser.add_argument("--times", type=Path, help="milliseconds of ViT-B/16, for the figure")
    parser.add_argument("--scratch", type=Path, required=True, help="folder that keeps phantoms and scores")
    parser.add_argument("--out", type=Path, required=True, help="folder for proof.json, proof.md and proof.png")
    arguments = parser.parse_args()
    set_threads(arguments.threads)
    arguments.scratch.mkdir(parents=True, exist_ok=True)
    report = {
        "conditions": conditions(),
        "seed": arguments.seed,
        "models": [prove(read(path), arguments) for path in arguments.checkpoint],
        "times": None if arguments.times is None else json.loads(arguments.times.read_text()),
    }
    arguments.out.mkdir(parents=True, exist_ok=True)
    page = proof_page.markdown(report)
    print(page)
    (arguments.out / "proof.json").write_text(json.dumps(report, indent=1) + "\n")
    (arguments.out / "proof.md").write_text(page + "\n")
    proof_page.draw(report, arguments.out / "proof.png")


if __name__ == "__main__":
    main()
