"""The paper's four systems at three sizes, as data: what each is, and the recipe that it trains with."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from vmeg_edge.converters.architectures.known import ARCHITECTURES, AnyConfig
from vmeg_edge.converters.architectures.resnet import ResNetConfig
from vmeg_edge.converters.architectures.vgg import VGGConfig
from vmeg_edge.converters.architectures.vit import ViTConfig
from vmeg_edge.converters.training.augmentation import Augmentation
from vmeg_edge.converters.training.recipe import Optimizer, Recipe, Schedule

from .pretraining import Pretraining

# No crops: a crop zooms, and a phantom's label is a width.
AUGMENTATION = Augmentation(flip=0.5, rotation_deg=10.0, smallest_crop=1.0, gain=0.2, offset=10.0, gamma=0.1, speckle=0)


@dataclass(frozen=True)
class System:
    """One system: ``name`` says what it is, ``paper`` which of the paper's it stands for.

    ``pretrained`` systems start from the encoder that `Size.pretraining` makes, the others from scratch.
    """

    key: str
    name: str
    paper: str
    config: AnyConfig
    recipe: Recipe
    pretrained: bool = False


@dataclass(frozen=True)
class Size:
    """Everything that decides a run: the systems, how many phantoms, how long.

    ``labelled`` phantoms go into the folds, ``test`` are the independent test split, ``unlabelled`` serve pre-training
    alone. ``deletions`` test frames of each class get a deletion curve, with ``random_orders`` random ones beside it.
    ``timed_frames`` are timed a case, over ``timed_rounds`` turns.
    """

    name: str
    image_size: int
    systems: tuple[System, ...]
    pretraining: Pretraining
    labelled: int
    test: int
    unlabelled: int
    folds: int = 5
    validation_share: float = 0.15
    deletions: int = 100
    random_orders: int = 4
    timed_frames: int = 300
    timed_rounds: int = 5


def _recipe(rate: float, schedule: Schedule, *, layer_decay: float = 1.0, drop_path: float = 0.0) -> Recipe:
    return Recipe(
        optimizer=Optimizer(learning_rate=rate, layer_decay=layer_decay),
        schedule=schedule,
        augmentation=AUGMENTATION,
        drop_path=drop_path,
        label_smoothing=0.02,
        balance="weights",
    )


def _four(
    configs: tuple[AnyConfig, AnyConfig, AnyConfig],
    names: tuple[str, str, str, str],
    rates: tuple[float, float, float, float],
    schedules: tuple[Schedule, Schedule],
    layer_decay: float,
    drop_path: float,
) -> tuple[System, ...]:
    """The paper's four; ``schedules`` are that of the ViTs and that of the others, ``layer_decay`` the encoder's."""
    vit, resnet, vgg = configs
    long, short = schedules
    tuned = _recipe(rates[0], long, layer_decay=layer_decay, drop_path=drop_path)
    return (
        System("mae", names[0], "USF-MAE", vit, tuned, pretrained=True),
        System("vit", names[1], "ViT-B/16", vit, _recipe(rates[1], long, drop_path=drop_path)),
        System("resnet", names[2], "ResNet-50", resnet, _recipe(rates[2], short)),
        System("vgg", names[3], "VGG-19", vgg, _recipe(rates[3], short)),
    )


SMALL = Size(
    name="small",
    image_size=128,
    systems=_four(
        (
            ViTConfig(image_size=128, dim=192, depth=4, heads=3),
            ResNetConfig(image_size=128, blocks=(1, 1, 1, 1), width=16),
            VGGConfig(
                image_size=128,
                convolutions=(1, 1, 2, 2, 2),
                widths=(16, 32, 64, 128, 128),
                hidden=256,
                pooled=4,
                batch_norm=True,
            ),
        ),
        (
            "ViT 192x4, MAE pre-trained on unlabelled phantoms",
            "ViT 192x4 from scratch",
            "ResNet-14 of width 16 (bottleneck blocks)",
            "VGG-11-BN of widths 16-32-64-128-128",
        ),
        (4e-4, 4e-4, 2e-3, 7e-4),
        (
            Schedule(epochs=18, warmup_epochs=1.0, last_share=0.01, patience=8),
            Schedule(epochs=9, warmup_epochs=1.0, last_share=0.01, patience=4),
        ),
        layer_decay=0.75,
        drop_path=0.0,
    ),
    # Speckle cannot be foretold, and is most of a patch brought to variance 1: such an encoder was no help.
    pretraining=Pretraining(images=100_000, per_patch=False),
    labelled=2400,
    test=400,
    unlabelled=6000,
)

FULL = Size(
    name="full",
    image_size=224,
    systems=_four(
        (ARCHITECTURES["vit_base"], ARCHITECTURES["resnet50"], ARCHITECTURES["vgg19"]),
        ("ViT-B/16, MAE pre-trained on unlabelled phantoms", "ViT-B/16 from scratch", "ResNet-50", "VGG-19"),
        (2.5e-4, 2.5e-4, 1e-3, 1e-4),
        (
            Schedule(epochs=30, warmup_epochs=3.0, last_share=0.001, patience=10, batch=64),
            Schedule(epochs=20, warmup_epochs=2.0, last_share=0.001, patience=8, batch=64),
        ),
        layer_decay=0.75,
        drop_path=0.1,
    ),
    pretraining=Pretraining(
        images=1_600_000, batch=256, learning_rate=6e-4, decoder_dim=512, decoder_depth=4, decoder_heads=8
    ),
    labelled=6000,
    test=1000,
    unlabelled=40_000,
)

TINY = Size(
    name="tiny",
    image_size=64,
    systems=_four(
        (
            ViTConfig(image_size=64, dim=64, depth=2, heads=1),
            ResNetConfig(image_size=64, kind="basic", blocks=(1, 1, 1, 1), width=16),
            VGGConfig(image_size=64, convolutions=(1, 1, 1), widths=(8, 16, 32), hidden=32, pooled=8, batch_norm=True),
        ),
        ("ViT 64x2, MAE pre-trained", "ViT 64x2 from scratch", "ResNet-10 of width 16", "VGG-6-BN of widths 8-16-32"),
        (1e-3, 1e-3, 2e-3, 1e-3),
        (Schedule(epochs=2, warmup_epochs=0.0, last_share=0.1, patience=None, batch=16),) * 2,
        layer_decay=1.0,
        drop_path=0.0,
    ),
    pretraining=Pretraining(images=64, batch=16, decoder_dim=32, decoder_depth=1, decoder_heads=1),
    labelled=40,
    test=16,
    unlabelled=16,
    folds=2,
    validation_share=0.3,
    deletions=2,
    random_orders=2,
    timed_frames=8,
    timed_rounds=2,
)

SIZES: Mapping[str, Size] = {size.name: size for size in (SMALL, FULL, TINY)}
