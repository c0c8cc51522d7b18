"""Images over OpenIGTLink (openigtlink.org, protocol versions 1 to 3), as a client."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from importlib.util import find_spec
from types import TracebackType
from typing import Any

import numpy as np

from vmeg_edge.errors import FrameError, SourceError
from vmeg_edge.frames import Disconnected, Frame, LostFrame, Region
from vmeg_edge.sources.base import MAX_PIXELS
from vmeg_edge.sources.filesource import printable

_HEADER_BYTES = 58
_BODY_BYTES = 3 * MAX_PIXELS + (1 << 16)
_SLICE_S = 0.1
_BODY_S = 2.0


class _PeerError(Exception):
    """The peer is gone, or speaks something else."""


class OpenIGTLinkSource:
    """IMAGE messages of ``device`` (any device without one) from the server at ``host``, as frames.

    uint8 with one component or three is taken, one slice deep. ``captured_s`` counts by the messages' own time stamps,
    ``spacing_mm`` is the length of the matrix's columns. What has no such pixels is a lost frame; other message types
    are passed over. pyigtl parses; the socket is read here, with limits that its client does not have: a header that
    announces more than a picture can hold, a body that stalls, or bytes that are no header end the connection, which
    is said by `Disconnected`. Raises `SourceError` when nothing listens.
    """

    kind = "igtl"
    live = True
    frame_count = None
    fps: float | None = None

    def __init__(
        self, host: str, port: int, device: str | None = None, *, region: Region | None = None, open_s: float = 5.0
    ) -> None:
        """Connect."""
        if find_spec("pyigtl") is None:
            raise SourceError('OpenIGTLink needs pyigtl, which is not installed; pip install "vmeg-edge[igtl]"')
        self.name = printable(f"igtl://{host}:{port}" + (f"/{device}" if device else ""))
        self._device = device
        self._region = region
        self._closing = threading.Event()
        try:
            self._socket = socket.create_connection((host, port), timeout=open_s)
        except OSError as error:
            raise SourceError(
                f"{self.name}: no connection ({printable(error.strerror or error)}); check the address, and that the "
                "server is running"
            ) from None
        self._socket.settimeout(_SLICE_S)

    def __iter__(self) -> Iterator[Frame | LostFrame | Disconnected]:
        """Frames until the peer goes, which is said by `Disconnected`."""
        index = 0
        first_s: float | None = None
        try:
            while not self._closing.is_set():
                received = self._message()
                if received is None:
                    continue
                fields, body = received
                arrived_ns = time.perf_counter_ns()
                if fields["message_type"] != "IMAGE" or self._device not in (None, fields["device_name"]):
                    continue
                first_s = fields["timestamp"] if first_s is None else first_s
                yield self._frame(index, fields, body, fields["timestamp"] - first_s, arrived_ns)
                index += 1
        except (_PeerError, OSError) as error:
            if not self._closing.is_set():
                yield Disconnected(printable(error), self.name)

    def close(self) -> None:
        """Hang up, from any thread."""
        self._closing.set()
        self._socket.close()

    def __enter__(self) -> OpenIGTLinkSource:
        """Return itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close."""
        self.close()

    def _message(self) -> tuple[dict[str, Any], bytes] | None:
        """One message, ``None`` when it is for nobody here; raises `_PeerError`."""
        from pyigtl.messages import MessageBase

        header = self._receive(_HEADER_BYTES, idle=True)
        if header is None:
            return None
        try:
            fields: dict[str, Any] = MessageBase.parse_header(bytes(header))
        except ValueError:
            raise _PeerError("the peer sends no OpenIGTLink header") from None
        if not 1 <= fields["header_version"] <= 3 or not fields["message_type"].isprintable():
            raise _PeerError("the peer sends no OpenIGTLink header")
        if fields["body_size"] > _BODY_BYTES:
            raise _PeerError(f"the peer announces a message of {fields['body_size']} bytes, more than any picture has")
        body = self._receive(int(fields["body_size"]), idle=False)
        return None if body is None else (fields, bytes(body))

    def _receive(self, count: int, *, idle: bool) -> bytearray | None:
        """Exactly ``count`` bytes; before the first one an ``idle`` wait has no limit. ``None`` on closing."""
        data = bytearray(count)
        view = memoryview(data)
        got = 0
        progress = time.monotonic()
        while got < count:
            try:
                fresh = self._socket.recv_into(view[got:])
            except TimeoutError:
                if self._closing.is_set():
                    return None
                if (got or not idle) and time.monotonic() - progress > _BODY_S:
                    raise _PeerError("the peer fell silent in the middle of a message") from None
                continue
            if fresh == 0:
                raise _PeerError("the peer hung up" + (" in the middle of a message" if got or not idle else ""))
            got += fresh
            progress = time.monotonic()
        return data

    def _frame(
        self, index: int, fields: dict[str, Any], body: bytes, captured_s: float, arrived_ns: int
    ) -> Frame | LostFrame:
        from pyigtl.messages import ImageMessage

        message = ImageMessage()
        try:
            message.unpack(fields, body)
            pixels = _picture(np.asarray(message.image))
            matrix = np.asarray(message.ijk_to_world_matrix, np.float64)
        except Exception as error:  # pyigtl raises whatever a damaged body leads to
            return LostFrame(index, f"an IMAGE that cannot be read ({printable(error)[:80]})", self.name)
        columns = [float(np.linalg.norm(matrix[:3, axis])) for axis in (1, 0)]
        spacing = (columns[0], columns[1]) if all(0 < side < 1e3 for side in columns) else None
        try:
            return Frame(pixels, index, captured_s, spacing, self._region, self.name, arrived_ns=arrived_ns)
        except FrameError as error:
            return LostFrame(index, str(error).removeprefix(f"{self.name}: "), self.name)


def _picture(image: np.ndarray) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """``[k, rows, columns]`` or ``[k, rows, columns, components]`` as grey or RGB."""
    if image.dtype != np.uint8:
        raise ValueError(f"pixels are {image.dtype}, and only uint8 is taken; send 8 bits")
    if image.shape[0] != 1:
        raise ValueError(f"a volume of {image.shape[0]} slices, and only one is taken")
    picture = image[0]
    if picture.ndim == 3 and picture.shape[2] not in (1, 3):
        raise ValueError(f"{picture.shape[2]} components, and only 1 or 3 are taken")
    return np.ascontiguousarray(picture[..., 0] if picture.ndim == 3 and picture.shape[2] == 1 else picture)
