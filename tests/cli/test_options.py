"""What the shared options offer is what the toolchain has, which a device need not have to show its help."""

from __future__ import annotations

from typing import get_args

from vmeg_edge.converters.architectures import known, network

from vmeg_edge.cli import options


def test_the_architectures_and_families_are_the_toolchains() -> None:
    assert tuple(known.ARCHITECTURES) == options.ARCHITECTURES
    assert get_args(network.Family) == options.FAMILIES
