"""Token merging against a twin in NumPy loops: which tokens merge, what they become, the way back to the grid."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnxruntime
import openvino
import pytest
import torch
from vmeg_edge.converters.architectures.token_merging import Tokens, merged
from vmeg_edge.converters.architectures.vit import ViT, ViTConfig
from vmeg_edge.converters.onnx_from_checkpoint import export, reference

from vmeg_edge.errors import UsageError
from vmeg_edge.phantom import phantom

Floats = npt.NDArray[np.float64]
MEAN, STD = (0.25, 0.25, 0.25), (0.25, 0.25, 0.25)
CONFIG = ViTConfig(image_size=96, dim=64, depth=3, heads=2)


def twin(x: Floats, sizes: Floats, groups: list[list[int]], r: int) -> tuple[Floats, Floats, list[list[int]]]:
    """One frame: ``x`` [T, C], ``sizes`` [T], which patches each token holds."""
    metric = x / np.linalg.norm(x, axis=1, keepdims=True)
    first, second = list(range(0, len(x), 2)), list(range(1, len(x), 2))
    best = {a: max(second, key=lambda b: float(metric[a] @ metric[b])) for a in first}  # the first of equals
    gone = sorted(first, key=lambda a: -float(metric[a] @ metric[best[a]]))[:r]
    out, out_sizes, out_groups = [], [], []
    for a in first:
        if a not in gone:
            out.append(x[a])
            out_sizes.append(sizes[a])
            out_groups.append(groups[a])
    for b in second:
        joined = [b, *(a for a in gone if best[a] == b)]
        size = sum(sizes[j] for j in joined)
        out.append(sum(x[j] * sizes[j] for j in joined) / size)
        out_sizes.append(size)
        out_groups.append([patch for j in joined for patch in groups[j]])
    return np.array(out), np.array(out_sizes), out_groups


@pytest.mark.parametrize("patches", [36, 35, 13])
@pytest.mark.parametrize("schedule", [(1,), (4, 4), (4, 3, 1), (4, 2, 1, 1)])
def test_merging_is_what_the_twin_does(patches: int, schedule: tuple[int, ...]) -> None:
    rng = np.random.default_rng(patches)
    x = rng.normal(size=(2, 1 + patches, 16))
    tokens = Tokens(torch.from_numpy(x))
    ours = [(x[n, 1:], np.ones(patches), [[p] for p in range(patches)]) for n in range(2)]
    for r in schedule:
        tokens = merged(tokens, r)
        ours = [twin(*ours[n], r) for n in range(2)]
    assert tokens.sizes is not None
    assert tokens.home is not None
    assert torch.equal(tokens.x[:, 0], torch.from_numpy(x[:, 0]))
    for n, (values, sizes, groups) in enumerate(ours):
        np.testing.assert_allclose(tokens.x[n, 1:], values, rtol=1e-12)
        np.testing.assert_array_equal(tokens.sizes[n, :, 0], sizes)
        assert {patch: int(tokens.home[n, patch]) for patch in range(patches)} == {
            patch: token for token, group in enumerate(groups) for patch in group
        }
        back = tokens.on_grid(tokens.x)[n].numpy()
        for patch in range(patches):
            np.testing.assert_array_equal(back[patch], tokens.x[n, 1 + int(tokens.home[n, patch])])
    np.testing.assert_allclose(tokens.mean(), x[:, 1:].mean(axis=1), atol=1e-12)


def test_identical_tokens_merge_and_the_network_says_the_same() -> None:
    whole = ViT(CONFIG)
    whole.initialise(3)
    whole.pos_embed.data.zero_()
    fewer = ViT(replace(CONFIG, merge=(18, 9, 0))).with_state(whole.state_dict())
    flat = torch.full((1, 3, 96, 96), 0.5)
    with torch.inference_mode():
        ours, theirs = whole.eval()(flat), fewer(flat)
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("pool", ["mean", "token"])
def test_both_engines_say_what_the_reference_says(pool: str, tmp_path: Path) -> None:
    model = ViT(replace(CONFIG, merge=(7, 6, 5), pool=pool))
    model.initialise(3)
    export(model, tmp_path / "model.onnx", mean=MEAN, std=STD)
    frame = phantom(3, 1).frame.pixels
    pixels = np.stack([np.dstack([frame[i : i + 96, 100:196]] * 3) for i in (60, 120)])
    logits, activations = reference(model, mean=MEAN, std=STD)(pixels)
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx")
    compiled = openvino.Core().compile_model(tmp_path / "model.onnx", "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    for n in range(2):
        for said in (session.run(None, {"pixels": pixels[n : n + 1]}), list(compiled(pixels[n : n + 1]).values())):
            np.testing.assert_allclose(said[0][0], logits[n], atol=1e-5)
            np.testing.assert_allclose(said[1][0], activations[n], atol=1e-4)


@pytest.mark.parametrize(
    ("schedule", "says"),
    [
        ((1, 1), "names 2 blocks and the network has 3"),
        ((19, 0, 0), "merge is 19 at block 0, which has 36 tokens; give 0 to 18"),
        ((18, 10, 0), "merge is 10 at block 1, which has 18 tokens; give 0 to 9"),
        ((0, -1, 0), "merge is -1 at block 1"),
    ],
)
def test_a_schedule_that_does_not_fit_is_refused(schedule: tuple[int, ...], says: str) -> None:
    with pytest.raises(UsageError, match=says):
        replace(CONFIG, merge=schedule)
