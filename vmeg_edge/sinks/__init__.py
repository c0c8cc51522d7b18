"""Where results go: JSON lines, overlay videos and pictures, a function of yours."""

from vmeg_edge.sinks.base import Sink
from vmeg_edge.sinks.callback import Callback
from vmeg_edge.sinks.jsonl import JsonLines
from vmeg_edge.sinks.overlay import OverlaySheet, OverlayVideo, open_overlay
from vmeg_edge.sinks.threaded import SinkThread

__all__ = ["Callback", "JsonLines", "OverlaySheet", "OverlayVideo", "Sink", "SinkThread", "open_overlay"]
