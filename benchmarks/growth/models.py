"""The models that are measured: ViTs of published shapes with seeded weights, as float32 and int8 for two engines."""

from __future__ import annotations

import argparse
import math
import sys
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from vmeg_edge.converters.architectures.vit import ViT, ViTConfig
from vmeg_edge.converters.architectures.vit_state import interpolate_positions
from vmeg_edge.converters.frames import tensors_of
from vmeg_edge.converters.onnx_from_checkpoint import export, reference

from vmeg_edge.manifest import Input
from vmeg_edge.phantom import phantoms

SIZES = {"Tiny": (192, 12, 3), "Small": (384, 12, 6), "Base": (768, 12, 12), "Large": (1024, 24, 16)}
TRAINED_AT = 224  # positions are made for this size, and interpolated for others
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
SEED, FRAMES, CALIBRATION_FRAMES = 11, 16, 8  # phantoms


@dataclass(frozen=True)
class Model:
    """One model and where its files lie: made once, by `make`, and kept."""

    size: str
    image_size: int
    work: Path

    @property
    def config(self) -> ViTConfig:
        dim, depth, heads = SIZES[self.size]
        return ViTConfig(image_size=self.image_size, dim=dim, depth=depth, heads=heads)

    @property
    def name(self) -> str:
        return f"{self.config.name} {self.image_size}"

    @property
    def folder(self) -> Path:
        return self.work / f"{self.size.lower()}-{self.image_size}"

    def file(self, engine: str, precision: str, batch: int = 1) -> Path:
        """The file that ``engine`` opens; OpenVINO reads the float32 ONNX itself."""
        suffix = ".xml" if (engine, precision) == ("openvino", "int8") else ".onnx"
        return self.folder / f"{precision}{'' if batch == 1 else f'-batch{batch}'}{suffix}"

    @property
    def frames(self) -> Path:
        """Pixels ``[16, H, W, 3]`` and the torch reference's logits ``[16, 2]``; int8 was calibrated on the first 8."""
        return self.folder / "frames.npz"


def input_of(image_size: int) -> Input:
    """The tensor that a model of this size takes."""
    return Input(width=image_size, height=image_size, resize="bilinear", mean=MEAN, std=STD)


def make(model: Model) -> bool:
    """Make what is missing of a model's files; whether anything was."""
    from vmeg_edge.converters import openvino_from_onnx
    from vmeg_edge.converters.qdq_from_onnx import DYNAMIC, QdqQuantizer
    from vmeg_edge.converters.ranges import Ranges

    if model.frames.exists():
        return False
    model.folder.mkdir(parents=True, exist_ok=True)
    network = _network(model.config)
    pictures = [item.frame for item in phantoms(seed=SEED, count=FRAMES)]
    pixels = tensors_of(pictures, input_of(model.image_size))
    source = model.file("openvino", "float32")
    export(network, source, mean=MEAN, std=STD)
    int8 = openvino_from_onnx.quantize(source, pixels[:CALIBRATION_FRAMES], smooth=openvino_from_onnx.OFF)
    for name, data in openvino_from_onnx.to_files(int8, halve=False).items():
        (model.folder / name.replace("model", "int8")).write_bytes(data)
    dynamic = QdqQuantizer(Ranges(source, pixels[:CALIBRATION_FRAMES], model.folder), DYNAMIC).quantize()
    dynamic.rename(model.file("onnxruntime", "int8"))
    logits, _ = reference(network, mean=MEAN, std=STD)(pixels)
    np.savez(model.frames, pixels=pixels, logits=logits)  # last: a folder that has it is whole
    return True


def make_all(models: Iterable[Model]) -> None:
    """Make every model that is not there yet, and say how long each took."""
    for model in models:
        began = time.perf_counter()
        if make(model):
            print(f"made {model.name} in {time.perf_counter() - began:.0f} s", file=sys.stderr, flush=True)


def _network(config: ViTConfig) -> ViT:
    """Weights at scales where every layer moves the scores."""
    generator = torch.Generator().manual_seed(3)

    def draw(shape: Iterable[int], std: float) -> Tensor:
        return torch.randn(tuple(shape), generator=generator) * std

    network = ViT(config)
    state: dict[str, Tensor] = {}
    for key, value in network.state_dict().items():
        if key == "pos_embed":
            trained = draw((1, 1 + (TRAINED_AT // config.patch) ** 2, config.dim), 0.5)
            state[key] = interpolate_positions(trained, config.grid)
        elif key == "cls_token":
            state[key] = draw(value.shape, 0.5)
        elif "norm" in key:
            state[key] = draw(value.shape, 0.1) + float(key.endswith("weight"))
        elif key.endswith("weight"):
            state[key] = draw(value.shape, 1 / math.sqrt(value[0].numel()))
        else:
            state[key] = draw(value.shape, 0.1)
    network.load_state_dict(state)
    return network.eval()


def main() -> None:
    """Make the models alone, so that a later measurement need not."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("models", nargs="+", help="such as Base-224")
    arguments = parser.parse_args()
    for name in arguments.models:
        size, _, image_size = name.partition("-")
        make_all([Model(size, int(image_size), arguments.work)])


if __name__ == "__main__":
    main()
