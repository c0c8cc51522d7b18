"""What comes back for a frame: Prediction, HeatMap, Timings, FrameResult."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from vmeg_edge.frames import Region

Decision = Literal["normal", "suspected", "no-decision"]
Signal = Literal["live", "frozen", "none"]


@dataclass(frozen=True)
class Prediction:
    """A decision on one frame.

    ``probability`` is that of the positive class, after temperature scaling; ``label`` is the most probable
    class's name; ``reason`` says in one line why the decision is what it is.
    """

    label: str
    probability: float
    decision: Decision
    reason: str


@dataclass(frozen=True, eq=False)
class HeatMap:
    """Feature saliency on the model's grid: float32 ``[rows, columns]`` in 0..1.

    ``region`` is the part of the frame that the grid covers; ``peak_xy`` is the centre of the hottest cell in
    pixels of the whole frame, or ``None`` where the map is flat. It shows what the features respond to, for no
    class in particular: it is never evidence of disease.
    """

    values: npt.NDArray[np.float32]
    region: Region
    peak_xy: tuple[float, float] | None


@dataclass(frozen=True)
class Timings:
    """Milliseconds that each stage of one frame took, by a monotonic clock."""

    decode: float
    preprocess: float
    infer: float
    explain: float
    decide: float

    @property
    def total(self) -> float:
        """The sum of the stages."""
        return self.decode + self.preprocess + self.infer + self.explain + self.decide


@dataclass(frozen=True, eq=False)
class FrameResult:
    """All that is known of one scored frame.

    ``age_ms`` runs from the moment the frame entered the process to the moment this result was ready;
    ``dropped_before`` counts the frames lost or dropped since the result before this one; ``notices`` holds
    what must be said wherever the score is shown ("research use only", "random head"). ``reused`` marks the result
    of an identical frame, given again without inference. ``out_of_plane`` is the distance to the calibration frames
    (near 1 for one of them), ``None`` where the bundle has no plane gate. ``tokens`` is how many the sector's model
    had, ``None`` where the whole model scored.
    """

    frame: int
    source: str
    captured_s: float | None
    prediction: Prediction
    heat_map: HeatMap
    stages_ms: Timings
    age_ms: float
    signal: Signal = "live"
    late: bool = False
    dropped_before: int = 0
    reused: bool = False
    out_of_plane: float | None = None
    tokens: int | None = None
    provenance: dict[str, Any] = field(default_factory=dict)
    notices: tuple[str, ...] = ()

    def to_json(self, *, with_provenance: bool = True) -> dict[str, Any]:
        """The contract's fields, ready for ``json.dumps``. Without provenance, its digest stands in."""
        peak = self.heat_map.peak_xy
        return {
            "frame": self.frame,
            "source": self.source,
            "captured_s": self.captured_s,
            "label": self.prediction.label,
            "probability": self.prediction.probability,
            "decision": self.prediction.decision,
            "reason": self.prediction.reason,
            "signal": self.signal,
            "peak_xy": None if peak is None else [round(peak[0], 2), round(peak[1], 2)],
            "stages_ms": {name: round(value, 4) for name, value in asdict(self.stages_ms).items()},
            "age_ms": round(self.age_ms, 4),
            "late": self.late,
            "dropped_before": self.dropped_before,
            "reused": self.reused,
            "out_of_plane": None if self.out_of_plane is None else round(self.out_of_plane, 4),
            "tokens": self.tokens,
            "notices": list(self.notices),
            "provenance": self.provenance if with_provenance else self.provenance.get("bundle"),
        }


@dataclass(frozen=True, eq=False)
class StreamStatus:
    """Where a live stream stands, for those who look on.

    ``result`` is the newest, and ``None`` whenever the signal is ``none``: a score never outlives its signal.
    Frames that ``arrived`` are ``scored`` (``reused`` among them), ``lost``, ``failed``, ``dropped`` (by reason), or
    still open: ``waiting`` or being scored. Rates are over the last seconds.
    """

    signal: Signal
    signal_reason: str
    signal_since_s: float
    exam: str
    exam_reason: str
    uptime_s: float
    arrived: int
    scored: int
    reused: int
    lost: int
    failed: int
    dropped: dict[str, int]
    late: int
    waiting: int
    arrival_fps: float
    scored_fps: float
    reconnects: int
    result: FrameResult | None
