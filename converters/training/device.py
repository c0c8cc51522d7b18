"""Where a network trains, and in which precision."""

from __future__ import annotations

import torch

from vmeg_edge.errors import UsageError

from .recipe import Mixed


def choose_device(name: str) -> torch.device:
    """The torch device called ``name``; ``auto`` is a GPU where torch sees one. Raises `UsageError`."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        first = " ".join(str(error).split())[:120]
        raise UsageError(f"torch cannot train on the device {name!r} here ({first}); choose cpu or cuda") from None
    return device


def mixed_precision(asked: Mixed, device: torch.device) -> bool:
    """Whether the forward pass runs in bfloat16 where that is safe (autocast); the weights stay float32.

    On a CPU with AVX-512's bfloat16 a step took 0.46 to 0.69 of its time in float32 (ViT, ResNet, VGG; one core of an
    AMD EPYC); on one without, it would be emulated.
    """
    if asked != "auto":
        return asked == "bfloat16"
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    known: dict[str, object] = getattr(torch.cpu, "get_capabilities", dict)()
    return device.type == "cpu" and bool(known.get("avx512_bf16") or known.get("amx_bf16"))
