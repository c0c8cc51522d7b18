"""Labelled frames against a scorer's answers: the paper's six metrics with intervals, calibration, and risk.

Metrics are scikit-learn's. Intervals are percentile bootstraps (Efron 1979) that resample groups, since frames of one
patient are no independent samples.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn import metrics
from sklearn.calibration import calibration_curve

from vmeg_edge.decide import judge, probabilities
from vmeg_edge.errors import SourceError
from vmeg_edge.frames import Frame
from vmeg_edge.manifest import DecisionRule
from vmeg_edge.results import Decision
from vmeg_edge.scorer import Scorer
from vmeg_edge.sources import open_source

from .labels import Labelled

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]

METRICS = ("accuracy", "precision", "recall", "specificity", "f1", "auc")
BINS = 10


@dataclass(frozen=True, eq=False)
class Answers:
    """What one bundle on one backend said of ``n`` frames: ``logits`` ``[n, classes]``, in the order of the labels.

    ``rows`` is each frame's place in the label table; ``lost`` counts frames that could not be read or scored.
    ``out_of_plane`` ``[n]`` marks the frames that the bundle's plane gate holds back, ``None`` where it has none.
    """

    name: str
    logits: npt.NDArray[np.float32]
    rows: npt.NDArray[np.intp]
    positive: int
    lost: int = 0
    reason: str = ""
    out_of_plane: Bools | None = None

    def probabilities(self, rule: DecisionRule) -> Floats:
        """The positive class's, ``[n]``, at the rule's temperature."""
        return probabilities(self.logits, rule.temperature)[:, self.positive]

    def decisions(self, rule: DecisionRule) -> list[Decision]:
        """One a frame under the rule; none where the plane gate holds the frame back."""
        held_back = np.zeros(len(self.logits), bool) if self.out_of_plane is None else self.out_of_plane
        said = zip(self.probabilities(rule), held_back, strict=True)
        return ["no-decision" if held else judge(float(p), rule)[0] for p, held in said]

    def only(self, keep: Bools) -> Answers:
        """The answers where ``keep`` ``[n]`` is true."""
        out_of_plane = None if self.out_of_plane is None else self.out_of_plane[keep]
        return replace(self, logits=self.logits[keep], rows=self.rows[keep], out_of_plane=out_of_plane)


@dataclass(frozen=True)
class Figure:
    """A metric with its 95 % interval; ``None`` where it is undefined (``why`` says so)."""

    value: float | None
    low: float | None = None
    high: float | None = None
    why: str = ""


@dataclass(frozen=True, eq=False)
class Evaluation:
    """All that is known of one subject on labelled frames, at its rule's threshold.

    ``confusion`` is ``((tn, fp), (fn, tp))``; ``ece`` the expected calibration error over ten equal bins (Guo et al.
    2017, arXiv 1706.04599); ``risk_coverage`` pairs (share of frames decided, their error rate), surest first (Geifman
    and El-Yaniv 2017, arXiv 1705.08500); ``abstained`` the share without a decision, ``out_of_plane`` that of
    frames which the plane gate holds back.
    """

    name: str
    frames: int
    groups: int
    positives: int
    figures: dict[str, Figure]
    confusion: tuple[tuple[int, int], tuple[int, int]]
    ece: float
    risk_coverage: tuple[tuple[float, float], ...]
    abstained: float
    out_of_plane: float
    accuracy_where_decided: float | None
    truth: Bools
    probabilities: Floats

    def to_json(self) -> dict[str, Any]:
        """The figures, ready for ``json.dumps``."""
        return {
            "name": self.name,
            "frames": self.frames,
            "groups": self.groups,
            "positives": self.positives,
            "metrics": {name: vars(figure) for name, figure in self.figures.items()},
            "confusion": {
                "true_negative": self.confusion[0][0],
                "false_positive": self.confusion[0][1],
                "false_negative": self.confusion[1][0],
                "true_positive": self.confusion[1][1],
            },
            "expected_calibration_error": self.ece,
            "abstained": self.abstained,
            "out_of_plane": self.out_of_plane,
            "accuracy_where_decided": self.accuracy_where_decided,
            "risk_coverage": [list(pair) for pair in self.risk_coverage],
        }


def answers(scorer: Scorer, name: str, rows: Sequence[Labelled], progress: Any) -> Answers:
    """Score every frame of every labelled file. Raises `SourceError` where not one could be scored."""
    logits, places, distances = [], [], []
    lost, reason = 0, ""
    for place, row in enumerate(rows):
        try:
            with open_source(row.path) as source:
                for item in source:
                    if isinstance(item, Frame):
                        said, distance = scorer.answer(item)
                        logits.append(said)
                        distances.append(distance)
                        places.append(place)
                    else:
                        lost, reason = lost + 1, reason or item.reason
        except SourceError as error:
            lost, reason = lost + 1, reason or str(error)
        progress(f"scoring with {name}", place + 1, len(rows))
    if not logits:
        raise SourceError(f"not one labelled frame could be scored: {reason}")
    positive = scorer.manifest.positive_index
    rule = scorer.manifest.plane_gate
    held_back = None if rule is None else np.array([d is not None and d > rule.threshold for d in distances])
    return Answers(name, np.stack(logits), np.asarray(places, np.intp), positive, lost, reason, held_back)


def evaluate(
    said: Answers, rows: Sequence[Labelled], positive: str, rule: DecisionRule, *, resamples: int = 1000, seed: int = 0
) -> Evaluation:
    """Hold answers against labels under a decision rule."""
    truth = np.array([rows[place].label == positive for place in said.rows])
    groups = np.unique([rows[place].group for place in said.rows], return_inverse=True)[1]
    p = said.probabilities(rule)
    decided = np.array([decision != "no-decision" for decision in said.decisions(rule)])
    right = (p >= rule.threshold) == truth
    confusion = metrics.confusion_matrix(truth, p >= rule.threshold, labels=[False, True])
    return Evaluation(
        name=said.name,
        frames=len(truth),
        groups=int(groups.max()) + 1,
        positives=int(truth.sum()),
        figures=_figures(truth, p, rule.threshold, groups, resamples, seed),
        confusion=((int(confusion[0, 0]), int(confusion[0, 1])), (int(confusion[1, 0]), int(confusion[1, 1]))),
        ece=expected_calibration_error(truth, p),
        risk_coverage=risk_coverage(right, np.abs(p - rule.threshold)),
        abstained=float(1 - decided.mean()),
        out_of_plane=0.0 if said.out_of_plane is None else float(said.out_of_plane.mean()),
        accuracy_where_decided=float(right[decided].mean()) if decided.any() else None,
        truth=truth,
        probabilities=p,
    )


def point_metrics(truth: Bools, p: Floats, threshold: float) -> dict[str, float]:
    """The paper's six by scikit-learn; NaN where one is undefined."""
    called = p >= threshold
    precision, recall, f1, _ = metrics.precision_recall_fscore_support(
        truth, called, average="binary", pos_label=True, zero_division=np.nan
    )
    both = bool(truth.any() and not truth.all())
    return {
        "accuracy": float(metrics.accuracy_score(truth, called)),
        "precision": float(precision),
        "recall": float(recall) if truth.any() else float("nan"),
        "specificity": float(metrics.recall_score(truth, called, pos_label=False, zero_division=np.nan)),
        "f1": float(f1) if truth.any() else float("nan"),
        "auc": float(metrics.roc_auc_score(truth, p)) if both else float("nan"),
    }


