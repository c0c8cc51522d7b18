"""Nothing needs what Windows has not: every module imports, and every kind of command runs, without POSIX at hand.

The types are checked for Windows in `test_house`; what was never run on Windows is in ``docs/windows.md``.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from conftest import ROOT
from vmeg_edge import outputs
from vmeg_edge.outputs import PendingFile, is_closed_pipe, whole_folder

GUISE = ROOT / "tests" / "windows_guise.py"


@pytest.fixture(scope="module")
def in_disguise(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("windows")
    cv2.imwrite(str(folder / "picture.png"), np.full((48, 64, 3), 90, np.uint8))
    done = subprocess.run([sys.executable, str(GUISE), str(folder)], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-4000:]
    found: dict[str, Any] = json.loads(done.stdout)
    return {**found, "said": done.stderr, "folder": folder}


def test_every_module_imports_without_posix(in_disguise: dict[str, Any]) -> None:
    assert in_disguise["before"] == {}, "these do not even import here"
    assert in_disguise["failures"] == {}
    assert in_disguise["modules"] > 150


def test_every_kind_of_command_runs_without_posix(in_disguise: dict[str, Any]) -> None:
    codes = in_disguise["codes"]
    assert codes.pop("bench") in (0, 1), "1: four frames make no valid bench"
    assert set(codes.values()) == {0}, in_disguise["said"][-4000:]
    lines = (in_disguise["folder"] / "results.jsonl").read_text().splitlines()
    assert [json.loads(line)["frame"] for line in lines] == [0]
    bench = json.loads((in_disguise["folder"] / "report.json").read_text())
    assert [case["frames"]["scored"] for case in bench["cases"]] == [4]


def test_a_closed_pipe_is_known_by_what_windows_says(monkeypatch: pytest.MonkeyPatch) -> None:
    invalid = OSError(22, "Invalid argument")
    assert is_closed_pipe(BrokenPipeError())
    assert not is_closed_pipe(invalid)
    monkeypatch.setattr(sys, "platform", "win32")
    assert is_closed_pipe(invalid)
    assert not is_closed_pipe(OSError(22, "Invalid argument", "C:\\con?"))
    assert not is_closed_pipe(OSError(28, "No space left on device"))


def test_a_table_reaches_a_file_whose_code_page_lacks_its_signs() -> None:
    code = "import sys; sys.argv[1:] = ['info']; from vmeg_edge.cli import main; import click; "
    code += "import vmeg_edge.cli as c; c.run = lambda _: print('max |\\u0394p|') or 0; main()"
    done = subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, "PYTHONIOENCODING": "cp1252"}, capture_output=True
    )
    assert (done.returncode, done.stdout.split()) == (0, [b"max", b"|?p|"]), done.stderr


def test_a_folder_that_cannot_be_replaced_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Windows moves no folder in which a file is open: here the second of the two moves is refused."""
    target = tmp_path / "b.vmeg"
    target.mkdir()
    (target / "old").write_text("old")
    moved = os.replace

    def refuse_the_new(source: Path, place: Path) -> None:
        if place == target and not source.name.endswith("-old"):
            raise PermissionError(13, "Permission denied", str(source))
        moved(source, place)

    monkeypatch.setattr(outputs.os, "replace", refuse_the_new)
    with pytest.raises(outputs.OutputError, match="cannot be written"), whole_folder(target, replace=True) as folder:
        (folder / "new").write_text("new")
    assert [path.name for path in target.iterdir()] == ["old"]
    assert list(tmp_path.iterdir()) == [target]


def test_the_umask_is_never_touched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Reading it means setting it, and another thread's files would be open to everyone meanwhile."""
    monkeypatch.setattr(os, "umask", lambda _mask: pytest.fail("the umask was set"))
    with PendingFile(tmp_path / "a") as temporary:
        temporary.write_text("")
    with whole_folder(tmp_path / "folder"):
        pass
    (tmp_path / "usual").mkdir()
    assert os.stat(tmp_path / "folder").st_mode == os.stat(tmp_path / "usual").st_mode


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX permissions")
def test_a_private_umask_keeps_files_and_folders_private(tmp_path: Path) -> None:
    code = """
import os, sys
os.umask(0o077)
from vmeg_edge.outputs import PendingFile, whole_folder
with PendingFile("file") as temporary:
    assert os.stat(temporary).st_mode & 0o777 == 0o600
    temporary.write_text("")
with whole_folder("folder"):
    pass
assert os.stat("file").st_mode & 0o777 == 0o600
assert os.stat("folder").st_mode & 0o777 == 0o700
"""
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=True)


def test_a_folder_full_of_taken_names_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / ".a-00000000").write_text("another's")
    monkeypatch.setattr(outputs.secrets, "token_hex", lambda _bytes: "00000000")
    with pytest.raises(outputs.OutputError, match="no free name"):
        PendingFile(tmp_path / "a")
    assert (tmp_path / ".a-00000000").read_text() == "another's"
