"""What no checkpoint may do, and what its refusal says."""

from __future__ import annotations

import contextlib
import io
import os
import pickle
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from safetensors.torch import save, save_file
from torch import Tensor
from vmeg_edge.converters.checkpoint import load

from checkpoints import make_classifier_state_dict, make_linear_probe_head, make_mae_state_dict
from vmeg_edge.errors import CheckpointError, UsageError

State = dict[str, Tensor]


def refusal(path: Path, **options: Any) -> str:
    """Load what must be refused; return the message, which is one line and names the file."""
    with pytest.raises(CheckpointError) as caught:
        load(path, **options)
    message = str(caught.value)
    assert "\n" not in message
    assert len(message) < 500
    return message


def saved(tmp_path: Path, content: Any) -> Path:
    path = tmp_path / "checkpoint.pth"
    torch.save(content, path)
    return path


class RunsCommand:
    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> Any:
        return os.system, (f"echo owned > {self.marker}",)


class Evaluates:
    def __reduce__(self) -> Any:
        return eval, ("__import__('os').getcwd()",)


class Opaque:
    """A training script's own class: unpickling it would import and call it."""


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("place", ["beside the weights", "in the weights"])
def test_a_pickle_that_runs_a_command_is_refused_and_does_not_run(tmp_path: Path, zipped: bool, place: str) -> None:
    marker, path = tmp_path / "owned", tmp_path / "evil.pth"
    state: dict[str, Any] = dict(make_classifier_state_dict())
    if place == "in the weights":
        state["head.bias"] = RunsCommand(marker)
        content: Any = state
    else:
        content = {"model": state, "args": RunsCommand(marker)}
    torch.save(content, path, _use_new_zipfile_serialization=zipped)
    message = refusal(path)
    assert "wants to run code" in message
    assert "system" in message
    assert "safetensors" in message
    assert not marker.exists()


def test_a_plain_pickle_is_refused_too(tmp_path: Path) -> None:
    marker, path = tmp_path / "owned", tmp_path / "evil.pt"
    path.write_bytes(pickle.dumps(RunsCommand(marker), protocol=2))
    refusal(path)
    path.write_bytes(pickle.dumps(RunsCommand(marker)))
    refusal(path)
    assert not marker.exists()


@pytest.mark.parametrize(
    ("extra", "named"), [(Evaluates(), "eval"), (Opaque(), "Opaque"), (torch.nn.Linear(2, 2), "Linear")]
)
def test_the_refusal_names_what_the_file_asks_for(tmp_path: Path, extra: Any, named: str) -> None:
    path = saved(tmp_path, {"model": make_classifier_state_dict(), "extra": extra})
    message = refusal(path)
    assert "wants to run code" in message
    assert named in message


def test_a_whole_pickled_module_is_refused(tmp_path: Path) -> None:
    assert "re-save its state dict" in refusal(saved(tmp_path, torch.nn.Sequential(torch.nn.Linear(2, 2))))


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "empty"),
        (b"hello, I am a text file\n", "neither a PyTorch nor a safetensors file"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "Git LFS pointer"),
        (b"<!DOCTYPE html><html>sign in</html>", "neither"),
        (b"PK\x03\x04", "damaged"),
        (b"PK\x03\x04" + b"\0" * 400, "damaged"),
        (b"\x80", "damaged"),
        (b"\x80\x02.", "damaged"),
        (struct.pack("<Q", 2**60) + b"{}", "damaged safetensors"),
        (struct.pack("<Q", 2) + b"{}", "patch_embed.proj.weight"),
        (struct.pack("<Q", 9) + b"{not json", "damaged safetensors"),
    ],
)
def test_a_file_that_is_no_checkpoint_is_refused_in_one_line(tmp_path: Path, content: bytes, words: str) -> None:
    path = tmp_path / "model.pth"
    path.write_bytes(content)
    message = refusal(path)
    assert words in message
    assert "model.pth" in message


