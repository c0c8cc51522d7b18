"""Processor classes: what int8 costs and risks on a machine, as data that recipes, artefacts and caches follow.

A class is a set of instructions that inference engines choose their int8 kernels by. An artefact says for which
classes it was proven (`manifest.Artefact.proven`), and `load` takes one that was proven for the class at hand.
"""

from __future__ import annotations

import os
import platform
from collections.abc import Collection, Mapping
from dataclasses import dataclass

from vmeg_edge import kernels
from vmeg_edge.errors import UsageError

CLASS_VARIABLE = "VMEG_EDGE_PROCESSOR"


@dataclass(frozen=True)
class ProcessorClass:
    """One class of processors.

    ``needs`` are the CPU features that tell it, all of them, by the names of `kernels.cpu_features`. ``saturates`` says
    that engines add pairs of uint8 x int8 products in 16 bits there (x86's PMADDUBSW), which overflow with weights of 8
    bits. ``onednn`` is the value of ``ONEDNN_MAX_CPU_ISA`` that holds oneDNN, and so OpenVINO, to the class on a larger
    processor (oneDNN's developer guide, "CPU Dispatcher Control"). ``examples`` are products of the class.
    """

    name: str
    machine: str
    needs: frozenset[str]
    saturates: bool
    onednn: str
    examples: str

    def fits(self, features: Collection[str]) -> bool:
        """Whether a processor with these features can run what is made for this class."""
        return self.needs <= set(features)


def _x86(name: str, needs: str, onednn: str, examples: str, *, saturates: bool) -> ProcessorClass:
    return ProcessorClass(name, "x86-64", frozenset(needs.split()), saturates, onednn, examples)


def _arm(name: str, needs: str, examples: str) -> ProcessorClass:
    return ProcessorClass(name, "arm64", frozenset(needs.split()), False, "", examples)


_AVX512 = "avx2 fma avx512f avx512bw avx512vl avx512dq"

CLASSES: Mapping[str, ProcessorClass] = {
    one.name: one
    for one in (  # of one machine, the lowest first
        _x86("x86", "sse4_2", "SSE41", "Intel Atom, Celeron and Pentium before 2021", saturates=True),
        _x86("x86-avx2", "sse4_2 avx2 fma", "AVX2", "Intel Core 4th to 9th, AMD Zen 1 to 3", saturates=True),
        _x86(
            "x86-avx-vnni",
            "sse4_2 avx2 fma avx_vnni",
            "AVX2_VNNI",
            "Intel Core 12th and later, Core Ultra, N100",
            saturates=False,
        ),
        _x86("x86-avx512", f"sse4_2 {_AVX512}", "AVX512_CORE", "Intel Xeon of 2017 (Skylake)", saturates=True),
        _x86(
            "x86-avx512-vnni",
            f"sse4_2 {_AVX512} avx512vnni",
            "AVX512_CORE_VNNI",
            "Intel Core 10th and 11th (Ice and Tiger Lake), Xeon of 2019 and later, AMD Zen 4 and 5",
            saturates=False,
        ),
        _x86(
            "x86-amx",
            f"sse4_2 {_AVX512} avx512vnni amx_tile amx_int8",
            "AVX512_CORE_AMX",
            "Intel Xeon of 2023 and later (Sapphire Rapids)",
            saturates=False,
        ),
        _arm("arm64", "neon", "Cortex-A53, A57, A72 (Raspberry Pi 4)"),
        _arm("arm64-dotprod", "neon dotprod", "Cortex-A55, A76, A78 (NVIDIA Jetson Orin, Rockchip RK3588)"),
        _arm("arm64-i8mm", "neon dotprod i8mm", "Cortex-A510, A715, Neoverse V1 and V2, Apple M2 and later"),
    )
}

_MACHINES = {"x86_64": "x86-64", "amd64": "x86-64", "aarch64": "arm64", "arm64": "arm64"}


def class_of(features: Collection[str]) -> ProcessorClass:
    """Return the highest class that a processor of these features belongs to.

    Args:
        features: names as `kernels.cpu_features` gives them.

    Raises:
        UsageError: the features fit no class.
    """
    fitting = [one for one in CLASSES.values() if one.fits(features)]
    if not fitting:
        raise UsageError(
            f"this processor ({platform.machine()}; features: {', '.join(features) or 'unknown'}) belongs to no class "
            f"that vmeg-edge knows; the lowest are x86 (SSE4.2) and arm64; name one with {CLASS_VARIABLE}"
        )
    return fitting[-1]


def current() -> ProcessorClass:
    """Return the class of this machine, or the lower one that ``VMEG_EDGE_PROCESSOR`` names.

    Raises:
        UsageError: the variable names no class, or one that this machine cannot run.
    """
    features = features_here()
    asked = os.environ.get(CLASS_VARIABLE)
    if not asked:
        return class_of(features)
    forced = named(asked, CLASS_VARIABLE)
    if not forced.fits(features):
        lacking = ", ".join(sorted(forced.needs - set(features)))
        raise UsageError(
            f"{CLASS_VARIABLE}={asked}: this processor lacks {lacking}; unset it, or choose one of "
            f"{', '.join(one.name for one in CLASSES.values() if one.fits(features))}"
        )
    return forced


def named(name: str, argument: str) -> ProcessorClass:
    """Return the class of that name. Raises `UsageError` that names ``argument`` and lists the classes."""
    if name not in CLASSES:
        raise UsageError(f"{argument} {name!r} is no processor class; choose one of {', '.join(CLASSES)}")
    return CLASSES[name]


def features_here() -> tuple[str, ...]:
    """Return the CPU features of this machine; where the extension is not built, those that every such machine has."""
    found = kernels.cpu_features()
    if found:
        return found
    machine = _MACHINES.get(platform.machine().lower())
    return ("sse4_2",) if machine == "x86-64" else ("neon",) if machine == "arm64" else ()
