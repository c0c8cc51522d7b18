"""What a bundle says about itself: the fields of ``manifest.json``, checked, and their JSON Schema."""

from __future__ import annotations

import json
import math
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from vmeg_edge.errors import ManifestError

SCHEMA_VERSION = 1

RESEARCH_USE_ONLY = "Research use only; not for diagnosis. The integrator owns clinical validation."
PHANTOMS_ONLY = "DEMO MODEL: trained on simulated heads alone; on any other picture its scores mean nothing."
RANDOM_HEAD = "RANDOM HEAD: the classifier was never trained, so its scores mean nothing."

ResizeMethod = Literal["nearest", "bilinear", "bicubic"]
Precision = Literal["float32", "float16", "bfloat16", "int8"]
Unit = Annotated[float, Field(ge=0.0, le=1.0)]

Proof = Literal["run", "emulated", "simulated", "same"]
"""How an artefact was proven for a class of processors (`processor_class.CLASSES`).

``run``: it ran on such a processor. ``emulated``: its engine ran it, held to the instructions of the class.
``simulated``: an equal model ran, whose integer products are exact here as they are on the class. ``same``: it ran
here, and no product of it depends on the class; rounding of float32 alone may differ.
"""


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, protected_namespaces=())


Head = Literal["trained", "random"]
Count = Annotated[int, Field(ge=1, le=128)]
Channels = Annotated[int, Field(ge=1, le=8192)]


class ViTArchitecture(_Strict):
    """A Vision Transformer, in the words of its paper. ``pool`` is the mean of the patch tokens or the class token."""

    family: Literal["vit"]
    patch: int = Field(ge=1, le=64)
    dim: int = Field(ge=1, le=4096)
    depth: Count
    heads: Count
    pool: Literal["mean", "token"]
    head: Head

    @property
    def summary(self) -> str:
        """A few words for people."""
        return f"ViT of {self.depth} blocks, {self.dim} channels, patches of {self.patch}"

    def check_grid(self, grid: tuple[int, int], size: tuple[int, int]) -> None:
        """Raise `ValueError` where a grid (rows, columns) is not that of an input of ``size`` (height, width)."""
        if (grid[0] * self.patch, grid[1] * self.patch) != size:
            raise ValueError("explanation.grid times architecture.patch must be the input size")


class _Convolutional(_Strict):
    """A network whose heat map may be of any of its stages."""

    def check_grid(self, grid: tuple[int, int], size: tuple[int, int]) -> None:
        """Raise `ValueError` where a grid (rows, columns) cannot be that of an input of ``size`` (height, width)."""
        if min(grid) < 1 or size[0] % grid[0] or size[1] % grid[1]:
            raise ValueError("explanation.grid must divide the input size")


class ResNetArchitecture(_Convolutional):
    """A ResNet: the kind of its blocks, their count in each of four stages, and the stem's channels."""

    family: Literal["resnet"]
    kind: Literal["basic", "bottleneck"]
    blocks: tuple[Count, Count, Count, Count]
    width: Channels
    head: Head

    @property
    def summary(self) -> str:
        """A few words for people."""
        depth = 2 + sum(self.blocks) * (3 if self.kind == "bottleneck" else 2)
        return f"ResNet of {depth} layers, {self.width} channels at the stem"


class VGGArchitecture(_Convolutional):
    """A VGG: each stage's convolutions and channels, and the two hidden layers that read ``pooled`` squared positions.

    A batch norm is folded into the convolutions, and said here.
    """

    family: Literal["vgg"]
    convolutions: Annotated[tuple[Count, ...], Field(min_length=1, max_length=8)]
    widths: Annotated[tuple[Channels, ...], Field(min_length=1, max_length=8)]
    hidden: int = Field(ge=1, le=65_536)
    pooled: int = Field(ge=1, le=64)
    batch_norm: bool
    head: Head

    @property
    def summary(self) -> str:
        """A few words for people."""
        return f"VGG of {sum(self.convolutions) + 3} layers, up to {max(self.widths)} channels"


Architecture = Annotated[ViTArchitecture | ResNetArchitecture | VGGArchitecture, Field(discriminator="family")]


class Input(_Strict):
    """The tensor ``pixels``: uint8 ``[1, height, width, 3]``, RGB.

    ``resize`` is the trainer's method, with Pillow's semantics; the whole region is stretched to the size.
    ``mean`` and ``std`` (of pixels in 0..1) are part of the graph and recorded here.
    """

    width: int = Field(ge=16, le=2048)
    height: int = Field(ge=16, le=2048)
    resize: ResizeMethod
    mean: tuple[float, float, float]
    std: tuple[float, float, float]