def test_a_missing_file_and_a_folder_are_refused(tmp_path: Path) -> None:
    assert "No such file" in refusal(tmp_path / "absent.pth")
    assert str(tmp_path) in refusal(tmp_path)


def test_a_zip_without_weights_is_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.pth", "w") as archive:
        archive.writestr("holiday.jpg", b"jpeg")
    assert "damaged" in refusal(tmp_path / "a.pth")


def test_a_scripted_model_is_refused(tmp_path: Path) -> None:
    class Twice(torch.nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return 2 * x

    program = torch.export.export(Twice(), (torch.ones(2),))
    torch.export.save(program, tmp_path / "m.pt2")
    refusal(tmp_path / "m.pt2")


@pytest.fixture(scope="module")
def whole_files() -> dict[str, bytes]:
    state = make_classifier_state_dict(depth=1, image_size=16)
    files = {"safetensors": save(state)}
    for name, zipped in (("zip", True), ("pickle", False)):
        buffer = io.BytesIO()
        torch.save({"model": state}, buffer, _use_new_zipfile_serialization=zipped)
        files[name] = buffer.getvalue()
    return files


@pytest.mark.parametrize("kind", ["zip", "pickle", "safetensors"])
@pytest.mark.parametrize("share", [0.0005, 0.01, 0.3, 0.9, 0.999])
def test_a_truncated_file_is_refused(tmp_path: Path, whole_files: dict[str, bytes], kind: str, share: float) -> None:
    whole = whole_files[kind]
    path = tmp_path / "cut"
    path.write_bytes(whole)
    assert load(path).config.depth == 1
    path.write_bytes(whole[: int(len(whole) * share)])
    message = refusal(path)
    # A name cut in the middle reads as another name, which is not on the list of safe ones either.
    assert "fetch it again" in message or "wants to run code (torch._utils._rebuild_te)" in message


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(kind=st.sampled_from(["zip", "pickle", "safetensors"]), where=st.floats(0, 1), byte=st.integers(0, 255))
@example(kind="pickle", where=0.0, byte=0x80)
def test_a_flipped_byte_loads_or_is_refused_but_never_escapes(
    tmp_path: Path, whole_files: dict[str, bytes], kind: str, where: float, byte: int
) -> None:
    damaged = bytearray(whole_files[kind])
    # Half of the time in the first kilobyte or so, where the structure is.
    length = len(damaged) - 1 if where < 0.5 else min(2000, len(damaged) - 1)
    damaged[int((where * 2 % 1) * length)] = byte
    path = tmp_path / "damaged"
    path.write_bytes(damaged)
    with contextlib.suppress(CheckpointError):
        load(path)


MENDS: list[tuple[str, Callable[[State], Any], str]] = [
    ("no patches", lambda s: {k: s[k] for k in s if k != "patch_embed.proj.weight"}, "patch_embed.proj.weight"),
    ("no class token", lambda s: {k: s[k] for k in s if k != "cls_token"}, "no cls_token, expected [1, 1, 64]"),
    ("no positions", lambda s: {k: s[k] for k in s if k != "pos_embed"}, "no pos_embed"),
    ("no bias", lambda s: {k: s[k] for k in s if k != "blocks.1.attn.qkv.bias"}, "no blocks.1.attn.qkv.bias"),
    ("a gap", lambda s: {k.replace("blocks.1.", "blocks.7."): s[k] for k in s}, "no blocks.1.norm1.weight"),
    ("no blocks", lambda s: {k: s[k] for k in s if "blocks" not in k}, "no blocks.0.mlp.fc1.weight"),
    ("no head weight", lambda s: {k: s[k] for k in s if k != "head.weight"}, "no head.weight"),
    ("no head bias", lambda s: {k: s[k] for k in s if k != "head.bias"}, "no head.bias, expected [2]"),
    ("no norm", lambda s: {k: s[k] for k in s if "fc_norm" not in k}, "neither norm.weight nor fc_norm.weight"),
    ("half a norm", lambda s: {k: s[k] for k in s if k != "fc_norm.bias"}, "no fc_norm.bias"),
    ("both norms", lambda s: {**s, "norm.weight": torch.ones(64)}, "both norm.weight and fc_norm.weight"),
    ("layer scale", lambda s: {**s, "blocks.0.ls1.gamma": torch.ones(64)}, "unexpected 'blocks.0.ls1.gamma'"),
    ("distilled", lambda s: {**s, "dist_token": torch.ones(1, 1, 64)}, "unexpected 'dist_token'"),
    ("hostile name", lambda s: {**s, "a\nb" * 99: torch.ones(1)}, "unexpected 'a\\nb"),
    ("grey patches", lambda s: {**s, "patch_embed.proj.weight": torch.ones(64, 1, 16, 16)}, "expected [dim, 3, 16"),
    ("patch 14", lambda s: {**s, "patch_embed.proj.weight": torch.ones(64, 3, 14, 14)}, "[64, 3, 14, 14]"),
    ("odd positions", lambda s: {**s, "pos_embed": torch.ones(1, 16, 64)}, "pos_embed has shape [1, 16, 64]"),
    ("flat positions", lambda s: {**s, "pos_embed": torch.ones(17, 64)}, "pos_embed has shape [17, 64]"),
    (
        "other width",
        lambda s: {**s, "head.weight": torch.ones(2, 65)},
        "head.weight has shape [2, 65]; expected [2, 64]",
    ),
    ("one class", lambda s: {**s, "head.weight": torch.ones(1, 64)}, "head.weight has 1 rows"),
    ("other qkv", lambda s: {**s, "blocks.0.attn.qkv.weight": torch.ones(64, 64)}, "expected [192, 64]"),
    ("NaN", lambda s: {**s, "blocks.0.norm1.bias": torch.full((64,), torch.nan)}, "blocks.0.norm1.bias holds NaN"),
    ("infinity", lambda s: {**s, "head.bias": torch.tensor([0, torch.inf])}, "head.bias holds NaN or inf"),
    ("too large", lambda s: {**s, "head.bias": torch.tensor([0, 1e300]).double() * 1e200}, "head.bias holds"),
    ("integers", lambda s: {**s, "blocks.1.mlp.fc2.bias": torch.ones(64).int()}, "blocks.1.mlp.fc2.bias is int32"),
    ("complex", lambda s: {**s, "cls_token": s["cls_token"] + 0j}, "cls_token is complex64"),
    ("sparse", lambda s: {**s, "head.weight": s["head.weight"].to_sparse()}, "head.weight is a sparse"),
    ("meta", lambda s: {**s, "head.weight": s["head.weight"].to("meta")}, "head.weight is a sparse"),
    ("a number", lambda s: {**s, "lr": 0.1}, "key 'lr' is a float, not a tensor"),
    ("number keys", lambda s: {0: s["cls_token"]}, "key '0' is no text"),
    ("a list", lambda s: list(s.values()), "holds a list, not a state dict"),
    ("one tensor", lambda s: s["head.bias"], "holds a Tensor"),
    ("an empty dict", lambda _: {}, "no patch_embed.proj.weight"),
    ("two models", lambda s: {"model": s, "state_dict": s}, "under both model and state_dict"),
    ("twice", lambda s: {**{f"module.{k}": s[k] for k in s}, "cls_token": s["cls_token"]}, "cls_token is there with"),
    ("enormous dim", lambda s: {**s, "patch_embed.proj.weight": torch.ones(1).expand(10**9, 3, 16, 16)}, "channels"),
    ("enormous head", lambda s: {**s, "head.weight": torch.ones(1).expand(10**12, 64)}, "over 2 GB"),
    ("enormous grid", lambda s: {**s, "pos_embed": torch.ones(1).expand(1, 1 + 10**8, 64)}, "over 2 GB"),
]


@pytest.mark.parametrize(("make", "words"), [pytest.param(m, w, id=name) for name, m, w in MENDS])
def test_a_state_dict_that_is_not_a_vit_is_refused_by_the_name_of_its_key(
    tmp_path: Path, make: Callable[[State], Any], words: str
) -> None:
    message = refusal(saved(tmp_path, make(make_classifier_state_dict())))
    assert words in message
    assert "checkpoint.pth" in message


def test_a_mae_without_a_head_says_both_mends(tmp_path: Path) -> None:
    message = refusal(saved(tmp_path, make_mae_state_dict()))
    assert "no head.weight" in message
    assert "--head FILE or --new-head CLASSES" in message


def test_width_without_heads_is_refused(tmp_path: Path) -> None:
    assert "96 channels" in refusal(saved(tmp_path, make_classifier_state_dict(dim=96)))


def test_a_trained_head_does_not_get_a_pooling_that_it_was_not_trained_with(tmp_path: Path) -> None:
    path = saved(tmp_path, make_classifier_state_dict(pool="token"))
    assert "no fc_norm.weight" in refusal(path, pool="mean")
    path = saved(tmp_path, make_classifier_state_dict(pool="mean"))
    assert "no norm.weight" in refusal(path, pool="token")


@pytest.mark.parametrize(
    ("head", "words"),
    [
        ({}, "no head.weight"),
        ({"head.weight": torch.ones(2, 64), "pos_embed": torch.ones(1)}, "more than a head, 'pos_embed'"),
        ({"head.weight": torch.ones(2, 63), "head.bias": torch.ones(2)}, "head.weight has shape [2, 63]"),
        ({"head.weight": torch.ones(2, 64)}, "no head.bias"),
        ({"weight": torch.ones(2, 64), "bias": torch.ones(3)}, "head.bias has shape [3]"),
        ({"head.1.weight": torch.ones(2, 64), "head.1.bias": torch.ones(2)}, "no head.0.running_mean"),
    ],
)
def test_a_head_file_that_does_not_fit_is_refused(tmp_path: Path, head: State, words: str) -> None:
    path = saved(tmp_path, make_mae_state_dict())
    torch.save(head, tmp_path / "head.pt")
    assert words in refusal(path, head=tmp_path / "head.pt")


def test_a_linear_probe_of_another_width_is_refused(tmp_path: Path) -> None:
    state = {**make_mae_state_dict(), **make_linear_probe_head()}
    state["head.0.running_var"] = torch.ones(63)
    assert "head.0.running_var has shape [63]; expected [64]" in refusal(saved(tmp_path, state))
    state["head.0.running_var"] = -torch.ones(64)
    assert "head.weight holds NaN" in refusal(saved(tmp_path, state))
    state["head.1.weight"] = torch.ones(1).expand(2, 10**12)
    assert "head.1.weight has shape" in refusal(saved(tmp_path, state))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"image_size": 100}, "multiple of 16"),
        ({"image_size": 0}, "multiple of 16"),
        ({"image_size": -16}, "multiple of 16"),
        ({"new_head": 1}, "2 to 10000"),
        ({"new_head": 10**9}, "2 to 10000"),
        ({"new_head": 2, "head": "head.pt"}, "exclude each other"),
        ({"pool": "max"}, "mean or token"),
        ({"heads": 0}, "1 or more"),
        ({"heads": 5}, "does not divide"),
    ],
)
def test_options_that_cannot_be_honoured_are_usage_errors(tmp_path: Path, options: dict[str, Any], words: str) -> None:
    path = saved(tmp_path, make_classifier_state_dict())
    with pytest.raises(UsageError, match=words):
        load(path, **options)


def test_an_image_size_beyond_one_file_is_refused_before_it_is_allocated(tmp_path: Path) -> None:
    assert "over 2 GB" in refusal(saved(tmp_path, make_classifier_state_dict()), image_size=16 * 10_000)


def test_safetensors_with_integers_is_refused(tmp_path: Path) -> None:
    state = make_classifier_state_dict()
    save_file({**state, "head.bias": torch.tensor([1, 2])}, tmp_path / "m")
    assert "head.bias is int64" in refusal(tmp_path / "m")
