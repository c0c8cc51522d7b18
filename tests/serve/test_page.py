"""The page in headless Chromium: what a person sees while the signal is live, frozen, gone, and the server dead."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from browser import CHROMIUM, Browser

import vmeg_edge
from vmeg_edge.bundle import open_bundle
from vmeg_edge.phantom import PhantomCine
from vmeg_edge.results import FrameResult
from vmeg_edge.serve import LiveView, serve

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed (Debian's package chromium)")


@pytest.fixture
def browser() -> Iterator[Browser]:
    with Browser() as opened:
        yield opened


def test_the_page_shows_the_score_and_never_a_stale_one(browser: Browser, demo_bundle: Path, tmp_path: Path) -> None:
    manifest = open_bundle(demo_bundle).manifest
    frame = next(iter(PhantomCine(frames=2, width=320, height=240)))
    with vmeg_edge.load(demo_bundle, self_test=False, threads=1) as scorer:
        result = scorer.score(frame)
    view = LiveView(manifest.decision, manifest.notices)
    state = "document.documentElement.dataset.state"

    def write_until(script: str, scored: FrameResult) -> None:
        """A result that no other follows goes stale, so they follow one another as in a stream."""
        due_s = time.monotonic() + 30
        while not browser.eval(script):
            assert time.monotonic() < due_s, f"never true: {script}"
            view.write(frame, scored)
            time.sleep(0.02)

    with serve(view) as server:
        browser.open(server.url)
        browser.wait(f"{state} === 'none'")
        assert "\N{EN DASH}" in browser.text("#score")
        view.signal("live", "")
        write_until(f"{state} === 'live' && document.querySelector('#score').textContent.includes('0.')", result)
        assert browser.text("#score").strip() == f"{result.prediction.probability:.3f}"
        assert "NORMAL" in browser.text("#decision")
        picture = cv2.imdecode(np.frombuffer(browser.screenshot(tmp_path / "live.png"), np.uint8), cv2.IMREAD_COLOR)
        assert picture.shape == (800, 1280, 3)
        assert picture[90:420, 20:440].std() > 20  # the frame is drawn
        assert "Research use only" in str(browser.eval("document.body.innerText"))
        for width, height in ((420, 800), (1280, 800)):
            browser.resize(width, height)
            assert browser.eval("document.documentElement.scrollWidth") <= width
            assert browser.eval("document.querySelector('#trace').clientHeight") < 300
        view.signal("frozen", "the picture has not changed")
        write_until(f"{state} === 'frozen'", replace(result, signal="frozen"))
        view.signal("none", "unplugged")
        browser.wait(f"{state} === 'none'")
        assert "0." not in browser.text("#score")
        assert "unplugged" in str(browser.eval("document.body.innerText"))
        view.signal("live", "")
        write_until(f"{state} === 'live' && document.querySelector('#score').textContent.includes('0.')", result)
        assert browser.complaints == []
    took_s = browser.wait(f"{state} === 'disconnected'")
    assert "0." not in browser.text("#score")
    assert took_s < 10
