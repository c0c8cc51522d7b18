"""A few scored frames."""

from __future__ import annotations

from pathlib import Path

import pytest

import vmeg_edge
from vmeg_edge.frames import Frame
from vmeg_edge.phantom import PhantomCine
from vmeg_edge.results import FrameResult


@pytest.fixture(scope="session")
def scored(demo_bundle: Path) -> list[tuple[Frame, FrameResult]]:
    """Eight frames of a phantom cine with their results."""
    cine = PhantomCine(frames=8, width=400, height=300)
    with vmeg_edge.load(demo_bundle, self_test=False) as scorer:
        return [(frame, scorer.score(frame)) for frame in cine]
