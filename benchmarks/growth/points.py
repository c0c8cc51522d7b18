"""What is measured: four series of points, each point one engine, precision and model in a process of its own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from models import Model

ENGINES = (("openvino", "int8"), ("openvino", "float32"), ("onnxruntime", "int8"), ("onnxruntime", "float32"))
NAMES = {"openvino": "OpenVINO", "onnxruntime": "ONNX Runtime"}


@dataclass(frozen=True)
class Point:
    """One child process: ``streams`` scorers with ``threads`` each, or, where it is 0, the engine's own API."""

    model: Model
    engine: str
    precision: str
    x: float
    threads: int
    batch: int = 1
    streams: int = 0

    @property
    def label(self) -> str:
        """The line in the plot that the point lies on."""
        model = f"{self.model.config.name} " if self.streams else ""
        return f"{model}{NAMES[self.engine]} {self.precision}"


@dataclass(frozen=True)
class Series:
    """One table and one plot. ``seconds`` is how long its points take turns."""

    name: str
    title: str
    axis: str
    points: tuple[Point, ...]
    seconds: float

    @property
    def models(self) -> tuple[Model, ...]:
        return tuple(dict.fromkeys(point.model for point in self.points))


def all_series(work: Path, threads: int, *, quick: bool) -> list[Series]:
    """The four; ``quick`` runs them on the smallest model for a few seconds, to see that all works."""
    sizes = ("Tiny", "Small") if quick else ("Tiny", "Small", "Base", "Large")
    images = (224, 384) if quick else (224, 384, 512)
    batches = (1, 4) if quick else (1, 2, 4, 8, 16)
    streams = (1, 2) if quick else (1, 2, 3, 4)
    main = "Tiny" if quick else "Base"
    grown = Model(main, 224, work).config.name
    seconds = [8.0] * 4 if quick else [110.0, 90.0, 150.0, 130.0]

    def over(models: Sequence[tuple[Model, float, int]]) -> tuple[Point, ...]:
        return tuple(
            Point(model, engine, precision, x, threads, batch)
            for model, x, batch in models
            for engine, precision in ENGINES
        )

    return [
        Series(
            "input_size",
            f"{grown} as the input grows",
            "input size, pixels a side",
            over([(Model(main, side, work), side, 1) for side in images]),
            seconds[0],
        ),
        Series(
            "model_size",
            "224 x 224 as the model grows",
            "weights, millions",
            over([(m, m.config.weights / 1e6, 1) for m in (Model(size, 224, work) for size in sizes)]),
            seconds[1],
        ),
        Series(
            "batch",
            f"{grown} at 224 x 224 as the batch grows",
            "frames in a batch",
            over([(Model(main, 224, work), batch, batch) for batch in batches]),
            seconds[2],
        ),
        Series(
            "streams",
            "one process as its streams grow",
            "streams in one process",
            tuple(
                Point(Model(size, 224, work), engine, "int8", count, max(1, threads // count), streams=count)
                for size in (("Tiny",) if quick else ("Small", "Base"))
                for engine in NAMES
                for count in streams
            ),
            seconds[3],
        ),
    ]
