"""Engines without their makers' telemetry: which switch turns each one's off, set while its library is loaded.

Every import of an engine stands inside ``with silence():``, here and in the toolchain; a test holds that. What a
process loaded before vmeg-edge keeps what its owner chose, and `telemetry_of` says so. See docs/silence.md.
"""

from __future__ import annotations

import os
import sys
import threading
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import ModuleType


@dataclass(frozen=True)
class Switch:
    """How one engine is kept quiet.

    ``variables`` are set and ``absent`` packages are not found while it is loaded; ``after`` is what it is told then.
    ``means`` says the same in words.
    """

    engine: str
    means: str
    variables: Mapping[str, str] = field(default_factory=dict)
    absent: tuple[str, ...] = ()
    after: str = ""


_WITHOUT_ITS_PACKAGE = "its optional package openvino_telemetry is kept out while it is loaded"

SWITCHES: Mapping[str, Switch] = {
    "onnxruntime": Switch(
        "ONNX Runtime",
        "ORT_DISABLE_TELEMETRY=1 is set while it is loaded",
        variables={"ORT_DISABLE_TELEMETRY": "1"},
        # Too late for the uploader above. It is what builds for Windows that report by ETW go by.
        after="disable_telemetry_events",
    ),
    "openvino": Switch("OpenVINO", _WITHOUT_ITS_PACKAGE, absent=("openvino_telemetry",)),
    "nncf": Switch("NNCF", _WITHOUT_ITS_PACKAGE, absent=("openvino_telemetry",)),
    "tensorrt": Switch("TensorRT", "its maker documents none, and none was seen"),
}
"""What each engine's maker documents, by the name that is imported."""


@dataclass(frozen=True)
class Telemetry:
    """Whether an engine's telemetry is off in this process, and by which means or why not."""

    off: bool
    means: str

    def __str__(self) -> str:
        """One phrase: ``off: ORT_DISABLE_TELEMETRY=1 is set while it is loaded``."""
        return f"{'off' if self.off else 'perhaps on'}: {self.means}"


_lock = threading.Lock()
_depth = 0
_before: set[str] = set()  # the engines that were there when the outermost region began
_ours: set[str] = set()  # the engines that were loaded in a region
_kept: dict[str, str | None] = {}  # the variables as they were
_hidden: dict[str, ModuleType] = {}  # packages that were loaded, and are not found in a region all the same
_warned: set[str] = set()


@contextmanager
def silence() -> Iterator[None]:
    """Load engines in here: their switches are set, and put back as they were when the last such region ends.

    Regions may nest and overlap between threads. An engine that this process had loaded before stays as it is, and
    where it may report to its maker, a `UserWarning` says so once.
    """
    for engine in _loaded() - _warned:
        told = telemetry_of(engine)
        if not told.off:
            _warned.add(engine)
            warnings.warn(f"{SWITCHES[engine].engine}'s telemetry is {told}", UserWarning, stacklevel=3)
    _begin()
    try:
        yield
    finally:
        _end()


@contextmanager
def variables(values: Mapping[str, str]) -> Iterator[None]:
    """Environment variables that are set in here, and put back behind it."""
    kept = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        _restore(kept)


def telemetry_of(engine: str) -> Telemetry:
    """Whether ``engine``, a backend's name or ``nncf``, may report to its maker from this process."""
    switch = SWITCHES.get(engine)
    if switch is None:
        return Telemetry(False, "vmeg-edge knows of no switch")
    if engine not in _loaded() or engine in _ours or not (switch.variables or switch.absent):
        return Telemetry(True, switch.means)
    if _chosen_off(engine, switch):
        return Telemetry(True, f"{_EARLIER}, with it off")
    return Telemetry(
        False,
        f"{_EARLIER}, which can no longer turn it off; import {engine} inside `with silence():` of vmeg_edge.silence",
    )


_EARLIER = "this process loaded it before vmeg-edge"
_TRUE = ("1", "true", "yes", "on", "y")


def _chosen_off(engine: str, switch: Switch) -> bool:
    """Whether an engine that was there before us was loaded with its telemetry off."""
    if switch.variables:
        return all(os.environ.get(name, "").strip().lower() in _TRUE for name in switch.variables)
    # What it made of its telemetry package: a stub, or an object that knows whether this user opted out.
    holder = sys.modules.get({"openvino": "openvino.tools.ovc", "nncf": "nncf.telemetry"}[engine])
    made = getattr(holder, "telemetry", None)
    return not getattr(getattr(made, "_impl", made), "consent", False)


def _begin() -> None:
    global _depth
    with _lock:
        _depth += 1
        if _depth > 1:
            return
        _before.clear()
        _before.update(_loaded())
        for switch in SWITCHES.values():
            _kept.update({name: os.environ.get(name) for name in switch.variables})
            os.environ.update(switch.variables)
            for package in switch.absent:
                if (there := sys.modules.get(package)) is not None:
                    _hidden[package] = there
                # None makes an import fail: https://docs.python.org/3/reference/import.html#the-module-cache
                sys.modules[package] = None  # type: ignore[assignment]


def _end() -> None:
    global _depth
    with _lock:
        _depth -= 1
        new = _loaded() - _before - _ours
        _ours.update(new)
        if _depth == 0:
            _restore(_kept)
            _kept.clear()
            for package in {package for switch in SWITCHES.values() for package in switch.absent}:
                del sys.modules[package]
            sys.modules.update(_hidden)
            _hidden.clear()
    for engine in new:
        getattr(sys.modules.get(engine), SWITCHES[engine].after or "_", bool)()


def _loaded() -> set[str]:
    return {engine for engine in SWITCHES if sys.modules.get(engine) is not None}


def _restore(kept: Mapping[str, str | None]) -> None:
    for name, value in kept.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value
