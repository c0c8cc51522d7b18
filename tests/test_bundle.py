"""A bundle is opened only when every file is there, plain, listed and unchanged."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from vmeg_edge.bundle import open_bundle, write_bundle
from vmeg_edge.errors import BundleError, IntegrityError, ManifestError, OutputError


def _edit_manifest(bundle: Path, change: Callable[[dict], None]) -> None:
    path = bundle / "manifest.json"
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def test_an_untouched_bundle_opens_and_its_digest_is_that_of_its_sums(demo_bundle: Path) -> None:
    bundle = open_bundle(demo_bundle)
    assert bundle.digest == hashlib.sha256((demo_bundle / "SHA256SUMS").read_bytes()).hexdigest()
    assert set(bundle.digests) == {path.name for path in demo_bundle.iterdir()} - {"SHA256SUMS"}
    assert bundle.manifest.positive == "ventriculomegaly"


def test_the_sums_are_what_sha256sum_checks(demo_bundle: Path) -> None:
    if shutil.which("sha256sum") is None:
        pytest.skip("sha256sum is not installed")
    done = subprocess.run(["sha256sum", "--check", "--strict", "SHA256SUMS"], cwd=demo_bundle, capture_output=True)
    assert done.returncode == 0


@pytest.mark.parametrize("name", ["manifest.json", "model.onnx", "golden.npz", "parity.json", "cam_direction.npy"])
@pytest.mark.parametrize("place", [0, 0.5, 1])
def test_a_flipped_bit_in_any_file_is_refused_and_named(bundle_copy: Path, name: str, place: float) -> None:
    data = bytearray((bundle_copy / name).read_bytes())
    data[round(place * (len(data) - 1))] ^= 1
    (bundle_copy / name).write_bytes(data)
    with pytest.raises(IntegrityError, match=name):
        open_bundle(bundle_copy)


def test_a_flipped_bit_in_the_sums_is_refused(bundle_copy: Path) -> None:
    data = bytearray((bundle_copy / "SHA256SUMS").read_bytes())
    for place in range(0, len(data), 7):
        changed = bytearray(data)
        changed[place] ^= 1
        (bundle_copy / "SHA256SUMS").write_bytes(changed)
        with pytest.raises(IntegrityError):
            open_bundle(bundle_copy)


@pytest.mark.parametrize("name", ["model.onnx", "manifest.json", "golden.npz"])
def test_a_missing_file_is_named(bundle_copy: Path, name: str) -> None:
    (bundle_copy / name).unlink()
    with pytest.raises(IntegrityError, match=f"{name} is missing"):
        open_bundle(bundle_copy)


def test_a_file_that_is_not_listed_is_refused(bundle_copy: Path) -> None:
    (bundle_copy / "extra.so").write_bytes(b"x")
    with pytest.raises(IntegrityError, match=r"extra\.so is not listed"):
        open_bundle(bundle_copy)


def test_a_folder_inside_is_refused(bundle_copy: Path) -> None:
    (bundle_copy / "inner").mkdir()
    with pytest.raises(IntegrityError, match="inner"):
        open_bundle(bundle_copy)


def test_a_link_is_refused_even_when_its_content_is_right(bundle_copy: Path, tmp_path: Path) -> None:
    elsewhere = tmp_path / "model.onnx"
    shutil.move(bundle_copy / "model.onnx", elsewhere)
    os.symlink(elsewhere, bundle_copy / "model.onnx")
    with pytest.raises(IntegrityError, match=r"model\.onnx is a link"):
        open_bundle(bundle_copy)


@pytest.mark.parametrize("name", ["../model.onnx", "/etc/passwd", "a/b", "..", ".hidden", "SHA256SUMS", "a\\b", ""])
def test_a_path_that_leaves_the_folder_is_refused(bundle_copy: Path, name: str) -> None:
    sums = bundle_copy / "SHA256SUMS"
    sums.write_text(sums.read_text() + f"{'0' * 64}  {name}\n")
    with pytest.raises(IntegrityError, match="line 7 of SHA256SUMS"):
        open_bundle(bundle_copy)


def test_an_unknown_schema_version_says_which_is_read(bundle_copy: Path, reseal: Callable[[Path], None]) -> None:
    _edit_manifest(bundle_copy, lambda content: content.update(schema_version=2))
    reseal(bundle_copy)
    with pytest.raises(ManifestError, match="schema_version is 2, and this vmeg-edge reads version 1"):
        open_bundle(bundle_copy)


@pytest.mark.parametrize(
    ("change", "field"),
    [
        (lambda m: m.update(surprise=1), "surprise"),
        (lambda m: m.pop("labels"), "labels"),
        (lambda m: m["decision"].update(threshold=1.5), "decision.threshold"),
        (lambda m: m["decision"].update(temperature=0), "decision.temperature"),
        (lambda m: m["decision"].update(abstain=[0.8, 0.9]), "abstain"),
        (lambda m: m["input"].update(resize="lanczos"), "input.resize"),
        (lambda m: m["input"].update(std=[0, 1, 1]), "std"),
        (lambda m: m.update(positive="twins"), "twins"),
        (lambda m: m["explanation"].update(grid=[7, 7]), "grid"),
    ],
)
def test_a_manifest_that_promises_nonsense_names_the_field(
    bundle_copy: Path, reseal: Callable[[Path], None], change: Callable[[dict], None], field: str
) -> None:
    _edit_manifest(bundle_copy, change)
    reseal(bundle_copy)
    with pytest.raises(ManifestError, match=field):
        open_bundle(bundle_copy)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff\xfe", b"null", b"[" * 100_000])
def test_a_manifest_that_is_no_object_is_refused(
    bundle_copy: Path, reseal: Callable[[Path], None], content: bytes
) -> None:
    (bundle_copy / "manifest.json").write_bytes(content)
    reseal(bundle_copy)
    with pytest.raises(ManifestError):
        open_bundle(bundle_copy)


def test_an_artefact_that_names_an_unlisted_file_is_refused(bundle_copy: Path, reseal: Callable[[Path], None]) -> None:
    _edit_manifest(bundle_copy, lambda m: m["artefacts"]["onnxruntime"].update(files=["other.onnx"]))
    reseal(bundle_copy)
    with pytest.raises(IntegrityError, match=r"other\.onnx"):
        open_bundle(bundle_copy)


def test_what_is_no_bundle_says_so(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="does not exist"):
        open_bundle(tmp_path / "nothing.vmeg")
    with pytest.raises(BundleError, match="SHA256SUMS"):
        open_bundle(tmp_path)
    (tmp_path / "file").write_text("x")
    with pytest.raises(BundleError, match="is not a folder"):
        open_bundle(tmp_path / "file")


def test_a_file_that_changes_after_opening_is_caught_on_reading(bundle_copy: Path) -> None:
    bundle = open_bundle(bundle_copy)
    (bundle_copy / "parity.json").write_bytes(b"{}")
    with pytest.raises(IntegrityError, match=r"parity\.json"):
        bundle.read("parity.json")
    with pytest.raises(IntegrityError, match="holds no absent"):
        bundle.read("absent")


def test_writing_gives_the_bundle_back(demo_bundle: Path, tmp_path: Path) -> None:
    original = open_bundle(demo_bundle)
    files = {name: original.read(name) for name in original.digests if name != "manifest.json"}
    digest = write_bundle(tmp_path / "again.vmeg", original.manifest, files)
    again = open_bundle(tmp_path / "again.vmeg")
    assert again.digest == digest == original.digest
    assert again.manifest == original.manifest


def test_an_existing_bundle_is_replaced_only_on_request(demo_bundle: Path, tmp_path: Path) -> None:
    original = open_bundle(demo_bundle)
    target = tmp_path / "taken.vmeg"
    write_bundle(target, original.manifest, {"model.onnx": b"1"})
    with pytest.raises(OutputError, match="exists already"):
        write_bundle(target, original.manifest, {"model.onnx": b"2"})
    write_bundle(target, original.manifest, {"model.onnx": b"3"}, replace=True)
    assert (target / "model.onnx").read_bytes() == b"3"
    assert [path.name for path in tmp_path.iterdir()] == ["taken.vmeg"]


def test_a_bundle_that_cannot_be_completed_leaves_nothing(demo_bundle: Path, tmp_path: Path) -> None:
    manifest = open_bundle(demo_bundle).manifest
    with pytest.raises(BundleError, match="cannot be a file of a bundle"):
        write_bundle(tmp_path / "bad.vmeg", manifest, {"../escape": b""})
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "blocker").write_text("a file where a folder is needed")
    with pytest.raises(OutputError):
        write_bundle(tmp_path / "blocker" / "b.vmeg", manifest, {"model.onnx": b""})
