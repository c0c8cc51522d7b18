"""Everything that decides what a training run learns, as a few small data classes that can be written down."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field, replace
from typing import Literal, TypeAlias

from vmeg_edge.errors import UsageError

from ..architectures.network import Network
from .augmentation import Augmentation

Balance: TypeAlias = Literal["none", "weights", "sampling"]
Mixed: TypeAlias = Literal["auto", "float32", "bfloat16"]


@dataclass(frozen=True)
class Optimizer:
    """AdamW (Loshchilov and Hutter 2019, arXiv 1711.05101), whose weight decay spares norms, biases and positions.

    ``learning_rate`` is the head's at its highest (MAE's 1e-3 for 256 frames, in proportion to a batch of 32); each
    stage before it has ``layer_decay`` times the next one's (Bao et al. 2022, arXiv 2106.08254; MAE's fine-tuning), and
    1 means one rate for all. Gradients are cut to a norm of ``clip``.
    """

    learning_rate: float = 1.25e-4
    weight_decay: float = 0.05
    betas: tuple[float, float] = (0.9, 0.999)
    layer_decay: float = 0.75
    clip: float = 1.0

    def __post_init__(self) -> None:
        """Refuse what cannot be honoured."""
        if not 0 < self.learning_rate < 10 or not 0 <= self.weight_decay < 10:
            raise UsageError("give a learning rate above 0 and below 10, and a weight decay from 0 to below 10")
        if not 0 < self.layer_decay <= 1 or self.clip <= 0 or not all(0 <= beta < 1 for beta in self.betas):
            raise UsageError("give a layer decay above 0 and at most 1, a clip above 0, and betas from 0 to below 1")


@dataclass(frozen=True)
class Schedule:
    """How long, and how the rate moves: a line up over ``warmup_epochs``, then a half cosine to ``last_share`` of it.

    An epoch draws ``epoch_frames`` frames, by default as many as there are. Training stops early where ``patience``
    epochs in a row bring no better validation F1.
    """

    epochs: int = 50
    warmup_epochs: float = 5.0
    last_share: float = 0.001
    patience: int | None = 10
    epoch_frames: int | None = None
    batch: int = 32

    def __post_init__(self) -> None:
        """Refuse what cannot be honoured."""
        if self.epochs < 1 or self.batch < 2 or self.warmup_epochs < 0 or not 0 <= self.last_share <= 1:
            raise UsageError("give 1 epoch or more, a batch of 2 or more, and a warm-up of 0 epochs or more")
        if (self.patience is not None and self.patience < 1) or (
            self.epoch_frames is not None and self.epoch_frames < 2
        ):
            raise UsageError("give a patience of 1 epoch or more, and 2 frames or more an epoch")


@dataclass(frozen=True)
class Stretch:
    """Epochs at one image size, with a warm-up and a cosine of their own."""

    image_size: int
    epochs: int
    learning_rate: float


@dataclass(frozen=True)
class Guidance:
    """Further losses for frames whose finding is known by place and width (phantoms), and their weights.

    ``mask_weight``: the activations predict the share of each position that is inside the finding. ``saliency_weight``:
    the direction in which the finding stands out is made to hold at least ``saliency_share`` of their variance, so that
    Eigen-CAM, which shows the leading direction, shows it. ``width_weight``: what the head reads predicts the width.
    """

    mask_weight: float = 3.0
    saliency_weight: float = 1.0
    saliency_share: float = 0.4
    width_weight: float = 1.0


@dataclass(frozen=True)
class Distillation:
    """What a student that merges as ``convert --reduce-tokens`` with ``tokens`` learns from what merges none.

    ``answer_weight``: its class probabilities, softened by ``temperature`` (Hinton et al. 2015, arXiv 1503.02531).
    ``activation_weight``: the activations that Eigen-CAM reads, un-merged to the grid. ``label_weight``: the labels'
    cross-entropy, which is for what is true and not for what the teacher says.
    """

    tokens: int
    temperature: float = 2.0
    answer_weight: float = 1.0
    activation_weight: float = 1.0
    label_weight: float = 0.0

    def __post_init__(self) -> None:
        """Refuse what cannot be honoured."""
        if self.tokens < 0 or self.temperature <= 0:
            raise UsageError("give 0 tokens or more, and a temperature above 0")


@dataclass(frozen=True)
class Recipe:
    """How to fine-tune. The defaults follow what MAE published for its own (He et al. 2022, arXiv 2111.06377).

    ``smaller_first`` are stretches at smaller image sizes before the network's own (progressive resizing). ``balance``
    evens out classes by weights in the loss, or by drawing each class as often; ``drop_path`` is the last block's rate
    of stochastic depth. With ``distillation`` a copy that merges tokens learns from the network; neither ``guidance``
    nor ``smaller_first`` goes with it. ``precision`` ``auto`` is bfloat16 mixed precision where the device has
    instructions for it. The same seed on the same machine and threads gives the same weights.
    """

    optimizer: Optimizer = field(default_factory=Optimizer)
    schedule: Schedule = field(default_factory=Schedule)
    augmentation: Augmentation = field(default_factory=Augmentation)
    drop_path: float = 0.1
    label_smoothing: float = 0.1
    balance: Balance = "weights"
    smaller_first: tuple[Stretch, ...] = ()
    guidance: Guidance | None = None
    distillation: Distillation | None = None
    precision: Mixed = "auto"
    seed: int = 0

    def __post_init__(self) -> None:
        """Refuse what cannot be honoured."""
        if not 0 <= self.drop_path < 1 or not 0 <= self.label_smoothing < 1:
            raise UsageError("give a drop path and a label smoothing from 0 to below 1")
        if self.balance not in ("none", "weights", "sampling"):
            raise UsageError(f"balance is {self.balance!r}; choose none, weights or sampling")
        if self.precision not in ("auto", "float32", "bfloat16"):
            raise UsageError(f"precision is {self.precision!r}; choose auto, float32 or bfloat16")
        if self.distillation is not None and (self.guidance is not None or self.smaller_first):
            raise UsageError("distillation goes with neither guidance nor smaller image sizes first; leave them out")

    def stretches(self, image_size: int) -> tuple[Stretch, ...]:
        """Every stretch in order, the last at the network's own ``image_size``."""
        return (*self.smaller_first, Stretch(image_size, self.schedule.epochs, self.optimizer.learning_rate))

    def to_json(self) -> str:
        """The recipe as one line of JSON, keys sorted."""
        return json.dumps(asdict(self), sort_keys=True)


def default_recipe(network: Network, *, from_scratch: bool = False) -> Recipe:
    """A recipe that ``network`` can honour: MAE's for a ViT, one rate for all stages and no drop path for the others.

    From scratch there is nothing to keep, so no stage is held back, and the rate is higher.
    """
    recipe = Recipe()
    if network.family == "vit" and not from_scratch:
        return recipe
    rate = {"vit": 5e-4, "resnet": 1e-3, "vgg": 2e-4}[network.family] if from_scratch else 1e-4
    drop_path = recipe.drop_path if network.family == "vit" else 0.0
    return replace(recipe, optimizer=Optimizer(learning_rate=rate, layer_decay=1.0), drop_path=drop_path)


def distillation_recipe(tokens: int) -> Recipe:
    """A light fine-tune of a trained ViT that shall merge: few epochs at a fifth of the rate.

    The student is held to the teacher's answers as they are, so nothing blurs them: no drop path, no label smoothing.
    """
    return Recipe(
        optimizer=Optimizer(learning_rate=Optimizer.learning_rate / 5),
        schedule=Schedule(epochs=3, warmup_epochs=0.2),
        drop_path=0.0,
        label_smoothing=0.0,
        distillation=Distillation(tokens),
    )
