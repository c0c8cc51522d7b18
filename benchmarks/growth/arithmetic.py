"""How many multiply-adds a ViT needs, counted from its shape, and the least time that a peak allows for them."""

from __future__ import annotations

from dataclasses import dataclass

from vmeg_edge.converters.architectures.vit import CHANNELS, ViTConfig


@dataclass(frozen=True)
class Madds:
    """Multiply-adds of one forward pass. LayerNorm, softmax, GELU and the residuals are none of them.

    ``linear`` is queries, keys, values, projection and MLP; ``attention`` the two products of activations.
    """

    patch_embedding: int
    linear: int
    attention: int
    head: int

    @property
    def total(self) -> int:
        """All of them."""
        return self.patch_embedding + self.linear + self.attention + self.head

    def in_int8(self, *, patch_embedding: bool) -> int:
        """What an int8 recipe takes: the linear layers, and with static ranges the patch embedding too."""
        return self.linear + (self.patch_embedding if patch_embedding else 0)


def count(config: ViTConfig, batch: int = 1) -> Madds:
    """The multiply-adds of ``batch`` frames."""
    patches, dim = config.grid**2, config.dim
    tokens = patches + 1
    per_token = dim * (3 * dim + dim + 2 * config.hidden)  # qkv, projection, MLP
    return Madds(
        patch_embedding=batch * patches * dim * CHANNELS * config.patch**2,
        linear=batch * config.depth * tokens * per_token,
        attention=batch * config.depth * 2 * tokens**2 * dim,
        head=batch * dim * config.classes,
    )


def floor_ms(madds: Madds, in_int8: int, int8_per_s: float, float32_per_s: float) -> float:
    """The time of the multiply-adds alone, each kind at its peak: no memory, no softmax, no call is in it."""
    return (in_int8 / int8_per_s + (madds.total - in_int8) / float32_per_s) * 1e3
