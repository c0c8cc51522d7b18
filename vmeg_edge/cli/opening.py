"""A scorer opened with a progress bar, for the commands that need one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from vmeg_edge.cli.progress import ProgressReport
from vmeg_edge.loading import load
from vmeg_edge.scorer import Scorer


def opened(bundle: Path, **options: Any) -> Scorer:
    """`load` with its long steps shown. Raises what `load` raises."""
    with ProgressReport() as progress:
        return load(bundle, progress=progress.update, **options)
