"""The page's server: what it tells, whom it tells, and that it never tells a score whose signal is gone."""

from __future__ import annotations

import json
import socket
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

import vmeg_edge
from vmeg_edge.errors import UsageError
from vmeg_edge.frames import Frame
from vmeg_edge.phantom import PhantomCine
from vmeg_edge.results import FrameResult
from vmeg_edge.serve import LiveView, Server, parse_address, serve
from vmeg_edge.serve.view import NOTHING_YET

TOKEN = "a-token-of-sixteen-or-more"


@pytest.fixture(scope="module")
def scored(demo_bundle: Path) -> list[tuple[Frame, FrameResult]]:
    with vmeg_edge.load(demo_bundle, self_test=False, threads=1) as scorer:
        return [(frame, scorer.score(frame)) for frame in PhantomCine(frames=4, width=320, height=240)]


@pytest.fixture
def view(demo_bundle: Path) -> LiveView:
    from vmeg_edge.bundle import open_bundle

    manifest = open_bundle(demo_bundle).manifest
    return LiveView(manifest.decision, manifest.notices)


@pytest.fixture
def server(view: LiveView) -> Iterator[Server]:
    with serve(view) as opened:
        yield opened


def ask(url: str, **headers: str) -> tuple[int, str, dict[str, str]]:
    request = urllib.request.Request(url, headers=headers)
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            return answer.status, answer.read().decode(), {k.lower(): v for k, v in answer.headers.items()}
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode(), {k.lower(): v for k, v in error.headers.items()}


def told(server: Server, path: str = "live.json") -> dict[str, Any]:
    return dict(json.loads(ask(server.address + path)[1]))


def test_the_page_needs_nothing_from_elsewhere_and_always_says_research_only(server: Server) -> None:
    status, page, headers = ask(server.address)
    assert status == 200
    assert "not evidence of disease" in page
    assert "http" not in page.replace("http-equiv", "").replace("http://www.w3.org", "")
    assert "default-src 'none'" in headers["content-security-policy"] or "'self'" in headers["content-security-policy"]
    for part in ("page.css", "page.js", "trace.js", "icon.svg"):
        assert ask(server.address + part)[0] == 200
    assert ask(server.address + "nothing")[0] == 404
    assert any("Research use only" in notice for notice in told(server)["notices"])


def test_a_score_is_shown_with_its_pictures_and_cleared_when_the_signal_goes(
    server: Server, view: LiveView, scored: list[tuple[Frame, FrameResult]]
) -> None:
    assert told(server)["result"] is None
    assert ask(server.address + "healthz")[0] == 503
    view.signal("live", "")
    for frame, result in scored:
        view.write(frame, result)
    shown = told(server)
    assert shown["signal"] == "live"
    assert shown["result"]["probability"] == pytest.approx(scored[-1][1].prediction.probability)
    assert shown["pictures"]["frame"]
    assert shown["pictures"]["heat"]
    assert ask(server.address + "healthz")[0] == 200
    view.signal("none", "unplugged")
    gone = told(server)
    assert (gone["result"], gone["pictures"], gone["signal"], gone["signal_reason"]) == (
        None,
        None,
        "none",
        "unplugged",
    )
    assert told(server, "status.json")["result"] is None
    assert ask(server.address + "healthz")[0] == 503
    view.write(*scored[0])  # it was on its way when the signal went
    assert told(server)["result"] is None
    view.signal("frozen", "still")
    view.write(scored[1][0], replace(scored[1][1], signal="frozen"))
    assert told(server)["signal"] == "frozen"


def test_a_score_that_no_other_follows_goes_stale(demo_bundle: Path, scored: list[tuple[Frame, FrameResult]]) -> None:
    from vmeg_edge.bundle import open_bundle

    now = [0.0]
    view = LiveView(open_bundle(demo_bundle).manifest.decision, clock_s=lambda: now[0])
    view.signal("live", "")
    view.write(*scored[0])
    assert view.look()["result"] is not None
    now[0] = 1.9
    assert view.look()["result"] is not None
    now[0] = 2.1
    assert view.look()["result"] is None


def test_metrics_parse_and_count(server: Server, view: LiveView, scored: list[tuple[Frame, FrameResult]]) -> None:
    view.signal("live", "")
    for frame, result in scored:
        view.write(frame, result)
    status, text, headers = ask(server.address + "metrics")
    assert status == 200
    assert headers["content-type"].startswith("text/plain")
    families = {family.name: family for family in text_string_to_metric_families(text)}
    states = {sample.labels["state"]: sample.value for sample in families["vmeg_edge_signal"].samples}
    assert states == {"live": 1.0, "frozen": 0.0, "none": 0.0}
    ages = [s for s in families["vmeg_edge_frame_age_seconds"].samples if s.name.endswith("_count")]
    assert ages[0].value == 4


