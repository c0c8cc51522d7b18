"""Fixtures that several folders of tests share: the embedded demo bundle, copies of it, and a running command line."""

from __future__ import annotations

import hashlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from vmeg_edge.cli.options import DEMO_BUNDLE
from vmeg_edge.phantom import Phantom
from vmeg_edge.phantom.anatomy import Anatomy, Pose, Scanner
from vmeg_edge.silence import silence

ROOT = Path(__file__).resolve().parents[1]
BESIDE = {  # a test's file, and what it judges: minutes of waiting that cost no time; {} is a folder of its own
    "test_soak.py": ("benchmarks/soak.py", "--seconds", "120", "--max-growth-mb", "8", "--out", "{}/soak.json"),
    "test_silence.py": ("tests/silence_runs.py", "{}"),
}
STARTED = pytest.StashKey["dict[str, tuple[subprocess.Popen[str], Path]]"]()
SLOW = ("test_outliers.py", "test_reduced.py", "test_sized.py", "test_int8_conversion.py", "test_accuracy_control.py")


def pytest_configure(config: pytest.Config) -> None:
    """Engines that the tests import are as quiet as the product's; and Ctrl-C works, started in the background or not.

    What a shell starts in the background ignores Ctrl-C, and so would every process that the tests interrupt.
    """
    quiet = ExitStack()
    quiet.enter_context(silence())
    config.add_cleanup(quiet.close)
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The slow proofs together at the end, and what runs beside the tests, which is waited for, after all."""
    last = (*SLOW, *BESIDE)
    items.sort(key=lambda item: last.index(item.path.name) + 1 if item.path.name in last else 0)


def pytest_collection_finish(session: pytest.Session) -> None:
    """Start what runs beside the tests, where its own test is among them."""
    started = session.config.stash.setdefault(STARTED, {})
    if session.config.option.collectonly:
        return
    for test, words in BESIDE.items():
        if any(item.path.name == test for item in session.items):
            folder = Path(tempfile.mkdtemp())
            command = [sys.executable, *(word.format(folder) for word in words)]
            started[test] = (
                subprocess.Popen(
                    command,
                    cwd=ROOT,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.STDOUT,
                    text=True,
                    start_new_session=True,
                ),
                folder,
            )


def pytest_sessionfinish(session: pytest.Session) -> None:
    """A session that ends early takes what it started with it."""
    for process, folder in session.config.stash.get(STARTED, {}).values():
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def beside(request: pytest.FixtureRequest) -> Callable[[str], tuple[int, str, Path]]:
    """What was started with the session for a test's file: exit code, what it printed, its folder."""

    def ended(test: str) -> tuple[int, str, Path]:
        process, folder = request.config.stash[STARTED][test]
        out, _ = process.communicate(timeout=600)
        return process.returncode, out, folder

    return ended


@pytest.fixture(scope="session")
def soak(beside: Callable[[str], tuple[int, str, Path]]) -> tuple[int, str, Path]:
    """The soak that was started with the session: exit code, what it printed, its report."""
    code, out, folder = beside("test_soak.py")
    return code, out, folder / "soak.json"


