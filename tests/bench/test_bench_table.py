"""The report in a terminal: every case in its row, nothing wider than the console, and what must be said."""

from __future__ import annotations

import io
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from bench.reports import NOTICES, make_case, make_cases, make_model, make_report, make_samples, make_several
from vmeg_edge.bench.comparison import Comparison, compare
from vmeg_edge.bench.report import BenchReport, Parity, Verdict
from vmeg_edge.bench.tables import short
from vmeg_edge.cli.bench_table import show


def shown(report: BenchReport, comparison: Comparison | None = None, width: int = 120) -> str:
    out = io.StringIO()
    console = Console(file=out, width=width, highlight=False, markup=False, emoji=False, soft_wrap=True)
    show(report, console, comparison)
    return out.getvalue()


def row(text: str, title: str, case: str) -> list[str]:
    """The cells after the case's name in the table of this title."""
    after = text[text.index(title) :]
    found = re.search(rf"^ {re.escape(case)}  +(.+)$", after, re.M)
    assert found is not None
    return re.split(r"  +", found.group(1).strip())


def test_the_main_table_holds_the_reports_own_figures() -> None:
    report = make_report([make_case()])
    case, stage = report.cases[0], report.cases[0].stages_ms["end_to_end"]
    cells = row(shown(report), "Latency end to end", case.name)
    points = (stage.mean_ms, stage.p50_ms, stage.p90_ms, stage.p95_ms, stage.p99_ms, stage.max_ms)
    assert cells[:8] == ["VALID", *(f"{value:.2f}" for value in points), f"{stage.cv:.1%}"]
    assert cells[8:] == [f"{case.throughput_fps:.1f}", "0/0", "341/413", "pass"]


def test_every_case_has_its_rows() -> None:
    report = make_report()
    text = shown(report)
    for case in report.cases:
        assert row(text, "Latency end to end", case.name)[0] == case.verdict.word
        assert row(text, "By stage", case.name)[0] == "p50"
        assert row(text, "Start in a fresh process", case.name)[0] == "hit"


@pytest.mark.parametrize("names", ["short", "long"])
def test_nothing_is_wider_than_120_columns_and_no_name_is_broken(names: str) -> None:
    cases = make_cases()
    report = make_report(cases if names == "long" else cases[3:4])
    text = shown(report, compare(report, report))
    assert max(map(len, text.splitlines())) <= 120
    for case in report.cases:
        assert len(re.findall(rf"^ {re.escape(case.name)} ", text, re.M)) >= 4
    one_table = "RSS" in text[text.index(" case") :].splitlines()[0]
    assert one_table == (names == "short")


def test_in_a_narrow_terminal_columns_move_to_further_tables() -> None:
    report = make_report(make_cases()[:2])
    text = shown(report, compare(report, report), width=80)
    assert max(map(len, text.splitlines())) <= 80
    assert "Start in a fresh process, ms, continued" in text
    for case in report.cases:
        assert len(re.findall(rf"^ {re.escape(case.name)} ", text, re.M)) >= 8


def test_an_invalid_case_says_why_in_words() -> None:
    text = " ".join(shown(make_report()).split())
    assert "INVALID onnxruntime, 1 thread: the rounds differ by 14 %" in text
    broken = Parity(
        passed=False,
        frames=8,
        max_abs_dp=0.3,
        mean_abs_dp=0.1,
        flips=2,
        heatmap_cosine_min=0.4,
        failures=("2 decisions differ",),
    )
    case = make_case(parity=broken, verdict=Verdict(valid=False, reasons=("parity failed",)))
    text = shown(make_report([case]))
    assert "FAIL" in text
    assert "INVALID openvino, 2 threads: 2 decisions differ" in text


def test_few_samples_are_starred_and_the_star_is_explained() -> None:
    text = shown(make_report([make_case(samples=make_samples(frames=100))]))
    cells = row(text, "Latency end to end", "openvino, 2 threads")
    assert [cell.endswith("*") for cell in cells[1:7]] == [False, False, False, True, True, False]
    assert "* too few samples" in text
    assert "at least 100 stand behind each, needed are: p95 130, p99 662" in text
    assert "too few" not in shown(make_report())


def test_threads_are_compared_where_nothing_else_differs() -> None:
    text = shown(make_report())
    assert row(text, "Threads, by p50", "openvino, 1 thread") == ["1", "1.00x", "100%"]
    threads, speed_up, efficiency = row(text, "Threads, by p50", "openvino, 2 threads")
    assert threads == "2"
    assert float(speed_up[:-1]) == pytest.approx(79 / 44, abs=0.05)
    assert int(efficiency[:-1]) == pytest.approx(79 / 88 * 100, abs=3)
    assert "Threads, by" not in shown(make_report(make_cases()[1:2]))
    assert "Threads, by throughput" in shown(make_report(scenario="offline"))


