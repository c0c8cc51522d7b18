"""A bundle folder ``NAME.vmeg``: digests are checked first, parsers come after; written whole or not at all.

The folder holds ``SHA256SUMS`` (the format that ``sha256sum --check`` reads), which covers every other file,
``manifest.json`` included. The digest of ``SHA256SUMS`` is the bundle's own.
"""

from __future__ import annotations

import hashlib
import os
import re
import stat
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from vmeg_edge.errors import BundleError, IntegrityError
from vmeg_edge.manifest import Manifest, parse_manifest
from vmeg_edge.outputs import output_error, whole_folder
from vmeg_edge.processors import usable_processors

SUMS = "SHA256SUMS"
MANIFEST = "manifest.json"
GOLDEN = "golden.npz"
PARITY = "parity.json"
DIRECTION = "cam_direction.npy"

_LINE = re.compile(r"([0-9a-f]{64})  ([A-Za-z0-9][A-Za-z0-9._-]{0,99})")
_MAX_SUMS_BYTES = 64 * 1024
_CHUNK = 1 << 20


@dataclass(frozen=True)
class Bundle:
    """An opened bundle, every file of which had its recorded digest when it was opened.

    ``digest`` is the SHA-256 of ``SHA256SUMS``; ``digests`` maps each file's name to its SHA-256.
    """

    path: Path
    manifest: Manifest
    digest: str
    digests: Mapping[str, str]

    def read(self, name: str) -> bytes:
        """The bytes of one file, checked against its digest once more.

        Raises `IntegrityError` when the bundle does not list it or when it changed since the bundle was opened.
        """
        if name not in self.digests:
            raise IntegrityError(f"{self.path}: holds no {name}; convert the checkpoint again")
        try:
            data = (self.path / name).read_bytes()
        except OSError as error:
            raise _unreadable(self.path / name, error) from None
        if hashlib.sha256(data).hexdigest() != self.digests[name]:
            raise _changed(self.path, name)
        return data


class LazyFiles(Mapping[str, bytes]):
    """Some of a bundle's files, each read and checked when it is asked for: an engine from the cache asks for none."""

    def __init__(self, bundle: Bundle, names: Sequence[str]) -> None:
        """Read nothing yet."""
        self._bundle = bundle
        self._names = tuple(names)

    def __getitem__(self, name: str) -> bytes:
        """The bytes of one file. Raises `IntegrityError` as `Bundle.read` does."""
        if name not in self._names:
            raise KeyError(name)
        return self._bundle.read(name)

    def __iter__(self) -> Iterator[str]:
        """Their names."""
        return iter(self._names)

    def __len__(self) -> int:
        """How many there are."""
        return len(self._names)


def open_bundle(path: str | os.PathLike[str]) -> Bundle:
    """Open a bundle folder: digests first, then the manifest.

    Raises `BundleError` when ``path`` is no bundle, `IntegrityError` when a file is missing, unknown, a link or
    changed, `ManifestError` when the manifest cannot be understood.
    """
    folder = Path(path)
    if not folder.is_dir():
        what = "is not a folder" if folder.exists() else "does not exist"
        raise BundleError(f"{folder}: {what}; give a bundle folder, as `vmeg-edge convert` writes it")
    try:
        entries = {entry.name: entry for entry in os.scandir(folder)}
        if SUMS not in entries:
            raise BundleError(f"{folder}: holds no {SUMS}, so it is no bundle; convert the checkpoint again")
        for name, entry in sorted(entries.items()):
            if not stat.S_ISREG(entry.stat(follow_symlinks=False).st_mode):
                raise IntegrityError(f"{folder}: {name} is a link or no plain file; copy the bundle again")
        sums = _read_sums(folder)
        digests = _parse_sums(folder, sums)
        unknown = sorted(entries.keys() - digests.keys() - {SUMS})
        missing = sorted(digests.keys() - entries.keys())
        if missing:
            raise IntegrityError(f"{folder}: {missing[0]} is missing; copy the bundle again")
        if unknown:
            raise IntegrityError(f"{folder}: {unknown[0]} is not listed in {SUMS}; remove it")
        with ThreadPoolExecutor(usable_processors()) as pool:  # hashing lets go of the interpreter's lock
            found = pool.map(lambda name: sha256_of(folder / name), digests)
            for name, digest in zip(digests, found, strict=True):
                if digest != digests[name]:
                    raise _changed(folder, name)
    except OSError as error:
        raise _unreadable(folder, error) from None
    if MANIFEST not in digests:
        raise IntegrityError(f"{folder}: {SUMS} lists no {MANIFEST}; convert the checkpoint again")
    data = (folder / MANIFEST).read_bytes()
    if hashlib.sha256(data).hexdigest() != digests[MANIFEST]:
        raise _changed(folder, MANIFEST)
    manifest = parse_manifest(data, f"{folder}: {MANIFEST}")
    for backend, artefact in manifest.artefacts.items():
        for name in (name for one in artefact.made for name in one.all_files):
            if name not in digests:
                raise IntegrityError(f"{folder}: artefacts.{backend} names {name}, which {SUMS} does not list")
    return Bundle(folder, manifest, hashlib.sha256(sums).hexdigest(), digests)


def write_bundle(
    path: str | os.PathLike[str], manifest: Manifest, files: Mapping[str, bytes], *, replace: bool = False
) -> str:
    """Write a bundle whole or not at all, and return its digest. ``files`` maps names to bytes.

    Raises `OutputError` when the place is taken, read-only or full.
    """
    contents = {**files, MANIFEST: manifest.to_json().encode()}
    lines = [f"{hashlib.sha256(contents[name]).hexdigest()}  {name}" for name in sorted(contents)]
    for line in lines:
        if not _LINE.fullmatch(line):
            raise BundleError(f"{line[66:]!r} cannot be a file of a bundle; use letters, digits, '.', '_' and '-'")
    sums = ("\n".join(lines) + "\n").encode()
    with whole_folder(path, replace=replace) as folder:
        for name, data in {**contents, SUMS: sums}.items():
            try:
                with (folder / name).open("wb") as file:
                    file.write(data)
                    file.flush()
                    os.fsync(file.fileno())
            except OSError as error:
                raise output_error(Path(path), error) from None
    return hashlib.sha256(sums).hexdigest()


def sha256_of(path: Path) -> str:
    """The SHA-256 of a file in hexadecimal, read in pieces of one megabyte. Raises `OSError`."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def _read_sums(folder: Path) -> bytes:
    with (folder / SUMS).open("rb") as file:
        sums = file.read(_MAX_SUMS_BYTES + 1)
    if len(sums) > _MAX_SUMS_BYTES:
        raise IntegrityError(f"{folder}: {SUMS} is too long to be one; copy the bundle again")
    return sums


def _parse_sums(folder: Path, sums: bytes) -> dict[str, str]:
    digests: dict[str, str] = {}
    for number, line in enumerate(sums.decode("ascii", errors="replace").removesuffix("\n").split("\n"), start=1):
        match = _LINE.fullmatch(line)
        if match is None or match[2] == SUMS or match[2] in digests:
            raise IntegrityError(
                f"{folder}: line {number} of {SUMS} is not a digest and the plain name of a file in this folder; "
                "copy the bundle again"
            )
        digests[match[2]] = match[1]
    return digests


def _changed(folder: Path, name: str) -> IntegrityError:
    return IntegrityError(f"{folder}: {name} does not have its recorded SHA-256; copy the bundle again")


def _unreadable(path: Path, error: OSError) -> BundleError:
    return BundleError(f"{path}: cannot be read ({error.strerror or error}); check its permissions")
