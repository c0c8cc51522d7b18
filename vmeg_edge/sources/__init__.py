"""Frames from files and folders, told apart by content and delivered one by one."""

from __future__ import annotations

import os
from pathlib import Path

from vmeg_edge.frames import Region
from vmeg_edge.sources.base import Source, SourceWarning

__all__ = ["Source", "SourceWarning", "open_source"]


def open_source(path: str | os.PathLike[str], *, region: Region | None = None) -> Source:
    """Open a still, a folder, a video, a DICOM object or a MetaImage sequence.

    What a file is, is read from its content; its name does not matter. ``region`` (pixels) overrides the
    ultrasound region that the file itself may declare. Frames are uint8, ``[height, width]`` grey or
    ``[height, width, 3]`` RGB. Raises `vmeg_edge.errors.SourceError`, one line, where the path is missing,
    empty, of an unknown format, or holds not one whole frame.
    """
    from vmeg_edge.sources.opening import open_path

    return open_path(Path(path), region=region)
