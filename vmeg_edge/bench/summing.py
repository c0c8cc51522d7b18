"""All slices of one case to its line in the report."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from vmeg_edge.bench.plan import CaseSpec
from vmeg_edge.bench.report import Case, Distribution, Frames, Memory, Parity, Samples, Start
from vmeg_edge.bench.statistics import percentile
from vmeg_edge.bench.verdict import Evidence, judge
from vmeg_edge.errors import BackendError

_STAGES = ("preprocess", "infer", "explain", "decide")


def case_of(
    name: str,
    model: str,
    case: CaseSpec,
    opened: dict[str, Any],
    slices: Sequence[dict[str, Any]],
    decode_ms: Sequence[float],
) -> Case:
    """The report of one case, called ``name``, of the model with this label.

    Raises `BackendError` where not one frame was scored.
    """
    columns = _joined(slices)
    if not len(columns["frame"]):
        raise BackendError(f"{name}: not one frame was scored in time; give a lower --fps or a longer --duration")
    said = opened["provenance"]
    late = columns["late"].astype(bool)
    scored = len(late)
    verdict = judge(
        Evidence(
            end_to_end_ms=columns["end_to_end_ms"].tolist(),
            others=[part["others"] for part in slices if part["others"] is not None],
            throttled=sum(part["throttled"] for part in slices),
            probes_ms=[value for part in slices for value in part["probes_ms"]],
            parity_failures=opened["failures"],
            failed=sum(part["failed"] for part in slices),
            rounds=columns["round"].astype(int).tolist(),
        )
    )
    return Case(
        name=name,
        model=model,
        backend=case.backend,
        version=said["version"],
        device=said["device"],
        precision=said["precision"],
        float_precision=said["float_precision"],
        threads=case.threads,
        streams=case.streams,
        pinned_to=case.pinned_to,
        details=_plain(said["details"]),
        kernels=f"{said['kernels']['implementation']} {said['kernels']['isa'] or ''}".strip(),
        artefact_mb=_short(opened["artefact_mb"]),
        start=Start(**opened["start"]),
        stages_ms=_stages(columns, decode_ms),
        throughput_fps=_short(scored / sum(part["wall_s"] for part in slices)),
        frames=Frames(
            arrived=sum(part["arrived"] for part in slices),
            scored=scored,
            dropped=sum(part["dropped"] for part in slices),
            failed=sum(part["failed"] for part in slices),
            late=int(late.sum()),
        ),
        memory=_memory(opened, slices),
        bench_overhead_ms=_short(opened["overhead_ms"]),
        parity=_parity(opened),
        verdict=verdict,
        samples=Samples(
            round=tuple(columns["round"].astype(int).tolist()),
            frame=tuple(columns["frame"].astype(int).tolist()),
            at_s=_rounded(columns["at_s"]),
            late=tuple(late.tolist()),
            **{f"{name}_ms": _rounded(columns[f"{name}_ms"]) for name in (*_STAGES, "end_to_end")},
        ),
    )


def _joined(slices: Sequence[dict[str, Any]]) -> dict[str, npt.NDArray[np.float64]]:
    """Columns over all slices, with the slice's number, and time going on from one to the next."""
    names = list(slices[0]["columns"])
    joined = {name: np.concatenate([np.asarray(part["columns"][name], float) for part in slices]) for name in names}
    counts = [len(part["columns"]["frame"]) for part in slices]
    joined["round"] = np.repeat(np.arange(len(slices)), counts)
    starts = np.concatenate([[0.0], np.cumsum([part["wall_s"] for part in slices])[:-1]])
    joined["at_s"] = joined["at_s"] + np.repeat(starts, counts)
    return joined


def _stages(columns: dict[str, npt.NDArray[np.float64]], decode_ms: Sequence[float]) -> dict[str, Distribution]:
    stages = {} if not decode_ms else {"decode": Distribution.of(decode_ms)}
    for name in _STAGES:
        stages[name] = Distribution.of(columns[f"{name}_ms"].tolist())
    within = sum(columns[f"{name}_ms"] for name in _STAGES)
    stages["other"] = Distribution.of(np.maximum(columns["end_to_end_ms"] - within, 0.0).tolist())
    stages["end_to_end"] = Distribution.of(columns["end_to_end_ms"].tolist())
    return stages


def _memory(opened: dict[str, Any], slices: Sequence[dict[str, Any]]) -> Memory:
    resident = [part["resident_mb"] for part in slices if part["resident_mb"] is not None]
    peaks = [part["peak_mb"] for part in slices if part["peak_mb"] is not None]
    if opened["peak_mb"] is not None:
        peaks.append(opened["peak_mb"])
    return Memory(
        peak_rss_mb=_short(max(peaks)) if peaks else None,
        steady_rss_mb=_short(percentile(resident, 50)) if resident else None,
        growth_mb=_short(resident[-1] - resident[0]) if resident else None,
        frames_held_mb=_short(opened["frames_held_mb"]),
        allocated_blocks_a_frame=_left_behind(slices),
    )


def _left_behind(slices: Sequence[dict[str, Any]]) -> float | None:
    """Python objects that a frame leaves for ever, by the counts after each slice; the first one warms up."""
    frames = sum(len(part["columns"]["frame"]) for part in slices[1:])
    return _short((slices[-1]["blocks"] - slices[0]["blocks"]) / frames) if frames else None


def _parity(opened: dict[str, Any]) -> Parity:
    found = opened["parity"]
    return Parity(
        passed=not opened["failures"],
        failures=tuple(opened["failures"]),
        **{name: found[name] for name in ("frames", "max_abs_dp", "mean_abs_dp", "flips", "heatmap_cosine_min")},
    )


def _plain(details: dict[str, Any]) -> dict[str, str | int | float | bool | None]:
    return {
        name: value if isinstance(value, (str, int, float, bool)) or value is None else str(value)
        for name, value in details.items()
    }


def _rounded(values: npt.NDArray[np.float64]) -> tuple[float, ...]:
    return tuple(np.round(values, 4).tolist())


def _short(value: float) -> float:
    return float(f"{value:.6g}")
