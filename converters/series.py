"""Which files are parts of one series, so that they are never taken for independent."""

from __future__ import annotations

import re
from pathlib import PurePath

_PART = re.compile(r"[_-]\d+_of_\d+$")


def series_of(name: str | PurePath) -> str:
    """A file's name without its ending and without its place in a series: ``a/p7_1_of_3.png`` gives ``a/p7``."""
    path = PurePath(name)
    return str(path.with_name(_PART.sub("", path.stem)))
