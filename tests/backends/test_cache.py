"""The engine cache believes only what this device signed, for exactly what is asked."""

from __future__ import annotations

import os
import stat
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vmeg_edge.backends import EngineCache, cache_folder

DIGESTS = {"model.xml": "ab" * 32, "model.bin": "cd" * 32}
DEPENDS: dict[str, str | int] = {"backend": "openvino", "version": "1.0", "device": "CPU", "driver": 3}


def stored(folder: Path, engine: bytes = b"engine") -> tuple[EngineCache, Path]:
    cache = EngineCache(folder, DIGESTS)
    assert cache.fetch(DEPENDS) is None
    assert cache.state == "miss"
    cache.store(DEPENDS, engine)
    assert cache.state == "stored"
    (path,) = folder.glob("*.engine")
    return cache, path


def test_what_was_stored_comes_back_to_the_same_question_alone(tmp_path: Path) -> None:
    stored(tmp_path)
    again = EngineCache(tmp_path, DIGESTS)
    assert again.fetch(DEPENDS) == b"engine"
    assert again.state == "hit"
    for name, value in (("version", "1.1"), ("device", "GPU"), ("driver", 4), ("precision", "int8")):
        assert again.fetch({**DEPENDS, name: value}) is None
        assert again.state == "miss"
    other = EngineCache(tmp_path, {**DIGESTS, "model.bin": "ce" * 32})
    assert other.fetch(DEPENDS) is None


@settings(max_examples=60, deadline=None)
@given(place=st.floats(0, 1), bit=st.integers(0, 7))
def test_one_flipped_bit_anywhere_is_refused(tmp_path_factory: pytest.TempPathFactory, place: float, bit: int) -> None:
    folder = tmp_path_factory.mktemp("cache")
    cache, path = stored(folder, bytes(range(256)))
    data = bytearray(path.read_bytes())
    data[round(place * (len(data) - 1))] ^= 1 << bit
    path.write_bytes(data)
    assert cache.fetch(DEPENDS) is None
    assert cache.state.startswith("refused")


def test_an_engine_from_another_device_is_refused_and_made_anew(tmp_path: Path) -> None:
    _, path = stored(tmp_path / "theirs", b"their code")
    ours, mine = stored(tmp_path / "ours")
    mine.write_bytes(path.read_bytes())
    assert ours.fetch(DEPENDS) is None
    assert ours.state == "refused: damaged, or not written by this device"
    ours.store(DEPENDS, b"engine")
    assert ours.state.endswith("compiled anew")
    assert ours.fetch(DEPENDS) == b"engine"


def test_an_entry_moved_to_another_questions_place_is_refused(tmp_path: Path) -> None:
    cache, path = stored(tmp_path)
    cache.store({**DEPENDS, "version": "2.0"}, b"other")
    (other,) = set(tmp_path.glob("*.engine")) - {path}
    path.write_bytes(other.read_bytes())
    assert cache.fetch(DEPENDS) is None
    assert cache.state == "refused: compiled for another model, version, device or options"


@pytest.mark.parametrize("content", [b"", b"x", b"not an engine at all", b"vmeg-edge engine 1\n"])
def test_what_is_no_entry_is_refused(tmp_path: Path, content: bytes) -> None:
    cache, path = stored(tmp_path)
    path.write_bytes(content)
    assert cache.fetch(DEPENDS) is None
    assert cache.state.startswith("refused")


def test_a_folder_that_cannot_be_used_costs_the_cache_alone(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    cache = EngineCache(tmp_path / "file" / "cache", DIGESTS)
    assert cache.fetch(DEPENDS) is None
    cache.store(DEPENDS, b"engine")
    assert cache.state.startswith("unusable: ")
    broken = EngineCache(tmp_path / "broken", DIGESTS)
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "device.key").write_bytes(b"short")
    broken.store(DEPENDS, b"engine")
    assert "not a key" in broken.state


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX permissions")
def test_the_key_is_its_owners_alone(tmp_path: Path) -> None:
    stored(tmp_path / "cache")
    assert stat.S_IMODE((tmp_path / "cache" / "device.key").stat().st_mode) == 0o600
    assert stat.S_IMODE((tmp_path / "cache").stat().st_mode) & 0o077 == 0 or os.name == "nt"


def test_the_environment_moves_the_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("VMEG_EDGE_CACHE", str(tmp_path))
    assert cache_folder() == tmp_path
    monkeypatch.delenv("VMEG_EDGE_CACHE")
    if sys.platform != "win32":
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
        assert cache_folder() == tmp_path / "xdg" / "vmeg-edge"


def test_a_note_comes_back_to_the_same_question_alone_and_is_signed(tmp_path: Path) -> None:
    cache, _ = stored(tmp_path)
    about: dict[str, str | int] = {"what": "tried", "threads": 2}
    assert cache.recall(about) is None
    cache.note(about, {"frames": 16})
    assert cache.recall(about) == {"frames": 16}
    assert cache.recall({**about, "threads": 1}) is None
    assert EngineCache(tmp_path, {"other": "00" * 32}).recall(about) is None
    assert cache.state == "stored", "a note says nothing of the engine"
    (path,) = tmp_path.glob("*.note")
    path.write_bytes(path.read_bytes().replace(b"16", b"17"))
    assert cache.recall(about) is None
