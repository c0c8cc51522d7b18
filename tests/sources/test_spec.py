"""What a user types becomes one kind of source, or one line that says what to type."""

from __future__ import annotations

import json
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vmeg_edge.errors import SourceError, UsageError
from vmeg_edge.frames import Region
from vmeg_edge.sources.spec import SourceSpec, open_spec, parse_source


@pytest.mark.parametrize(
    ("text", "kind", "options"),
    [
        ("cine.mp4", "file", {"path": "cine.mp4"}),
        (r"C:\cines\a.dcm", "file", {"path": r"C:\cines\a.dcm"}),
        ("a:b", "file", {"path": "a:b"}),
        ("replay:cine.mp4", "replay", {"path": "cine.mp4"}),
        (r"replay:C:\a.mp4", "replay", {"path": r"C:\a.mp4"}),
        ("phantom:", "phantom", {}),
        ("camera:0", "camera", {"device": 0}),
        ("camera:/dev/video2", "camera", {"device": "/dev/video2"}),
        ("/dev/video1", "camera", {"device": "/dev/video1"}),
        ("rtsp://host/live", "url", {"url": "rtsp://host/live"}),
        ("HTTP://host:8080/v", "url", {"url": "HTTP://host:8080/v"}),
        ("igtl://10.0.0.1", "igtl", {"host": "10.0.0.1", "port": 18944, "device": None}),
        ("igtl://plus:18945/Image_Reference", "igtl", {"host": "plus", "port": 18945, "device": "Image_Reference"}),
        ("igtl://[::1]:7", "igtl", {"host": "::1", "port": 7, "device": None}),
    ],
)
def test_sources_are_told_apart(text: str, kind: str, options: dict[str, Any]) -> None:
    spec = parse_source(text)
    assert (spec.kind, spec.options) == (kind, options)


@pytest.mark.parametrize(
    ("text", "options", "message"),
    [
        ("", {}, "no source is named"),
        ("replay:", {}, "needs a path"),
        ("camera:front", {}, "by number or device"),
        ("igtl://", {}, "igtl://HOST"),
        ("igtl://h:0", {}, "igtl://HOST"),
        ("igtl://h:99999", {}, "igtl://HOST"),
        ("gopher://h/x", {}, "gopher:// is no stream"),
        ("RTSP://", {}, "rtsp: write the whole address"),
        ("http:/h/x", {}, "http: write the whole address"),
        ("replay:rtsp://h/x", {}, "replay: plays files"),
        ("camera:0", {"size": (0, 480)}, "--size 0x480: each side must be 16 to 16384"),
        ("camera:0", {"size": (640, 10**9)}, "each side must be"),
        ("replay:a.mp4", {"fps": 0.0}, "above 0 and at most 240"),
        ("replay:a.mp4", {"fps": -5.0}, "above 0 and at most 240"),
        ("replay:a.mp4", {"fps": 10_000.0}, "above 0 and at most 240"),
        ("replay:a.mp4", {"fps": float("nan")}, "above 0 and at most 240"),
        ("a.mp4", {"fps": 15.0}, "pass replay:a.mp4 to pace it"),
        ("a.mp4", {"loop": True}, "no --loop"),
        ("rtsp://h/x", {"size": (640, 480)}, "no --size"),
        ("camera:0", {"pixel_format": "MJPEG"}, "four characters"),
        ("camera:0", {"pixel_format": "MJ\nG"}, "four characters"),
    ],
)
def test_what_cannot_be_honoured_is_refused(text: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message) as caught:
        parse_source(text, **options)
    assert "\n" not in str(caught.value)


@given(
    st.one_of(
        st.builds(
            lambda p: ("replay:" + p, {"fps": 12.5, "loop": True}), st.text("abc/.: \\é", min_size=1, max_size=20)
        ),
        st.builds(lambda n: (f"camera:{n}", {"size": (640, 480), "pixel_format": "YUYV"}), st.integers(0, 99)),
        st.builds(lambda h: (f"igtl://{h}:18/x y", {}), st.from_regex(r"[a-z0-9.-]{1,20}", fullmatch=True)),
    ),
    st.one_of(st.none(), st.builds(Region, *[st.integers(0, 99)] * 2, *[st.integers(1, 99)] * 2)),
)
def test_a_description_survives_its_way_to_another_process(asked: tuple[str, dict[str, Any]], region: Any) -> None:
    spec = parse_source(asked[0], region=region, **asked[1])
    assert SourceSpec.from_json(json.loads(json.dumps(spec.to_json()))) == spec


@pytest.mark.parametrize(
    ("text", "options"),
    [
        ("rtsp://bob:hunter2@h/x?key=hunter2", {"size": (640, 480)}),
        ("http://bob:hunter2@h/password=hunter2", {"loop": True}),
        ("igtl://bob:hunter2@h/x", {}),
        ("rtsp:/bob:hunter2@h", {"fps": 5.0}),
        ("replay:rtsp://bob:hunter2@h", {}),
        ("foo://bob:hunter2@h", {}),
    ],
)
def test_no_refusal_shows_a_password(text: str, options: dict[str, Any]) -> None:
    with pytest.raises(UsageError) as caught:
        parse_source(text, **options)
    assert "hunter2" not in str(caught.value)


def test_a_description_in_a_log_shows_no_password_and_keeps_it_all_the_same() -> None:
    spec = parse_source("rtsp://bob:hunter2@h/x?key=hunter2")
    assert repr(spec) == "SourceSpec('url', {'url': 'rtsp://h/x'})"
    assert spec.to_json()["options"]["url"] == "rtsp://bob:hunter2@h/x?key=hunter2"


def test_an_unknown_kind_or_a_missing_file_is_refused() -> None:
    with pytest.raises(UsageError, match="unknown"):
        open_spec(SourceSpec("telepathy"))
    with pytest.raises(SourceError, match="no such file"):
        open_spec(parse_source("replay:/nowhere/at/all.mp4"))


@given(st.text(max_size=40))
def test_no_text_does_worse_than_a_usage_error(text: str) -> None:
    with suppress(UsageError):
        spec = parse_source(text)
        assert spec.kind in ("file", "replay", "phantom", "camera", "url", "igtl")