def expected_calibration_error(truth: Bools, p: Floats) -> float:
    """The mean gap between stated and observed frequency, over ten bins of equal width, weighted by their frames."""
    observed, stated = calibration_curve(truth, p, n_bins=BINS, strategy="uniform", pos_label=True)
    edges = np.linspace(0.0, 1.0, BINS + 1)
    counts = np.bincount(np.searchsorted(edges[1:-1], p), minlength=BINS)
    return float(np.average(np.abs(observed - stated), weights=counts[counts > 0]))


def risk_coverage(right: Bools, confidence: Floats) -> tuple[tuple[float, float], ...]:
    """(coverage, risk) after each frame, the surest first; frames that are equally sure come together."""
    order = np.argsort(-confidence, kind="stable")
    wrong = np.cumsum(~right[order])
    ends = np.flatnonzero(np.append(np.diff(confidence[order]) != 0, True))
    count = len(right)
    return tuple((float((end + 1) / count), float(wrong[end] / (end + 1))) for end in ends)


def agreement(first: Answers, other: Answers, rules: tuple[DecisionRule, DecisionRule]) -> dict[str, float] | None:
    """How far two subjects agree on the same frames; ``None`` where they did not score the same ones."""
    if not np.array_equal(first.rows, other.rows):
        return None
    ours, theirs = first.probabilities(rules[0]), other.probabilities(rules[1])
    pairs = zip(first.decisions(rules[0]), other.decisions(rules[1]), strict=True)
    same = [decision == another for decision, another in pairs]
    gap = np.abs(ours - theirs)
    return {
        "decisions_agree": float(np.mean(same)),
        "max_abs_dp": float(gap.max()),
        "mean_abs_dp": float(gap.mean()),
    }


def _figures(
    truth: Bools, p: Floats, threshold: float, groups: npt.NDArray[np.intp], resamples: int, seed: int
) -> dict[str, Figure]:
    points = point_metrics(truth, p, threshold)
    members = [np.flatnonzero(groups == group) for group in range(int(groups.max()) + 1)]
    rng = np.random.default_rng(seed)
    samples: dict[str, list[float]] = {name: [] for name in METRICS}
    if len(members) > 1:
        for _ in range(resamples):
            drawn = np.concatenate([members[g] for g in rng.integers(0, len(members), len(members))])
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # a resample with one class is left out below
                for name, value in point_metrics(truth[drawn], p[drawn], threshold).items():
                    if np.isfinite(value):
                        samples[name].append(value)
    figures = {}
    for name in METRICS:
        if not np.isfinite(points[name]):
            figures[name] = Figure(None, why=_why(name, truth))
        elif len(samples[name]) < resamples // 2 or not resamples:
            figures[name] = Figure(points[name], why="too few groups for an interval")
        else:
            low, high = np.percentile(samples[name], (2.5, 97.5))
            figures[name] = Figure(points[name], float(low), float(high))
    return figures


def _why(name: str, truth: Bools) -> str:
    if truth.all() or not truth.any():
        return f"the labels hold one class only ({'positive' if truth.all() else 'negative'})"
    return f"{name} divides by zero: no frame was called positive"
