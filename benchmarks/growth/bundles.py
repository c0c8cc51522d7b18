"""A model as a bundle, so that streams run through the product's own scorer."""

from __future__ import annotations

from pathlib import Path

from models import Model, input_of

from vmeg_edge.bundle import sha256_of, write_bundle
from vmeg_edge.manifest import Artefact, Checkpoint, DecisionRule, Explanation, Manifest, ViTArchitecture


def make(model: Model) -> Path:
    """The int8 bundle of ``model``, for both engines; written when it is not there yet.

    It carries no golden frames: the benchmark holds its logits against the reference itself.
    """
    folder = model.folder / "int8.vmeg"
    if folder.exists():
        return folder
    config = model.config
    onnx, xml = model.file("onnxruntime", "int8"), model.file("openvino", "int8")
    manifest = Manifest(
        schema_version=1,
        name=model.name,
        architecture=ViTArchitecture(
            family="vit",
            patch=config.patch,
            dim=config.dim,
            depth=config.depth,
            heads=config.heads,
            pool=config.pool,
            head="random",
        ),
        input=input_of(model.image_size),
        labels=("normal", "ventriculomegaly"),
        positive="ventriculomegaly",
        decision=DecisionRule(temperature=1, threshold=0.5),
        explanation=Explanation(layer=config.cam_layer, grid=(config.grid, config.grid), channels=config.dim),
        artefacts={
            "onnxruntime": Artefact(files=("model.onnx",), precision="int8"),
            "openvino": Artefact(files=("model.xml", "model.bin"), precision="int8"),
        },
        checkpoint=Checkpoint(file="seeded weights", sha256=sha256_of(onnx)),
        tools={},
        golden_origin="none",
    )
    files = {
        "model.onnx": onnx.read_bytes(),
        "model.xml": xml.read_bytes(),
        "model.bin": xml.with_suffix(".bin").read_bytes(),
    }
    write_bundle(folder, manifest, files)
    return folder
