"""``vmeg-edge finetune``: from a table to a classifier that converts without a word, and every refusal in one line."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import pytest
import torch
from vmeg_edge.converters import bundle_from_model
from vmeg_edge.converters.plane_gate_fit import gate_frames
from vmeg_edge.converters.training import demo_recipe

from checkpoints import make_mae_state_dict
from training_frames import write_table
from vmeg_edge.bundle import open_bundle
from vmeg_edge.cli import finetune_run
from vmeg_edge.manifest import PHANTOMS_ONLY, RESEARCH_USE_ONLY

Command = Callable[..., Any]


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("encoder") / "mae.pt"
    torch.save({"model": make_mae_state_dict(dim=64, depth=1, image_size=32)}, path)
    return path


@pytest.fixture
def table(tmp_path: Path) -> Path:
    return write_table(tmp_path, patients=20, split=True)


@pytest.fixture
def quick(table: Path, encoder: Path, tmp_path: Path) -> list[object]:
    """A run of two epochs."""
    out = tmp_path / "c.pt"
    return ["finetune", table, "--encoder", encoder, "--out", out, "--epochs", 2, "--batch", 8, "--threads", 1]


def test_a_table_becomes_a_classifier_that_converts_without_an_option(
    vmeg_edge: Command, quick: list[object], tmp_path: Path
) -> None:
    ran = vmeg_edge(*quick, "--curves", tmp_path / "curves.png", "--resize", "bilinear", "--json")
    assert ran.code == 0, ran.err
    said = json.loads(ran.out)
    assert said["labels"] == ["normal", "finding"]
    assert said["frames"] == {"train": 24, "validation": 8, "test": 8}
    assert [epoch["epoch"] for epoch in said["history"]] == [1, 2]
    assert set(said["metrics"]) == {"validation", "test"}
    assert said["metrics"]["test"]["frames"] == 8
    assert said["metrics"]["validation"]["f1"] == pytest.approx(said["best"]["f1"], abs=1e-4)
    assert said["notices"] == [RESEARCH_USE_ONLY]
    assert said["origin"].startswith("ViT-64x1/16 from mae.pt (")
    assert cv2.imread(str(tmp_path / "curves.png")) is not None
    assert "epoch 2 at 32 px: loss " in ran.err
    assert not (tmp_path / "c.pt.state").exists()

    converted = vmeg_edge("convert", tmp_path / "c.pt", "--out", tmp_path / "c.vmeg", "--no-plane-gate")
    assert converted.code == 0, converted.err
    manifest = open_bundle(tmp_path / "c.vmeg").manifest
    assert (manifest.labels, manifest.positive) == (("normal", "finding"), "finding")
    assert (manifest.input.width, manifest.input.resize) == (32, "bilinear")
    assert manifest.notes[0].startswith("Recipe: vmeg-edge finetune; ViT-64x1/16 from mae.pt (")
    assert "labels.csv, seed 0" in manifest.notes[0]
    assert f"Weights of epoch {said['best']['epoch']} of 2" in manifest.notes[1]


def test_a_bundles_plane_gate_knows_the_tables_frames(vmeg_edge: Command, encoder: Path, tmp_path: Path) -> None:
    table, bundle = write_table(tmp_path, patients=30), tmp_path / "c.vmeg"
    options = ["--encoder", encoder, "--out", tmp_path / "c.pt", "--epochs", 1, "--threads", 1, "--json"]
    ran = vmeg_edge("finetune", table, *options, "--bundle", bundle)
    assert ran.code == 0, ran.err
    manifest = open_bundle(bundle).manifest
    gate = manifest.plane_gate
    assert gate is not None
    assert (gate.sources, gate.frames, gate.held_out_frames) == (("labels.csv",), 48, 12)
    assert set(manifest.artefacts) == {"onnxruntime", "openvino"}
    assert not any(note.startswith("No plane gate") for note in manifest.notes)
    assert json.loads(ran.out)["bundle"]["warnings"] == []


def test_people_get_a_table_and_are_told_what_it_is_for(vmeg_edge: Command, quick: list[object]) -> None:
    ran = vmeg_edge(*quick)
    assert ran.code == 0, ran.err
    for words in ("validation", "test", "specificity", "next: vmeg-edge convert", RESEARCH_USE_ONLY):
        assert words in ran.out


def test_a_run_that_was_cut_off_goes_on_with_resume_alone(
    vmeg_edge: Command, quick: list[object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    straight = vmeg_edge(*quick, "--epochs", 4, "--json")
    weights = torch.load(tmp_path / "c.pt", weights_only=True)["model"]
    (tmp_path / "c.pt").unlink()
    tell = finetune_run._tell

    def interrupt(epoch: Any) -> None:
        if epoch.epoch == 3:
            raise KeyboardInterrupt
        tell(epoch)

    with monkeypatch.context() as patch:
        patch.setattr(finetune_run, "_tell", interrupt)
        stopped = vmeg_edge(*quick, "--epochs", 4)
        assert stopped.code == 130
        assert "c.pt.state is kept; the same command with --resume goes on from it" in stopped.err
    state = tmp_path / "c.pt.state"
    assert state.exists()
    assert not (tmp_path / "c.pt").exists()

    refused = vmeg_edge(*quick, "--epochs", 4)
    assert refused.code == 2
    assert "a run was cut off here; pass --resume to go on, or --force to start afresh" in refused.error
    other = vmeg_edge(*quick, "--epochs", 5, "--resume")
    assert other.code == 2
    assert "recipe: schedule.epochs (then 4, now 5)" in other.error

    resumed = vmeg_edge(*quick, "--epochs", 4, "--resume", "--json")
    assert resumed.code == 0, resumed.err
    said = json.loads(resumed.out)
    assert said["resumed"]
    assert len(said["history"]) == 4
    assert said["metrics"] == json.loads(straight.out)["metrics"]
    again = torch.load(tmp_path / "c.pt", weights_only=True)["model"]
    assert all(torch.equal(again[name], weights[name]) for name in weights)
    assert not state.exists()


def test_force_starts_afresh(vmeg_edge: Command, quick: list[object], tmp_path: Path) -> None:
    (tmp_path / "c.pt").write_bytes(b"old")
    (tmp_path / "c.pt.state").write_bytes(b"damaged")
    damaged = vmeg_edge(*quick, "--resume", "--force")
    assert damaged.code == 2
    assert "no whole training state" in damaged.error
    ran = vmeg_edge(*quick, "--force", "--json")
    assert ran.code == 0, ran.err
    assert not json.loads(ran.out)["resumed"]


def test_files_that_do_not_open_stop_the_run_unless_they_may_be_left_out(
    vmeg_edge: Command, quick: list[object], tmp_path: Path
) -> None:
    (tmp_path / "6.png").write_bytes(b"no picture")
    stopped = vmeg_edge(*quick)
    assert stopped.code == 2
    assert "1 of 40 files do not open, the first: " in stopped.error
    assert "6.png" in stopped.error
    ran = vmeg_edge(*quick, "--skip-unreadable")
    assert ran.code == 0, ran.err
    assert "1 files did not open and were left out" in ran.out


def test_the_test_part_may_have_one_class(vmeg_edge: Command, quick: list[object], table: Path) -> None:
    lines = table.read_text().splitlines()
    only_normal = [line for line in lines if not (line.endswith("test") and "finding" in line)]
    table.write_text("\n".join(only_normal) + "\n")
    ran = vmeg_edge(*quick)
    assert ran.code == 0, ran.err
    assert "undefined" in ran.out


def _one_class(table: Path) -> None:
    table.write_text(table.read_text().replace("normal", "finding"))


def _two_splits(table: Path) -> None:
    table.write_text(table.read_text().replace("1.png,normal,p0,train", "1.png,normal,p0,test"))


def _clash(table: Path) -> None:
    table.write_text(table.read_text() + "0.png,finding,p0,train\n")


def _lone_positive(table: Path) -> None:
    lines = [line for line in table.read_text().splitlines() if "finding" not in line or ",p1," in line]
    table.write_text("\n".join(lines) + "\n")


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (_one_class, "every file has the label 'finding'; training needs two classes"),
        (_two_splits, "p0 is in both splits, train and test; keep a patient in one"),
        (_clash, "0.png: line 2 labels it and line 42 gives it another label; keep one"),
        (_lone_positive, "cannot hold every class and leave every class to train on"),
        (
            lambda table: table.write_text(table.read_text().replace("train", "fit")),
            "the split 'fit' is none of: train",
        ),
        (lambda table: table.write_text(table.read_text().replace(",train", ",test")), "leaves no frame to train on"),
        (lambda table: table.unlink(), "cannot be read (No such file or directory)"),
    ],
)
def test_a_table_that_cannot_be_learnt_from_is_refused(
    vmeg_edge: Command, quick: list[object], table: Path, tmp_path: Path, spoil: Callable[[Path], None], words: str
) -> None:
    spoil(table)
    ran = vmeg_edge(*quick)
    assert ran.code == 2
    assert words in ran.error
    assert not list(tmp_path.glob("c.pt*"))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--arch", "resnet50"], "resnet50"),
        (["--arch", "vit_base"], "vit_base"),
        (["--image-size", 40], "multiple of 16"),
        (["--labels", "normal"], "give two or more names that differ"),
        (["--labels", "normal,other"], "the label 'finding' is none of --labels: normal, other"),
        (["--positive", "vm"], "--positive 'vm' is none of the labels"),
        (["--learning-rate", -1], "learning rate"),
        (["--device", "abacus"], "torch cannot train on the device 'abacus'"),
        (["--report", "r.json"], "--report: for phantoms alone"),
        (["--phantoms", 100], "--phantoms: for phantoms alone"),
        (["--recipe", "demo"], "--recipe demo trains on phantoms"),
        (["--curves", "none/c.png"], "none/c.png: cannot be written"),
        (["--encoder", "none.pt"], "none.pt: No such file"),
    ],
)
def test_options_that_cannot_be_honoured_are_refused(
    vmeg_edge: Command, quick: list[object], tmp_path: Path, options: list[object], words: str
) -> None:
    ran = vmeg_edge(*quick, *options)
    assert ran.code == 2
    assert words in ran.error
    assert not list(tmp_path.glob("c.pt*"))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["phantoms", "--labels", "a,b"], "--labels: phantoms bring their labels"),
        (["phantoms", "--recipe", "demo", "--epochs", 3], "--epochs: the demo recipe brings its own"),
        (["phantoms", "--saliency-weight", 0], "--saliency-weight: for --recipe demo alone"),
        (["phantoms", "--report", "r.json"], "--report measures a bundle; give --bundle as well"),
        (["labels.csv"], "give a pre-trained --encoder FILE, or --arch NAME"),
        (["phantoms", "--arch", "vit"], "--arch vit is a family; to train from scratch, choose a size: vit_tiny, vit_"),
    ],
)
def test_options_that_do_not_go_together_are_refused(
    vmeg_edge: Command, tmp_path: Path, options: list[object], words: str
) -> None:
    ran = vmeg_edge("finetune", *options, "--out", tmp_path / "c.pt")
    assert ran.code == 2
    assert words in ran.error


def test_what_exists_is_not_replaced_unasked(vmeg_edge: Command, quick: list[object], tmp_path: Path) -> None:
    (tmp_path / "b.vmeg").mkdir()
    ran = vmeg_edge(*quick, "--bundle", tmp_path / "b.vmeg")
    assert ran.code == 2
    assert "b.vmeg: exists already" in ran.error


def test_phantoms_are_a_try_without_data(vmeg_edge: Command, tmp_path: Path) -> None:
    options = ["--phantoms", 24, "--image-size", 32, "--epochs", 1, "--batch", 8, "--threads", 1]
    ran = vmeg_edge("finetune", "phantoms", "--out", tmp_path / "c.pt", *options, "--json")
    assert ran.code == 0, ran.err
    said = json.loads(ran.out)
    assert sum(said["frames"].values()) == 24 + 20
    assert said["notices"] == [PHANTOMS_ONLY, RESEARCH_USE_ONLY]
    assert said["recipe"]["guidance"] is not None


def test_the_demo_models_bundle_is_made_by_the_command_alone(
    vmeg_edge: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every step of the real run, with an epoch of one step at each image size, and a gate of few phantoms."""
    whole = demo_recipe.recipe

    def short(seed: int, saliency_weight: float) -> Any:
        recipe = whole(seed, saliency_weight)
        first = replace(recipe.smaller_first[0], epochs=1)
        return replace(recipe, smaller_first=(first,), schedule=replace(recipe.schedule, epochs=1, warmup_epochs=0))

    monkeypatch.setattr(demo_recipe, "recipe", short)
    monkeypatch.setattr(bundle_from_model, "gate_frames", partial(gate_frames, fit=24, held_out=8))
    bundle, report = tmp_path / "d.vmeg", tmp_path / "r.json"
    options = [
        "--phantoms",
        24,
        "--saliency-weight",
        0.5,
        "--bundle",
        bundle,
        "--report",
        report,
        "--unseen",
        10,
        "--threads",
        1,
    ]
    ran = vmeg_edge("finetune", "phantoms", "--recipe", "demo", "--out", tmp_path / "d.pt", *options)
    assert ran.code == 0, ran.err
    manifest = open_bundle(bundle).manifest
    assert manifest.trained_on == "phantoms"
    assert manifest.decision == demo_recipe.RULE
    assert {name: kept.files for name, kept in manifest.artefacts.items()} == {
        "onnxruntime": ("model.onnx",),
        "openvino": ("model.onnx",),
    }
    assert (manifest.input, manifest.architecture.depth) == (demo_recipe.INPUT, 4)
    assert manifest.notes[0] == (
        "Recipe: vmeg-edge finetune phantoms --recipe demo --saliency-weight 0.5; ViT-192x4/16 from scratch; "
        "24 phantoms, seed 7."
    )
    content = json.loads(report.read_text())
    assert content["drawn_as_in_training"]["phantoms"] == 10
    assert content["seed"] == 1007
    assert content["minutes"] >= 0
