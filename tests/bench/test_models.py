"""Bundles of one run are told apart by the shortest label that does it, and none is measured twice."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from vmeg_edge.bench.models import MOST_LETTERS, artefact_mb, model_of, open_models
from vmeg_edge.bundle import open_bundle
from vmeg_edge.errors import UsageError

Make = Callable[..., Path]


@pytest.fixture
def make(demo_bundle: Path, tmp_path: Path, reseal: Callable[[Path], None]) -> Make:
    """A bundle at this place with this name; a note makes its digest its own."""

    def copy(place: str, name: str) -> Path:
        folder = Path(shutil.copytree(demo_bundle, tmp_path / place))
        manifest = json.loads((folder / "manifest.json").read_text())
        manifest |= {"name": name, "notes": [place]}
        (folder / "manifest.json").write_text(json.dumps(manifest))
        reseal(folder)
        return folder

    return copy


def test_a_model_is_called_by_its_name_then_by_its_folders_then_by_its_digest_too(make: Make) -> None:
    paths = [
        make("a.vmeg", "vit"),
        make("b.vmeg", "resnet"),
        make("c.vmeg", "resnet"),
        make("x/v8.vmeg", "vgg"),
        make("y/v8.vmeg", "vgg"),
    ]
    bundles = open_models(paths)
    assert [bundle.path for bundle in bundles.values()] == paths
    digests = [open_bundle(path).digest[:12] for path in paths[3:]]
    assert list(bundles) == ["vit", "b", "c", *(f"v8 {digest}" for digest in digests)]


def test_a_folder_that_is_called_as_another_model_has_its_digest_said(make: Make) -> None:
    one, two, three = open_models([make("a.vmeg", "vit"), make("b.vmeg", "vit"), make("c.vmeg", "b")])
    assert (one, two[:2], three[:2]) == ("a", "b ", "c ")


def test_a_label_is_short_and_printable(make: Make) -> None:
    long = "usfmae-vit-b16-ventriculomegaly-fine-tuned-at-site-two-fold-3"
    one, two = open_models([make("a.vmeg", long), make("b.vmeg", "v\x1b[2J\n8\u202e")])
    assert len(one) == MOST_LETTERS
    assert (one[:12], one[-6:]) == (long[:12], long[-6:])
    assert two == "v?[2J 8?"


def test_the_same_bundle_twice_is_refused_in_one_line(demo_bundle: Path, bundle_copy: Path) -> None:
    with pytest.raises(UsageError) as caught:
        open_models([demo_bundle, demo_bundle])
    assert str(caught.value) == f"{demo_bundle}: given twice; give each bundle once"
    with pytest.raises(UsageError) as caught:
        open_models([demo_bundle, bundle_copy])
    assert str(caught.value) == f"{bundle_copy}: the same bundle as {demo_bundle}; give each bundle once"


def test_a_model_is_described_by_its_manifest_and_its_artefact_by_its_files(demo_bundle: Path) -> None:
    bundle = open_bundle(demo_bundle)
    model = model_of("d", bundle, ["a", "b", "a"], {"openvino": "absent"})
    assert (model.label, model.name, model.path, model.input) == ("d", "demo", "demo.vmeg", "224x224")
    assert (model.digest, model.checkpoint) == (bundle.digest, bundle.manifest.checkpoint.sha256)
    assert (model.notices, model.not_run) == (("a", "b"), {"openvino": "absent"})
    sizes = [(demo_bundle / name).stat().st_size for name in bundle.manifest.artefacts["onnxruntime"].files]
    assert artefact_mb(bundle, "onnxruntime") == sum(sizes) / 1e6 > 1
