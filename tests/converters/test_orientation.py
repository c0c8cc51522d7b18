"""One direction a model: it fixes the sign of every frame, and the hot side is the smaller one."""

from __future__ import annotations

import numpy as np
from vmeg_edge.converters.orientation import fit_direction

from vmeg_edge import kernels


def _frames(count: int, hot_share: float = 0.1) -> list[np.ndarray]:
    """Frames whose few hot positions lie along one axis, with a little noise; the axis differs slightly by frame."""
    rng = np.random.default_rng(0)
    axis = rng.normal(size=32)
    frames = []
    for _ in range(count):
        hot = (rng.random(49) < hot_share).astype(np.float32)
        hot[rng.integers(49)] = 1
        noise = rng.normal(0, 0.05, (49, 32))
        frames.append((np.outer(hot, axis + rng.normal(0, 0.1, 32)) + noise).astype(np.float32))
    return frames


def test_every_frames_map_is_hot_where_the_few_positions_are() -> None:
    frames = _frames(12)
    direction = fit_direction(frames)
    assert direction is not None
    assert np.linalg.norm(direction) == np.float32(1.0) or abs(np.linalg.norm(direction) - 1) < 1e-6
    for frame in frames:
        values = kernels.eigencam(frame, (7, 7), direction)
        hot = frame @ direction > (frame @ direction).mean()
        assert values.ravel()[hot].mean() > 0.5
        assert values.ravel()[~hot].mean() < 0.1


def test_the_order_and_the_signs_of_the_frames_do_not_matter() -> None:
    frames = _frames(6)
    direction = fit_direction(frames)
    again = fit_direction(frames[::-1])
    assert direction is not None
    assert again is not None
    assert np.allclose(direction, again, atol=1e-5)


def test_flat_frames_have_no_direction() -> None:
    assert fit_direction([np.ones((49, 8), np.float32)] * 3) is None
