"""What a bench run found, as data: the schema of ``--json``, with a unit in every name that has one."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, ValidationError, model_validator

from vmeg_edge.bench.older import OLDER, lifted
from vmeg_edge.bench.statistics import PERCENTILES, enough_samples, percentile
from vmeg_edge.errors import UsageError

SCHEMA_VERSION = 3

Scenario = Literal["single", "paced", "offline"]
Detail = str | int | float | bool | None

STAGES = ("decode", "preprocess", "infer", "explain", "decide", "other", "end_to_end")
"""In the order of a frame's way. ``other`` is what lies between: queues, wake-ups, the result's making.

``decode`` is not part of ``end_to_end``: frames are decoded once, ahead of the clock.
"""


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, protected_namespaces=())


class Distribution(_Strict):
    """Milliseconds of one stage. Percentiles are nearest rank; ``cv`` is ``sd_ms / mean_ms``.

    ``too_few_samples_for`` names the percentiles that this many samples do not carry at 99 % confidence.
    """

    samples: int
    mean_ms: float
    sd_ms: float
    min_ms: float
    p50_ms: float
    p90_ms: float
    p95_ms: float
    p99_ms: float
    p99_9_ms: float
    max_ms: float
    cv: float
    too_few_samples_for: tuple[str, ...] = ()

    @staticmethod
    def of(samples_ms: Sequence[float]) -> Distribution:
        """Describe ``samples_ms``. Raises `UsageError` where there are none."""
        points = {f"{key(p)}_ms": _short(percentile(samples_ms, p)) for p in PERCENTILES}
        count = len(samples_ms)
        mean = sum(samples_ms) / count
        variance = sum((value - mean) ** 2 for value in samples_ms) / (count - 1) if count > 1 else 0.0
        return Distribution(
            samples=count,
            mean_ms=_short(mean),
            sd_ms=_short(variance**0.5),
            min_ms=_short(min(samples_ms)),
            max_ms=_short(max(samples_ms)),
            cv=_short(variance**0.5 / mean if mean > 0 else 0.0),
            too_few_samples_for=tuple(key(p) for p in PERCENTILES if not enough_samples(count, p)),
            **points,
        )


class Start(_Strict):
    """What stands before the first result, in a fresh process.

    ``import_ms`` loads vmeg-edge and the engine; ``load_ms`` is `vmeg_edge.load`, digests, compilation or cache and the
    self-test included; ``self_test_ms`` is what the golden frames take, run once more; ``first_inference_ms`` the first
    frame's time after loading; ``process_to_first_score_ms`` all of it from the interpreter's start, its own included,
    without the reading of the bench's frames. ``cache`` is what came of the engine cache.
    """

    import_ms: float
    load_ms: float
    self_test_ms: float
    first_inference_ms: float
    process_to_first_score_ms: float
    cache: str = "none"


class Frames(_Strict):
    """What became of the frames that arrived: scored, dropped, lost or failed; ``late`` ones are among the scored."""

    arrived: int
    scored: int
    dropped: int = 0
    late: int = 0
    lost: int = 0
    failed: int = 0


class Memory(_Strict):
    """Resident memory of the case's own process in MB (1e6 bytes), less the frames that the bench holds in it.

    ``peak_rss_mb`` includes loading; ``steady_rss_mb`` is the median of the readings after each round; ``growth_mb`` is
    the last of them less the first; ``allocated_blocks_a_frame`` are the Python objects that each frame leaves behind.
    ``None`` where the system does not tell.
    """

    peak_rss_mb: float | None
    steady_rss_mb: float | None
    growth_mb: float | None
    frames_held_mb: float
    allocated_blocks_a_frame: float | None = None


class Parity(_Strict):
    """The golden frames on this backend against the float32 reference: speed without it means nothing."""

    passed: bool
    frames: int
    max_abs_dp: float | None
    mean_abs_dp: float | None
    flips: int
    heatmap_cosine_min: float | None
    failures: tuple[str, ...] = ()


class Verdict(_Strict):
    """Whether the figures can be relied on, and why not where they cannot."""

    valid: bool
    reasons: tuple[str, ...] = ()

    @property
    def word(self) -> str:
        """As a report writes it."""
        return "VALID" if self.valid else "INVALID"


class Samples(_Strict):
    """Every frame after warm-up, column by column, in the order in which it was scored.

    ``at_s`` counts from the start of the case's own rounds, without the pauses between them.
    """

    round: tuple[int, ...]
    frame: tuple[int, ...]
    at_s: tuple[float, ...]
    preprocess_ms: tuple[float, ...]
    infer_ms: tuple[float, ...]
    explain_ms: tuple[float, ...]
    decide_ms: tuple[float, ...]
    end_to_end_ms: tuple[float, ...]
    late: tuple[bool, ...]

    @model_validator(mode="after")
    def _even(self) -> Samples:
        if len({len(getattr(self, name)) for name in type(self).model_fields}) > 1:
            raise ValueError("the columns differ in length")
        return self


class Case(_Strict):
    """One model, backend, device, precision and number of threads, measured in a process of its own.

    ``name`` begins with the model's label where a report has several; ``model`` is that label. ``artefact_mb`` (1e6
    bytes) are the files on disk that the backend opens; ``None`` where an older report did not say.
    ``bench_overhead_ms`` is what the bench itself adds to each frame's ``end_to_end``, measured around a frame that
    does nothing. ``streams`` is how many frames may be in flight at once (``offline``), 1 elsewhere.
    """

    name: str
    model: str
    backend: str
    version: str
    device: str
    precision: str
    float_precision: str
    threads: int
    streams: int
    pinned_to: tuple[int, ...]
    details: dict[str, Detail]
    kernels: str
    artefact_mb: float | None = None
    start: Start
    stages_ms: dict[str, Distribution]
    throughput_fps: float
    frames: Frames
    memory: Memory
    bench_overhead_ms: float
    parity: Parity
    verdict: Verdict
    samples: Samples


class Settings(_Strict):
    """How it was measured: ``distinct_frames`` in memory, taken in turn; ``rounds`` in which the cases alternate."""

    scenario: Scenario
    duration_s: float
    iterations: int | None = None
    rounds: int
    warm_up_frames: int
    fps: float | None
    deadline_ms: float | None
    source: str
    distinct_frames: int
    frame_width: int
    frame_height: int


class Environment(_Strict):
    """The machine and the software. ``None`` and "unknown" are what the system does not tell.

    ``cores`` and the three numbers of processors count logical ones. ``affinity_processors`` are those that the process
    may run on, ``quota_processors`` is the CPU quota of its control groups (processor seconds a second; ``None`` for no
    quota), ``usable_processors`` the default number of threads that follows from both. ``processor_class`` is what
    artefacts were chosen by (`processor_class.CLASSES`). Reports of version 2 and earlier tell none of these: there,
    ``affinity_processors`` is ``None`` and ``processor_class`` "unknown".
    """

    cpu: str
    processor_class: str
    cpu_features: tuple[str, ...]
    cores: int
    usable_processors: int
    affinity_processors: int | None
    quota_processors: float | None
    governor: str
    memory_mb: int | None
    os: str
    kernel: str
    container: str
    python: str
    versions: dict[str, str]

    @property
    def quota(self) -> str:
        """The CPU quota in words."""
        return "none" if self.quota_processors is None else f"{self.quota_processors:g} processors"

    @property
    def processors(self) -> str:
        """How many threads this process could keep busy, and why so many where the report tells."""
        why = "" if self.affinity_processors is None else f" (affinity {self.affinity_processors}, quota {self.quota})"
        return f"{self.usable_processors} usable{why}"


class Model(_Strict):
    """A bundle that was measured: ``digest`` of its ``SHA256SUMS``, ``checkpoint`` of the weights' file.

    ``label`` tells it from the report's others; it is the bundle's ``name`` where that suffices. ``path`` is the
    folder's name alone: a report travels, and no user's folders with it. ``notices`` must be said with its figures.
    ``not_run`` maps backends to why they were left out: it holds none for them, or they cannot be used here.
    """

    label: str
    name: str
    architecture: str
    input: str
    resize: str
    digest: str
    checkpoint: str
    path: str
    notices: tuple[str, ...] = ()
    not_run: dict[str, str] = {}


class BenchReport(_Strict):
    """One run of ``vmeg-edge bench``: what ``--json`` writes and ``--compare`` reads."""

    schema_version: Literal[3] = 3
    made_at: str
    vmeg_edge: str
    method: str
    settings: Settings
    environment: Environment
    models: tuple[Model, ...]
    cases: tuple[Case, ...]

    @model_validator(mode="after")
    def _told_apart(self) -> BenchReport:
        if len({case.name for case in self.cases}) != len(self.cases):
            raise ValueError("two cases have the same name")
        labels = [model.label for model in self.models]
        if len(set(labels)) != len(labels):
            raise ValueError("two models have the same label")
        stray = [case.name for case in self.cases if case.model not in labels]
        if stray:
            raise ValueError(f"the model of case {_plain(stray[0])} is not among the models")
        return self

    @property
    def valid(self) -> bool:
        """Whether every case is."""
        return all(case.verdict.valid for case in self.cases)

    def to_json(self) -> str:
        """The file's text, in which a column of samples is one line."""
        return _compact(self.model_dump(mode="json")) + "\n"


