"""What a live stream decides, without threads or clocks: which frame is scored or dropped, and what the signal is."""

from vmeg_edge.live.buffer import FrameBuffer, Policy
from vmeg_edge.live.core import Entry, StreamCore, StreamRules
from vmeg_edge.live.ends import Ends
from vmeg_edge.live.signal import SignalMonitor, SignalRules
from vmeg_edge.live.still import Likeness, StillDetector
from vmeg_edge.live.summary import SinkReport, StreamSummary

__all__ = [
    "Ends",
    "Entry",
    "FrameBuffer",
    "Likeness",
    "Policy",
    "SignalMonitor",
    "SignalRules",
    "SinkReport",
    "StillDetector",
    "StreamCore",
    "StreamRules",
    "StreamSummary",
]
