"""What the converting machine's processor does with int8."""

from __future__ import annotations

from vmeg_edge import kernels


def saturates() -> bool:
    """Whether products of uint8 and int8 can saturate here: x86 without VNNI adds pairs of them in 16 bits."""
    features = kernels.describe()["cpu_features"]
    return "avx2" in features and "avx512vnni" not in features
