"""Edge inference for ultrasound classifiers. Research use only; not for diagnosis."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vmeg_edge._version import __version__
    from vmeg_edge.errors import VmegError
    from vmeg_edge.exam import ExamRule
    from vmeg_edge.frames import Disconnected, Frame, LostFrame, Region
    from vmeg_edge.live.signal import SignalRules
    from vmeg_edge.live.summary import StreamSummary
    from vmeg_edge.loading import load
    from vmeg_edge.results import FrameResult, HeatMap, Prediction, StreamStatus, Timings
    from vmeg_edge.scorer import Scorer
    from vmeg_edge.streaming import Stream, stream

_HOMES = {
    "Disconnected": "vmeg_edge.frames",
    "ExamRule": "vmeg_edge.exam",
    "Frame": "vmeg_edge.frames",
    "FrameResult": "vmeg_edge.results",
    "HeatMap": "vmeg_edge.results",
    "LostFrame": "vmeg_edge.frames",
    "Prediction": "vmeg_edge.results",
    "Region": "vmeg_edge.frames",
    "Scorer": "vmeg_edge.scorer",
    "SignalRules": "vmeg_edge.live.signal",
    "Stream": "vmeg_edge.streaming",
    "StreamStatus": "vmeg_edge.results",
    "StreamSummary": "vmeg_edge.live.summary",
    "Timings": "vmeg_edge.results",
    "VmegError": "vmeg_edge.errors",
    "__version__": "vmeg_edge._version",
    "load": "vmeg_edge.loading",
    "stream": "vmeg_edge.streaming",
}

__all__ = [
    "Disconnected",
    "ExamRule",
    "Frame",
    "FrameResult",
    "HeatMap",
    "LostFrame",
    "Prediction",
    "Region",
    "Scorer",
    "SignalRules",
    "Stream",
    "StreamStatus",
    "StreamSummary",
    "Timings",
    "VmegError",
    "__version__",
    "load",
    "stream",
]


def __getattr__(name: str) -> Any:
    """Import a public name on its first use, so that ``import vmeg_edge`` loads nothing heavy."""
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module 'vmeg_edge' has no attribute {name!r}")
    value = getattr(import_module(home), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """The public names."""
    return sorted(__all__)
