"""Fit a decision rule on labelled frames, and write it into a bundle that still passes its gates."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from importlib.metadata import version
from os import PathLike
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from scipy.optimize import minimize_scalar
from sklearn import metrics
from sklearn.model_selection import StratifiedGroupKFold

from vmeg_edge._version import __version__
from vmeg_edge.bundle import MANIFEST, PARITY, Bundle, write_bundle
from vmeg_edge.decide import probabilities
from vmeg_edge.errors import ParityError, UsageError
from vmeg_edge.manifest import DecisionRule, Manifest
from vmeg_edge.parity import compare, gate

from .evaluation import Answers
from .labels import Labelled
from .measure import judged

Criterion = Literal["youden", "f1"]

_LOWEST, _HIGHEST = 0.05, 20.0


@dataclass(frozen=True)
class Fit:
    """What to fit, and on which part: the table's column ``split``, else ``share`` of the groups."""

    temperature: bool = False
    threshold: Criterion | None = None
    share: float = 0.5
    seed: int = 0
    abstain: tuple[float, float] | None = None


def split_rows(rows: Sequence[Labelled], fit: Fit) -> npt.NDArray[np.bool_]:
    """Which rows are for fitting, ``[n]``. Groups stay whole. Raises `UsageError` where they cannot be split."""
    if rows[0].split:
        return np.array([row.split == "fit" for row in rows])
    folds = round(1 / fit.share)
    labels, groups = [row.label for row in rows], [row.group for row in rows]
    for label in set(labels):
        held = len({group for group, mine in zip(groups, labels, strict=True) if mine == label})
        if held < folds:
            raise UsageError(
                f"{held} groups are labelled {label!r}, too few to set 1 in {folds} aside for fitting; add files, "
                "raise --fit-share, or give a column 'split'"
            )
    splitter = StratifiedGroupKFold(n_splits=folds, shuffle=True, random_state=fit.seed)
    _, chosen = next(splitter.split(np.zeros(len(rows)), labels, groups))
    mask = np.zeros(len(rows), dtype=bool)
    mask[chosen] = True
    return mask


def fitted_rule(
    said: Answers,
    rows: Sequence[Labelled],
    chosen: npt.NDArray[np.bool_],
    rule: DecisionRule,
    positive: str,
    fit: Fit,
    table: str | PathLike[str],
) -> DecisionRule:
    """The rule with temperature and threshold fitted on the ``chosen`` rows, and where they came from.

    The temperature minimises the negative log likelihood of the labels (Guo et al. 2017, arXiv 1706.04599); the
    threshold maximises Youden's J, or F1. Raises `UsageError` where the part holds one class only.
    """
    here = chosen[said.rows]
    truth = np.array([rows[place].label == positive for place in said.rows[here]])
    if truth.all() or not truth.any():
        raise UsageError("the part to fit on holds one class only; add labelled frames of the other")
    logits = said.logits[here]
    temperature, threshold = rule.temperature, rule.threshold
    done = []
    if fit.temperature:
        temperature = _temperature(logits, truth, said.positive)
        done.append(f"temperature {temperature:.4g} (negative log likelihood)")
    p = probabilities(logits, temperature)[:, said.positive]
    if fit.threshold is not None:
        threshold = _threshold(p, truth, fit.threshold)
        done.append(f"threshold {threshold:.4g} ({'Youden J' if fit.threshold == 'youden' else 'F1'})")
    abstain = fit.abstain or rule.abstain
    if abstain is not None and not abstain[0] <= threshold <= abstain[1]:
        raise UsageError(
            f"the fitted threshold {threshold:.3f} lies outside the abstain band {abstain[0]:g} to {abstain[1]:g}; "
            "give a band that holds it with --abstain LOW,HIGH"
        )
    groups = len({rows[place].group for place in said.rows[here]})
    digest = hashlib.sha256(Path(table).read_bytes()).hexdigest()
    origin = (
        f"{' and '.join(done)} fitted on {len(truth)} frames of {groups} groups of {Path(table).name} "
        f"(sha256 {digest[:16]}), with {said.name}; vmeg-edge {__version__}, scikit-learn {version('scikit-learn')}"
    )
    return DecisionRule(temperature=temperature, threshold=threshold, abstain=abstain, origin=origin)


