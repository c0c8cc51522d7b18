"""OpenVINO and NNCF without their usage statistics: a scanner sends nothing that its maker did not choose to send."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

_PACKAGE = "openvino_telemetry"


@contextmanager
def without_telemetry() -> Iterator[None]:
    """What is imported in here finds no ``openvino_telemetry``; OpenVINO and NNCF then put stubs in its place.

    A process that has imported it already made its own choice and keeps it. Otherwise importing ``openvino`` alone
    writes a client number to the home directory and reports each import to Intel.
    """
    if _PACKAGE in sys.modules:
        yield
        return
    # None makes an import fail: https://docs.python.org/3/reference/import.html#the-module-cache
    sys.modules[_PACKAGE] = None  # type: ignore[assignment]
    try:
        yield
    finally:
        del sys.modules[_PACKAGE]
