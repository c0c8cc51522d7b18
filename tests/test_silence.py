"""Silence: no name looked up, no packet sent, no file outside our own cache, at once or half a minute later."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from silence_runs import NOT_INSTALLED, ROOT, RUNS, STAYS_S
from vmeg_edge.silence import SWITCHES, Telemetry, telemetry_of, variables

PROBE = (sys.executable, str(ROOT / "benchmarks" / "silence.py"))


def _report(text: str) -> dict[str, Any]:
    report: dict[str, Any] = json.loads(text)
    if "not_allowed" in report:
        pytest.skip(f"namespaces are not allowed here: {report['not_allowed']}")
    return report


def _listened(*command: object) -> dict[str, Any]:
    done = subprocess.run([*PROBE, "--", *map(str, command)], stdout=subprocess.PIPE, text=True)
    return _report(done.stdout)


@pytest.mark.parametrize("name", RUNS)
def test_nothing_leaves_and_nothing_stays(beside: Callable[[str], tuple[int, str, Path]], name: str) -> None:
    code, out, folder = beside("test_silence.py")
    assert code == 0, out
    report = _report((folder / f"{name}.json").read_text())
    if report["exit"] == NOT_INSTALLED:
        pytest.skip("TensorRT-RTX is not installed")
    # Four frames are too few for a valid bench, which says so.
    assert report["exit"] == (1 if name == "bench" else 0), report["said"]
    assert report["ran_s"] >= STAYS_S
    assert report["names"] == []
    assert report["connections"] == []
    assert not any(report["packets"].values()), report["packets"]
    assert report["files"] == []
    assert report["silent"]


def test_the_listener_hears_a_name_a_connection_a_packet_and_a_file() -> None:
    code = """
import pathlib, socket
with socket.create_connection(("name.example", 443)) as talk:
    talk.sendall(b"hello")
for family, address in ((socket.AF_INET, "192.0.2.1"), (socket.AF_INET6, "2001:db8::1")):
    try:
        socket.socket(family, socket.SOCK_DGRAM).sendto(b"x", (address, 9))
    except OSError:
        pass
pathlib.Path.home().joinpath("left").touch()
pathlib.Path("here").touch()
"""
    report = _listened(sys.executable, "-c", code)
    assert {name for _, name in report["names"]} == {"name.example"}
    assert [what for _, what in report["connections"]] == ["port 443, 5 bytes"]
    assert report["packets"]["sent"] > 0
    assert report["packets"]["without_a_route"] >= 1
    assert report["files"] == ["home/left", "place/here"]
    assert not report["silent"]
    quiet = _listened(sys.executable, "-c", "import tempfile; tempfile.TemporaryFile().write(b'scratch')")
    assert quiet["silent"], quiet


_FIRST = """
import sys, warnings
import {engine}
import vmeg_edge
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    for _ in range(2):
        scorer = vmeg_edge.load(vmeg_edge.__file__.replace("__init__.py", "demo.vmeg"), backend="{engine}", cache=False)
print(scorer.provenance["telemetry"])
for warning in caught:
    print(warning.category.__name__, warning.message)
"""


@pytest.mark.parametrize(("engine", "name"), [("onnxruntime", "ONNX Runtime"), ("openvino", "OpenVINO")])
def test_who_loads_the_engine_first_is_told_once_and_in_the_provenance(engine: str, name: str) -> None:
    report = _listened(sys.executable, "-c", _FIRST.format(engine=engine))
    told, *warned = report["said"].splitlines()
    assert told == (
        "perhaps on: this process loaded it before vmeg-edge, which can no longer turn it off; "
        f"import {engine} inside `with silence():` of vmeg_edge.silence"
    )
    assert warned == [f"UserWarning {name}'s telemetry is {told}"]


@pytest.mark.parametrize(
    ("engine", "off"),
    [
        ("onnxruntime", ("env", "ORT_DISABLE_TELEMETRY=1", sys.executable)),
        (
            "openvino",
            ("sh", "-c", 'mkdir ~/intel && echo 0 > ~/intel/openvino_telemetry && exec "$0" "$@"', sys.executable),
        ),
    ],
)
def test_who_loads_it_first_but_turned_it_off_is_not_warned(engine: str, off: tuple[str, ...]) -> None:
    report = _listened(*off, "-c", _FIRST.format(engine=engine))
    assert report["said"].splitlines() == ["off: this process loaded it before vmeg-edge, with it off"]
    assert (report["names"], report["connections"]) == ([], [])


def test_an_application_can_load_engines_in_silence_itself() -> None:
    code = """
