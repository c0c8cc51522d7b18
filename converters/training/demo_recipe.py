"""The embedded demo model: what it is, what it learns from, and how; ``vmeg-edge finetune phantoms --recipe demo``.

A ViT of width 192 with 4 blocks learns at 112 pixels first and at 224 after that (progressive resizing, so that most
frames are cheap). Guidance shapes its features: the patch tokens predict how much of each patch is ventricle; the
direction in which the ventricles stand out is made to lead their variance, so that Eigen-CAM, which shows the leading
direction, shows ventricles; and what the head reads predicts the atrial width.
"""

from __future__ import annotations

from vmeg_edge.manifest import DecisionRule, Input

from ..architectures.vit import ViTConfig
from .augmentation import Augmentation
from .recipe import Guidance, Optimizer, Recipe, Schedule, Stretch

INPUT = Input(width=224, height=224, resize="bilinear", mean=(0.25, 0.25, 0.25), std=(0.25, 0.25, 0.25))
CONFIG = ViTConfig(image_size=224, dim=192, depth=4, heads=3, classes=2, pool="mean")
RULE = DecisionRule(
    temperature=1.0, threshold=0.5, abstain=(0.35, 0.65), origin="chosen by hand for the demo, not fitted"
)
SEED = 7
PHANTOMS = 13_000
VALIDATION_SHARE = 1 / 13
EPOCH_FRAMES = 4_000


def recipe(seed: int = SEED, saliency_weight: float = 1.0) -> Recipe:
    """The recipe; an epoch draws 4,000 frames of the 12,000, so that a kill costs a minute or two."""
    return Recipe(
        optimizer=Optimizer(learning_rate=6e-4, weight_decay=0.05, betas=(0.9, 0.99), layer_decay=1.0, clip=1.0),
        schedule=Schedule(
            epochs=8, warmup_epochs=1.0, last_share=0.05, patience=None, epoch_frames=EPOCH_FRAMES, batch=64
        ),
        augmentation=Augmentation(
            flip=0.5, rotation_deg=0.0, smallest_crop=1.0, gain=0.2, offset=10.0, gamma=0.0, speckle=0.0
        ),
        drop_path=0.0,
        label_smoothing=0.1,
        balance="none",
        smaller_first=(Stretch(112, 10, 1.5e-3),),
        guidance=Guidance(saliency_weight=saliency_weight),
        seed=seed,
    )
