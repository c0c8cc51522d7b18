"""The toolchain, imported on use: a workstation has it, a device does not."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from vmeg_edge.errors import BackendMissingError


def toolchain(module: str) -> Any:
    """A module of `vmeg_edge.converters`. Raises `BackendMissingError` with the command that adds what is missing."""
    try:
        return import_module(f"vmeg_edge.converters.{module}")
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] == "vmeg_edge":
            raise
        raise BackendMissingError(
            f"this command needs the toolchain, and {error.name} is not installed; add it with: "
            "pip install -c constraints.txt 'vmeg-edge[convert]'"
        ) from None
