"""One picture of an evaluation: ROC, precision and recall, reliability, risk and coverage, a line a subject."""

from __future__ import annotations

from collections.abc import Sequence
from os import PathLike

import numpy as np
from sklearn import metrics
from sklearn.calibration import calibration_curve

from vmeg_edge.outputs import PendingFile

from .evaluation import BINS, Evaluation
from .figures import Figure, mpl

_SIZE_INCHES = (11.0, 10.0)
_STYLES = ("-", "--", ":", "-.")


def draw(subjects: Sequence[Evaluation], path: str | PathLike[str], *, title: str, notices: Sequence[str]) -> None:
    """Write a PNG. Raises `OutputError` where ``path`` cannot be written."""
    with mpl.rc_context({"font.size": 10, "axes.grid": True, "grid.alpha": 0.3}):
        figure = Figure(figsize=_SIZE_INCHES, layout="constrained")
        axes = figure.subplots(2, 2).ravel()
        for place, subject in enumerate(subjects):
            style = {"linestyle": _STYLES[place % len(_STYLES)], "linewidth": 2, "label": subject.name}
            truth, p = subject.truth, subject.probabilities
            if truth.any() and not truth.all():
                false, true, _ = metrics.roc_curve(truth, p)
                axes[0].plot(false, true, **style)
                precision, recall, _ = metrics.precision_recall_curve(truth, p)
                axes[1].plot(recall, precision, **style)
            observed, stated = calibration_curve(truth, p, n_bins=BINS, strategy="uniform", pos_label=True)
            axes[2].plot(stated, observed, marker="o", **style)
            coverage, risk = np.array(subject.risk_coverage).T
            axes[3].plot(coverage, risk, **style)
        for name, axis in zip(("ROC", "precision and recall", "reliability", "risk and coverage"), axes, strict=True):
            axis.set_title(name)
            axis.set_xlim(-0.02, 1.02)
        for axis, x, y in (
            (axes[0], "1 - specificity", "sensitivity (recall)"),
            (axes[1], "recall", "precision"),
            (axes[2], f"stated probability ({BINS} bins)", "observed frequency"),
            (axes[3], "share of frames decided, surest first", "error rate among them"),
        ):
            axis.set_xlabel(x)
            axis.set_ylabel(y)
        for axis in axes[:3]:
            axis.set_ylim(-0.02, 1.02)
        for axis in (axes[0], axes[2]):
            axis.plot([0, 1], [0, 1], color="grey", linewidth=1)
        axes[3].set_ylim(bottom=-0.005)
        if subjects and not any(s.truth.any() and not s.truth.all() for s in subjects):
            for axis in axes[:2]:
                axis.text(0.5, 0.5, "undefined: the labels hold one class only", ha="center", transform=axis.transAxes)
        axes[3].legend(loc="best", fontsize=9)
        figure.suptitle(title)
        figure.supxlabel("\n".join(notices), fontsize=9)
        with PendingFile(path) as pending:
            figure.savefig(pending, format="png", dpi=100)
