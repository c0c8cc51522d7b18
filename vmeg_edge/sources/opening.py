"""From a path to the reader of what lies there."""

from __future__ import annotations

import stat
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import cast

from vmeg_edge.errors import SourceError
from vmeg_edge.frames import Region
from vmeg_edge.sources.address import is_stream_address
from vmeg_edge.sources.base import KINDS, UNDERSTOOD, Kind
from vmeg_edge.sources.filesource import FileSource, failure, printable, read_head
from vmeg_edge.sources.sniff import HEAD_BYTES


def kind_of(path: Path) -> Kind | None:
    """What a regular file holds, ``None`` where that is nothing we read; raises `OSError`."""
    head = read_head(path, HEAD_BYTES)
    return next((kind for kind in KINDS if kind.sniff(head)), None)


def require(kind: Kind, name: str) -> None:
    """Raise `SourceError` with the command that adds what ``kind`` needs and this machine lacks."""
    if kind.requirement is not None and find_spec(kind.requirement) is None:
        raise SourceError(
            f"{name}: {kind.formats} needs {kind.requirement}, which is not installed; "
            f'pip install "vmeg-edge[{kind.extra}]"'
        )


def open_file(path: Path, *, name: str, region: Region | None, kind: Kind) -> FileSource:
    """Open a file of a known kind; the reader is imported only now."""
    require(kind, name)
    opener = getattr(import_module(kind.module), kind.opener)
    return cast(FileSource, opener(path, name=name, region=region))


def open_path(path: Path, *, region: Region | None) -> FileSource:
    """Open a file or a folder; raises `SourceError` where it is neither or holds nothing we read."""
    name = printable(path)
    if is_stream_address(str(path)):
        raise SourceError("only files and folders are read here; `vmeg-edge stream` takes the address of a stream")
    try:
        status = path.stat()
        if stat.S_ISDIR(status.st_mode):
            from vmeg_edge.sources.folder import FolderSource

            return FolderSource(path, name=name, region=region)
        if not stat.S_ISREG(status.st_mode):
            raise SourceError(f"{name}: neither a file nor a folder; pass one of {UNDERSTOOD}")
        if status.st_size == 0:
            raise SourceError(f"{name}: the file is empty; copy it again from where it was recorded")
        kind = kind_of(path)
    except FileNotFoundError as error:
        raise SourceError(f"{name}: no such file or folder; check the path") from error
    except (OSError, ValueError) as error:
        raise SourceError(f"{name}: cannot be opened ({failure(error)}); check the path") from error
    if kind is None:
        raise SourceError(f"{name}: its content is of no known format; what can be read is {UNDERSTOOD}")
    return open_file(path, name=name, region=region, kind=kind)