def test_several_models_stand_in_one_table_and_each_is_described() -> None:
    report = make_several()
    text = shown(report, width=140)
    for case, disk in zip(report.cases, ("90.2", "25.6", "144"), strict=True):
        assert row(text, "Latency end to end", case.name)[2] == f"{case.stages_ms['end_to_end'].p50_ms:.2f}"
        assert row(text, "Start in a fresh process", case.name)[1] == disk
    assert "model: resnet50: ResNet of 50 layers, 64 channels, 224x224, nearest" in text
    assert "model: vgg19: ViT of 4 blocks, 192 channels, patches of 16, 256x256, nearest" in text
    assert "bundle: 555555555555, " in text
    assert "not run of vgg19: openvino: no artefact for it" in text
    assert "Threads, by" not in text, "another model is no further thread"


def test_a_notice_is_said_once_with_the_models_for_which_it_holds() -> None:
    lines = shown(make_several(), width=200).splitlines()
    assert [line.rstrip() for line in lines[-3:]] == [
        f"vit_base: {NOTICES[0]}",
        "resnet50, vgg19: RANDOM WEIGHTS: never trained; scores mean nothing.",
        NOTICES[1],
    ]


def test_a_size_that_an_older_report_did_not_say_is_a_dash() -> None:
    text = shown(make_report([make_case(artefact_mb=None)]))
    assert row(text, "Start in a fresh process", "openvino, 2 threads")[:2] == ["hit", "-"]


def test_a_model_that_goes_by_its_folder_is_shown_with_its_own_name_too() -> None:
    models = (make_model("a", name="vit"), make_model("b", name="vit"))
    text = shown(make_report([make_case(model="a"), make_case(model="b")], models=models))
    assert "model: b (vit): ViT of 4 blocks" in text


def test_notices_method_environment_and_overhead_are_said() -> None:
    report = make_report()
    text = " ".join(shown(report).split())
    for said in (*NOTICES, report.method, "CPU: AMD EPYC 9B14", "at most 2.1 us a frame", "bundle: 31cf83f1e539"):
        assert said in text


def test_a_comparison_says_word_ratio_and_what_differs() -> None:
    old = make_report([make_case(samples=make_samples(40, seed=3))], vmeg_edge="0.0.9")
    new = make_report([make_case(samples=make_samples(30, seed=4)), make_case(threads=1)])
    text = shown(new, compare(new, old))
    word, p50, *_ = row(text, "Latency, new over old", "openvino, 2 threads")
    assert word == "better"
    assert float(p50.split()[0]) == pytest.approx(0.75, abs=0.02)
    assert "differs: vmeg-edge: 0.1.0, was 0.0.9" in text
    assert "only in the new run: openvino, 1 thread" in text


def test_an_old_run_without_a_common_case_has_no_ratios() -> None:
    new, old = make_report([make_case(threads=1)]), make_report([make_case(threads=2)])
    text = shown(new, compare(new, old))
    assert "new over old" not in text
    assert "only in the old run: openvino, 2 threads" in text


def test_a_hostile_name_reaches_no_terminal() -> None:
    case: Any = make_case(name="a\x1b[2Jb\u202e\nc", details={})
    report = make_report([case], models=(make_model(notices=("\x1b]0;taken\x07",)), make_model("b\x1b[2J")))
    text = shown(report, compare(report, report))
    assert not {c for c in text if not c.isprintable()} - {"\n"}


def test_what_the_system_does_not_tell_is_a_dash() -> None:
    held = make_case().memory.model_copy(update=dict.fromkeys(("peak_rss_mb", "steady_rss_mb", "growth_mb")))
    report = make_report([make_case(memory=held)])
    assert "-/-" in row(shown(report), "Latency end to end", "openvino, 2 threads")
    bare = make_report([make_case(stages_ms={})])
    assert "VALID" in shown(bare, compare(bare, bare))


@given(st.text(max_size=60), st.integers(1, 50))
def test_a_text_that_is_too_long_keeps_both_ends(text: str, most: int) -> None:
    cut = short(text, most)
    assert len(cut) == min(most, len(text))
    if cut != text:
        first, last = cut.split("…")[0], cut.split("…")[-1]
        assert text.startswith(first)
        assert text.endswith(last)