class DecisionRule(_Strict):
    """From logits to a decision: softmax at ``temperature``, then ``threshold`` on the positive class.

    A probability strictly inside ``abstain`` (low, high) is no decision. ``origin`` says where the figures
    come from: ``default`` or the procedure that fitted them.
    """

    temperature: float = Field(gt=0.0, le=1000.0)
    threshold: Unit
    abstain: tuple[Unit, Unit] | None = None
    origin: str = "default"

    @model_validator(mode="after")
    def _ordered(self) -> DecisionRule:
        if self.abstain is not None and not self.abstain[0] <= self.threshold <= self.abstain[1]:
            raise ValueError("abstain must hold low <= threshold <= high")
        return self


class Explanation(_Strict):
    """The heat map: Eigen-CAM of ``layer``, whose activations lie on ``grid`` (rows, columns)."""

    method: Literal["eigen-cam"] = "eigen-cam"
    layer: str
    grid: tuple[int, int]
    channels: int = Field(ge=1)


class SizedModel(_Strict):
    """The same model for frames whose outside patches share tokens, so that there are ``tokens`` in all."""

    tokens: int = Field(ge=5, le=16384)
    files: Annotated[tuple[str, ...], Field(min_length=1)]


class Variant(_Strict):
    """A serialised model for one backend: its files (the one to open first), and the precision it computes in.

    ``float_precision`` is that of everything that is not int8; the backend pins it. ``recipe`` names how the model
    was quantized, ``reason`` why this recipe was kept, ``float_layers`` the linear layers that were given back to
    float. ``sized`` are the models for frames of a known sector (`sector`). ``proven`` maps the classes of processors
    that it was proven for to how; empty where the processor has no part in it, and in bundles made before there were
    classes.
    """

    files: Annotated[tuple[str, ...], Field(min_length=1)]
    precision: Precision
    float_precision: Literal["float32", "float16", "bfloat16"] = "float32"
    recipe: str = ""
    reason: str = ""
    float_layers: tuple[str, ...] = ()
    sized: tuple[SizedModel, ...] = ()
    proven: dict[str, Proof] = Field(default_factory=dict)

    @property
    def sizes(self) -> tuple[int, ...]:
        """The tokens of each sized model."""
        return tuple(model.tokens for model in self.sized)

    @property
    def all_files(self) -> tuple[str, ...]:
        """Its files and those of its sized models."""
        return (*self.files, *(name for model in self.sized for name in model.files))

    def serves(self, processor: str) -> bool:
        """Whether it may run on this class of processors: proven for it, or for none in particular."""
        return not self.proven or processor in self.proven


class Artefact(Variant):
    """What a backend opens: one model, or several made for different classes of processors.

    ``variants`` are the further ones; the first that serves the class at hand is taken.
    """

    variants: tuple[Variant, ...] = ()

    @property
    def made(self) -> tuple[Variant, ...]:
        """Every model, the first included."""
        return (self, *self.variants)

    def on(self, processor: str) -> Artefact | None:
        """The one that serves this class of processors, by itself; ``None`` where none does."""
        for one in self.made:
            if one.serves(processor):
                return Artefact(**{name: getattr(one, name) for name in Variant.model_fields})
        return None


class Ranking(_Strict):
    """Backends on one class of processors, the fastest first.

    ``measured`` says that the order is of medians measured on such a machine at conversion; otherwise it is what
    `vmeg-edge convert` expects from measurements of other models.
    """

    backends: Annotated[tuple[str, ...], Field(min_length=1)]
    measured: bool


class CalibrationSet(_Strict):
    """The frames that quantization was calibrated on, and those that the gate was held on and calibration never saw.

    A digest is the SHA-256 of the frames' tensors (uint8 ``[H, W, 3]``) in order. ``sources`` are names without their
    folders.
    """

    frames: int = Field(ge=1)
    sha256: str
    validation_frames: int = Field(default=0, ge=0)
    validation_sha256: str = ""
    sources: tuple[str, ...] = ()


class PlaneGateRule(_Strict):
    """Above ``threshold``, the distance of ``plane_gate.npz`` says that a frame is no picture of the calibrated plane.

    The threshold is the ``quantile`` of the distances of ``held_out_frames``, which the fit has not seen, times
    ``margin``. Digests are the SHA-256 of the frames' tensors (uint8 ``[H, W, 3]``) in order; ``sources`` are names
    without their folders; ``features`` says what is measured.
    """

    threshold: float = Field(gt=0.0, lt=1e6)
    origin: str
    features: str
    frames: int = Field(ge=1)
    sha256: str
    held_out_frames: int = Field(ge=1)
    held_out_sha256: str
    quantile: Unit
    margin: float = Field(ge=1.0, le=10.0)
    sources: tuple[str, ...]


