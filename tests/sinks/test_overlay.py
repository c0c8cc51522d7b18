"""Overlays: the anatomy stays visible, colours mean what the legend says, files are whole."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from vmeg_edge.errors import OutputError, UsageError
from vmeg_edge.frames import Frame, Region
from vmeg_edge.manifest import RANDOM_HEAD, DecisionRule
from vmeg_edge.results import HeatMap, Prediction
from vmeg_edge.sinks import OverlaySheet, OverlayVideo, open_overlay
from vmeg_edge.sinks.drawing import Layout, draw

RULE = DecisionRule(temperature=1, threshold=0.5, abstain=(0.4, 0.6))


def _video(path: Path) -> list[np.ndarray]:
    capture = cv2.VideoCapture(str(path))
    pictures = []
    while True:
        ok, picture = capture.read()
        if not ok:
            return pictures
        pictures.append(picture)


def test_the_frame_is_drawn_without_anything_on_it(scored: list) -> None:
    frame, result = scored[0]
    layout = Layout(frame.width, frame.height)
    canvas = draw(frame, result, RULE, layout)
    clean = canvas[14 : 14 + frame.height, 14 : 14 + frame.width]
    assert np.array_equal(clean, np.repeat(frame.pixels[..., None], 3, axis=2))


def test_the_heat_lies_where_the_map_is_warm_and_only_there(scored: list) -> None:
    frame, result = scored[0]
    values = np.zeros((14, 14), np.float32)
    values[:, 7:] = 1
    region = Region(0, 0, frame.width, frame.height)
    hot = replace(result, heat_map=HeatMap(values, region, None))
    layout = Layout(frame.width, frame.height)
    canvas = draw(frame, hot, RULE, layout)
    left = 2 * 14 + frame.width
    panel = canvas[14 : 14 + frame.height, left : left + frame.width].astype(int)
    cold, warm = panel[:, : frame.width // 3], panel[:, -frame.width // 3 :]
    assert (np.ptp(cold, axis=2) == 0).all()  # grey as it was
    assert (warm[..., 2] - warm[..., 0]).mean() > 80  # yellow: red without blue


@pytest.mark.parametrize("decision", ["normal", "suspected", "no-decision"])
def test_each_decision_has_a_shape_of_its_own(scored: list, decision: str) -> None:
    frame, result = scored[0]
    layout = Layout.for_frame(frame)

    def shape(name: str) -> np.ndarray:
        changed = replace(result, prediction=Prediction("x", 0.5, name, "reason"))
        canvas = draw(frame, changed, RULE, layout)
        return canvas[-128:-90, 10:54].max(axis=2) > 90

    others = {"normal", "suspected", "no-decision"} - {decision}
    assert all((shape(decision) != shape(other)).mean() > 0.05 for other in others)


def test_notices_are_drawn_where_the_score_is_shown(scored: list) -> None:
    frame, result = scored[0]
    layout = Layout.for_frame(frame)
    silent = draw(frame, replace(result, notices=()), RULE, layout)
    spoken = draw(frame, replace(result, notices=(RANDOM_HEAD, *result.notices)), RULE, layout)
    assert (silent != spoken).any(axis=2).sum() > 500


def test_a_video_holds_a_picture_for_each_result(scored: list, tmp_path: Path) -> None:
    sink = OverlayVideo(tmp_path / "o.mp4", RULE, 20.0)
    for frame, result in scored:
        sink.write(frame, result)
    sink.close()
    pictures = _video(tmp_path / "o.mp4")
    assert len(pictures) == len(scored)
    width, height = Layout.for_frame(scored[0][0]).size
    assert pictures[0].shape == (height, width, 3)


def test_frames_of_other_sizes_fit_into_the_same_video(scored: list, tmp_path: Path) -> None:
    frame, result = scored[0]
    sink = OverlayVideo(tmp_path / "o.avi", RULE, 5.0)
    sink.write(frame, result)
    wide = Frame(np.full((50, 300), 200, np.uint8), index=1)
    region = Region(0, 0, 300, 50)
    sink.write(wide, replace(result, heat_map=HeatMap(result.heat_map.values, region, None)))
    sink.close()
    assert len(_video(tmp_path / "o.avi")) == 2


def test_a_single_result_is_a_picture_and_many_are_a_sheet(scored: list, tmp_path: Path) -> None:
    width, height = Layout.for_frame(scored[0][0]).size
    one = OverlaySheet(tmp_path / "one.png", RULE)
    one.write(*scored[0])
    one.close()
    assert cv2.imread(str(tmp_path / "one.png")).shape == (height, width, 3)
    many = OverlaySheet(tmp_path / "many.png", RULE, tiles=4, columns=2)
    for pair in scored:
        many.write(*pair)
    many.close()
    assert cv2.imread(str(tmp_path / "many.png")).shape == (2 * height, 2 * width, 3)


@pytest.mark.parametrize("length", [1, 3, 7, 8, 9, 31, 100])
def test_a_sheet_is_spread_over_the_run_and_holds_few(scored: list, tmp_path: Path, length: int) -> None:
    sheet = OverlaySheet(tmp_path / "s.png", RULE, tiles=4, columns=4)
    for index in range(length):
        frame, result = scored[index % len(scored)]
        sheet.write(frame, result)
        assert len(sheet._kept) < 8
    assert len(sheet._kept) >= min(length, 4)
    sheet.close()


def test_an_unknown_suffix_is_refused_with_the_choices(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"\.mp4.*\.png"):
        open_overlay(tmp_path / "o.gif", RULE, 20)


@pytest.mark.parametrize("name", ["o.mp4", "o.png"])
def test_aborting_leaves_nothing(scored: list, tmp_path: Path, name: str) -> None:
    sink = open_overlay(tmp_path / name, RULE, 20)
    sink.write(*scored[0])
    sink.abort()
    sink.abort()
    assert list(tmp_path.iterdir()) == []


def test_a_video_that_was_cut_short_by_the_disk_is_not_kept(
    scored: list, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sink = OverlayVideo(tmp_path / "o.mp4", RULE, 20)
    for pair in scored:
        sink.write(*pair)
    release = sink._release

    def truncating() -> None:
        release()
        data = sink._pending.temporary.read_bytes()
        sink._pending.temporary.write_bytes(data[: len(data) // 2])

    monkeypatch.setattr(sink, "_release", truncating)
    with pytest.raises(OutputError, match="as a full disk leaves it"):
        sink.close()
    assert list(tmp_path.iterdir()) == []
