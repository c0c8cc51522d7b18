"""Processors are told by their features, the highest class that fits wins, and a forced class must fit."""

from __future__ import annotations

import subprocess
import sys

import pytest

from vmeg_edge import kernels, processor_class
from vmeg_edge.errors import UsageError
from vmeg_edge.processor_class import CLASS_VARIABLE, CLASSES, class_of, current

AVX2 = {"sse4_2", "avx", "avx2", "fma"}
AVX512 = AVX2 | {"avx512f", "avx512bw", "avx512vl", "avx512dq"}


@pytest.mark.parametrize(
    ("features", "name", "saturates"),
    [
        ({"sse4_2"}, "x86", True),
        (AVX2, "x86-avx2", True),
        (AVX2 | {"avx_vnni"}, "x86-avx-vnni", False),
        (AVX2 | {"avx_vnni", "avx_vnni_int8"}, "x86-avx-vnni", False),
        (AVX512, "x86-avx512", True),
        (AVX512 | {"avx512vnni"}, "x86-avx512-vnni", False),
        (AVX512 | {"avx512vnni", "avx_vnni", "amx_tile", "amx_int8", "amx_bf16"}, "x86-amx", False),
        (AVX512 | {"avx512vnni", "amx_tile"}, "x86-avx512-vnni", False),
        ({"neon"}, "arm64", False),
        ({"neon", "dotprod"}, "arm64-dotprod", False),
        ({"neon", "dotprod", "i8mm", "bf16"}, "arm64-i8mm", False),
    ],
)
def test_the_highest_class_that_fits_is_told(features: set[str], name: str, saturates: bool) -> None:
    found = class_of(features)
    assert (found.name, found.saturates) == (name, saturates)


def test_a_processor_of_no_class_is_told_what_the_lowest_are() -> None:
    with pytest.raises(UsageError, match=r"belongs to no class .*x86 \(SSE4.2\) and arm64"):
        class_of({"altivec"})


def test_this_machine_has_the_features_of_its_class() -> None:
    here = class_of(kernels.cpu_features())
    assert here.fits(kernels.cpu_features())
    assert not any(
        one.fits(kernels.cpu_features()) for one in list(CLASSES.values())[list(CLASSES).index(here.name) + 1 :]
    )


@pytest.mark.skipif("sse4_2" not in kernels.cpu_features(), reason="no x86 processor")
def test_a_lower_class_can_be_forced_and_a_higher_one_is_refused_with_what_is_lacking(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv(CLASS_VARIABLE, "x86")
    assert current().name == "x86"
    monkeypatch.setenv(CLASS_VARIABLE, "arm64")
    with pytest.raises(UsageError, match=r"VMEG_EDGE_PROCESSOR=arm64: this processor lacks neon; unset it"):
        current()
    monkeypatch.setenv(CLASS_VARIABLE, "pentium")
    with pytest.raises(UsageError, match=r"'pentium' is no processor class; choose one of x86, x86-avx2"):
        current()


def test_without_the_extension_the_lowest_class_of_the_machine_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(CLASS_VARIABLE, raising=False)
    monkeypatch.setattr(processor_class.kernels, "cpu_features", lambda: ())
    for machine, name in (("x86_64", "x86"), ("AMD64", "x86"), ("aarch64", "arm64"), ("arm64", "arm64")):
        monkeypatch.setattr(processor_class.platform, "machine", lambda machine=machine: machine)
        assert current().name == name
    monkeypatch.setattr(processor_class.platform, "machine", lambda: "riscv64")
    with pytest.raises(UsageError, match="riscv64; features: unknown"):
        current()


def test_provenance_and_info_name_the_class() -> None:
    code = (
        "import json, sys, numpy as np, vmeg_edge; from vmeg_edge.cli.options import DEMO_BUNDLE; "
        "scorer = vmeg_edge.load(DEMO_BUNDLE, backend='onnxruntime', cache=False); "
        "print(scorer.score(np.zeros((64, 64), np.uint8)).provenance['processor'])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == current().name