def write_fitted(bundle: Bundle, rule: DecisionRule, out: str | PathLike[str], *, replace_it: bool) -> str:
    """Write the bundle with another rule, its parity worked out anew from the stored logits; return its digest.

    Raises `ParityError` where an artefact no longer passes under the rule (a low temperature sharpens differences),
    `UsageError` where the bundle stores no logits, `OutputError` where ``out`` cannot be written.
    """
    manifest = bundle.manifest.model_copy(update={"decision": rule})
    files = {name: bundle.read(name) for name in bundle.digests if name != MANIFEST}
    files[PARITY] = _parity_under(manifest, files.get(PARITY, b"{}"), str(bundle.path))
    return write_bundle(out, manifest, files, replace=replace_it)


def _temperature(logits: npt.NDArray[np.float32], truth: npt.NDArray[np.bool_], positive: int) -> float:
    def cost(log_temperature: float) -> float:
        p = probabilities(logits, float(np.exp(log_temperature)))[:, positive]
        return float(metrics.log_loss(truth, np.clip(p, 1e-12, 1 - 1e-12), labels=[False, True]))

    bounds = (float(np.log(_LOWEST)), float(np.log(_HIGHEST)))
    return float(np.exp(minimize_scalar(cost, bounds=bounds, method="bounded").x))


def _threshold(p: npt.NDArray[np.float64], truth: npt.NDArray[np.bool_], criterion: Criterion) -> float:
    """Half-way between the best cut's score and the next lower one, so that no sample lies on the border."""
    if criterion == "youden":
        false, true, cuts = metrics.roc_curve(truth, p)
        best = float(cuts[1:][int(np.argmax((true - false)[1:]))])
    else:
        precision, recall, cuts = metrics.precision_recall_curve(truth, p)
        total = precision + recall
        f1 = np.divide(2 * precision * recall, total, out=np.zeros_like(total), where=total > 0)
        best = float(cuts[int(np.argmax(f1[:-1]))])
    below = p[p < best]
    return float((best + below.max()) / 2) if len(below) else best


def _parity_under(manifest: Manifest, data: bytes, origin: str) -> bytes:
    """``parity.json`` with the figures in probability worked out again; heat maps do not depend on the rule."""
    content: dict[str, Any] = json.loads(data)
    stored = content.get("logits", {})
    kept = [row for row in content.get("artefacts", []) if row.get("status", "kept") == "kept"]
    slots = {row.get("slot", row.get("target")) for row in kept}  # one a target, before there were slots
    if not {"reference", *manifest.artefacts, *slots} <= stored.keys():
        raise UsageError(f"{origin}: its parity.json holds no logits to prove another rule by; convert it again")
    for row in kept:
        target, tokens = row.get("slot", row.get("target")), row.get("tokens")
        names = ("reference", target) if tokens is None else (f"reference-{tokens}", f"{target}-{tokens}")
        sides = [np.asarray(stored[name], np.float32) for name in names]
        flat = np.zeros((len(sides[0]), 1, 1), np.float32)
        parity = compare(*(judged(side, flat, manifest) for side in sides))
        old = {name: row[name] for name in parity.to_json() if name.startswith(("heatmap", "peak"))}
        parity = replace(parity, **old)
        failures = gate(parity, row["precision"], merged=manifest.merged or tokens is not None)
        if failures:
            raise ParityError(
                f"the rule was not written: under it {row['precision']} on {target} fails its gate: "
                f"{'; '.join(failures)}; convert with another precision, or fit the threshold alone"
            )
        row.update(parity.to_json())
    content["decision"] = manifest.decision.model_dump(mode="json")
    return (json.dumps(content, indent=1) + "\n").encode()