def test_counts_of_a_running_stream_reach_the_page(demo_bundle: Path) -> None:
    frames = list(PhantomCine(frames=6, width=320, height=240))
    from vmeg_edge.sources.memory import MemorySource
    from vmeg_edge.sources.replay import ReplaySource

    with vmeg_edge.load(demo_bundle, self_test=False, threads=1) as scorer:
        view = LiveView(scorer.manifest.decision, scorer.notices)
        source = ReplaySource(MemorySource(frames, fps=30.0), loop=True)
        run = vmeg_edge.stream(source, scorer, sinks=[view], duration_s=3.0)
        view.follow(run.status)
        with serve(view) as server:
            results = iter(run)
            for _ in range(5):
                next(results)
            shown = told(server)
            assert shown["status"]["scored"] >= 4
            assert shown["signal"] == "live"
            results.close()
            after = told(server)
    assert after["ended"] is True
    assert after["result"] is None


def test_off_loopback_everything_asks_for_a_token(view: LiveView) -> None:
    with serve(view, "0.0.0.0", 0, TOKEN) as server:
        address = f"http://127.0.0.1:{server.port}/"
        assert server.needs_token
        for path in ("", "live.json", "metrics", "healthz", "page.js", "nothing"):
            assert ask(address + path)[0] == 401
        assert ask(address + "metrics", Authorization=f"Bearer {TOKEN}")[0] == 200
        assert ask(address + "metrics", Authorization="Bearer wrong")[0] == 401
        assert ask(address + "metrics?token=wrong")[0] == 401
        status, _, headers = ask(address + f"?token={TOKEN}")
        assert status == 200
        cookie = headers["set-cookie"]
        assert "HttpOnly" in cookie
        assert "SameSite=Strict" in cookie
        assert ask(address + "live.json", Cookie=cookie.split(";")[0])[0] == 200
    with serve(view, "0.0.0.0", 0) as server:
        made = server.url.partition("token=")[2]
        assert len(made) >= 32
        assert ask(f"http://127.0.0.1:{server.port}/metrics")[0] == 401
        assert ask(f"http://127.0.0.1:{server.port}/metrics?token={made}")[0] == 200


def test_a_foreign_host_name_is_refused_on_loopback(server: Server) -> None:
    assert ask(server.address + "live.json", Host="evil.example")[0] == 421
    assert ask(server.address + "live.json", Host=f"localhost:{server.port}")[0] == 200


def test_a_busy_port_and_bad_addresses_are_one_line(view: LiveView) -> None:
    with socket.create_server(("127.0.0.1", 0)) as held, pytest.raises(UsageError, match="the port is in use"):
        serve(view, "127.0.0.1", held.getsockname()[1])
    with pytest.raises(UsageError, match="no such host"):
        serve(view, "no.such.host.invalid", 0)
    with pytest.raises(UsageError, match="16 to 256"):
        serve(view, token="short")
    assert parse_address("[::1]:80") == ("::1", 80)
    for text in ("", "8080", ":8080", "host", "host:", "host:x", "host:99999", "a b:1", "http://h:1"):
        with pytest.raises(UsageError):
            parse_address(text)


def test_a_missing_library_is_named_with_the_command_that_adds_it(
    view: LiveView, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    with pytest.raises(UsageError, match=r'uvicorn, which is not installed; pip install "vmeg-edge\[serve\]"'):
        serve(view)


def test_every_frame_has_one_end_in_the_metrics(view: LiveView, server: Server) -> None:
    dropped = {"a newer frame came before it could be scored": 5, 'a "quoted" reason\n': 1}
    view.status(
        replace(
            NOTHING_YET, signal="live", arrived=20, scored=10, reused=4, lost=2, failed=1, waiting=1, dropped=dropped
        )
    )
    families = {family.name: family for family in text_string_to_metric_families(ask(server.address + "metrics")[1])}
    ends = {(s.labels["end"], s.labels["reason"]): s.value for s in families["vmeg_edge_frames_ended"].samples}
    assert ends.pop(("scored", "")) == 6
    assert ends.pop(("reused", "")) == 4
    assert {reason: count for (end, reason), count in ends.items() if end == "dropped"} == dropped
    waiting = families["vmeg_edge_buffer_frames"].samples[0].value
    assert 6 + 4 + sum(ends.values()) + waiting == families["vmeg_edge_frames_arrived"].samples[0].value


def test_closing_leaves_no_thread(view: LiveView) -> None:
    before = set(threading.enumerate())
    with serve(view) as server:
        assert ask(server.address)[0] == 200
    assert set(threading.enumerate()) <= before
    with pytest.raises(OSError, match="refused"):
        socket.create_connection(("127.0.0.1", server.port), timeout=2)


def test_memory_of_a_long_stream_is_bounded(demo_bundle: Path, scored: list[tuple[Frame, FrameResult]]) -> None:
    from vmeg_edge.bundle import open_bundle

    now = [0.0]
    view = LiveView(open_bundle(demo_bundle).manifest.decision, clock_s=lambda: now[0])
    view.signal("live", "")
    frame, result = scored[0]
    sizes = []
    for _ in range(3):
        for _ in range(4000):
            now[0] += 0.25
            view.write(frame, result)
        sizes.append(len(json.dumps(view.look()["trace"])))
    assert sizes[1] <= sizes[0] * 1.2
    assert sizes[2] <= sizes[0] * 1.2