def parse_report(data: bytes, origin: str) -> BenchReport:
    """What `BenchReport.to_json` wrote, in this version or an earlier one.

    Raises `UsageError` that names ``origin`` and the first bad field.
    """
    try:
        raw = json.loads(data)
        version = raw.get("schema_version") if isinstance(raw, dict) else None
        if version in OLDER and type(version) is int:
            data = json.dumps(lifted(raw)).encode()
    except (ValueError, RecursionError):
        raise UsageError(f"{origin}: not JSON; give a file that `vmeg-edge bench --json` wrote") from None
    if version not in (*OLDER, SCHEMA_VERSION):
        raise UsageError(
            f"{origin}: schema_version is {version!r:.40}, and this vmeg-edge reads up to version {SCHEMA_VERSION}; "
            "run the old bench again with this version"
        )
    try:
        return BenchReport.model_validate_json(data)
    except ValidationError as error:
        first = error.errors()[0]
        where = _plain(".".join(str(part) for part in first["loc"])) or "the report"
        raise UsageError(f"{origin}: {where}: {' '.join(first['msg'].split())}; run the old bench again") from None


def report_schema() -> dict[str, Any]:
    """The JSON Schema of what ``--json`` writes."""
    return BenchReport.model_json_schema()


def key(percent: float) -> str:
    """``p50``, ``p99_9``: a percentile's name in the schema."""
    return f"p{percent:g}".replace(".", "_")


def _plain(text: str) -> str:
    """A field's name is the file's own words, and a terminal obeys what is not printable."""
    return "".join(c if c.isprintable() else "?" for c in text[:200])


def _short(value: float) -> float:
    return float(f"{value:.6g}")


def _compact(value: Any, depth: int = 0) -> str:
    """Indented JSON, except that a list of plain values stays on one line."""
    pad, inner = " " * depth, " " * (depth + 1)
    if isinstance(value, dict) and value:
        rows = [f"{inner}{json.dumps(name)}: {_compact(item, depth + 1)}" for name, item in value.items()]
        return "{\n" + ",\n".join(rows) + f"\n{pad}}}"
    if isinstance(value, list) and any(isinstance(item, (dict, list)) for item in value):
        return "[\n" + ",\n".join(inner + _compact(item, depth + 1) for item in value) + f"\n{pad}]"
    return json.dumps(value, ensure_ascii=False, allow_nan=False)
