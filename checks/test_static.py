"""What reads the source and runs none of it: style, types as a user's checker sees them, and the extension's stub."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
CONFIG = str(ROOT / "pyproject.toml")


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The folders laid out as the wheel installs them, so that every import resolves as it will for a user."""
    folder = tmp_path_factory.mktemp("check") / "source"
    package = folder / "vmeg_edge"
    shutil.copytree(ROOT / "vmeg_edge", package, ignore=shutil.ignore_patterns("demo.vmeg", "__pycache__", "*.so"))
    shutil.copytree(ROOT / "converters", package / "converters", ignore=shutil.ignore_patterns("__pycache__"))
    yield folder
    shutil.rmtree(folder)


def check(*command: str, source: Path | None = None) -> None:
    """Run a tool of this environment, from where nothing hides what is installed; its complaints are the failure."""
    environment = os.environ | ({} if source is None else {"MYPYPATH": str(source)})
    done = subprocess.run(
        [sys.executable, "-m", *command],
        cwd=None if source is None else source.parent,
        env=environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("task", [("check",), ("format", "--check")], ids=" ".join)
def test_ruff_finds_nothing(task: tuple[str, ...]) -> None:
    check("ruff", *task, str(ROOT))


@pytest.mark.parametrize("platform", ["linux", "win32"])
def test_mypy_finds_nothing(source: Path, platform: str) -> None:
    cache = str(ROOT / ".mypy_cache" / platform)
    options = ("--config-file", CONFIG, "--cache-dir", cache, "--platform", platform)
    check("mypy", *options, "-p", "vmeg_edge", source=source)


def test_the_extensions_stub_is_what_the_extension_has(source: Path) -> None:
    check("mypy.stubtest", "--mypy-config-file", CONFIG, "vmeg_edge._native", source=source)
