"""OpenIGTLink: a real pyigtl server on loopback, and peers that vanish, lie and talk nonsense."""

from __future__ import annotations

import signal
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from itertools import islice

import numpy as np
import pyigtl
import pytest
from pyigtl.messages import CRC64, ImageMessage, StringMessage

from vmeg_edge.errors import SourceError
from vmeg_edge.frames import Disconnected, Frame, LostFrame, Region
from vmeg_edge.sources import openigtlink
from vmeg_edge.sources.isolated import IsolatedSource, Patience
from vmeg_edge.sources.openigtlink import OpenIGTLinkSource


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def real_server(port: int) -> Iterator[pyigtl.OpenIGTLinkServer]:
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    server = pyigtl.OpenIGTLinkServer(port=port)
    try:
        yield server
    finally:
        server.stop()
        for number, handler in handlers.items():
            signal.signal(number, handler)


@contextmanager
def peer(speak: Callable[[socket.socket], None]) -> Iterator[int]:
    """A server that says whatever ``speak`` says to its one client."""
    listening = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        client, _ = listening.accept()
        with client:
            speak(client)

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield int(listening.getsockname()[1])
    finally:
        listening.close()
        thread.join(5)


def message(pixels: np.ndarray, **about: object) -> bytes:
    return bytes(ImageMessage(pixels, device_name="Image", **about).pack())


def picture(value: int, *shape: int) -> np.ndarray:
    return np.full((1, *(shape or (48, 64))), value, np.uint8)


def test_images_of_a_real_server_arrive_with_spacing_and_time() -> None:
    port = free_port()
    matrix = np.diag([0.25, 0.5, 1.0, 1.0])
    rows = np.arange(48, dtype=np.uint8)[:, None] + np.zeros(64, np.uint8)
    with real_server(port) as server, OpenIGTLinkSource("127.0.0.1", port, "Image") as source:
        items = iter(source)
        got: list[Frame] = []
        for index in range(3):
            server.send_message(StringMessage("hello", device_name="Image"))
            server.send_message(ImageMessage(picture(99), device_name="Another"))
            stamp = 100.0 + index * 0.5
            about = {"ijk_to_world_matrix": matrix, "timestamp": stamp, "device_name": "Image"}
            server.send_message(ImageMessage(rows[None] + index, **about))
            item = next(items)
            assert isinstance(item, Frame)
            got.append(item)
        colour = np.zeros((1, 48, 64, 3), np.uint8)
        colour[..., 0] = 200
        server.send_message(ImageMessage(colour, timestamp=102.0, device_name="Image"))
        last = next(items)
    assert [frame.captured_s for frame in got] == pytest.approx([0.0, 0.5, 1.0], abs=1e-6)
    assert all(frame.spacing_mm == (0.5, 0.25) for frame in got)
    for index, frame in enumerate(got):
        assert np.array_equal(frame.pixels, rows + index)
        assert frame.arrived_ns is not None
    assert isinstance(last, Frame)
    assert last.pixels.shape == (48, 64, 3)
    assert last.pixels[0, 0].tolist() == [200, 0, 0]


def test_a_server_that_goes_and_comes_back_is_followed_by_the_isolated_source() -> None:
    port = free_port()
    spec = {"kind": "igtl", "options": {"host": "127.0.0.1", "port": port, "device": None}}
    patience = Patience(first_retry_s=0.05, last_retry_s=0.2, stall_s=5.0)
    speaking = threading.Event()
    speaking.set()

    def pump() -> None:
        """A bare server of real messages, since pyigtl's keeps its port bound to a dead client."""
        for width in (64, 96):
            with socket.create_server(("127.0.0.1", port)) as listening:
                client, _ = listening.accept()
                with client:
                    for value in range(6):
                        client.sendall(message(picture(value, 48, width)))
                        time.sleep(0.02)

    thread = threading.Thread(target=pump, daemon=True)
    thread.start()
    time.sleep(0.1)
    with IsolatedSource(spec, patience) as source:
        widths: list[int] = []
        gone: list[str] = []
        for item in source:
            if isinstance(item, Frame):
                widths.append(item.width)
            elif isinstance(item, Disconnected):
                gone.append(item.reason)
            if len(widths) == 12:
                break
    thread.join(5)
    assert widths == [64] * 6 + [96] * 6
    assert gone[0] == "the peer hung up"