from vmeg_edge.silence import silence, telemetry_of
with silence():
    import onnxruntime, openvino
import nncf.telemetry.wrapper
print(telemetry_of("onnxruntime").off, telemetry_of("openvino").off, telemetry_of("nncf").off)
"""
    report = _listened(sys.executable, "-c", "import sys\n" + code)
    assert report["said"].split() == ["True", "True", "False"], "NNCF was loaded outside, with its telemetry on"


def test_the_environment_and_the_module_table_are_put_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ORT_DISABLE_TELEMETRY", "0")
    code = """
import os, sys, openvino_telemetry
from vmeg_edge.silence import silence
def state():
    return os.environ.get("ORT_DISABLE_TELEMETRY"), sys.modules.get("openvino_telemetry", "absent")
before = state()
with silence():
    with silence():
        assert state() == ("1", None), state()
    assert state() == ("1", None), state()
assert state() == before == ("0", openvino_telemetry)
del sys.modules["openvino_telemetry"], os.environ["ORT_DISABLE_TELEMETRY"]
try:
    with silence():
        raise KeyError
except KeyError:
    assert state() == (None, "absent")
"""
    subprocess.run([sys.executable, "-c", code], check=True)


def test_regions_of_two_threads_end_with_the_last() -> None:
    """The tests run in a region of their own, so this looks from a process that has none."""
    code = """
import os, threading
from vmeg_edge.silence import silence
inside, leave = threading.Event(), threading.Event()
def other():
    with silence():
        inside.set()
        leave.wait(10)
thread = threading.Thread(target=other)
with silence():
    thread.start()
    inside.wait(10)
assert os.environ["ORT_DISABLE_TELEMETRY"] == "1"
leave.set()
thread.join()
assert "ORT_DISABLE_TELEMETRY" not in os.environ
"""
    environment = {name: value for name, value in os.environ.items() if name != "ORT_DISABLE_TELEMETRY"}
    subprocess.run([sys.executable, "-c", code], check=True, env=environment)


def test_an_engine_of_ones_own_is_not_called_silent() -> None:
    assert telemetry_of("metronome") == Telemetry(False, "vmeg-edge knows of no switch")


def test_variables_are_put_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SILENCE_A", "before")
    monkeypatch.delenv("SILENCE_B", raising=False)
    with variables({"SILENCE_A": "in", "SILENCE_B": "in"}):
        assert (os.environ["SILENCE_A"], os.environ["SILENCE_B"]) == ("in", "in")
    assert os.environ["SILENCE_A"] == "before"
    assert "SILENCE_B" not in os.environ


def test_info_says_for_each_engine_that_its_telemetry_is_off_and_by_which_means(vmeg_edge: Callable[..., Any]) -> None:
    told = json.loads(vmeg_edge("info", "--json").out)["telemetry"]
    assert {"onnxruntime", "openvino", "nncf"} <= set(told) <= set(SWITCHES)
    assert all(engine["off"] for engine in told.values())
    assert told["onnxruntime"]["means"] == "ORT_DISABLE_TELEMETRY=1 is set while it is loaded"
    assert "telemetry of onnxruntime: off, ORT_DISABLE_TELEMETRY=1" in vmeg_edge("info").out
