"""Every implementation that this machine has: the twin, and the native kernels of each instruction set."""

from __future__ import annotations

import pytest

from vmeg_edge.kernels import Implementation, choice, choose

IMPLEMENTATIONS = [choose("reference"), *(choose("native", isa) for isa in choose().isa_available)]


def _label(implementation: Implementation) -> str:
    return f"{implementation.name}-{implementation.isa}".rstrip("-")


@pytest.fixture(params=IMPLEMENTATIONS, ids=_label, scope="session")
def implementation(request: pytest.FixtureRequest) -> Implementation:
    """An implementation, called past the checks."""
    found: Implementation = request.param
    return found


@pytest.fixture
def chosen(implementation: Implementation, monkeypatch: pytest.MonkeyPatch) -> Implementation:
    """An implementation as the process's choice, so that the public functions use it."""
    monkeypatch.setattr(choice, "_current", implementation)
    return implementation
