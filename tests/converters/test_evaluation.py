"""Metrics by hand-made examples, intervals that cover, fits that improve what they fit, and the command whole."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from vmeg_edge.converters import decision_fit, evaluation
from vmeg_edge.converters.decision_fit import Fit, fitted_rule, split_rows
from vmeg_edge.converters.evaluation import Answers, agreement, evaluate
from vmeg_edge.converters.labels import Labelled

import vmeg_edge as sdk
from conversions import Made
from shared_data import shared_data
from vmeg_edge.bundle import open_bundle
from vmeg_edge.decide import probabilities
from vmeg_edge.errors import ParityError, UsageError
from vmeg_edge.manifest import DecisionRule
from vmeg_edge.phantom import phantoms

RULE = DecisionRule(temperature=1.0, threshold=0.5)


def rows_of(truth: list[int], groups: list[str] | None = None) -> list[Labelled]:
    names = groups or [f"g{i}" for i in range(len(truth))]
    pairs = zip(truth, names, strict=True)
    return [Labelled(Path(f"{i}.png"), "vm" if t else "normal", group) for i, (t, group) in enumerate(pairs)]


def answers_of(p: list[float] | np.ndarray) -> Answers:
    p = np.clip(np.asarray(p, np.float64), 1e-6, 1 - 1e-6)
    logits = np.stack([np.zeros_like(p), np.log(p / (1 - p))], axis=1).astype(np.float32)
    return Answers("made", logits, np.arange(len(p)), 1)


def test_the_six_metrics_of_a_hand_made_table() -> None:
    found = evaluate(
        answers_of([0.9, 0.8, 0.4, 0.6, 0.2, 0.1, 0.3]), rows_of([1, 1, 1, 0, 0, 0, 0]), "vm", RULE, resamples=0
    )
    values = {name: figure.value for name, figure in found.figures.items()}
    assert found.confusion == ((3, 1), (1, 2))
    assert values["accuracy"] == pytest.approx(5 / 7)
    assert values["precision"] == values["recall"] == values["f1"] == pytest.approx(2 / 3)
    assert values["specificity"] == pytest.approx(3 / 4)
    assert values["auc"] == pytest.approx(11 / 12)
    assert (found.frames, found.groups, found.positives) == (7, 7, 3)


def test_calibration_error_and_risk_by_hand() -> None:
    truth = np.array([True, False, True, True])
    p = np.array([0.15, 0.15, 0.95, 0.95])
    assert evaluation.expected_calibration_error(truth, p) == pytest.approx((0.35 * 2 + 0.05 * 2) / 4)
    right = np.array([True, False, True, True])
    curve = evaluation.risk_coverage(right, np.array([0.4, 0.1, 0.3, 0.3]))
    assert curve == ((0.25, 0.0), (0.75, 0.0), (1.0, 0.25))


def test_abstentions_are_counted_apart() -> None:
    rule = DecisionRule(temperature=1.0, threshold=0.5, abstain=(0.3, 0.7))
    found = evaluate(answers_of([0.9, 0.6, 0.4, 0.1]), rows_of([1, 0, 1, 0]), "vm", rule, resamples=0)
    assert found.abstained == pytest.approx(0.5)
    assert found.accuracy_where_decided == 1.0
    assert found.figures["accuracy"].value == pytest.approx(0.5)


@pytest.mark.parametrize("label", [0, 1])
def test_one_class_alone_leaves_auc_undefined_and_says_so(label: int) -> None:
    found = evaluate(answers_of([0.9, 0.2, 0.6]), rows_of([label] * 3), "vm", RULE, resamples=50)
    assert found.figures["auc"].value is None
    assert "one class only" in found.figures["auc"].why
    assert found.figures["accuracy"].value == pytest.approx(2 / 3 if label else 1 / 3)
    undefined = "specificity" if label else "recall"
    assert found.figures[undefined].value is None
    json.dumps(found.to_json(), allow_nan=False)


def test_intervals_cover_the_truth_about_as_often_as_they_say_and_groups_widen_them() -> None:
    rng = np.random.default_rng(0)
    covered = 0
    for trial in range(10):
        truth = rng.integers(0, 2, 80)
        said = np.where(rng.random(80) < 0.8, truth, 1 - truth)  # right in 80 of 100
        found = evaluate(answers_of(0.1 + 0.8 * said), rows_of(list(truth)), "vm", RULE, resamples=40, seed=trial)
        figure = found.figures["accuracy"]
        assert figure.low is not None
        assert figure.high is not None
        covered += figure.low <= 0.8 <= figure.high
    assert covered >= 7
    base, groups = rng.random(20) < 0.8, [f"g{i // 4}" for i in range(80)]
    p = np.where(np.repeat(base, 4), 0.9, 0.1)  # four copies of each
    single, grouped = (
        evaluate(answers_of(p), rows_of([1] * 40 + [0] * 40, names), "vm", RULE, resamples=60).figures["accuracy"]
        for names in (None, groups)
    )
    assert grouped.high - grouped.low > 1.4 * (single.high - single.low)  # type: ignore[operator]


def test_the_same_seed_gives_the_same_interval() -> None:
    rng = np.random.default_rng(1)
    p, truth = rng.random(50), list(rng.integers(0, 2, 50))
    first, second, other = (
        evaluate(answers_of(p), rows_of(truth), "vm", RULE, resamples=40, seed=seed).figures for seed in (3, 3, 4)
    )
    assert first == second
    assert first != other


def test_agreement_is_of_the_same_frames() -> None:
    one, two = answers_of([0.9, 0.2, 0.6]), answers_of([0.8, 0.2, 0.4])
    found = agreement(one, two, (RULE, RULE))
    assert found is not None
    assert found["decisions_agree"] == pytest.approx(2 / 3)
    assert found["max_abs_dp"] == pytest.approx(0.2, abs=1e-5)
    fewer = Answers("fewer", two.logits[:2], two.rows[:2], 1)
    assert agreement(one, fewer, (RULE, RULE)) is None


def test_a_temperature_that_was_planted_is_found_again(tmp_path: Path) -> None:
    rng = np.random.default_rng(2)
    true_logit = rng.normal(0, 2, 4000)
    truth = (rng.random(4000) < 1 / (1 + np.exp(-true_logit))).astype(int)
    logits = np.stack([np.zeros(4000), 3 * true_logit], axis=1).astype(np.float32)
    (tmp_path / "t.csv").write_text("x")
    said = Answers("hot", logits, np.arange(4000), 1)
    rule = fitted_rule(
        said, rows_of(list(truth)), np.ones(4000, bool), RULE, "vm", Fit(temperature=True), tmp_path / "t.csv"
    )
    assert rule.temperature == pytest.approx(3.0, rel=0.1)
    assert rule.threshold == 0.5
    assert "temperature" in rule.origin
    assert "4000 frames" in rule.origin


@pytest.mark.parametrize(("criterion", "expected"), [("youden", 0.25), ("f1", 0.25)])
def test_the_threshold_parts_the_classes_between_two_samples(tmp_path: Path, criterion: str, expected: float) -> None:
    (tmp_path / "t.csv").write_text("x")
    said, rows = answers_of([0.1, 0.15, 0.2, 0.3, 0.4]), rows_of([0, 0, 0, 1, 1])
    fit = Fit(threshold=criterion)  # type: ignore[arg-type]
    rule = fitted_rule(said, rows, np.ones(5, bool), RULE, "vm", fit, tmp_path / "t.csv")
    assert rule.threshold == pytest.approx(expected, abs=1e-4)


def test_groups_are_never_split_and_too_few_are_refused() -> None:
    groups = [f"g{i // 3}" for i in range(60)]
    rows = rows_of([i // 3 % 2 for i in range(60)], groups)
    chosen = split_rows(rows, Fit(temperature=True, seed=5))
    fitted = {row.group for row, taken in zip(rows, chosen, strict=True) if taken}
    tested = {row.group for row, taken in zip(rows, chosen, strict=True) if not taken}
    assert not fitted & tested
    assert fitted
    assert tested
    assert {rows[i].label for i in np.flatnonzero(chosen)} == {"normal", "vm"}
    with pytest.raises(UsageError, match="1 groups are labelled 'vm'"):
        split_rows(rows_of([1, 0, 0, 0]), Fit(temperature=True))
    marked = [Labelled(Path("a"), "vm", "a", "fit"), Labelled(Path("b"), "normal", "b", "test")]
    assert split_rows(marked, Fit()).tolist() == [True, False]


def test_frames_that_the_plane_gate_holds_back_count_as_abstentions() -> None:
    p, truth = [0.9, 0.8, 0.2, 0.1], [1, 0, 1, 0]
    said = replace(answers_of(p), out_of_plane=np.array([False, True, True, False]))
    assert said.decisions(RULE) == ["suspected", "no-decision", "no-decision", "normal"]
    found = evaluate(said, rows_of(truth), "vm", RULE, resamples=0)
    assert (found.abstained, found.out_of_plane, found.accuracy_where_decided) == (0.5, 0.5, 1.0)
    assert found.figures["accuracy"].value == 0.5
    assert found.to_json()["out_of_plane"] == 0.5
    agreed = agreement(answers_of(p), said, (RULE, RULE))
    assert agreed is not None
    assert (agreed["decisions_agree"], agreed["max_abs_dp"]) == (0.5, 0.0)
    part = said.only(np.array([True, False, True, False]))
    assert (part.rows.tolist(), part.decisions(RULE)) == ([0, 2], ["suspected", "no-decision"])


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Forty phantoms as PNG, cropped to their region, with labels."""
    folder = tmp_path_factory.mktemp("labelled")
    lines = ["path,label"]
    for index, made in enumerate(phantoms(909, 40)):
        region = made.frame.region
        assert region is not None
        part = made.frame.pixels[region.y : region.y + region.height, region.x : region.x + region.width]
        cv2.imwrite(str(folder / f"{index:02d}.png"), part)
        lines.append(f"{index:02d}.png,{'ventriculomegaly' if made.dilated else 'normal'}")
    (folder / "labels.csv").write_text("\ufeff" + "\r\n".join(lines) + "\r\n", encoding="utf-8")
    return folder / "labels.csv"


