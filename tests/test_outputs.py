"""Files and folders appear whole or not at all."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from vmeg_edge.errors import OutputError
from vmeg_edge.outputs import PendingFile, whole_folder


def test_a_file_appears_when_the_block_ends_well(tmp_path: Path) -> None:
    target = tmp_path / "a.txt"
    with PendingFile(target) as temporary:
        temporary.write_text("whole")
        assert temporary.suffix == ".txt"
        assert not target.exists()
    assert target.read_text() == "whole"
    assert list(tmp_path.iterdir()) == [target]


def test_aborting_leaves_the_old_file_as_it_was(tmp_path: Path) -> None:
    target = tmp_path / "a.txt"
    target.write_text("old")
    pending = PendingFile(target)
    pending.temporary.write_text("new")
    pending.abort()
    pending.abort()
    assert target.read_text() == "old"
    assert list(tmp_path.iterdir()) == [target]


def test_a_system_error_names_the_file_and_the_mend(tmp_path: Path) -> None:
    with (
        pytest.raises(OutputError, match=r"a\.txt: cannot be written \(No space left"),
        PendingFile(tmp_path / "a.txt"),
    ):
        raise OSError(28, "No space left on device")
    assert list(tmp_path.iterdir()) == []


def test_a_place_that_does_not_exist_is_refused_before_any_work(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="cannot be written"):
        PendingFile(tmp_path / "missing" / "a.txt")
    with pytest.raises(OutputError, match="is a folder"):
        PendingFile(tmp_path)


def test_files_get_the_users_usual_permissions(tmp_path: Path) -> None:
    with PendingFile(tmp_path / "a") as temporary:
        temporary.write_text("")
    (tmp_path / "b").write_text("")
    assert os.stat(tmp_path / "a").st_mode == os.stat(tmp_path / "b").st_mode


def test_a_folder_is_replaced_only_when_its_successor_is_complete(tmp_path: Path) -> None:
    target = tmp_path / "folder"
    with whole_folder(target) as folder:
        (folder / "one").write_text("1")

    def break_off() -> None:
        with whole_folder(target, replace=True) as folder:
            (folder / "two").write_text("2")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        break_off()
    assert [path.name for path in target.iterdir()] == ["one"]
    with whole_folder(target, replace=True) as folder:
        (folder / "three").write_text("3")
    assert [path.name for path in target.iterdir()] == ["three"]
    assert list(tmp_path.iterdir()) == [target]


@pytest.mark.skipif(sys.platform == "win32", reason="named pipes in a folder are POSIX")
def test_a_device_or_a_pipe_is_not_replaced_by_a_file(tmp_path: Path) -> None:
    pipe, link = tmp_path / "pipe", tmp_path / "link"
    os.mkfifo(pipe)
    link.symlink_to(pipe)
    for target in (pipe, link):
        with pytest.raises(OutputError, match="is a device or a pipe, and no file"):
            PendingFile(target)
    assert pipe.is_fifo()
    assert sorted(tmp_path.iterdir()) == [link, pipe]


def test_a_link_stays_one_and_its_file_is_written(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    link, place = tmp_path / "link.txt", tmp_path / "elsewhere" / "place.txt"
    link.symlink_to(place)
    for text in ("first", "second"):
        with PendingFile(link) as temporary:
            temporary.write_text(text)
        assert link.is_symlink()
        assert place.read_text() == text
    assert list(place.parent.iterdir()) == [place]
