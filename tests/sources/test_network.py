"""Network streams against a real HTTP server: MJPEG, garbage, silence, breaking off, a change of size."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import BufferedIOBase
from itertools import islice

import cv2
import numpy as np
import pytest

from vmeg_edge.errors import SourceError
from vmeg_edge.frames import Disconnected, Frame
from vmeg_edge.sources.address import without_secrets
from vmeg_edge.sources.network import NetworkSource


def jpeg(value: int, width: int = 64) -> bytes:
    data = cv2.imencode(".jpg", np.full((48, width, 3), value, np.uint8))[1].tobytes()
    return b"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: %d\r\n\r\n%b\r\n" % (len(data), data)


@contextmanager
def http_server(
    body: Callable[[BufferedIOBase], None], kind: str = "multipart/x-mixed-replace; boundary=frame"
) -> Iterator[str]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", kind)
            self.end_headers()
            with suppress(OSError):
                body(self.wfile)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://user:secret@127.0.0.1:{server.server_port}/live.mjpg?key=hidden"
    finally:
        server.shutdown()
        server.server_close()


def stream_of(*values: int, width: int = 64, then_wait_s: float = 0.0) -> Callable[[BufferedIOBase], None]:
    def body(file: BufferedIOBase) -> None:
        for value in values:
            file.write(jpeg(value, width))
            file.flush()
            time.sleep(0.01)
        time.sleep(then_wait_s)

    return body


def test_frames_arrive_and_the_end_is_a_disconnection() -> None:
    values = list(range(20, 220, 5))
    with http_server(stream_of(*values)) as url, NetworkSource(url, open_s=10) as source:
        assert "secret" not in source.name
        assert "hidden" not in source.name
        items = list(source)
    frames = [item for item in items if isinstance(item, Frame)]
    assert isinstance(items[-1], Disconnected)
    assert len(frames) >= len(values) - 2
    assert [frame.index for frame in frames] == list(range(len(frames)))
    seen = [int(frame.pixels[20, 20, 0]) for frame in frames]
    assert seen == sorted(seen)
    assert frames[0].pixels.shape == (48, 64, 3)
    assert all(frame.arrived_ns is not None for frame in frames)


def test_a_stream_that_falls_silent_is_gone_after_its_limit() -> None:
    with (
        http_server(stream_of(*range(10, 60), then_wait_s=30)) as url,
        NetworkSource(url, open_s=10, read_s=0.5) as source,
    ):
        began = time.monotonic()
        items = list(source)
    assert isinstance(items[-1], Disconnected)
    assert time.monotonic() - began < 25


def test_another_size_midway_arrives_at_the_first_size_until_the_stream_is_opened_again() -> None:
    def body(file: BufferedIOBase) -> None:
        for width in (64, 128):
            stream_of(*range(20, 140, 4), width=width)(file)

    with http_server(body) as url, NetworkSource(url, open_s=10) as source:
        frames = [item for item in source if isinstance(item, Frame)]
    assert len(frames) > 40
    assert {frame.pixels.shape for frame in frames} == {(48, 64, 3)}


def test_garbage_after_good_frames_is_a_disconnection() -> None:
    def body(file: BufferedIOBase) -> None:
        stream_of(*range(20, 140, 4))(file)
        file.write(np.random.default_rng(1).bytes(100_000))

    with http_server(body) as url, NetworkSource(url, open_s=10) as source:
        items = list(source)
    assert sum(isinstance(item, Frame) for item in items) >= 28
    assert isinstance(items[-1], Disconnected)


def test_close_lets_the_connection_go_whether_or_not_frames_were_read() -> None:
    gone = threading.Event()

    def body(file: BufferedIOBase) -> None:
        try:
            while True:
                file.write(jpeg(9))
                time.sleep(0.01)
        finally:
            gone.set()

    with http_server(body) as url:
        source = NetworkSource(url, open_s=10)
        source.close()
        assert gone.wait(10)
        gone.clear()
        source = NetworkSource(url, open_s=10)
        items = iter(source)
        assert isinstance(next(items), Frame)
        source.close()
        assert gone.wait(10)
        assert list(items) == []


def test_the_decoder_holds_no_frame_back() -> None:
    with http_server(stream_of(*range(10, 60))) as url, NetworkSource(url, open_s=10) as source:
        assert source._capture._capture.get(cv2.CAP_PROP_N_THREADS) == 1


@pytest.mark.parametrize("what", ["garbage", "nothing", "closed"])
def test_what_is_no_stream_is_an_error_in_one_line(what: str) -> None:
    def garbage(file: BufferedIOBase) -> None:
        file.write(np.random.default_rng(1).bytes(200_000))

    def nothing(_: BufferedIOBase) -> None:
        time.sleep(5)

    body = {"garbage": garbage, "nothing": nothing, "closed": lambda _: None}[what]
    with (
        http_server(body, "application/octet-stream") as url,
        pytest.raises(SourceError, match="no video came within 1 s") as caught,
    ):
        NetworkSource(url, open_s=1.0)
    assert "secret" not in str(caught.value)


def test_an_address_where_nothing_listens_is_an_error() -> None:
    with pytest.raises(SourceError, match="no video came"):
        NetworkSource("http://127.0.0.1:9/live", open_s=1.0)


def test_secrets_never_reach_a_name() -> None:
    assert without_secrets("rtsp://bob:pw@cart:554/live?token=1#x") == "rtsp://cart:554/live"
    assert without_secrets("rtsp://cart/user=bob&password=pw/1.sdp") == "rtsp://cart/.../1.sdp"
    assert without_secrets("rtsp://bob:p@w@[::1]:554/live") == "rtsp://[::1]:554/live"
    assert without_secrets("rtsp://[::1/live") == "stream"
    assert without_secrets("rtsp://bob:pw@cart:notaport/live") == "stream"


def test_close_ends_the_loop() -> None:
    with http_server(stream_of(*range(10, 250), then_wait_s=5)) as url, NetworkSource(url, open_s=10) as source:
        assert len(list(islice(source, 3))) == 3
        source.close()
        assert list(source) == []