def test_the_command_compares_bundles_and_backends_draws_and_writes_scores(
    vmeg_edge: Callable, table: Path, demo_bundle: Path, demo_int8: Made, tmp_path: Path
) -> None:
    plot, scores = tmp_path / "e.png", tmp_path / "s.csv"
    ran = vmeg_edge(
        "evaluate", table, "--bundle", demo_bundle, "--bundle", demo_int8.path, "--json", "--plot", plot,
        "--scores", scores, "--resamples", 20,
    )  # fmt: skip
    assert ran.code == 0, ran.err
    content = json.loads(ran.out)
    names = [subject["name"] for subject in content["subjects"]]
    assert names[0] == "demo onnxruntime float32"
    assert {"demo openvino float32", "demo-int8 onnxruntime int8"} <= set(names)
    for subject in content["subjects"]:
        assert subject["frames"] == 40
        assert subject["metrics"]["accuracy"]["value"] >= 0.85
        assert subject["metrics"]["auc"]["low"] <= subject["metrics"]["auc"]["value"]
    for pair in content["agreement"]:
        assert pair["with"] == names[0]
        assert pair["max_abs_dp"] <= 5e-2
    assert any("Research use only" in notice for notice in content["notices"])
    picture = cv2.imread(str(plot))
    assert picture is not None
    assert picture.shape[0] > 500
    assert picture.std() > 10
    lines = list(csv.DictReader(scores.read_text().splitlines()))
    assert len(lines) == 40 * len(names)
    with sdk.load(demo_bundle) as scorer:
        result = scorer.score(cv2.imread(lines[0]["path"], cv2.IMREAD_GRAYSCALE))
    assert float(lines[0]["probability"]) == pytest.approx(result.prediction.probability, abs=1e-5)
    assert lines[0]["decision"] == result.prediction.decision


