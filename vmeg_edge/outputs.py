"""Files and folders that appear whole or not at all: written beside their place, then moved into it."""

from __future__ import annotations

import errno
import os
import secrets
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import TypeVar

from vmeg_edge.errors import OutputError

T = TypeVar("T")

_TRIES = 100


def output_error(path: Path, error: OSError) -> OutputError:
    """The one line that a user sees when ``path`` cannot be written."""
    reason = error.strerror or str(error)
    return OutputError(f"{path}: cannot be written ({reason}); choose another place or free some space")


def is_closed_pipe(error: OSError) -> bool:
    """Whether ``error`` says that nobody reads any more.

    On Windows it says "invalid argument" (bugs.python.org/issue35754).
    """
    closed_on_windows = sys.platform == "win32" and error.errno == errno.EINVAL and error.filename is None
    return isinstance(error, BrokenPipeError) or closed_on_windows


class PendingFile:
    """A file that is written under a temporary name beside ``target`` and appears whole, or not at all.

    Write to ``temporary``, then `commit` or `abort`; as a context it commits when the block ends well. The
    temporary name keeps the suffix, since some writers choose the format by it. A link is followed, not replaced.
    Raises `OutputError` where the folder is missing or not writable, or the disk is full, or where ``target`` is a
    folder or a device: taking the place of one, as a superuser could, would break the system.
    """

    def __init__(self, target: str | os.PathLike[str]) -> None:
        """Create the temporary file, so that an unwritable place is known before any work is done."""
        self.target = Path(target)
        if self.target.is_dir():
            raise OutputError(f"{self.target}: is a folder; name a file")
        self._place = Path(os.path.realpath(self.target))
        if self._place.exists() and not self._place.is_file():
            raise OutputError(f"{self.target}: is a device or a pipe, and no file; name a file")
        stem, suffix = self.target.stem[:40], self.target.suffix
        try:
            self.temporary, file = _made(self._place.parent, f".{stem}-", suffix, lambda path: path.open("xb"))
        except OSError as error:
            raise output_error(self.target, error) from None
        file.close()

    def commit(self) -> None:
        """Move the file into place."""
        try:
            os.replace(self.temporary, self._place)
        except OSError as error:
            self.abort()
            raise output_error(self.target, error) from None

    def abort(self) -> None:
        """Delete what was written; nothing happens after `commit`, or the second time."""
        self.temporary.unlink(missing_ok=True)

    def __enter__(self) -> Path:
        """The temporary path, to be written to."""
        return self.temporary

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Commit, or abort and name the file that could not be written."""
        if error is None:
            self.commit()
            return
        self.abort()
        if isinstance(error, OSError):
            raise output_error(self.target, error) from None


@contextmanager
def whole_folder(path: str | os.PathLike[str], *, replace: bool = False) -> Iterator[Path]:
    """Yield a new folder beside ``path``; move it there when the block ends well, delete it otherwise.

    An existing ``path`` is refused, or with ``replace`` taken away once its successor is complete.
    Raises `OutputError`.
    """
    target = Path(path)
    if target.exists() and not replace:
        raise OutputError(f"{target}: exists already; choose another name or pass --force to replace it")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary, _ = _made(target.parent, f".{target.name[:40]}-", "", Path.mkdir)
    except OSError as error:
        raise output_error(target, error) from None
    try:
        yield temporary
        if target.exists():
            aside = temporary.with_name(temporary.name + "-old")
            os.replace(target, aside)
            try:
                os.replace(temporary, target)
            except OSError:  # Windows moves no folder in which a file is open
                os.replace(aside, target)
                raise
            shutil.rmtree(aside) if aside.is_dir() else aside.unlink()
        else:
            os.replace(temporary, target)
    except OSError as error:
        raise output_error(target, error) from None
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _made(folder: Path, prefix: str, suffix: str, make: Callable[[Path], T]) -> tuple[Path, T]:
    """A new file or folder under a name that nothing has, with the permissions that the system gives to all others.

    `tempfile` would make it readable by its owner alone. To mend that, the umask must be read, which POSIX allows only
    by setting it: a file that another thread makes meanwhile would be open to everyone.
    """
    for _ in range(_TRIES):
        path = folder / f"{prefix}{secrets.token_hex(4)}{suffix}"
        try:
            return path, make(path)
        except FileExistsError:
            continue
    raise FileExistsError(errno.EEXIST, "no free name was found", str(folder))
