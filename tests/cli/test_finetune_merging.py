"""``vmeg-edge finetune --reduce-tokens``: a classifier tuned for merging, what that brought, and every refusal."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from vmeg_edge.converters import checkpoint
from vmeg_edge.converters.finetune import record_of, save_classifier

from checkpoints import make_classifier_state_dict, make_mae_state_dict, make_resnet_state_dict
from training_frames import made_examples, sure_vit, write_table
from vmeg_edge import parity
from vmeg_edge.bundle import open_bundle
from vmeg_edge.manifest import PHANTOMS_ONLY, RESEARCH_USE_ONLY

Command = Callable[..., Any]

SIZE, TOKENS = 96, 4
SEEN = made_examples(48, size=SIZE)


@pytest.fixture
def classifier(tmp_path: Path) -> Path:
    path = tmp_path / "c.pt"
    save_classifier(sure_vit(SEEN), SEEN, path)
    return path


@pytest.fixture
def table(tmp_path: Path) -> Path:
    return write_table(tmp_path, patients=20, split=True)


@pytest.fixture
def quick(table: Path, classifier: Path, tmp_path: Path) -> list[object]:
    """A run of two epochs."""
    where = [table, "--encoder", classifier, "--out", tmp_path / "m.pt"]
    return ["finetune", *where, "--reduce-tokens", TOKENS, "--epochs", 2, "--batch", 8, "--threads", 1]


def test_a_classifier_is_tuned_and_says_what_that_brought(
    vmeg_edge: Command, quick: list[object], classifier: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = classifier.read_bytes()
    ran = vmeg_edge(*quick, "--json")
    assert ran.code == 0, ran.err
    said = json.loads(ran.out)
    assert said["labels"] == ["normal", "finding"]
    assert (said["input"]["width"], said["input"]["resize"]) == (SIZE, "bilinear")
    assert said["recipe"]["distillation"]["tokens"] == TOKENS
    assert said["recipe"]["optimizer"]["learning_rate"] == pytest.approx(2.5e-5 / 4)  # in proportion to the batch
    assert (said["recipe"]["drop_path"], said["recipe"]["guidance"]) == (0.0, None)
    merging = said["merging"]
    assert (merging["merge"], merging["part"], merging["frames"]) == ([TOKENS, TOKENS], "test", 8)
    assert [row["tokens"] for row in merging["agreement"]] == [4, 6, 7]
    figures = {"same_decisions", "mean_abs_dp", "activation_cosine"}
    assert all(set(row[side]) == figures for row in merging["agreement"] for side in ("before", "after"))
    first, *_, last = merging["agreement"]
    assert first["before"]["activation_cosine"] > last["before"]["activation_cosine"]
    assert first["before"] != first["after"]
    ranks = [(e["agreement"]["same_decisions"], -e["agreement"]["mean_abs_dp"]) for e in said["history"]]
    assert said["best"]["epoch"] == 1 + ranks.index(max(ranks))
    start = merging["start"]
    assert merging["better_than_start"] == (max(ranks) > (start["same_decisions"], -start["mean_abs_dp"]))
    assert f"epoch 0, merging before any tuning: same decisions {start['same_decisions']:.3f}, mean |dp| " in ran.err
    assert classifier.read_bytes() == before

    read = checkpoint.load(tmp_path / "m.pt")
    sha256 = hashlib.sha256(before).hexdigest()
    assert read.record is not None
    assert read.record.notes[0].startswith(
        f"Recipe: vmeg-edge finetune --reduce-tokens 4; ViT-64x2/16 from c.pt ({sha256[:12]}"
    )
    assert "the best by agreement with the teacher (same decisions " in read.record.notes[1]
    assert read.record.notes[2] == (
        f"Tuned for merging as with --reduce-tokens 4; the teacher is c.pt ({sha256[:12]}), which merges none."
    )
    assert {name: value.shape for name, value in read.state.items()} == {
        name: value.shape for name, value in checkpoint.load(classifier).state.items()
    }

    # Untrained weights: what the gate would say of them is not the question here.
    monkeypatch.setitem(parity.GATES, "int8", (1.0, None))
    monkeypatch.setattr(parity, "MERGED_COSINES", (-1.0, -1.0))
    options = ["--reduce-tokens", TOKENS, "--abstain", "0,1", "--no-plane-gate"]
    converted = vmeg_edge("convert", tmp_path / "m.pt", "--out", tmp_path / "m.vmeg", *options)
    assert converted.code == 0, converted.err
    manifest = open_bundle(tmp_path / "m.vmeg").manifest
    assert manifest.merge == (TOKENS, TOKENS)
    assert manifest.notes[:3] == read.record.notes


def test_people_get_a_table_of_before_and_after(vmeg_edge: Command, quick: list[object], tmp_path: Path) -> None:
    ran = vmeg_edge(*quick)
    assert ran.code == 0, ran.err
    for words in (
        "agreement with the teacher, which merges none, on 8 frames (test)",
        "same decisions, before",
        f"next: vmeg-edge convert {tmp_path / 'm.pt'} --reduce-tokens 4 --out NAME.vmeg",
        RESEARCH_USE_ONLY,
    ):
        assert words in ran.out


def test_tuning_that_makes_it_no_better_is_said(vmeg_edge: Command, quick: list[object]) -> None:
    ran = vmeg_edge(*quick, "--learning-rate", 1, "--force")
    assert ran.code == 0, ran.err
    assert "no epoch agreed better on the validation part than merging untuned: keep the encoder" in ran.out


def test_phantoms_are_merged_for_as_well_without_guidance(vmeg_edge: Command, classifier: Path, tmp_path: Path) -> None:
    save_classifier(sure_vit(SEEN), replace(SEEN, labels=("normal", "ventriculomegaly"), positive="normal"), classifier)
    options = ["--phantoms", 24, "--epochs", 1, "--batch", 8, "--threads", 1, "--json"]
    where = ["--encoder", classifier, "--reduce-tokens", TOKENS, "--out", tmp_path / "m.pt"]
    ran = vmeg_edge("finetune", "phantoms", *where, *options)
    assert ran.code == 0, ran.err
    said = json.loads(ran.out)
    assert said["recipe"]["guidance"] is None
    assert (said["merging"]["part"], said["merging"]["frames"]) == ("test", 20)
    assert said["notices"] == [PHANTOMS_ONLY, RESEARCH_USE_ONLY]


def test_what_the_teacher_learnt_from_simulated_heads_stays_said(
    vmeg_edge: Command, quick: list[object], classifier: Path, tmp_path: Path
) -> None:
    save_classifier(sure_vit(SEEN), record_of(SEEN, phantoms=True), classifier)
    ran = vmeg_edge(*quick, "--json")
    assert ran.code == 0, ran.err
    assert json.loads(ran.out)["notices"] == [PHANTOMS_ONLY, RESEARCH_USE_ONLY]
    record = checkpoint.load(tmp_path / "m.pt").record
    assert record is not None
    assert record.trained_on == "phantoms"


def test_the_heads_own_order_of_labels_is_kept(vmeg_edge: Command, quick: list[object], classifier: Path) -> None:
    turned = record_of(SEEN).model_copy(update={"labels": ("finding", "normal"), "positive": "finding"})
    save_classifier(sure_vit(SEEN), turned, classifier)
    ran = vmeg_edge(*quick, "--json")
    assert ran.code == 0, ran.err
    said = json.loads(ran.out)
    assert (said["labels"], said["positive"]) == (["finding", "normal"], "finding")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--reduce-tokens", 8], "has 36 tokens, and can merge 7 a block in the mean of its 2; give 7 or fewer"),
        (["--image-size", 32], "can merge 0 a block in the mean of its 2; give a larger image size"),
        (["--bundle", "b.vmeg"], "--bundle: convert the tuned checkpoint with --reduce-tokens"),
        (["--recipe", "demo"], "leave --recipe demo out"),
        (["--labels", "finding,normal"], "its head tells apart normal, finding, and the labels are finding, normal"),
        (["--arch", "resnet50"], "resnet50"),
        (["--reduce-tokens", 0], "0 is not in the range"),
    ],
)
def test_options_that_cannot_be_honoured_are_refused(
    vmeg_edge: Command, quick: list[object], tmp_path: Path, options: list[object], words: str
) -> None:
    ran = vmeg_edge(*quick, *options)
    assert ran.code == 2
    assert words in ran.error
    assert not list(tmp_path.glob("m.pt*"))


def _without_head() -> dict[str, Any]:
    return make_mae_state_dict(dim=64, depth=1, image_size=SIZE)


def _three_classes() -> dict[str, Any]:
    return make_classifier_state_dict(dim=64, depth=1, image_size=SIZE, classes=3)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (_without_head, "no head.weight; --reduce-tokens starts from a trained classifier; run finetune without it"),
        (
            _three_classes,
            "its head has 3 classes, and there are 2 labels, normal, finding; name them all with --labels",
        ),
        (make_resnet_state_dict, "--reduce-tokens merges a ViT's tokens, and this is a ResNet"),
    ],
)
def test_weights_that_are_no_trained_vit_are_refused(
    vmeg_edge: Command, quick: list[object], classifier: Path, make: Callable[[], dict[str, Any]], words: str
) -> None:
    torch.save({"model": make()}, classifier)
    ran = vmeg_edge(*quick)
    assert ran.code == 2
    assert words in ran.error


def test_there_is_no_merging_from_scratch_and_no_label_that_the_head_does_not_know(
    vmeg_edge: Command, quick: list[object], table: Path, tmp_path: Path
) -> None:
    ran = vmeg_edge("finetune", table, "--arch", "vit_tiny", "--reduce-tokens", 4, "--out", tmp_path / "m.pt")
    assert ran.code == 2
    assert "--reduce-tokens starts from a trained classifier; give its checkpoint with --encoder FILE" in ran.error
    unknown = vmeg_edge("finetune", "phantoms", *quick[2:])
    assert unknown.code == 2
    assert "its head tells apart normal, finding, and the labels are normal, ventriculomegaly" in unknown.error
    table.write_text(table.read_text().replace("finding", "other"))
    renamed = vmeg_edge(*quick)
    assert renamed.code == 2
    assert "the label 'other' is none of those that" in renamed.error
