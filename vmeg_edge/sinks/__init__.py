"""Where results go: JSON lines, overlay videos and pictures."""

from vmeg_edge.sinks.base import Sink
from vmeg_edge.sinks.jsonl import JsonLines
from vmeg_edge.sinks.overlay import OverlaySheet, OverlayVideo, open_overlay

__all__ = ["JsonLines", "OverlaySheet", "OverlayVideo", "Sink", "open_overlay"]
