"""A stream kept on disk, so that a complaint from the field can be reproduced at a desk."""

from vmeg_edge.recording.record import Record, is_record, open_record
from vmeg_edge.recording.recorder import Recorder

__all__ = ["Record", "Recorder", "is_record", "open_record"]