class Checkpoint(_Strict):
    """The weights that the bundle was converted from."""

    file: str
    sha256: str


class Manifest(_Strict):
    """``manifest.json``, version 1. Unknown fields are refused: they would be promises that nothing keeps.

    ``fastest`` ranks the backends by class of processors (`processor_class.CLASSES`).
    ``merge`` is how many tokens each block of a ViT merges away in every artefact (ToMe, arXiv 2210.09461); where it is
    empty, none are. The golden frames' answers are those of the model that merges none.
    """

    schema_version: Literal[1]
    name: Annotated[str, Field(min_length=1, max_length=200)]
    architecture: Architecture
    input: Input
    labels: Annotated[tuple[str, ...], Field(min_length=2)]
    positive: str
    decision: DecisionRule
    explanation: Explanation
    artefacts: Annotated[dict[str, Artefact], Field(min_length=1)]
    fastest: dict[str, Ranking] = Field(default_factory=dict)
    merge: tuple[Annotated[int, Field(ge=0)], ...] = ()
    calibration: CalibrationSet | None = None
    plane_gate: PlaneGateRule | None = None
    checkpoint: Checkpoint
    trained_on: Literal["phantoms"] | None = None
    tools: dict[str, str]
    golden_origin: str
    intended_use: str = RESEARCH_USE_ONLY
    notes: tuple[str, ...] = ()

    @model_validator(mode="after")
    def _consistent(self) -> Manifest:
        if len(set(self.labels)) != len(self.labels):
            raise ValueError("labels must differ from one another")
        if self.positive not in self.labels:
            raise ValueError(f"positive {self.positive!r} is not one of the labels")
        if any(s <= 0 or not math.isfinite(s) for s in self.input.std):
            raise ValueError("input.std must be positive")
        self.architecture.check_grid(self.explanation.grid, (self.input.height, self.input.width))
        if self.merge and (self.architecture.family != "vit" or len(self.merge) != self.architecture.depth):
            raise ValueError("merge needs a ViT, and one number for each of its blocks")
        return self

    def on(self, processor: str) -> Manifest:
        """Itself with the artefacts that serve this class of processors, one a backend; there may be none."""
        serving = {name: artefact.on(processor) for name, artefact in self.artefacts.items()}
        return self.model_copy(update={"artefacts": {name: one for name, one in serving.items() if one is not None}})

    @property
    def merged(self) -> bool:
        """Whether the artefacts compute with fewer tokens than there are patches."""
        return any(self.merge)

    @property
    def positive_index(self) -> int:
        """The positive class's place among the logits."""
        return self.labels.index(self.positive)

    @property
    def notices(self) -> tuple[str, ...]:
        """What must be said wherever a score of this bundle is shown."""
        random = (RANDOM_HEAD,) if self.architecture.head == "random" else ()
        phantoms = (PHANTOMS_ONLY,) if self.trained_on == "phantoms" else ()
        return (*random, *phantoms, RESEARCH_USE_ONLY)

    def to_json(self) -> str:
        """The file's text: indented, keys in the order of the schema, a newline.

        What later versions added is left out where it is empty, so that a bundle that does not use it stays as it was.
        """
        content = self.model_dump(mode="json")
        _leave_out(content, "merge", "fastest")
        for artefact in content["artefacts"].values():
            for one in (artefact, *artefact["variants"]):
                _leave_out(one, "sized", "proven", "variants")
        return json.dumps(content, indent=2, ensure_ascii=False) + "\n"


def _leave_out(content: dict[str, Any], *names: str) -> None:
    for name in names:
        if name in content and not content[name]:
            del content[name]


def parse_manifest(data: bytes, origin: str) -> Manifest:
    """Check the bytes of a manifest. Raises `ManifestError` that names ``origin`` and the first bad field."""
    try:
        raw = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise ManifestError(f"{origin}: not JSON ({_one_line(error)}); convert the checkpoint again") from None
    version = raw.get("schema_version") if isinstance(raw, dict) else None
    if version != SCHEMA_VERSION:
        raise ManifestError(
            f"{origin}: schema_version is {version!r}, and this vmeg-edge reads version {SCHEMA_VERSION}; "
            "convert the checkpoint again, or install the vmeg-edge that made the bundle"
        )
    try:
        return Manifest.model_validate_json(data)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "manifest"
        raise ManifestError(f"{origin}: {where}: {_one_line(first['msg'])}; convert the checkpoint again") from None


def manifest_schema() -> dict[str, Any]:
    """The JSON Schema of ``manifest.json``."""
    return Manifest.model_json_schema()


def _one_line(message: object) -> str:
    return " ".join(str(message).split())