def header(kind: bytes = b"IMAGE", size: int = 0, version: int = 1, stamp: int = 0, checksum: int = 0) -> bytes:
    return struct.pack("> H 12s 20s II Q Q", version, kind, b"Image", stamp, 0, size, checksum)


def damaged() -> bytes:
    sound = bytearray(message(picture(5)))
    sound[-1] ^= 1
    return bytes(sound)


@pytest.mark.parametrize(
    ("sent", "reason"),
    [
        (header(size=2 << 30), "announces a message of 2147483648 bytes"),
        (header(size=(1 << 64) - 1), "more than any picture has"),
        (b"GET / HTTP/1.1\r\nHost: x\r\n" + b"x" * 60, "no OpenIGTLink header"),
        (b"\xff" * 58, "no OpenIGTLink header"),
        (header(version=77), "no OpenIGTLink header"),
        (header(size=1000) + b"x" * 10, "hung up in the middle of a message"),
        (header()[:20], "hung up in the middle of a message"),
        (b"", "the peer hung up"),
    ],
)
def test_a_peer_that_lies_or_vanishes_is_a_disconnection(sent: bytes, reason: str) -> None:
    with peer(lambda client: client.sendall(sent)) as port, OpenIGTLinkSource("127.0.0.1", port) as source:
        items = list(source)
    assert len(items) == 1
    assert isinstance(items[0], Disconnected)
    assert reason in items[0].reason


def test_a_peer_that_falls_silent_in_a_message_is_given_up() -> None:
    def half(client: socket.socket) -> None:
        client.sendall(header(size=5000) + b"x" * 100)
        client.recv(1)

    with peer(half) as port, OpenIGTLinkSource("127.0.0.1", port) as source:
        began = time.monotonic()
        (item,) = list(source)
        source.close()
    assert isinstance(item, Disconnected)
    assert "silent in the middle" in item.reason
    assert time.monotonic() - began < 10


def test_a_peer_that_sends_a_byte_at_a_time_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(openigtlink, "_MESSAGE_S", 0.5)
    done = threading.Event()

    def trickle(client: socket.socket) -> None:
        client.sendall(header(size=5000))
        with suppress(OSError):
            while not done.wait(0.05):
                client.sendall(b"x")

    with peer(trickle) as port, OpenIGTLinkSource("127.0.0.1", port) as source:
        (item,) = list(source)
        done.set()
    assert isinstance(item, Disconnected)
    assert "more than 0.5 s for one message" in item.reason


