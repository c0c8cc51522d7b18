"""The frames of a run: different ones, as their source delivers them, the same in every case's process."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from shared_data import shared_data
from vmeg_edge.bench import held
from vmeg_edge.bench.held import HeldFrames, fetch, gather, store
from vmeg_edge.errors import SourceError, UsageError
from vmeg_edge.frames import Disconnected, Frame, LostFrame, Region
from vmeg_edge.sources.memory import MemorySource


def picture(seed: int, height: int = 48, width: int = 64) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width), np.uint8)


def folder_of(folder: Path, *seeds: int) -> str:
    folder.mkdir()
    for place, seed in enumerate(seeds):
        assert cv2.imwrite(str(folder / f"{place:03}.png"), picture(seed))
    return str(folder)


def gather_items(monkeypatch: pytest.MonkeyPatch, *items: Frame | LostFrame | Disconnected) -> HeldFrames:
    monkeypatch.setattr(held, "open_where_due", lambda _spec: MemorySource(items, name="script"))
    return gather("camera:0")


def same_as(frames: tuple[Frame, ...], *seeds: int) -> bool:
    return len(frames) == len(seeds) and all(
        np.array_equal(frame.pixels.reshape(48, 64, -1)[..., 0], picture(seed))
        for frame, seed in zip(frames, seeds, strict=True)
    )


def test_without_a_source_the_frames_are_different_heads_in_full_hd_colour() -> None:
    told: list[tuple[int, int]] = []
    found = gather("phantom:", progress=lambda done, total: told.append((done, total)))
    assert {frame.pixels.shape for frame in found.frames} == {(1080, 1920, 3)}
    assert all(frame.pixels.flags.c_contiguous and frame.region is not None for frame in found.frames)
    assert len({frame.pixels.tobytes() for frame in found.frames}) == len(found.frames) >= 8
    assert sum(frame.pixels.nbytes for frame in found.frames) <= held.MOST_BYTES
    assert told[-1] == (len(found.frames), len(found.frames)), "the last word on progress is that it is done"
    assert "simulated" in found.source
    assert found.decode_ms == (), "simulating is not decoding"


def test_small_phantoms_are_held_up_to_the_most_that_are_useful() -> None:
    found = gather("phantom", size=(64, 48))
    assert len(found.frames) == held.MOST_FRAMES
    assert (found.frames[0].width, found.frames[0].height) == (64, 48)


def test_a_frame_equal_to_the_one_before_is_passed_over(tmp_path: Path) -> None:
    found = gather(folder_of(tmp_path / "cine", 1, 1, 2, 2, 2, 3))
    assert same_as(found.frames, 1, 2, 3)
    assert [frame.index for frame in found.frames] == [0, 1, 2]
    assert len(found.decode_ms) == 3
    assert min(found.decode_ms) > 0


def test_a_last_frame_equal_to_the_first_is_left_out_since_the_frames_come_round_again(tmp_path: Path) -> None:
    assert same_as(gather(folder_of(tmp_path / "cine", 1, 2, 3, 1)).frames, 1, 2, 3)


@pytest.mark.parametrize("seeds", [(1,), (1, 1, 1)])
def test_one_picture_however_often_it_comes_is_refused(tmp_path: Path, seeds: tuple[int, ...]) -> None:
    with pytest.raises(UsageError, match="1 different frame; a bench takes turns among at least 2") as caught:
        gather(folder_of(tmp_path / "cine", *seeds))
    assert "\n" not in str(caught.value)


def test_frames_too_large_for_the_budget_are_two_at_least(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    words = folder_of(tmp_path / "cine", 1, 2, 3)
    monkeypatch.setattr(held, "MOST_BYTES", 100)
    assert same_as(gather(words).frames, 1, 2)


def test_the_budget_of_bytes_and_of_frames_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    words = folder_of(tmp_path / "cine", *range(8))
    frame_bytes = gather(words).frames[0].pixels.nbytes
    monkeypatch.setattr(held, "MOST_BYTES", 4 * frame_bytes + 1)
    assert len(gather(words).frames) == 4
    monkeypatch.setattr(held, "MOST_FRAMES", 3)
    assert len(gather(words).frames) == 3


def test_size_scales_pixels_region_and_spacing_together(monkeypatch: pytest.MonkeyPatch) -> None:
    region = Region(8, 12, 32, 24)
    items = [Frame(picture(seed), region=region, spacing_mm=(0.2, 0.4)) for seed in (1, 2)]
    monkeypatch.setattr(held, "open_where_due", lambda _spec: MemorySource(items, name="script"))
    frame = gather("x.dcm", size=(128, 24)).frames[0]
    assert frame.pixels.shape == (24, 128)
    assert frame.region == Region(16, 6, 64, 12)
    assert frame.spacing_mm == pytest.approx((0.4, 0.2))


@pytest.mark.parametrize("size", [(15, 100), (100, 16_385)])
def test_a_size_that_no_frame_can_have_is_refused_at_once(size: tuple[int, int]) -> None:
    with pytest.raises(UsageError, match=f"--size {size[0]}x{size[1]}"):
        gather("phantom:", size=size)


def test_a_region_takes_the_place_of_the_sources_own_and_has_to_fit(tmp_path: Path) -> None:
    words = folder_of(tmp_path / "cine", 1, 2)
    assert gather(words, region=Region(1, 2, 30, 20)).frames[1].region == Region(1, 2, 30, 20)
    with pytest.raises(UsageError, match="--region 0,0,65,20 reaches beyond the frame of 64x48"):
        gather(words, region=Region(0, 0, 65, 20))


def test_a_lost_frame_is_passed_over_and_one_that_is_gone_ends_it(monkeypatch: pytest.MonkeyPatch) -> None:
    frames = [Frame(picture(seed)) for seed in (1, 2)]
    found = gather_items(monkeypatch, frames[0], LostFrame(1, "torn"), frames[1])
    assert same_as(found.frames, 1, 2)
    with pytest.raises(SourceError, match="unplugged; a bench needs frames"):
        gather_items(monkeypatch, frames[0], Disconnected("unplugged"), frames[1])


def test_frames_reach_another_process_as_they_are(tmp_path: Path) -> None:
    colour = np.stack([picture(seed) for seed in (1, 2, 3)], axis=2)
    frames = [
        Frame(picture(4), 0, 0.25, (0.1, 0.2), Region(1, 2, 30, 40), "one"),
        Frame(colour, 1, None, None, None, "two"),
    ]
    store(frames, tmp_path)
    back = fetch(tmp_path)
    assert len(back) == 2
    for sent, got in zip(frames, back, strict=True):
        assert np.array_equal(sent.pixels, got.pixels)
        for field in ("index", "captured_s", "spacing_mm", "region", "source"):
            assert getattr(sent, field) == getattr(got, field)


def test_a_real_cine_is_decoded_and_told_apart() -> None:
    paths = sorted(path for path in shared_data("us_video").rglob("*") if path.suffix in {".mp4", ".avi", ".dcm"})
    if not paths:
        pytest.skip("no cine among the public data")
    found = gather(str(paths[0]))
    assert len(found.decode_ms) == len(found.frames) >= 2
    for one, following in zip(found.frames, (*found.frames[1:], found.frames[0]), strict=True):
        assert not np.array_equal(one.pixels, following.pixels)
