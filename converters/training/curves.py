"""One picture of a training run: losses, accuracy and F1 by epoch, the best epoch marked."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from os import PathLike

from vmeg_edge.outputs import PendingFile

from ..figures import Figure, MaxNLocator, mpl
from .run_state import Epoch

_SIZE_INCHES = (11.0, 5.0)


def draw(
    history: Sequence[Epoch], best: Epoch, path: str | PathLike[str], *, title: str, notices: Sequence[str]
) -> None:
    """Write a PNG. Raises `OutputError` where ``path`` cannot be written."""
    epochs = [epoch.epoch for epoch in history]
    with mpl.rc_context({"font.size": 10, "axes.grid": True, "grid.alpha": 0.3}):
        figure = Figure(figsize=_SIZE_INCHES, layout="constrained")
        losses, shares = figure.subplots(1, 2)
        for axis, lines in (
            (
                losses,
                (
                    ("training loss, with every term", "--", [epoch.train_loss for epoch in history]),
                    ("validation cross-entropy", "-", [epoch.validation_loss for epoch in history]),
                ),
            ),
            (
                shares,
                (
                    ("validation F1", "-", [epoch.f1 for epoch in history]),
                    ("validation accuracy", "--", [epoch.accuracy for epoch in history]),
                ),
            ),
        ):
            for name, style, values in lines:
                axis.plot(epochs, values, style, marker="o", markersize=3.5, linewidth=2, label=name)
            axis.axvline(best.epoch, color="grey", linewidth=1.5, linestyle=":", label=f"best epoch, {best.epoch}")
            for before, after in pairwise(history):
                if before.image_size != after.image_size:
                    axis.axvline(after.epoch - 0.5, color="black", linewidth=1)
                    axis.annotate(
                        f" {after.image_size} px",
                        (after.epoch - 0.5, 1),
                        xycoords=("data", "axes fraction"),
                        va="top",
                        textcoords="offset points",
                        xytext=(0, -4),
                        fontsize=8,
                    )
            axis.set_xlabel("epoch")
            axis.xaxis.set_major_locator(MaxNLocator(integer=True))
            axis.legend(loc="best", fontsize=9)
        losses.set_title("loss")
        losses.set_ylim(bottom=0)
        shares.set_title("validation")
        shares.set_ylim(-0.02, 1.02)
        figure.suptitle(title)
        figure.supxlabel("\n".join(notices), fontsize=9)
        with PendingFile(path) as pending:
            figure.savefig(pending, format="png", dpi=100)
