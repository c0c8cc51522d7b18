"""Where the public ultrasound data lie that tests read; absent, the test is skipped."""

from __future__ import annotations

from pathlib import Path

import pytest

_ROOT = Path(__file__).resolve().parents[2] / "shared" / "data"


def shared_data(*parts: str) -> Path:
    """The path of a file or folder of ``../shared/data``; skips the calling test where there is none."""
    path = _ROOT.joinpath(*parts)
    if not path.exists():
        pytest.skip(f"needs the public ultrasound data: ../shared/data/{'/'.join(parts)} is absent")
    return path