def test_a_peer_may_idle_for_longer_than_a_message_may_take(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(openigtlink, "_MESSAGE_S", 0.3)

    def speak(client: socket.socket) -> None:
        time.sleep(0.6)
        sent = message(picture(5))
        client.sendall(sent[:20])
        time.sleep(0.05)
        client.sendall(sent[20:])

    with peer(speak) as port, OpenIGTLinkSource("127.0.0.1", port) as source:
        assert isinstance(next(iter(source)), Frame)


def test_extended_headers_and_a_peer_without_a_clock_are_understood() -> None:
    sound = ImageMessage(picture(5), device_name="Image")
    sound.header_version, sound.message_id, sound.metadata, sound.timestamp = 2, 7, {"depth": "12 cm"}, 0.0
    with (
        peer(lambda client: client.sendall(bytes(sound.pack()))) as port,
        OpenIGTLinkSource("127.0.0.1", port) as source,
    ):
        frame = next(iter(source))
    assert isinstance(frame, Frame)
    assert np.array_equal(frame.pixels, picture(5)[0])
    assert frame.captured_s is None


def test_by_itself_it_connects_again_and_index_and_time_go_on() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def serve() -> None:
            for value in range(3):
                client, _ = listening.accept()
                with client:
                    client.sendall(message(picture(value), timestamp=100.0 + value))
                    client.sendall(header(size=2 << 30) if value == 1 else b"")

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        with OpenIGTLinkSource("127.0.0.1", listening.getsockname()[1], reconnect=True) as source:
            items = list(islice(source, 5))
        thread.join(5)
    frames = [item for item in items if isinstance(item, Frame)]
    assert [type(item) for item in items] == [Frame, Disconnected] * 2 + [Frame]
    assert [(frame.index, int(frame.pixels[0, 0])) for frame in frames] == [(0, 0), (1, 1), (2, 2)]
    assert [frame.captured_s for frame in frames] == pytest.approx([0.0, 1.0, 2.0])


def test_a_peer_that_talks_nonsense_is_asked_ever_more_rarely() -> None:
    met: list[float] = []
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def serve() -> None:
            with suppress(OSError):
                while True:
                    client, _ = listening.accept()
                    met.append(time.monotonic())
                    with client:
                        client.sendall(b"\xff" * 58)

        threading.Thread(target=serve, daemon=True).start()
        with OpenIGTLinkSource("127.0.0.1", listening.getsockname()[1], reconnect=True) as source:
            assert [type(item) for item in islice(source, 4)] == [Disconnected] * 4
    assert met[3] - met[0] >= 0.3  # waits of 0.05, 0.1 and 0.2 s


def test_close_ends_the_attempts_to_connect_again() -> None:
    with peer(socket.socket.close) as port, OpenIGTLinkSource("127.0.0.1", port, reconnect=True) as source:
        items = iter(source)
        assert isinstance(next(items), Disconnected)
        threading.Timer(0.3, source.close).start()
        assert all(isinstance(item, Disconnected) for item in items)


@pytest.mark.parametrize(
    ("sent", "reason"),
    [
        (message(np.zeros((1, 48, 64), np.uint16)), "uint16, and only uint8"),
        (message(np.zeros((3, 48, 64), np.uint8)), "3 slices"),
        (message(np.zeros((1, 48, 64, 2), np.uint8)), "2 components"),
        (message(np.zeros((1, 4, 4), np.uint8)), "16 to"),
        (header(size=5, checksum=CRC64(b"abcde")) + b"abcde", "cannot be read"),
        (header(size=5) + b"abcde", "checksum is wrong"),
        (damaged(), "checksum is wrong"),
        (header(size=0), "cannot be read"),
    ],
)
def test_images_of_no_use_are_lost_frames_and_the_next_is_taken(sent: bytes, reason: str) -> None:
    good = message(picture(5))
    with peer(lambda client: client.sendall(sent + good)) as port, OpenIGTLinkSource("127.0.0.1", port) as source:
        lost, frame = islice(source, 2)
    assert isinstance(lost, LostFrame)
    assert reason in lost.reason
    assert isinstance(frame, Frame)
    assert (frame.index, int(frame.pixels[0, 0])) == (1, 5)


def test_a_region_outside_the_picture_is_a_lost_frame() -> None:
    region = Region(0, 0, 65, 48)
    with (
        peer(lambda client: client.sendall(message(picture(5)))) as port,
        OpenIGTLinkSource("127.0.0.1", port, region=region) as source,
    ):
        assert isinstance(next(iter(source)), LostFrame)


def test_where_nothing_listens_the_error_says_so() -> None:
    with pytest.raises(SourceError, match="no connection"):
        OpenIGTLinkSource("127.0.0.1", free_port())
    with pytest.raises(SourceError, match="no connection"):
        OpenIGTLinkSource("no.such.host.invalid", 18944)
    with pytest.raises(SourceError, match="no connection"):
        OpenIGTLinkSource("x" * 70, 18944)


def test_close_ends_a_wait_for_the_next_image() -> None:
    with peer(lambda client: client.recv(1)) as port, OpenIGTLinkSource("127.0.0.1", port) as source:
        threading.Timer(0.2, source.close).start()
        assert list(source) == []