def test_the_table_for_people_says_research_use_only(vmeg_edge: Callable, table: Path) -> None:
    ran = vmeg_edge("evaluate", table, "--resamples", 20)
    assert ran.code == 0, ran.err
    for word in ("accuracy", "precision", "recall", "specificity", "f1", "auc", "Research use only", "DEMO MODEL"):
        assert word in ran.out


def test_a_fitted_rule_is_written_with_its_provenance_and_the_bundle_serves(
    vmeg_edge: Callable, table: Path, demo_int8: Made, tmp_path: Path
) -> None:
    out = tmp_path / "fitted.vmeg"
    fit = ("--fit-threshold", "f1", "--abstain", "0.01,0.99", "--out", out)
    one = ("--bundle", demo_int8.path, "--backend", "onnxruntime")
    ran = vmeg_edge("evaluate", table, *one, *fit, "--json", "--resamples", 20)
    assert ran.code == 0, ran.err
    content = json.loads(ran.out)
    assert content["part"] == "the part that was not fitted on"
    assert [subject["name"].endswith("fitted") for subject in content["subjects"]] == [False, True]
    assert content["subjects"][0]["frames"] < 40
    rule = open_bundle(out).manifest.decision
    assert rule.abstain == (0.01, 0.99)
    assert "labels.csv (sha256 " in rule.origin
    assert "demo-int8 onnxruntime int8" in rule.origin
    parity = json.loads((out / "parity.json").read_text())
    assert parity["decision"]["threshold"] == rule.threshold
    with sdk.load(out, backend="onnxruntime") as scorer:
        assert scorer.provenance["self_test"].startswith("passed")
    again = vmeg_edge("evaluate", table, "--bundle", demo_int8.path, "--fit-temperature", "--out", out)
    assert again.code == 2
    assert "--force" in again.error


