"""Bad input gets one clear line, the right exit code, and leaves nothing half-written."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from shared_data import shared_data


@pytest.fixture
def still(tmp_path: Path) -> Path:
    path = tmp_path / "still.png"
    cv2.imwrite(str(path), np.full((64, 64), 80, np.uint8))
    return path


def _save(path: Path, pixels: np.ndarray) -> Path:
    cv2.imwrite(str(path), pixels)
    return path


def _hostile(folder: Path, name: str) -> Path:
    """One file of each kind that users bring by mistake."""
    path = folder / name
    match name:
        case "text.mp4":
            path.write_text("this is no video\n" * 50)
        case "empty.png" | "empty.dcm":
            path.write_bytes(b"")
        case "one.png":
            _save(path, np.zeros((1, 1), np.uint8))
        case "wide.png":
            _save(path, np.zeros((20, 65535), np.uint8))
        case "deep.png":
            _save(path, np.zeros((64, 64), np.uint16))
        case "float.tiff":
            _save(path, np.zeros((64, 64), np.float32))
        case "empty-folder":
            path.mkdir()
        case "truncated.mp4":
            data = shared_data("us_video", "Reg_Image_18122_crop.mp4").read_bytes()
            path.write_bytes(data[: len(data) // 3])
        case "truncated.dcm":
            path.write_bytes(shared_data("dicom_us", "examples_rgb_color.dcm").read_bytes()[:2000])
        case "noise.mha":
            path.write_bytes(b"ObjectType = Image\nNDims = 9\n" + bytes(range(256)))
    return path


@pytest.mark.parametrize(
    "name",
    [
        *("text.mp4", "empty.png", "empty.dcm", "one.png", "wide.png", "deep.png", "float.tiff"),
        *("empty-folder", "truncated.mp4", "truncated.dcm", "noise.mha", "absent.mp4"),
    ],
)
def test_a_source_that_cannot_be_scored(vmeg_edge: Callable, tmp_path: Path, name: str) -> None:
    path = _hostile(tmp_path, name)
    out = tmp_path / "results"
    out.mkdir()
    ran = vmeg_edge("score", path, "--out", out / "r.jsonl", "--overlay", out / "o.mp4")
    assert ran.code == 2
    assert path.name in ran.error
    assert len(ran.error) < 500
    assert list(out.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("score",), "Missing argument 'SOURCE'"),
        (("score", "x", "--region", "1,2,3"), "four whole numbers"),
        (("score", "x", "--region", "1,2,0,4"), "not a rectangle"),
        (("score", "x", "--threads", "0"), "--threads"),
        (("score", "x", "--json"), "--out FILE"),
        (("frobnicate",), "No such command 'frobnicate'"),
        (("demo", "--frames", "1"), "--frames"),
        (("verify", "nowhere.vmeg"), "nowhere.vmeg: does not exist"),
    ],
)
def test_bad_usage(vmeg_edge: Callable, arguments: tuple[str, ...], words: str) -> None:
    ran = vmeg_edge(*arguments)
    assert ran.code == 2
    assert words in ran.error


def test_options_that_do_not_fit_the_bundle(vmeg_edge: Callable, still: Path, tmp_path: Path) -> None:
    for arguments, words in (
        (("--backend", "abacus"), "choose one of: onnxruntime"),
        (("--device", "NPU"), "device CPU"),
        (("--bundle", tmp_path), "SHA256SUMS"),
        (("--overlay", tmp_path / "o.gif", "--out", tmp_path / "r.jsonl"), "o.gif"),
        (("--region", "0,0,640,480"), "does not fit"),
        (("--out", tmp_path / "no" / "r.jsonl"), "cannot be written"),
        (("--out", tmp_path), "is a folder"),
    ):
        ran = vmeg_edge("score", still, *arguments)
        assert ran.code == 2, arguments
        assert words in ran.error
    assert sorted(path.name for path in tmp_path.iterdir()) == ["still.png"]


def test_a_damaged_bundle_never_scores(vmeg_edge: Callable, still: Path, bundle_copy: Path) -> None:
    model = bundle_copy / "model.onnx"
    data = bytearray(model.read_bytes())
    data[len(data) // 2] ^= 4
    model.write_bytes(data)
    ran = vmeg_edge("score", still, "--bundle", bundle_copy)
    assert ran.code == 2
    assert "model.onnx does not have its recorded SHA-256" in ran.error
    assert ran.out == ""


def test_golden_frames_that_fail_end_with_exit_code_one(
    vmeg_edge: Callable, still: Path, bundle_copy: Path, reseal: Callable[[Path], None]
) -> None:
    with np.load(bundle_copy / "golden.npz") as arrays:
        content = dict(arrays)
    content["logits"] = -content["logits"]
    np.savez_compressed(bundle_copy / "golden.npz", **content)
    reseal(bundle_copy)
    ran = vmeg_edge("score", still, "--bundle", bundle_copy)
    assert ran.code == 1
    assert "golden frames do not match" in ran.error


def test_a_read_only_place_is_named(vmeg_edge: Callable, still: Path, tmp_path: Path) -> None:
    if not hasattr(os, "geteuid") or os.geteuid() == 0:
        target = Path("/proc/vmeg-edge.jsonl")  # nobody writes there, not even root
    else:
        folder = tmp_path / "locked"
        folder.mkdir(mode=0o500)
        target = folder / "r.jsonl"
    ran = vmeg_edge("score", still, "--out", target)
    assert ran.code == 2
    assert "cannot be written" in ran.error


@pytest.mark.skipif(sys.platform == "win32", reason="file-size limits are POSIX's")
@pytest.mark.parametrize("limit", [2_000, 40_000])
def test_a_full_disk_leaves_nothing_half_written(tmp_path: Path, limit: int) -> None:
    """The file-size limit makes every write past it fail, as a full disk does."""
    source = tmp_path / "stills"
    source.mkdir()
    for index in range(40):
        cv2.imwrite(str(source / f"{index}.png"), np.full((64, 64), 5 * index, np.uint8))
    out = tmp_path / "out"
    out.mkdir()
    code = (
        "import resource, signal, sys; signal.signal(signal.SIGXFSZ, signal.SIG_IGN); "
        f"resource.setrlimit(resource.RLIMIT_FSIZE, ({limit}, {limit})); "
        "from vmeg_edge.cli import run; sys.exit(run(sys.argv[1:]))"
    )
    command = [sys.executable, "-c", code, "score", str(source), "--out", str(out / "r.jsonl")]
    done = subprocess.run([*command, "--overlay", str(out / "o.avi")], capture_output=True, text=True)
    assert done.returncode == 2, done.stderr
    errors = [line for line in done.stderr.splitlines() if line.startswith("vmeg-edge: error: ")]
    assert len(errors) == 1
    assert "Traceback" not in done.stderr
    left = {path.name: path for path in out.iterdir()}
    if "r.jsonl" in left:  # the lines fitted: they are whole, and only the video is missing
        assert left.pop("r.jsonl").read_text().count("\n") == 40
    assert left == {}


def test_a_reader_that_stops_listening_is_no_error(still: Path, tmp_path: Path) -> None:
    folder = tmp_path / "many"
    folder.mkdir()
    for index in range(30):
        shutil.copy(still, folder / f"{index}.png")
    script = f"{sys.executable} -m vmeg_edge score {folder} | head -n 1"
    done = subprocess.run(["bash", "-c", f"set -o pipefail; {script}"], capture_output=True, text=True)
    assert done.stdout.count("\n") == 1
    assert "Traceback" not in done.stderr
    assert "error" not in done.stderr


def test_a_defect_of_ours_is_still_one_line(vmeg_edge: Callable, monkeypatch: pytest.MonkeyPatch) -> None:
    import vmeg_edge.cli.info as info

    def broken() -> None:
        raise ZeroDivisionError("two\nlines")

    monkeypatch.setattr(info, "_collect", broken)
    ran = vmeg_edge("info")
    assert ran.code == 2
    assert ran.error.startswith("internal error (ZeroDivisionError: two lines)")
