"""What every network of the toolchain offers: its shape, its activations, and the names that recipes need."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import ClassVar, Literal, Protocol, TypeAlias

import torch
from torch import Tensor, nn

from vmeg_edge.errors import UsageError
from vmeg_edge.manifest import Architecture, Head

Family: TypeAlias = Literal["vit", "resnet", "vgg"]


class Config(Protocol):
    """What the toolchain asks of a network's shape, whatever the family."""

    @property
    def image_size(self) -> int:
        """Pixels a side."""

    @property
    def classes(self) -> int:
        """Rows of the head."""

    @property
    def name(self) -> str:
        """What people call it, such as ``ResNet-50``."""

    @property
    def weights(self) -> int:
        """How many numbers the model holds, give or take its biases and norms."""

    def entry(self, head: Head) -> Architecture:
        """What a manifest says of this shape."""


class Network(nn.Module, ABC):
    """A classifier that returns logits ``[N, classes]`` and the activations ``[N, h*w, C]`` behind its heat map.

    It takes normalised float32 ``[N, 3, H, W]``. ``grid`` is (h, w) and ``channels`` C, at ``cam_layer``. ``drop_path``
    is the highest rate of stochastic depth, which acts in training alone.
    """

    family: ClassVar[Family]
    first_conv: ClassVar[str]
    head_name: ClassVar[str]

    config: Config
    cam_layer: str
    grid: tuple[int, int]
    channels: int

    def twin(self) -> Network:
        """The same network on torch's meta device, without weights and without stochastic depth."""
        with torch.device("meta"):
            return type(self)(self.config, cam_layer=self.cam_layer)

    def with_state(self, state: Mapping[str, Tensor]) -> Network:
        """A network of this shape with these weights, sharing their memory, in evaluation mode."""
        made = self.twin()
        made.load_state_dict(dict(state), assign=True)
        return made.eval().requires_grad_(False)

    @abstractmethod
    def initialise(self, seed: int) -> None:
        """Fill in the weights that training from scratch starts from, the same for the same ``seed``."""

    def norm_pairs(self) -> list[tuple[str, str]]:
        """(convolution, batch norm right behind it), by name: what can be folded for inference."""
        return []

    @property
    @abstractmethod
    def stages(self) -> int:
        """How many stages `stage_of` tells apart."""

    @abstractmethod
    def stage_of(self, parameter: str) -> int:
        """The stage that a parameter belongs to: 0 at the pixels, ``stages - 1`` at the head."""


class DropPath(nn.Module):
    """Stochastic depth (Huang et al. 2016, arXiv 1603.09382): in training, a sample skips the branch at ``rate``."""

    def __init__(self, rate: float) -> None:
        """``rate`` in 0 to 1, without 1."""
        super().__init__()
        if not 0 <= rate < 1:
            raise UsageError(f"drop_path is {rate}; give a rate from 0 to below 1")
        self.rate = rate

    def forward(self, branch: Tensor) -> Tensor:
        """Scale what is kept, so that the expectation stays; in evaluation the branch passes as it is."""
        if not self.training or self.rate == 0:
            return branch
        kept = 1 - self.rate
        shape = (branch.shape[0],) + (1,) * (branch.ndim - 1)
        return branch * branch.new_empty(shape).bernoulli_(kept) / kept
