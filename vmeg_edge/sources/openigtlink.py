"""Images over OpenIGTLink (openigtlink.org, protocol versions 1 to 3), as a client."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from importlib.util import find_spec
from types import TracebackType
from typing import Any

import numpy as np

from vmeg_edge.errors import FrameError, SourceError
from vmeg_edge.frames import Disconnected, Frame, LostFrame, Region
from vmeg_edge.sources.base import MAX_PIXELS
from vmeg_edge.sources.filesource import failure, printable

_HEADER_BYTES = 58
_BODY_BYTES = 3 * MAX_PIXELS + (1 << 16)
_SLICE_S = 0.1
_SILENCE_S = 2.0
_MESSAGE_S = 5.0  # for all of one: a peer that sends a byte at a time must not hold the stream
_RETRY_S = (0.05, 5.0)  # the first wait and the longest


class _PeerError(Exception):
    """The peer is gone, or speaks something else."""


class OpenIGTLinkSource:
    """IMAGE messages of ``device`` (any device without one) from the server at ``host``, as frames.

    uint8 with one component or three is taken, one slice deep. ``captured_s`` counts by the messages' own time stamps,
    ``spacing_mm`` is the length of the matrix's columns. What has no such pixels is a lost frame; other message types
    are passed over. pyigtl parses; the socket is read here, with limits that its client does not have: a header that
    announces more than a picture can hold, a body that stalls, or bytes that are no header end the connection, which
    is said by `Disconnected`. A body whose checksum is wrong, which pyigtl does not look at, is a lost frame. With
    ``reconnect`` the source then connects again by itself, with back-off, until it is closed; in a capture process the
    parent does that. Raises `SourceError` when nothing listens in the first place.
    """

    kind = "igtl"
    live = True
    frame_count = None
    fps: float | None = None

    def __init__(
        self,
        host: str,
        port: int,
        device: str | None = None,
        *,
        region: Region | None = None,
        open_s: float = 5.0,
        reconnect: bool = False,
    ) -> None:
        """Connect."""
        if find_spec("pyigtl") is None:
            raise SourceError('OpenIGTLink needs pyigtl, which is not installed; pip install "vmeg-edge[igtl]"')
        self.name = printable(f"igtl://{host}:{port}" + (f"/{device}" if device else ""))
        self._device = device
        self._region = region
        self._closing = threading.Event()
        self._address = (host, port)
        self._reconnect = reconnect
        self._index = 0
        self._first_s: float | None = None
        self._wait_s = _RETRY_S[0]
        try:
            self._socket = self._connected(open_s)
        except (OSError, UnicodeError) as error:  # the latter for a host name that no DNS can have
            raise SourceError(
                f"{self.name}: no connection ({failure(error)}); check the address, and that the server is running"
            ) from None

    def __iter__(self) -> Iterator[Frame | LostFrame | Disconnected]:
        """Frames until the peer goes, which is said by `Disconnected`; with ``reconnect``, until `close`."""
        while True:
            try:
                while not self._closing.is_set():
                    if (item := self._next()) is not None:
                        yield item
            except (_PeerError, OSError) as error:
                if not self._closing.is_set():
                    yield Disconnected(printable(error), self.name)
            if not (self._reconnect and self._again()):
                return

    def close(self) -> None:
        """Hang up, from any thread."""
        self._closing.set()
        _hang_up(self._socket)

    def __enter__(self) -> OpenIGTLinkSource:
        """Return itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close."""
        self.close()

    def _connected(self, limit_s: float) -> socket.socket:
        """A new connection; raises `OSError`."""
        fresh = socket.create_connection(self._address, timeout=limit_s)
        fresh.settimeout(_SLICE_S)
        return fresh

    def _again(self) -> bool:
        """Connect again, with back-off; false once closed."""
        _hang_up(self._socket)
        while not self._closing.wait(self._wait_s):
            self._wait_s = min(2 * self._wait_s, _RETRY_S[1])
            with suppress(OSError):
                self._socket = self._connected(1.0)
                if not self._closing.is_set():
                    return True
                _hang_up(self._socket)  # `close` saw the old one
        return False

    def _next(self) -> Frame | LostFrame | None:
        """What the next message holds, ``None`` when that is nothing for here; raises `_PeerError` or `OSError`."""
        received = self._message()
        if received is None:
            return None
        fields, body = received
        arrived_ns = time.perf_counter_ns()
        if fields["message_type"] != "IMAGE" or self._device not in (None, fields["device_name"]):
            return None
        captured_s: float | None = None
        if fields["timestamp"] > 0:  # 0 is a peer without a clock
            self._first_s = fields["timestamp"] if self._first_s is None else self._first_s
            captured_s = fields["timestamp"] - self._first_s
        item = self._frame(self._index, fields, body, captured_s, arrived_ns)
        self._index += 1
        if isinstance(item, Frame):
            self._wait_s = _RETRY_S[0]  # a connection alone proves nothing: what is there may talk nonsense
        return item

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
        fields["checksum"] = int.from_bytes(header[_HEADER_BYTES - 8 :], "big")
        body = self._receive(int(fields["body_size"]), idle=False)
        return None if body is None else (fields, bytes(body))

    def _receive(self, count: int, *, idle: bool) -> bytearray | None:
        """Exactly ``count`` bytes; before the first one an ``idle`` wait has no limit. ``None`` on closing."""
        data = bytearray(count)
        view = memoryview(data)
        got = 0
        began = progress = time.monotonic()
        while got < count:
            try:
                fresh = self._socket.recv_into(view[got:])
            except TimeoutError:
                if self._closing.is_set():
                    return None
                if (got or not idle) and time.monotonic() - progress > _SILENCE_S:
                    raise _PeerError("the peer fell silent in the middle of a message") from None
                continue
            if fresh == 0:
                raise _PeerError("the peer hung up" + (" in the middle of a message" if got or not idle else ""))
            progress = time.monotonic()
            began = began if got or not idle else progress
            got += fresh
            if got < count and progress - began > _MESSAGE_S:
                raise _PeerError(f"the peer took more than {_MESSAGE_S:g} s for one message")
        return data

    def _frame(
        self, index: int, fields: dict[str, Any], body: bytes, captured_s: float | None, arrived_ns: int
    ) -> Frame | LostFrame:
        from pyigtl.messages import CRC64, ImageMessage

        if CRC64(body) != fields["checksum"]:
            return LostFrame(
                index, "an IMAGE whose checksum is wrong: it was damaged, or is not packed soundly", self.name
            )
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
    if picture.shape[0] * picture.shape[1] > MAX_PIXELS:
        raise ValueError(f"{picture.shape[1]}x{picture.shape[0]} pixels, more than {MAX_PIXELS}; rescale it")
    if picture.ndim == 3 and picture.shape[2] not in (1, 3):
        raise ValueError(f"{picture.shape[2]} components, and only 1 or 3 are taken")
    return np.ascontiguousarray(picture[..., 0] if picture.ndim == 3 and picture.shape[2] == 1 else picture)


def _hang_up(connection: socket.socket) -> None:
    """Close it, and wake a thread that waits for its bytes."""
    with suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)
    connection.close()