def test_a_rule_under_which_int8_fails_its_gate_is_not_written(demo_int8: Made, tmp_path: Path) -> None:
    bundle = open_bundle(demo_int8.path)
    stored = json.loads(bundle.read("parity.json"))["logits"]
    ours, theirs = (probabilities(np.array(stored[name]), 1.0)[:, 1] for name in ("reference", "onnxruntime"))
    most = int(np.argmax(np.abs(ours - theirs)))
    between = DecisionRule(
        temperature=1.0, threshold=float(ours[most] + theirs[most]) / 2
    )  # so that one decision flips
    with pytest.raises(ParityError, match="the rule was not written"):
        decision_fit.write_fitted(bundle, between, tmp_path / "x.vmeg", replace_it=False)
    assert not (tmp_path / "x.vmeg").exists()


def test_a_bundle_that_stores_no_logits_is_not_given_another_rule(
    bundle_copy: Path, reseal: Callable, tmp_path: Path
) -> None:
    parity = bundle_copy / "parity.json"
    content = json.loads(parity.read_text())
    del content["logits"]
    parity.write_text(json.dumps(content))
    reseal(bundle_copy)
    with pytest.raises(UsageError, match="holds no logits"):
        decision_fit.write_fitted(open_bundle(bundle_copy), RULE, tmp_path / "x.vmeg", replace_it=False)
    assert not (tmp_path / "x.vmeg").exists()


def test_a_file_that_does_not_open_is_counted_and_named(vmeg_edge: Callable, table: Path, tmp_path: Path) -> None:
    (tmp_path / "good.png").write_bytes((table.parent / "00.png").read_bytes())
    (tmp_path / "bad.png").write_bytes(b"\x89PNG\r\n\x1a\n but no more")
    (tmp_path / "l.csv").write_text("path,label\ngood.png,normal\nbad.png,ventriculomegaly\n")
    options = ("--backend", "onnxruntime", "--json", "--resamples", 10, "--plot", tmp_path / "p.png")
    ran = vmeg_edge("evaluate", tmp_path / "l.csv", *options)
    assert ran.code == 0, ran.err
    content = json.loads(ran.out)
    (lost,) = content["lost"].values()
    assert lost["frames"] == 1
    assert "bad.png" in lost["reason"]
    assert content["subjects"][0]["metrics"]["auc"]["value"] is None
    assert "one class only" in content["subjects"][0]["metrics"]["auc"]["why"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--fit-temperature",), "give --out"),
        (("--out", "x.vmeg"), "give --out with --fit-temperature"),
        (("--abstain", "0.4,0.6"), "--abstain belongs to a fitted rule"),
        (("--abstain", "-1,2"), "not two probabilities from 0 to 1"),
        (("--abstain", "0.6,0.4"), "the lower first"),
        (("--backend", "tensorrt"), "holds no artefact for tensorrt"),
        (("--bundle", "nowhere.vmeg"), "nowhere.vmeg"),
        (("--plot", "no/such/folder/p.png"), "cannot be written"),
    ],
)
def test_options_that_cannot_be_honoured(
    vmeg_edge: Callable, table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: tuple, words: str
) -> None:
    monkeypatch.chdir(tmp_path)
    ran = vmeg_edge("evaluate", table, "--resamples", 0, *arguments)
    assert ran.code == 2
    assert words in ran.error
    assert not list(tmp_path.iterdir())


def test_the_public_frames_are_evaluated_whole(vmeg_edge: Callable) -> None:
    labels = shared_data("fetal_brain", "labels.csv")
    ran = vmeg_edge("evaluate", labels, "--backend", "onnxruntime", "--json", "--resamples", 10)
    assert ran.code == 0, ran.err
    (subject,) = json.loads(ran.out)["subjects"]
    assert (subject["frames"], subject["positives"]) == (97, 32)
