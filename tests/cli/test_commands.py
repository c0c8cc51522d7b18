"""Each command as a user runs it, on real files."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from shared_data import shared_data
from vmeg_edge.cli import _COMMANDS


def _lines(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.mark.parametrize("command", _COMMANDS)
def test_help_has_examples_that_name_the_command(vmeg_edge: Callable, command: str) -> None:
    ran = vmeg_edge(command, "--help")
    assert ran.code == 0
    assert "Examples:" in ran.out
    assert f"vmeg-edge {command}" in ran.out


def test_without_arguments_the_help_is_shown(vmeg_edge: Callable) -> None:
    ran = vmeg_edge()
    assert ran.code == 0
    assert all(command in ran.out for command in _COMMANDS)


def test_the_demo_writes_its_files_and_its_summary(vmeg_edge: Callable, tmp_path: Path) -> None:
    out = tmp_path / "demo"
    ran = vmeg_edge("demo", "--out", out, "--frames", 8, "--json")
    assert ran.code == 0, ran.err
    summary = json.loads(ran.out)
    assert (summary["frames"], summary["scored"], summary["lost"], summary["failed"]) == (8, 8, 0, 0)
    assert set(summary["stages_ms"]) == {"decode", "preprocess", "infer", "explain", "decide", "total", "age"}
    assert summary["stages_ms"]["infer"]["p50_ms"] > 0
    assert not summary["stages_ms"]["infer"]["p90_has_enough_samples"]
    assert len(_lines(out / "results.jsonl")) == 8
    assert int(cv2.VideoCapture(str(out / "overlay.mp4")).get(cv2.CAP_PROP_FRAME_COUNT)) == 8
    assert cv2.imread(str(out / "contact-sheet.png")).shape[0] > 600
    assert {path.name for path in out.iterdir()} == {"results.jsonl", "overlay.mp4", "contact-sheet.png"}


def test_the_demo_tells_the_two_heads_apart(vmeg_edge: Callable, tmp_path: Path) -> None:
    vmeg_edge("demo", "--out", tmp_path, "--frames", 16)
    decisions = [line["decision"] for line in _lines(tmp_path / "results.jsonl")]
    assert set(decisions[:8]) == {"normal"}
    assert set(decisions[8:]) == {"suspected"}


def test_the_demo_speaks_to_people_too(vmeg_edge: Callable, tmp_path: Path) -> None:
    ran = vmeg_edge("demo", "--out", tmp_path, "--frames", 4)
    assert ran.code == 0
    assert "4 of 4 frames scored" in ran.out
    assert "p90 needs 64" in ran.out
    assert "Research use only" in ran.out


def test_a_real_cine_gives_a_line_a_frame_and_a_playable_overlay(vmeg_edge: Callable, tmp_path: Path) -> None:
    source = shared_data("us_video", "Reg_Image_18122_crop.mp4")
    ran = vmeg_edge("score", source, "--out", tmp_path / "r.jsonl", "--overlay", tmp_path / "o.mp4")
    assert ran.code == 0, ran.err
    lines = _lines(tmp_path / "r.jsonl")
    assert [line["frame"] for line in lines] == list(range(187))
    times = [line["captured_s"] for line in lines]
    assert times == sorted(times)
    capture = cv2.VideoCapture(str(tmp_path / "o.mp4"))
    pictures = 0
    while capture.read()[0]:
        pictures += 1
    assert pictures == 187


def test_a_dicom_cine_with_a_region_that_lies_gives_thirty_lines_and_a_warning(
    vmeg_edge: Callable, tmp_path: Path
) -> None:
    source = shared_data("dicom_us", "examples_ybr_color.dcm")
    ran = vmeg_edge("score", source, "--out", tmp_path / "r.jsonl")
    assert ran.code == 0, ran.err
    assert len(_lines(tmp_path / "r.jsonl")) == 30
    warnings = [line for line in ran.err.splitlines() if line.startswith("vmeg-edge: warning: ")]
    assert len(warnings) == 1
    assert "region" in warnings[0]


@pytest.mark.parametrize(
    ("parts", "count"),
    [(("fetal_brain", "ventriculomegaly"), 32), (("plus_mha", "SpinePhantomFreehand.igs.mha"), 21)],
)
def test_a_folder_of_stills_and_a_metaimage_sequence_are_scored(
    vmeg_edge: Callable, tmp_path: Path, parts: tuple[str, ...], count: int
) -> None:
    ran = vmeg_edge(
        "score", shared_data(*parts), "--out", tmp_path / "r.jsonl", "--overlay", tmp_path / "s.png", "--json"
    )
    assert ran.code == 0, ran.err
    assert json.loads(ran.out)["scored"] == count == len(_lines(tmp_path / "r.jsonl"))
    assert cv2.imread(str(tmp_path / "s.png")) is not None


def test_lines_go_to_standard_output_by_default(vmeg_edge: Callable, tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "still.png"), np.full((64, 80), 70, np.uint8))
    ran = vmeg_edge("score", tmp_path / "still.png")
    assert ran.code == 0, ran.err
    assert json.loads(ran.out)["captured_s"] is None
    assert "embedded demo model" in ran.err


def test_a_region_can_be_given(vmeg_edge: Callable, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    cv2.imwrite(str(tmp_path / "still.png"), rng.integers(0, 255, (100, 100), dtype=np.uint8))
    whole = json.loads(vmeg_edge("score", tmp_path / "still.png").out)
    part = json.loads(vmeg_edge("score", tmp_path / "still.png", "--region", "10,10,40,60").out)
    assert whole["probability"] != part["probability"]
    assert 10 <= part["peak_xy"][0] <= 50


def test_good_frames_are_kept_when_others_are_lost(vmeg_edge: Callable, tmp_path: Path) -> None:
    folder = tmp_path / "stills"
    folder.mkdir()
    for index in range(3):
        cv2.imwrite(str(folder / f"{index}.png"), np.full((64, 64), 40 * index + 20, np.uint8))
    torn = (folder / "1.png").read_bytes()
    (folder / "1.png").write_bytes(torn[: len(torn) // 2])
    ran = vmeg_edge("score", folder, "--out", tmp_path / "r.jsonl", "--json")
    assert ran.code == 1
    summary = json.loads(ran.out)
    assert (summary["frames"], summary["scored"], summary["lost"]) == (3, 2, 1)
    assert [line["dropped_before"] for line in _lines(tmp_path / "r.jsonl")] == [0, 1]


def test_verify_passes_on_the_embedded_bundle(vmeg_edge: Callable) -> None:
    ran = vmeg_edge("verify", "--json")
    assert ran.code == 0, ran.err
    content = json.loads(ran.out)
    assert content["passed"]
    assert content["backends"][0]["golden"]["max_abs_dp"] <= 1e-4
    assert "passed" in vmeg_edge("verify").out


def test_verify_says_no_with_exit_code_one(
    vmeg_edge: Callable, bundle_copy: Path, reseal: Callable[[Path], None]
) -> None:
    with np.load(bundle_copy / "golden.npz") as arrays:
        content = dict(arrays)
    content["logits"] = -content["logits"]
    np.savez_compressed(bundle_copy / "golden.npz", **content)
    reseal(bundle_copy)
    ran = vmeg_edge("verify", bundle_copy)
    assert ran.code == 1
    assert "FAILED" in ran.out
    assert "decisions flip" in ran.out


def test_info_tells_backends_kernels_and_the_bundle(vmeg_edge: Callable) -> None:
    ran = vmeg_edge("info", "--json")
    assert ran.code == 0, ran.err
    content = json.loads(ran.out)
    assert content["backends"][0]["name"] == "onnxruntime"
    assert content["backends"][0]["version"]
    assert content["kernels"]["implementation"] in {"native", "reference"}
    assert "ViT of" in content["demo_bundle"]["summary"]
    spoken = vmeg_edge("info").out
    assert "onnxruntime" in spoken
    assert "usable" in spoken


def test_info_never_cuts_the_command_that_adds_what_is_missing(
    vmeg_edge: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    from vmeg_edge.sources import opening

    monkeypatch.setattr(opening, "find_spec", lambda _: None)
    spoken = "".join(vmeg_edge("info").out.split())
    assert 'pipinstall"vmeg-edge[dicom]"' in spoken