@pytest.fixture(scope="session", autouse=True)
def _engines_apart(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Compiled engines of the tests stay out of the user's cache."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VMEG_EDGE_CACHE", str(tmp_path_factory.mktemp("engines")))
        yield


@pytest.fixture(scope="session", autouse=True)
def _phantoms_drawn_once() -> Iterator[None]:
    """A phantom that another test has drawn is not drawn again: the same arguments give the same pixels."""
    from vmeg_edge.phantom import cine, render

    drawn = Drawn(render)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("vmeg_edge.phantom.render", drawn)
        patch.setattr(cine, "render", drawn)
        yield


@pytest.fixture(scope="session", autouse=True)
def _one_thread_for_arithmetic() -> Iterator[None]:
    """NumPy's linear algebra and torch compute in one thread here: others only spin, at matrices of tests' sizes."""
    from threadpoolctl import threadpool_limits

    torch = sys.modules.get("torch")
    with threadpool_limits(1, user_api="blas"):
        if torch is not None:
            torch.set_num_threads(1)
        yield


@pytest.fixture(scope="session", autouse=True)
def _exported_once(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A network that a conversion of another test has exported is not traced again: equal weights give equal bytes."""
    if "vmeg_edge.converters.origin" not in sys.modules:
        yield  # no test of this session converts
        return
    from vmeg_edge.converters import origin

    folder = tmp_path_factory.mktemp("exported")
    export = origin.export

    def exported(model: Any, path: Path, *, mean: Any, std: Any) -> None:
        key = hashlib.sha256(repr((type(model), model.config, model.cam_layer, mean, std)).encode())
        for name, value in model.state_dict().items():
            key.update(f"{name} {value.dtype} {tuple(value.shape)}".encode() + value.numpy().tobytes())
        kept = folder / key.hexdigest()
        if not kept.exists():
            export(model, kept, mean=mean, std=std)
        shutil.copyfile(kept, path)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(origin, "export", exported)
        yield


class Drawn:
    """Draws phantoms, and remembers those that it drew last, their masks in bits."""

    LIMIT_BYTES = 500_000_000

    def __init__(self, render: Callable[..., Phantom]) -> None:
        self._render = render
        self._kept: OrderedDict[tuple[object, ...], tuple[Phantom, Any]] = OrderedDict()
        self._bytes = 0

    def __call__(self, anatomy: Anatomy, scanner: Scanner, pose: Pose, **which: Any) -> Phantom:
        """A phantom with pixels of its own, as drawn by `vmeg_edge.phantom.render`."""
        key = (anatomy, scanner, pose)
        kept = self._kept.pop(key, None)
        if kept is None:
            drawn = self._render(anatomy, scanner, pose)
            kept = replace(drawn, ventricles=drawn.ventricles[:0]), np.packbits(drawn.ventricles, axis=1)
            self._bytes += _size(kept)
        self._kept[key] = kept
        while self._bytes > self.LIMIT_BYTES:
            self._bytes -= _size(self._kept.popitem(last=False)[1])
        made, bits = kept
        pixels = made.frame.pixels.copy()
        mask = np.unpackbits(bits, axis=1, count=pixels.shape[1]).view(np.bool_)
        return replace(made, frame=replace(made.frame, pixels=pixels, **which), ventricles=mask)


def _size(kept: tuple[Phantom, Any]) -> int:
    made, bits = kept
    return int(made.frame.pixels.nbytes + bits.nbytes)


@pytest.fixture(scope="session")
def demo_bundle() -> Path:
    """The bundle that ships inside the wheel; it is only read."""
    return DEMO_BUNDLE


@pytest.fixture
def bundle_copy(demo_bundle: Path, tmp_path: Path) -> Path:
    """A copy of the demo bundle that a test may damage."""
    return Path(shutil.copytree(demo_bundle, tmp_path / "copy.vmeg"))


@pytest.fixture(scope="session")
def reseal() -> Callable[[Path], None]:
    """Write a bundle's SHA256SUMS anew, as someone would who changed a file on purpose."""

    def write(folder: Path) -> None:
        names = sorted(path.name for path in folder.iterdir() if path.name != "SHA256SUMS")
        lines = [f"{hashlib.sha256((folder / name).read_bytes()).hexdigest()}  {name}\n" for name in names]
        (folder / "SHA256SUMS").write_text("".join(lines))

    return write


@dataclass(frozen=True)
class Ran:
    """What a command line left: exit code and both streams."""

    code: int
    out: str
    err: str

    @property
    def error(self) -> str:
        """The one line that told the user what is wrong."""
        lines = [line for line in self.err.splitlines() if line.startswith("vmeg-edge: error: ")]
        assert len(lines) == 1, self.err
        assert "Traceback" not in self.err
        return lines[0].removeprefix("vmeg-edge: error: ")


@pytest.fixture
def vmeg_edge(capfd: pytest.CaptureFixture[str]) -> Callable[..., Ran]:
    """Run the command line in this process: ``vmeg_edge("score", path)``."""
    from vmeg_edge.cli import run

    def call(*arguments: object) -> Ran:
        capfd.readouterr()
        code = run([str(argument) for argument in arguments])
        out, err = capfd.readouterr()
        return Ran(code, out, err)

    return call
