"""The curves of a run are one PNG, written whole."""

from __future__ import annotations

from pathlib import Path

import cv2
import pytest
from vmeg_edge.converters.training.curves import draw
from vmeg_edge.converters.training.run_state import Epoch

from vmeg_edge.errors import OutputError

HISTORY = tuple(
    Epoch(n + 1, 112 if n < 2 else 224, 1e-3, 2 / (n + 1), 1 / (n + 1), 0.8, 0.2 * n, 1.0) for n in range(5)
)


def test_a_picture_is_drawn(tmp_path: Path) -> None:
    draw(HISTORY, HISTORY[3], tmp_path / "c.png", title="a run", notices=["Research use only."])
    picture = cv2.imread(str(tmp_path / "c.png"))
    assert picture is not None
    assert picture.shape == (500, 1100, 3)
    assert picture.std() > 10


def test_an_unwritable_place_is_said(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="cannot be written"):
        draw(HISTORY, HISTORY[3], tmp_path / "none" / "c.png", title="a run", notices=[])
