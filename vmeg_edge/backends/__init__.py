"""Inference engines behind one small Protocol; each is a module plus its row in the table of `base`."""

from vmeg_edge.backends.base import (
    BACKENDS,
    Availability,
    Backend,
    BackendReport,
    availability,
    open_backend,
    usable_processors,
)

__all__ = [
    "BACKENDS",
    "Availability",
    "Backend",
    "BackendReport",
    "availability",
    "open_backend",
    "usable_processors",
]
