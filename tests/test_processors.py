"""Threads follow the affinity and the smallest CPU quota above this process, however its control groups are mounted."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from vmeg_edge.processors import Processors, cpu_quota, processors

V2 = "30 23 0:25 / /sys/fs/cgroup rw,nosuid shared:9 - cgroup2 cgroup2 rw,nsdelegate"
V1 = "32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw,relatime shared:4 - cgroup cgroup rw,cpu,cpuacct"
SETS = "34 31 0:31 / /sys/fs/cgroup/cpuset rw,relatime - cgroup cgroup rw,cpuset"
UNIFIED = "41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw"
G2, G1 = "sys/fs/cgroup", "sys/fs/cgroup/cpu,cpuacct"


def system(root: Path, own: str, mounts: str, files: Mapping[str, str]) -> Path:
    """A made ``/proc`` and ``/sys``; a folder of ``files`` gets its quota as that version writes it."""
    for name, text in {"proc/self/cgroup": own, "proc/self/mountinfo": mounts}.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text + "\n")
    for folder, quota in files.items():
        (root / folder).mkdir(parents=True, exist_ok=True)
        if quota.startswith("v1 "):
            quota_us, period_us = quota[3:].split()
            (root / folder / "cpu.cfs_quota_us").write_text(f"{quota_us}\n")
            (root / folder / "cpu.cfs_period_us").write_text(f"{period_us}\n")
        else:
            (root / folder / "cpu.max").write_text(f"{quota}\n")
    return root


@pytest.mark.parametrize(
    ("own", "mounts", "files", "quota"),
    [
        pytest.param("0::/", V2, {G2: "50000 100000"}, 0.5, id="v2, the container's own view"),
        pytest.param("0::/", V2, {}, None, id="v2, the root group has no such file"),
        pytest.param("0::/a/b", V2, {f"{G2}/a": "max 100000", f"{G2}/a/b": "max 100000"}, None, id="v2, max"),
        pytest.param(
            "0::/a/b/c",
            V2,
            {f"{G2}/a": "150000 100000", f"{G2}/a/b": "400000 100000", f"{G2}/a/b/c": "max 100000"},
            1.5,
            id="v2, an ancestor's quota is the smallest",
        ),
        pytest.param("0::/a/b", V2, {f"{G2}/a/x": "1000 100000"}, None, id="v2, a neighbour's quota is none of ours"),
        pytest.param("0::/a", V2, {f"{G2}/a": "25000 50000"}, 0.5, id="v2, another period"),
        pytest.param("0::/a", V2, {f"{G2}/a": "200000"}, None, id="v2, a file of another form says nothing"),
        pytest.param("4:cpu,cpuacct:/", V1, {G1: "v1 -1 100000"}, None, id="v1, no quota"),
        pytest.param(
            "5:cpuset:/z\n4:cpu,cpuacct:/a/b",
            f"{SETS}\n{V1}",
            {G1: "v1 -1 100000", f"{G1}/a": "v1 300000 100000", f"{G1}/a/b": "v1 50000 20000"},
            2.5,
            id="v1, the smallest on the way up",
        ),
        pytest.param(
            "4:cpu,cpuacct:/docker/abc",
            V1.replace(" / /sys", " /docker/abc /sys"),
            {G1: "v1 75000 100000"},
            0.75,
            id="v1, the host's names, the container's mount",
        ),
        pytest.param(
            "4:cpu,cpuacct:/docker/abc/inner",
            V1.replace(" / /sys", " /docker/abc /sys"),
            {G1: "v1 75000 100000", f"{G1}/inner": "v1 60000 100000"},
            0.6,
            id="v1, a group below the container's mount",
        ),
        pytest.param(
            "4:cpu,cpuacct:/a\n0::/a",
            f"{V1}\n{UNIFIED}",
            {f"{G1}/a": "v1 50000 100000", "sys/fs/cgroup/unified/a": "90000 100000"},
            0.5,
            id="hybrid, version 1 is the smaller",
        ),
        pytest.param(
            "1:name=systemd:/a\n0::/a",
            f"{SETS}\n{UNIFIED}",
            {"sys/fs/cgroup/unified/a": "90000 100000"},
            0.9,
            id="hybrid, version 2 alone has the controller",
        ),
        pytest.param(
            "0::/", V2.replace(" / /sys", " /.. /sys"), {G2: "200000 100000"}, 2.0, id="a namespace below the mount's"
        ),
        pytest.param("0::/../x", V2, {G2: "200000 100000", "x": "1 100000"}, 2.0, id="outside its namespace"),
        pytest.param(
            "0::/a",
            f"{V2}\n50 23 0:25 /other /mnt/other rw - cgroup2 cgroup2 rw",
            {f"{G2}/a": "300000 100000", "mnt/other": "1000 100000"},
            3.0,
            id="a second mount of another group",
        ),
        pytest.param(
            "0::/a", V2.replace("/sys/fs/cgroup", r"/my\040groups"), {"my groups/a": "50000 100000"}, 0.5, id="a space"
        ),
        pytest.param("0::/a b:c", V2, {f"{G2}/a b:c": "50000 100000"}, 0.5, id="a space and a colon in a name"),
        pytest.param("", "", {G2: "50000 100000"}, None, id="no control groups"),
        pytest.param("nonsense\n0::", "x - cgroup2\n\n1 2 3 4 rel - cgroup2 a b", {}, None, id="not of their form"),
    ],
)
def test_the_smallest_quota_from_the_own_group_to_the_top_counts(
    tmp_path: Path, own: str, mounts: str, files: Mapping[str, str], quota: float | None
) -> None:
    found = cpu_quota(system(tmp_path, own, mounts, files))
    assert found == (None if quota is None else pytest.approx(quota))


def test_a_system_without_proc_has_no_quota(tmp_path: Path) -> None:
    assert cpu_quota(tmp_path) is None
    assert processors(tmp_path) == Processors(processors().affinity, None)


@pytest.mark.parametrize(
    ("affinity", "quota", "usable"),
    [
        (16, None, 16),
        (16, 0.5, 1),
        (16, 1.0, 1),
        (16, 1.5, 1),
        (16, 2.0, 2),
        (16, 3.99, 3),
        (16, 16.0, 16),
        (2, 8.0, 2),
        (1, 0.01, 1),
    ],
)
def test_threads_never_add_up_to_more_than_the_quota(affinity: int, quota: float | None, usable: int) -> None:
    assert Processors(affinity, quota).usable == usable


def test_all_three_numbers_travel_with_a_report() -> None:
    assert Processors(16, 1.5).to_json() == {
        "usable_processors": 1,
        "affinity_processors": 16,
        "quota_processors": 1.5,
    }


class Group:
    """A real control group of half a processor, in whichever version has the controller here."""

    def __init__(self) -> None:
        first = Path("/sys/fs/cgroup/cpu")
        self.version = 1 if first.is_dir() else 2
        self.folder = (first if self.version == 1 else Path("/sys/fs/cgroup")) / f"vmeg-edge-test-{os.getpid()}"

    def __enter__(self) -> Group:
        self.folder.mkdir()
        try:
            if self.version == 1:
                (self.folder / "cpu.cfs_period_us").write_text("100000")
                (self.folder / "cpu.cfs_quota_us").write_text("50000")
            else:
                (self.folder / "cpu.max").write_text("50000 100000")
        except OSError:
            self.folder.rmdir()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        for _try in range(50):  # a process that ended may be counted for a moment
            try:
                self.folder.rmdir()
            except OSError:
                time.sleep(0.1)
            else:
                return
        raise AssertionError(f"{self.folder} cannot be removed")

    def run(self, code: str) -> str:
        """What ``code`` prints as a process of this group."""
        tasks = self.folder / ("tasks" if self.version == 1 else "cgroup.procs")
        joined = f"open({str(tasks)!r}, 'w').write('0')\n{code}"
        done = subprocess.run([sys.executable, "-c", joined], capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, done.stderr
        return done.stdout


@pytest.fixture(scope="module")
def half_a_processor() -> Iterator[Group]:
    if sys.platform != "linux":
        pytest.skip("control groups are Linux's")
    try:
        entered = Group().__enter__()
    except OSError as error:
        pytest.skip(f"no control group can be made here: {error}")
    try:
        try:
            entered.run("")
        except AssertionError as error:
            pytest.skip(f"no process can join a control group here: {error}")
        yield entered
    finally:
        entered.__exit__()


def test_a_real_quota_is_read_and_said(half_a_processor: Group) -> None:
    said = json.loads(half_a_processor.run("from vmeg_edge.cli import run; run(['info', '--json'])"))
    assert {name: said[name] for name in Processors(1).to_json()} == Processors(processors().affinity, 0.5).to_json()


def test_every_engine_and_library_keeps_within_a_real_quota(half_a_processor: Group) -> None:
    """By what each says of itself: the scorer's report, OpenCV, and torch once the toolchain has a reference."""
    code = """
import json, cv2, vmeg_edge, torch
from vmeg_edge.backends import place
from vmeg_edge.cli.options import DEMO_BUNDLE
from vmeg_edge.converters.threads import within_quota
with vmeg_edge.load(DEMO_BUNDLE, cache=False, self_test=False) as scorer:
    threads = scorer.provenance["threads"]
within_quota()
print(json.dumps([threads, place("openvino").threads, cv2.getNumThreads(), torch.get_num_threads()]))
"""
    assert json.loads(half_a_processor.run(code)) == [1, 1, 1, 1]


def test_opencv_keeps_a_lower_number_that_was_set() -> None:
    code = (
        "import cv2; from vmeg_edge import processors as p; cv2.setNumThreads(2); "
        "p.usable_processors = lambda: 4; p.keep_opencv_within(); assert cv2.getNumThreads() == 2; "
        "p.usable_processors = lambda: 1; p.keep_opencv_within(); assert cv2.getNumThreads() == 1"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
