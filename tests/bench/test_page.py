"""The page: one file that runs nothing and fetches nothing, holds every case, and hides no outlier."""

from __future__ import annotations

import re
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path

import cv2
import numpy as np
import pytest
from browser import CHROMIUM, Browser
from hypothesis import given
from hypothesis import strategies as st

from bench.reports import NOTICES, make_case, make_cases, make_model, make_report, make_samples, make_several
from vmeg_edge.bench.comparison import compare
from vmeg_edge.bench.page import html
from vmeg_edge.bench.report import BenchReport, Samples
from vmeg_edge.bench.svg import Scale, escape
from vmeg_edge.bench.timeline import MOST_POINTS, thinned

HOSTILE = (
    '</title><script>document.title="taken"</script><img src="http://198.51.100.1/x" onerror="alert(1)">\u202e\x1b'
)


class Reader(HTMLParser):
    """Every tag with its attributes, and whether they close in order."""

    VOID = frozenset({"meta", "br", "img", "link", "input"})

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self._open: list[str] = []
        self.feed(text)
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def of(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


def hostile_report() -> BenchReport:
    case = make_case(
        samples=make_samples(frames=30),
        name=HOSTILE,
        details={HOSTILE: HOSTILE},
        kernels=HOSTILE,
        backend=HOSTILE,
    )
    report = make_report([case], source=HOSTILE, method=HOSTILE, made_at=HOSTILE)
    words = {"label": HOSTILE, "name": HOSTILE + "!", "architecture": HOSTILE, "path": HOSTILE, "notices": (HOSTILE,)}
    models = (make_model(**words, not_run={HOSTILE: HOSTILE}), make_model(notices=()))
    machine = report.environment.model_copy(update={"cpu": HOSTILE, "versions": {HOSTILE: HOSTILE}})
    return report.model_copy(update={"models": models, "environment": machine})


def test_it_is_whole_and_asks_nothing_of_any_network() -> None:
    report = make_report()
    text = html(report, compare(report, report))
    reader = Reader(text)
    assert not reader.of("script") + reader.of("link") + reader.of("img") + reader.of("iframe")
    for _, attributes in reader.tags:
        assert not {name for name in attributes if name in {"src", "style"} or name.startswith("on")}
        assert "href" not in attributes
    assert "url(" not in text
    assert "@import" not in text
    (policy,) = (each["content"] for each in reader.of("meta") if each.get("http-equiv"))
    assert policy is not None
    assert policy.startswith("default-src 'none'; style-src 'sha256-")
    assert "unsafe" not in policy


def test_it_shows_every_case_every_verdict_and_what_must_be_said() -> None:
    report = make_report()
    text = html(report)
    for case in report.cases:
        assert text.count(escape(case.name)) > 8
    assert "INVALID" in text
    assert "the rounds differ by 14 %" in text
    for said in (*NOTICES, report.method, "AMD EPYC 9B14", "31cf83f1e539"):
        assert escape(said) in text
    assert "Compared with" not in text
    assert "too few samples" not in text
    assert re.search(r'<span class="word bad"><svg[^>]*><path d="M8 0 16 15H0z"', text)


def test_pictures_are_named_and_described_and_tables_have_captions_and_scopes() -> None:
    report = make_report()
    reader = Reader(html(report, compare(report, report)))
    names = {attributes.get("id") for _, attributes in reader.tags}
    pictures = [each for each in reader.of("svg") if each.get("role") == "img"]
    assert {each["id"] for each in pictures} == {"histograms", "cumulative", "stages", "traces", "whiskers"}
    for each in pictures:
        assert set(str(each["aria-labelledby"]).split()) <= names
    assert all(each.get("aria-hidden") == "true" for each in reader.of("svg") if each.get("role") != "img")
    assert len(reader.of("title")) == 1 + len(pictures)
    assert len(reader.of("desc")) == len(pictures)
    assert len(reader.of("table")) == len(reader.of("caption")) == 9
    assert all(each.get("scope") in {"col", "row"} for each in reader.of("th"))


def test_several_models_are_its_title_and_its_notices_say_for_which_they_hold() -> None:
    report = make_several()
    text = html(report, compare(report, report))
    Reader(text)
    assert "<title>Bench of vit_base, resnet50, vgg19</title>" in text
    assert "</small>vit_base, resnet50, vgg19</h1>" in text
    assert "<b>resnet50, <span>onnxruntime, 2 threads</span></b>" in text
    assert f"<p>vit_base: {NOTICES[0]}</p>" in text
    assert "<p>resnet50, vgg19: RANDOM WEIGHTS: never trained; scores mean nothing.</p>" in text
    assert text.count(f"<p>{NOTICES[1]}</p>") == 2, "above and below"
    assert "<dd>vgg19: ViT of 4 blocks, 192 channels, patches of 16, 256x256, nearest</dd>" in text
    assert "<dt>not run of vgg19</dt>" in text


def test_few_samples_are_starred_and_the_star_is_explained() -> None:
    text = html(make_report([make_case(samples=make_samples(frames=100))]))
    assert re.search(r'<td>[0-9.]+<span class="star">\*</span></td>', text)
    assert "at least 100 stand behind each, needed are: p95 130, p99 662" in text


def test_what_a_bundle_says_is_escaped() -> None:
    report = hostile_report()
    text = html(report, compare(report, report))
    reader = Reader(text)
    assert not reader.of("script") + reader.of("img")
    assert "&lt;script&gt;" in text
    assert "\u202e" not in text
    assert "\x1b" not in text


@given(st.text(max_size=40))
def test_no_text_escapes_its_place(content: str) -> None:
    assert not set(escape(content)) & set("<>\"'\n\r\0")


def test_a_huge_trace_keeps_its_outliers_and_stays_small() -> None:
    count, slow, fast = 200_000, 123_457, 77_777
    values = np.random.default_rng(0).normal(30, 0.5, count)
    values[slow], values[fast] = 900.0, 3.0
    kept = thinned(values.tolist(), MOST_POINTS)
    assert len(kept) <= MOST_POINTS
    assert kept == sorted(kept)
    assert {slow, fast} <= set(kept)
    columns = {name: tuple(values.tolist()) for name in Samples.model_fields if name.endswith("_ms")}
    whole = Samples(
        round=(0,) * count,
        frame=tuple(range(count)),
        at_s=tuple((np.arange(count) / 30).tolist()),
        late=tuple((values > 100).tolist()),
        **columns,
    )
    report = make_report([make_case(samples=whole)])
    text = html(report)
    assert "slowest 900 ms at 4115.2 s; 1 late" in text
    assert len(text) < 300_000
    dots = re.findall(r'<path d="(M[^"]*)" class="(dots[^"]*|late)"/>', text)
    assert sum(path.count("M") for path, _ in dots) <= MOST_POINTS + 2
    assert [kind for _, kind in dots] == ["dots c0", "dots far c0", "late"]
    tops = [float(y) for y in re.findall(r"M[\d.]+ ([\d.]+)h0", dots[0][0])]
    assert min(tops) < 40  # the slow one at the top of the strip, the fast one at its bottom
    assert max(tops) > 95


@given(st.lists(st.floats(-1e3, 1e3), min_size=1, max_size=200), st.integers(2, 50))
def test_thinning_keeps_the_extremes_and_the_order(values: list[float], most: int) -> None:
    kept = thinned(values, most)
    assert len(kept) <= max(most, 2)
    assert kept == sorted(set(kept))
    assert {min(values), max(values)} <= {values[place] for place in kept}


def test_forty_cases_stay_below_the_limit() -> None:
    samples = make_samples(frames=6_000)
    cases = [make_case(samples=samples, name=f"case {place}") for place in range(40)]
    assert len(html(make_report(cases)).encode()) < 1_500_000


def test_empty_single_and_constant_cases_have_a_page() -> None:
    empty = Samples(**dict.fromkeys(Samples.model_fields, ()))
    constant = make_samples(frames=5)
    constant = constant.model_copy(update={"end_to_end_ms": (4.0,) * 5, "at_s": (0.0,) * 5})
    zero = constant.model_copy(update={"end_to_end_ms": (0.0,) * 5})
    cases = [
        make_case(name="empty", samples=make_samples(frames=1)).model_copy(update={"samples": empty, "stages_ms": {}}),
        make_case(name="one", samples=make_samples(frames=1)),
        make_case(name="constant").model_copy(update={"samples": constant}),
        make_case(name="zero").model_copy(update={"samples": zero}),
    ]
    for some in ([], cases[:1], cases[1:2], cases[2:3], cases[3:], cases):
        report = make_report(some)
        text = html(report, compare(report, report))
        Reader(text)
        assert "nan" not in re.sub(r"<style>.*?</style>", "", text, flags=re.S).lower().replace("provenance", "")


@given(st.lists(st.floats(0, 1e6), min_size=1, max_size=20))
def test_a_scale_keeps_values_inside_and_in_order(values: list[float]) -> None:
    scale = Scale.over(values, 10, 500)
    places = [scale(value) for value in sorted(values)]
    assert places == sorted(places)
    assert all(10 <= place <= 500 for place in places)
    ticks = scale.ticks()
    assert len(ticks) >= 2
    assert all(scale.low <= tick * (1 + 1e-9) and tick * (1 - 1e-9) <= scale.high for tick in ticks)


@pytest.fixture
def browser() -> Iterator[Browser]:
    if CHROMIUM is None:
        pytest.skip("Chromium is not installed (Debian's package chromium)")
    with Browser() as opened:
        yield opened


def test_a_browser_shows_it_light_and_dark_wide_and_narrow_without_a_complaint(
    browser: Browser, tmp_path: Path
) -> None:
    paced = make_cases(frames=300, fps=10.0, deadline_ms=90.0)
    report = make_report(paced, scenario="paced", fps=10.0, deadline_ms=90.0)
    place = tmp_path / "bench.html"
    place.write_text(html(report, compare(report, report)), encoding="utf-8")
    browser.open(place.as_uri())
    browser.wait("document.readyState === 'complete'")
    assert browser.eval("performance.getEntriesByType('resource').length") == 0
    assert browser.eval("getComputedStyle(document.querySelector('h1')).fontWeight") == "700"  # the style is let in
    brightness = {}
    for scheme in ("light", "dark"):
        browser._call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
        for width in (1280, 420):
            browser.resize(width, 900)
            assert browser.eval("document.documentElement.scrollWidth") <= width
            inside = "[...document.querySelectorAll('.draw')].every(e => e.scrollWidth <= e.clientWidth)"
            assert width == 420 or browser.eval(inside)
        browser.resize(1280, 900)
        shot = np.frombuffer(browser.screenshot(tmp_path / f"{scheme}.png"), np.uint8)
        brightness[scheme] = cv2.imdecode(shot, cv2.IMREAD_GRAYSCALE).mean()
    assert brightness["light"] > 200
    assert brightness["dark"] < 70
    assert browser.complaints == []


@pytest.mark.parametrize("names", ["short", "long"])
def test_no_words_of_a_picture_lie_outside_it(browser: Browser, tmp_path: Path, names: str) -> None:
    report = make_report()
    if names == "long":
        labels = [f"usfmae-vit_base-{kind}-site-two-finetuned" for kind in ("16", "32")]
        made = ((label, make_samples(ms, frames=300)) for label, ms in zip(labels, (20, 80), strict=True))
        cases = [make_case("onnxruntime", 16, 16, samples, model=label) for label, samples in made]
        report = make_report(cases, models=tuple(map(make_model, labels)))
    place = tmp_path / "bench.html"
    place.write_text(html(report, compare(report, report)), encoding="utf-8")
    browser.open(place.as_uri())
    browser.wait("document.readyState === 'complete'")
    outside = browser.eval(
        "[...document.querySelectorAll('svg[role=img]')].flatMap(s => { const b = s.getBoundingClientRect();"
        " return [...s.querySelectorAll('text')].filter(t => { const r = t.getBoundingClientRect();"
        " return r.left < b.left - 1 || r.right > b.right + 1 || r.top < b.top - 4 || r.bottom > b.bottom + 1; })"
        " .map(t => s.id + ': ' + t.textContent); }).join('|')"
    )
    assert outside == ""


def test_a_hostile_name_runs_nothing_in_a_browser(browser: Browser, tmp_path: Path) -> None:
    place = tmp_path / "bench.html"
    place.write_text(html(hostile_report()), encoding="utf-8")
    browser.open(place.as_uri())
    browser.wait("document.readyState === 'complete'")
    assert browser.eval("document.title") != "taken"
    assert browser.eval("document.scripts.length + document.images.length") == 0
    assert browser.eval("performance.getEntriesByType('resource').length") == 0
    assert browser.complaints == []
