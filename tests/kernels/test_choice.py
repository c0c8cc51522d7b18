"""A choice is honoured or refused, never replaced in silence; the native kernels let other threads run."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from vmeg_edge import kernels
from vmeg_edge.errors import KernelError
from vmeg_edge.frames import Region
from vmeg_edge.kernels import ISAS, Implementation, choose

ROOT = Path(kernels.__file__).parents[2]
AVAILABLE = choose().isa_available

DESCRIBE = "from vmeg_edge import kernels; d = kernels.describe(); print(d['implementation'], d['isa'] or '-')"
BLOCKED = "import sys; sys.modules['vmeg_edge._native'] = None; "
CATCH = """
from vmeg_edge.errors import KernelError
try:
    import numpy, vmeg_edge.kernels as kernels
    print("imported")
    kernels.resize(numpy.zeros((4, 4), numpy.uint8), None, 2, 2, "nearest")
except KernelError as error:
    print(error)
"""


def python(code: str, **variables: str) -> str:
    environment = {k: v for k, v in os.environ.items() if not k.startswith("VMEG_EDGE_")} | variables
    environment["PYTHONPATH"] = str(ROOT)
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    return done.stdout.strip()


def test_the_fastest_native_kernels_are_the_default() -> None:
    assert python(DESCRIBE) == f"native {AVAILABLE[-1]}"


def test_the_environment_names_the_implementation() -> None:
    assert python(DESCRIBE, VMEG_EDGE_KERNELS="reference") == "reference -"
    for isa in AVAILABLE:
        assert python(DESCRIBE, VMEG_EDGE_ISA=isa) == f"native {isa}"


def test_a_missing_extension_raises_at_the_first_use() -> None:
    lines = python(BLOCKED + CATCH).splitlines()
    assert lines[0] == "imported"
    assert "install the vmeg-edge wheel" in lines[1]
    assert "VMEG_EDGE_KERNELS=reference" in lines[1]
    assert python(BLOCKED + DESCRIBE, VMEG_EDGE_KERNELS="reference") == "reference -"


def test_importing_the_kernels_loads_numpy_and_nothing_else() -> None:
    code = (
        "import sys, vmeg_edge.kernels; print([m for m in ('cv2', 'PIL', 'torch', 'onnxruntime') if m in sys.modules])"
    )
    assert python(code) == "[]"


@pytest.mark.parametrize("isa", [isa for isa in ISAS if isa not in AVAILABLE])
def test_an_instruction_set_that_is_lacking_is_refused(isa: str) -> None:
    with pytest.raises(KernelError, match=f"VMEG_EDGE_ISA={isa}: this (machine|build) lacks it.*{AVAILABLE[-1]}"):
        choose("native", isa)
    assert f"VMEG_EDGE_ISA={isa}" in python(CATCH, VMEG_EDGE_ISA=isa).splitlines()[1]


def test_unknown_values_list_the_choices() -> None:
    with pytest.raises(KernelError, match="VMEG_EDGE_KERNELS='fast' is unknown; choose one of native, reference"):
        choose("fast")
    with pytest.raises(
        KernelError,
        match="VMEG_EDGE_ISA='sse9' is unknown; choose one of baseline, avx2, avx512, neon, neon_dotprod, neon_i8mm",
    ):
        choose(None, "sse9")
    with pytest.raises(KernelError, match="needs the native kernels"):
        choose("reference", "baseline")
    assert "is unknown" in python(CATCH, VMEG_EDGE_KERNELS="Native").splitlines()[1]


def test_describe_says_what_runs(chosen: Implementation) -> None:
    found = kernels.describe()
    assert set(found) == {"implementation", "isa", "isa_available", "cpu_features", "reason"}
    assert found["implementation"] == chosen.name
    assert found["isa"] == chosen.isa
    assert found["reason"]
    if chosen.name == "native":
        assert found["isa"] in found["isa_available"]
        if found["isa"] == "avx2":
            assert {"avx2", "fma"} <= set(found["cpu_features"])


@pytest.mark.parametrize("isa", AVAILABLE)
def test_the_interpreter_runs_on_while_a_kernel_works(isa: str) -> None:
    native = choose("native", isa)
    frame = np.zeros((4000, 4000, 3), np.uint8)
    out = np.empty((3000, 3000, 3), np.uint8)
    region = Region(0, 0, 4000, 4000)
    native.resize(frame, region, 3000, 3000, "bicubic", out)
    worker = threading.Thread(target=native.resize, args=(frame, region, 3000, 3000, "bicubic", out))
    began = time.perf_counter()
    worker.start()
    turns = 0
    while worker.is_alive():
        turns += 1
        time.sleep(0)
    took = time.perf_counter() - began
    worker.join()
    # Were the lock held throughout, this thread would get a turn before and one after.
    assert turns > 20, f"{turns} turns in {took:.3f} s"


def test_threads_share_a_geometry(implementation: Implementation) -> None:
    rng = np.random.default_rng(0)
    frames = [rng.integers(0, 256, (60, 80, 3), np.uint8) for _ in range(32)]
    maps = [rng.standard_normal((49, 64)).astype(np.float32) for _ in range(32)]
    region = Region(3, 2, 70, 55)

    def work(i: int) -> tuple[bytes, bytes]:
        out = np.empty((33, 21, 3), np.uint8)
        implementation.resize(frames[i], region, 21, 33, "bilinear", out)
        found = implementation.eigencam(maps[i], None)
        assert found is not None
        return out.tobytes(), found[0].tobytes()

    alone = [work(i) for i in range(32)]
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(work, range(32))) == alone
