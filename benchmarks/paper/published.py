"""What the paper's abstract says of its own systems, on clinical data: shown beside ours, and never compared."""

from __future__ import annotations

from collections.abc import Mapping

SOURCE = "published for clinical data, arXiv 2511.07827, not comparable"
UNKNOWN = "not known here"

# The abstract alone; its tables are not at hand. Percent: cross-validation and independent test.
FOLDS: Mapping[str, Mapping[str, str]] = {"USF-MAE": {"F1": "91.76 %"}}
TEST: Mapping[str, Mapping[str, str]] = {"USF-MAE": {"F1": "91.78 %", "accuracy": "97.24 %", "precision": "94.47 %"}}

# By how much USF-MAE's F1 is higher, as the abstract has it; it does not say whether in points or in percent of it.
GAPS: Mapping[str, tuple[str, str]] = {
    "VGG-19": ("19.37 %", "16.15 %"),
    "ResNet-50": ("2.31 %", "2.56 %"),
    "ViT-B/16": ("5.03 %", "11.93 %"),
}


def said(system: str, part: str) -> str:
    """What is published of a system of the paper in ``folds`` or ``test``; the other figures are not known here."""
    found = {"folds": FOLDS, "test": TEST}[part].get(system)
    if found is not None:
        return f"{', '.join(f'{metric} {value}' for metric, value in found.items())}; the others {UNKNOWN}"
    if system in GAPS:
        return f"{UNKNOWN}; USF-MAE's F1 is higher by {GAPS[system][0 if part == 'folds' else 1]}"
    return UNKNOWN
