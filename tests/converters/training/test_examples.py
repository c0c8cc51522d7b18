"""Frames are read as the runtime sees them, from any table; what does not open is counted and named."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from vmeg_edge.converters.training.examples import PHANTOM_LABELS, phantom_examples, read_examples, read_table

from training_frames import picture, write_table
from vmeg_edge.errors import SourceError, UsageError
from vmeg_edge.manifest import Input
from vmeg_edge.phantom import phantoms
from vmeg_edge.preprocess import Preprocessor
from vmeg_edge.sources import open_source

SPEC = Input(width=32, height=32, resize="bilinear", mean=(0.25, 0.25, 0.25), std=(0.25, 0.25, 0.25))


def test_a_table_becomes_what_the_runtime_would_see(tmp_path: Path) -> None:
    table = write_table(tmp_path, patients=4, split=True)
    examples, splits, unreadable = read_examples(table, SPEC)
    assert examples.images.shape == (8, 32, 32)
    assert unreadable == ()
    assert splits == ("train",) * 8
    assert examples.groups == ("p0", "p0", "p1", "p1", "p2", "p2", "p3", "p3")
    assert (examples.labels, examples.positive) == (("normal", "finding"), "finding")
    assert examples.targets.tolist() == [0, 0, 1, 1, 0, 0, 1, 1]
    with open_source(tmp_path / "3.png") as source:
        (frame,) = source
    assert np.array_equal(examples.images[3], Preprocessor(SPEC)(frame)[0, :, :, 0])


def test_colour_is_kept_where_any_picture_has_it(tmp_path: Path) -> None:
    table = write_table(tmp_path, patients=2)
    cv2.imwrite(str(tmp_path / "0.png"), np.stack([picture(0, 0, 40)] * 2 + [picture(1, 0, 40)], axis=2))
    assert read_examples(table, SPEC).examples.images.shape == (4, 32, 32, 3)


def test_labels_are_the_tables_or_those_given(tmp_path: Path) -> None:
    table = write_table(tmp_path, patients=4)
    assert read_table(table).labels == ("normal", "finding")
    assert read_table(table, ("finding", "normal"), "finding").positive == "finding"
    assert read_table(table, ("finding", "normal")).positive == "normal"
    with pytest.raises(SourceError, match="line 2: the label 'normal' is none of --labels: finding, other"):
        read_table(table, ("finding", "other"))
    with pytest.raises(UsageError, match="--positive 'vm' is none of the labels: normal, finding"):
        read_table(table, None, "vm")
    table.write_text(table.read_text().replace("7.png,finding", "7.png,third"))
    with pytest.raises(UsageError, match="of 3 labels, say which is the positive one: --positive third"):
        read_table(table)


def test_a_table_of_one_class_is_refused(tmp_path: Path) -> None:
    table = write_table(tmp_path, patients=4)
    table.write_text(table.read_text().replace("normal", "finding"))
    for labels in (None, ("normal", "finding")):
        with pytest.raises(SourceError, match="every file has the label 'finding'; training needs two classes"):
            read_table(table, labels)


def test_a_patient_in_two_splits_is_named_with_both(tmp_path: Path) -> None:
    table = write_table(tmp_path, patients=10, split=True)
    lines = table.read_text().splitlines()
    lines[4] = lines[4].replace(",train", ",validation")
    table.write_text("\n".join(lines))
    with pytest.raises(SourceError, match="p1 is in both splits, train and validation; keep a patient in one"):
        read_table(table)


def test_a_series_without_a_patient_stays_together(tmp_path: Path) -> None:
    for name, target in (("a_1_of_2", 0), ("a_2_of_2", 0), ("b", 1)):
        cv2.imwrite(str(tmp_path / f"{name}.png"), picture(0, target))
    table = tmp_path / "t.csv"
    table.write_text("path,label\na_1_of_2.png,normal\na_2_of_2.png,normal\nb.png,vm\n")
    assert read_examples(table, SPEC).examples.groups == ("a", "a", "b")


def test_files_that_do_not_open_are_counted_and_the_first_is_named(tmp_path: Path) -> None:
    table = write_table(tmp_path, patients=4)
    (tmp_path / "2.png").write_bytes((tmp_path / "2.png").read_bytes()[:60])
    (tmp_path / "5.png").write_text("no picture")
    with pytest.raises(SourceError) as caught:
        read_examples(table, SPEC)
    said = str(caught.value)
    assert "2 of 8 files do not open, the first: " in said
    assert "2.png" in said
    assert "--skip-unreadable" in said
    assert "\n" not in said
    found = read_examples(table, SPEC, skip_unreadable=True)
    assert len(found.examples) == 6
    assert len(found.unreadable) == 2
    for place in range(8):
        (tmp_path / f"{place}.png").write_text("no picture")
    with pytest.raises(SourceError, match="not one of 8 files opens"):
        read_examples(table, SPEC, skip_unreadable=True)


def test_phantoms_are_what_the_runtime_would_see_with_their_ground_truth() -> None:
    spec = SPEC.model_copy(update={"width": 64, "height": 64})
    found = phantom_examples(3, 4, spec)
    assert found.labels == PHANTOM_LABELS
    assert found.groups == ("phantom 3/0", "phantom 3/1", "phantom 3/2", "phantom 3/3")
    assert found.phantoms
    assert found.coverage is not None
    assert found.widths_mm is not None
    for index, made in enumerate(phantoms(3, 4)):
        assert np.array_equal(found.images[index], Preprocessor(spec)(made.frame)[0, :, :, 0])
        assert found.widths_mm[index] == pytest.approx(made.atrial_width_mm)
        assert found.targets[index] == made.dilated
        region = made.frame.region
        assert region is not None
        share = made.ventricles.sum() / (region.width * region.height)
        assert found.coverage[index].mean() == pytest.approx(share, rel=1e-3)


def test_a_digest_is_of_everything() -> None:
    found = phantom_examples(3, 2, SPEC)
    assert found.digest() == phantom_examples(3, 2, SPEC).digest()
    assert found.digest() != found.at([1, 0]).digest()
    assert found.at([1]).names == ("phantom 3/1",)
