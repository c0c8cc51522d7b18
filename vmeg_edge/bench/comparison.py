"""Two runs of the bench side by side: ratios with their intervals, and what else differs between the two."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal, TypeVar

import numpy as np
import numpy.typing as npt

from vmeg_edge.bench.report import BenchReport, Case, Model
from vmeg_edge.bench.statistics import Ratio, enough_samples, ratio_of_percentiles
from vmeg_edge.errors import UsageError

Word = Literal["better", "worse", "within noise", "unknown"]
T = TypeVar("T")

MINIMUM_EFFECT = 0.01
"""A smaller difference is within noise whatever its interval says: many samples make even a trifle certain."""

_RESAMPLES = 2_000
_QUANTILES = (0.005, 0.995)


@dataclass(frozen=True)
class Pair:
    """One case in both runs. Every ratio is new over old; ``None`` where a side has no figure, or too few samples.

    ``word`` judges ``end_to_end_p50``, ``throughput_word`` the frames a second. ``differences`` are those of the case
    itself, such as its number of threads.
    """

    name: str
    new: Case
    old: Case
    end_to_end_p50: Ratio | None
    end_to_end_p99: Ratio | None
    infer_p50: Ratio | None
    throughput: Ratio | None
    steady_rss: float | None
    peak_rss: float | None
    load: float | None
    first_inference: float | None
    word: Word
    throughput_word: Word
    differences: tuple[str, ...]

    @property
    def valid(self) -> bool:
        """Whether both sides are; a ratio of an invalid one says little."""
        return self.new.verdict.valid and self.old.verdict.valid


@dataclass(frozen=True)
class Comparison:
    """What `compare` found. ``only_new`` and ``only_old`` name cases without a partner.

    ``differences`` are plain lines on machine, software, model and settings; ``same_machine`` is False where one of
    them is the machine's: a ratio across machines is no regression.
    """

    old_made_at: str
    pairs: tuple[Pair, ...]
    only_new: tuple[str, ...]
    only_old: tuple[str, ...]
    differences: tuple[str, ...]
    same_machine: bool


def compare(new: BenchReport, old: BenchReport) -> Comparison:
    """Pair the cases of two reports by their names.

    Raises `UsageError` where the scenarios differ: their latencies are different quantities.
    """
    if new.settings.scenario != old.settings.scenario:
        raise UsageError(
            f"the old run is of scenario {old.settings.scenario} and the new one of {new.settings.scenario}; "
            f"bench again with --scenario {old.settings.scenario}, or compare with a report of {new.settings.scenario}"
        )
    before = {case.name: case for case in old.cases}
    names = {case.name for case in new.cases}
    machine = _machine_differences(new, old)
    return Comparison(
        old_made_at=old.made_at,
        pairs=tuple(_pair(case, before[case.name]) for case in new.cases if case.name in before),
        only_new=tuple(case.name for case in new.cases if case.name not in before),
        only_old=tuple(name for name in before if name not in names),
        differences=(*machine, *_other_differences(new, old)),
        same_machine=not machine,
    )


def regressions(comparison: Comparison, max_regression_percent: float) -> tuple[str, ...]:
    """One line for each case whose end-to-end p50 has certainly risen by more than ``max_regression_percent``.

    Certainly: the lower end of the ratio's 99 % interval lies above the limit, so that noise never fails a build.
    Raises `UsageError` where the limit is negative or no number.
    """
    if not (math.isfinite(max_regression_percent) and max_regression_percent >= 0):
        raise UsageError(f"a regression of {max_regression_percent:g} % cannot be allowed; give 0 or more")
    limit = 1 + max_regression_percent / 100
    lines = []
    for pair in comparison.pairs:
        ratio = pair.end_to_end_p50
        if ratio is not None and ratio.low > limit:
            where = "" if comparison.same_machine else "; the machines differ, so measure the old version on this one"
            lines.append(
                f"{pair.name}: end_to_end p50 is {ratio.value:.3f} times the old one ({ratio.low:.3f} to "
                f"{ratio.high:.3f} at 99 % confidence), and {limit:g} is allowed{where}"
            )
    return tuple(lines)


def _pair(new: Case, old: Case) -> Pair:
    after, before = _column(new, "end_to_end_ms"), _column(old, "end_to_end_ms")
    enough = enough_samples(min(len(after), len(before)), 99)
    latency = _percentiles(after, before, 50)
    throughput = _throughput(new, old)
    return Pair(
        name=new.name,
        new=new,
        old=old,
        end_to_end_p50=latency,
        end_to_end_p99=_percentiles(after, before, 99) if enough else None,
        infer_p50=_percentiles(_column(new, "infer_ms"), _column(old, "infer_ms"), 50),
        throughput=throughput,
        steady_rss=_plain(new.memory.steady_rss_mb, old.memory.steady_rss_mb),
        peak_rss=_plain(new.memory.peak_rss_mb, old.memory.peak_rss_mb),
        load=_plain(new.start.load_ms, old.start.load_ms),
        first_inference=_plain(new.start.first_inference_ms, old.start.first_inference_ms),
        word=_word(latency, less_is_better=True),
        throughput_word=_word(throughput, less_is_better=False),
        differences=_case_differences(new, old),
    )


def _word(ratio: Ratio | None, *, less_is_better: bool) -> Word:
    if ratio is None:
        return "unknown"
    if ratio.high < 1 and ratio.value <= 1 - MINIMUM_EFFECT:
        return "better" if less_is_better else "worse"
    if ratio.low > 1 and ratio.value >= 1 + MINIMUM_EFFECT:
        return "worse" if less_is_better else "better"
    return "within noise"


def _column(case: Case, name: str) -> npt.NDArray[np.float64]:
    return np.array(getattr(case.samples, name), np.float64)


def _percentiles(new: npt.NDArray[np.float64], old: npt.NDArray[np.float64], percent: float) -> Ratio | None:
    try:
        return ratio_of_percentiles(new, old, percent)
    except UsageError:  # no samples, or zeros only
        return None


def _plain(new: float | None, old: float | None) -> float | None:
    return new / old if new is not None and old is not None and old > 0 else None


def _throughput(new: Case, old: Case) -> Ratio | None:
    """Frames a second; the interval is that of the mean time between results, by blocks of neighbours."""
    value = _plain(new.throughput_fps, old.throughput_fps)
    gaps = [np.diff(np.sort(_column(case, "at_s"))) for case in (new, old)]
    if value is None or any(len(gap) == 0 or gap.sum() <= 0 for gap in gaps):
        return None
    random = np.random.default_rng(0)
    drawn = [_resampled_mean(gap, random) / gap.mean() for gap in gaps]
    low, high = np.quantile(drawn[1] / np.maximum(drawn[0], np.finfo(np.float64).tiny), _QUANTILES)
    return Ratio(value, value * float(low), value * float(high))


def _resampled_mean(samples: npt.NDArray[np.float64], random: np.random.Generator) -> npt.NDArray[np.float64]:
    """The mean of each circular-block resample, ``[_RESAMPLES]``."""
    count = len(samples)
    length = max(1, math.isqrt(count))
    sums = np.concatenate([[0.0], np.cumsum(np.concatenate([samples, samples[:length]]))])
    means = (sums[length : length + count] - sums[:count]) / length
    return np.array(
        [means[random.integers(0, count, math.ceil(count / length))].mean() for _ in range(_RESAMPLES)], np.float64
    )


def _machine_differences(new: BenchReport, old: BenchReport) -> tuple[str, ...]:
    granted: dict[str, Callable[[BenchReport], object]] = {}
    if None not in (new.environment.affinity_processors, old.environment.affinity_processors):  # both tell
        granted["affinity"] = lambda report: f"{report.environment.affinity_processors} processors"
        granted["CPU quota"] = lambda report: report.environment.quota
        granted["processor class"] = lambda report: report.environment.processor_class
    return _differing(
        new,
        old,
        {
            "CPU": lambda report: report.environment.cpu,
            "CPU features": lambda report: ", ".join(report.environment.cpu_features),
            "cores": lambda report: report.environment.cores,
            "usable processors": lambda report: report.environment.usable_processors,
            **granted,
            "governor": lambda report: report.environment.governor,
            "container": lambda report: report.environment.container,
        },
    )


def _other_differences(new: BenchReport, old: BenchReport) -> tuple[str, ...]:
    """Software, model and settings. Memory size and dates are left out: they differ and mean nothing."""
    reads: dict[str, Callable[[BenchReport], object]] = {
        "vmeg-edge": lambda report: report.vmeg_edge,
        "operating system": lambda report: report.environment.os,
        "kernel": lambda report: report.environment.kernel,
        "Python": lambda report: report.environment.python,
    }
    settings: dict[str, Callable[[BenchReport], object]] = {
        "duration": lambda report: f"{report.settings.duration_s:g} s",
        "rounds": lambda report: report.settings.rounds,
        "warm-up frames": lambda report: report.settings.warm_up_frames,
        "paced at": lambda report: report.settings.fps,
        "deadline ms": lambda report: report.settings.deadline_ms,
        "source": lambda report: report.settings.source,
        "distinct frames": lambda report: report.settings.distinct_frames,
        "frame size": lambda report: f"{report.settings.frame_width}x{report.settings.frame_height}",
    }
    after, before = new.environment.versions, old.environment.versions
    versions = tuple(
        f"{name}: {after.get(name, 'absent')}, was {before.get(name, 'absent')}"
        for name in sorted(after.keys() | before.keys())
        if after.get(name) != before.get(name)
    )
    return (*_differing(new, old, reads), *_model_differences(new, old), *_differing(new, old, settings), *versions)


def _model_differences(new: BenchReport, old: BenchReport) -> tuple[str, ...]:
    """Of models that both runs have under one label, or of the only one of each."""
    reads: dict[str, Callable[[Model], object]] = {
        "model": lambda model: model.name,
        "bundle": lambda model: model.digest[:12],
        "checkpoint": lambda model: model.checkpoint[:12],
        "model input": lambda model: f"{model.input}, {model.resize}",
    }
    if len(new.models) == len(old.models) == 1:
        return _differing(new.models[0], old.models[0], reads)
    before = {model.label: model for model in old.models}
    pairs = ((model, before[model.label]) for model in new.models if model.label in before)
    return tuple(f"{after.label}, {line}" for after, was in pairs for line in _differing(after, was, reads))


def _differing(new: T, old: T, reads: Mapping[str, Callable[[T], object]]) -> tuple[str, ...]:
    pairs = ((name, read(new), read(old)) for name, read in reads.items())
    return tuple(f"{name}: {after}, was {before}" for name, after, before in pairs if after != before)


def _case_differences(new: Case, old: Case) -> tuple[str, ...]:
    names = ("version", "device", "precision", "float_precision", "threads", "streams", "pinned_to", "kernels")
    plain = [(name, getattr(new, name), getattr(old, name)) for name in names]
    detail = [
        (name, new.details.get(name), old.details.get(name)) for name in sorted(new.details.keys() | old.details.keys())
    ]
    return tuple(f"{name}: {after}, was {before}" for name, after, before in (*plain, *detail) if after != before)
