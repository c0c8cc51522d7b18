"""Inference engines behind one small Protocol; each is a module plus its row in the table of `base`."""

from vmeg_edge.backends.base import (
    BACKENDS,
    Availability,
    Backend,
    BackendReport,
    Hint,
    Placement,
    Progress,
    availability,
    devices_of,
    no_progress,
    open_backend,
    place,
    why_unusable,
)
from vmeg_edge.backends.cache import EngineCache, cache_folder
from vmeg_edge.processors import usable_processors

__all__ = [
    "BACKENDS",
    "Availability",
    "Backend",
    "BackendReport",
    "EngineCache",
    "Hint",
    "Placement",
    "Progress",
    "availability",
    "cache_folder",
    "devices_of",
    "no_progress",
    "open_backend",
    "place",
    "usable_processors",
    "why_unusable",
]
