"""``vmeg-edge convert``: a checkpoint or a float32 bundle in, a bundle out, with the parity table."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from vmeg_edge.cli.console import open_console, table
from vmeg_edge.cli.options import (
    ARCHITECTURES,
    FAMILIES,
    given_options,
    read_band,
    read_counts,
    read_numbers,
    read_reduction,
)
from vmeg_edge.errors import UsageError
from vmeg_edge.manifest import DecisionRule
from vmeg_edge.matching import proven_line


@click.command(name="convert")
@click.argument("checkpoint", type=click.Path(path_type=Path))
@click.option("--out", required=True, type=click.Path(path_type=Path), help="Bundle folder to write, NAME.vmeg.")
@click.option("--head", type=click.Path(path_type=Path), help="File with the trained head, where CHECKPOINT has none.")
@click.option("--new-head", type=int, metavar="CLASSES", help="Make a random, untrained head; every output says so.")
@click.option(
    "--labels",
    metavar="A,B,...",
    help="Class names in the head's order. [default: its record, else normal,ventriculomegaly]",
)
@click.option("--positive", help="The class whose probability is reported. [default: the second label]")
@click.option("--image-size", type=int, help="Input size in pixels. [default: the checkpoint's]")
@click.option(
    "--resize",
    type=click.Choice(["nearest", "bilinear", "bicubic"]),
    help="The trainer's resize, as Pillow does it. [default: the checkpoint's own record, else nearest]",
)
@click.option(
    "--mean",
    callback=read_numbers(3, "three numbers such as 0.485,0.456,0.406"),
    metavar="R,G,B",
    help="Normalisation. [default: the checkpoint's own record, else ImageNet's]",
)
@click.option(
    "--std",
    callback=read_numbers(3, "three numbers such as 0.229,0.224,0.225"),
    metavar="R,G,B",
    help="Normalisation. [default: the checkpoint's own record, else ImageNet's]",
)
@click.option(
    "--arch",
    type=click.Choice([*FAMILIES, *ARCHITECTURES]),
    help="Architecture, where the keys cannot tell; elsewhere CHECKPOINT is held against it.",
)
@click.option("--pool", type=click.Choice(["mean", "token"]), help="A ViT's pooling, where the keys cannot tell.")
@click.option("--heads", type=int, help="A ViT's attention heads. [default: one for each 64 channels]")
@click.option(
    "--cam-layer",
    metavar="LAYER",
    help="Layer for the heat map: blocks.K.norm1 of a ViT, layer1 to layer4 of a ResNet, features.K of a VGG's ReLU or "
    "pooling. [default: the last]",
)
@click.option("--temperature", type=float, default=1.0, show_default=True, help="Softmax temperature.")
@click.option("--threshold", type=float, default=0.5, show_default=True, help="Probability that counts as suspected.")
@click.option(
    "--abstain",
    callback=read_band,
    metavar="LOW,HIGH",
    help="Between these, no decision is given.",
)
@click.option(
    "--frames",
    type=click.Path(path_type=Path),
    help="Frames of yours that parity is measured on as well, and the plane gate is fitted on.",
)
@click.option(
    "--golden",
    type=click.Path(path_type=Path),
    help="Store frames of this source as the golden ones, instead of phantoms. They travel with the bundle.",
)
@click.option(
    "--precision",
    type=click.Choice(["float32", "float16", "bfloat16", "int8"]),
    default="float32",
    show_default=True,
    help="Precision of the artefacts.",
)
@click.option(
    "--float-precision",
    type=click.Choice(["float32", "bfloat16"]),
    default="float32",
    show_default=True,
    help="What is not int8, on OpenVINO: bfloat16 is kept where it is faster and passes, and then needs such a CPU.",
)
@click.option(
    "--target",
    "targets",
    multiple=True,
    type=click.Choice(["onnxruntime", "openvino", "tensorrt"]),
    help="Engine to make an artefact for; may be given again. [default: onnxruntime]",
)
@click.option(
    "--for",
    "processors",
    multiple=True,
    metavar="CLASS,...|all",
    help="Classes of processors that int8 is made for, such as x86-avx2,x86-avx512-vnni (`vmeg-edge info` names this "
    "machine's), or all. [default: this machine's]",
)
@click.option(
    "--calibration",
    multiple=True,
    metavar="SOURCE",
    help="Frames that int8 is calibrated and proven on: a folder, cine, DICOM, or the word phantoms; may be repeated.",
)
@click.option(
    "--calibration-frames",
    type=click.IntRange(1, 4096),
    default=128,
    show_default=True,
    help="Frames to calibrate on, at most; chosen for spread.",
)
@click.option(
    "--validation-frames",
    type=click.IntRange(1, 4096),
    default=64,
    show_default=True,
    help="Frames for the gate, at most; calibration never sees them.",
)
@click.option(
    "--reduce-tokens",
    callback=read_reduction,
    default="off",
    show_default=True,
    metavar="auto|off|R",
    help="Let a ViT merge tokens: R, as many in the mean as ToMe merges with R a block; or auto, the cheapest schedule "
    "whose artefacts pass on frames of --calibration; or off.",
)
@click.option(
    "--sector-tokens",
    callback=read_counts,
    default="",
    metavar="N,N,...",
    help="Also make models of so many tokens, for streams whose patches outside the sector are dark: stream --sector.",
)
@click.option(
    "--plane-gate/--no-plane-gate",
    default=True,
    show_default=True,
    help="Give no decision on frames unlike the calibration frames and those of --frames (phantoms if neither).",
)
@click.option("--seed", type=int, default=0, show_default=True, help="Seed of a random head.")
@click.option("--force", is_flag=True, help="Replace the bundle if it exists.")
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
def command(**options: Any) -> None:
    """Turn CHECKPOINT into a bundle, and prove that it says what the checkpoint says.

    CHECKPOINT is a ViT with patches of 16 pixels as MAE, USF-MAE and timm save it, or a ResNet or VGG as torchvision
    does: .pt, .pth or .safetensors, bare or under "model" or "state_dict", told by its keys; or a float32 bundle, whose
    model is taken again. No bundle is written when an artefact that was asked for fails parity with the float32
    reference (exit code 1).

    int8 keeps a ViT's patch embedding, residual adds, LayerNorm, softmax and GELU and any network's head in float, and
    gives further layers back to float until the gate passes.

    \b
    Examples:
      vmeg-edge convert vit.pt --out vit.vmeg
      vmeg-edge convert vit.pt --out v8.vmeg --precision int8 --calibration cines/ --target openvino --target tensorrt
      vmeg-edge convert vit.pt --out all.vmeg --precision int8 --calibration cines/ --target openvino \
        --target onnxruntime --for all
      vmeg-edge convert vit.vmeg --out v16.vmeg --precision bfloat16 --target openvino
      vmeg-edge convert usf_mae.pt --head head.pt --out vit.vmeg --frames stills/
      vmeg-edge convert usf_mae.pt --new-head 2 --out untrained.vmeg
      vmeg-edge convert vit.pt --out fast.vmeg --precision int8 --target openvino --calibration cines/ \
        --reduce-tokens auto --validation-frames 256
      vmeg-edge convert resnet50.pth --out r8.vmeg --precision int8 --calibration cines/ --target openvino
    """
    from vmeg_edge.cli.toolchain import toolchain

    converter = toolchain("bundle_from_model")
    origin = toolchain("origin")
    if options["out"].exists() and not options["force"]:
        raise UsageError(f"{options['out']}: exists already; choose another name or pass --force to replace it")
    given = given_options()
    weights, training = None, None
    if not options["checkpoint"].is_dir() or given & _FOR_WEIGHTS:
        weights = origin.Weights(**{name: options[name] for name in _FOR_WEIGHTS})
    if not options["checkpoint"].is_dir() or given & _FOR_TRAINING:
        labels = options["labels"]
        training = origin.Training(
            labels=None if labels is None else tuple(part.strip() for part in labels.split(",")),
            positive=options["positive"],
            resize=options["resize"],
            mean=options["mean"],
            std=options["std"],
            decision=_rule(options["temperature"], options["threshold"], options["abstain"]),
        )
    done = converter.convert(
        options["checkpoint"],
        options["out"],
        targets=options["targets"] or ("onnxruntime",),
        precision=options["precision"],
        quantization=converter.Quantization(
            options["calibration"],
            options["calibration_frames"],
            options["validation_frames"],
            options["float_precision"],
        ),
        reduce_tokens=options["reduce_tokens"],
        sector_tokens=options["sector_tokens"],
        processors=options["processors"],
        weights=weights,
        training=training,
        golden=options["golden"],
        frames=options["frames"],
        plane_gate=options["plane_gate"],
        replace=options["force"],
        report=lambda line: click.echo(line, err=True),
    )
    if options["as_json"]:
        content = {
            "bundle": str(done.path) if done.digest else None,
            "digest": done.digest or None,
            "artefacts": [row.to_json() for row in done.rows],
            "merge": list(done.manifest.merge),
            "sized": {name: list(held.sizes) for name, held in done.manifest.artefacts.items()} if done.digest else {},
            "fastest": {name: one.model_dump(mode="json") for name, one in done.manifest.fastest.items()},
            "warnings": list(done.warnings),
            "notices": list(done.manifest.notices),
        }
        click.echo(json.dumps(content, indent=2))
    else:
        _show(done)
    done.check()


_FOR_WEIGHTS = {"arch", "head", "new_head", "pool", "image_size", "heads", "seed", "cam_layer"}
_FOR_TRAINING = {"labels", "positive", "resize", "mean", "std", "temperature", "threshold", "abstain"}


def _rule(temperature: float, threshold: float, abstain: tuple[float, float] | None) -> DecisionRule:
    try:
        return DecisionRule(temperature=temperature, threshold=threshold, abstain=abstain, origin="given at conversion")
    except ValueError as error:
        problem = str(error).splitlines()[1:]
        detail = " ".join(" ".join(problem).split())[:160]
        raise UsageError(
            f"--temperature, --threshold and --abstain do not fit together ({detail}); "
            "probabilities lie in 0..1, the temperature is above 0, and the band holds the threshold"
        ) from None


def _show(done: Any) -> None:
    console = open_console()
    rows = [_cells(row) for row in done.rows]
    columns = (
        "format",
        "status",
        "size MB",
        "p50 ms",
        "float32 ms",
        "max |dp|",
        "mean |dp|",
        "flips",
        "map cosine",
        "in float",
    )
    title = f"{done.path} ({done.digest[:12]})" if done.digest else f"{done.path} was not written"
    console.print(table(title, columns, rows, text_columns=2))
    frames = done.rows[0].parity.frames
    console.print(
        f"against the float32 reference on {frames} frames; p50 of 20 interleaved inferences on this machine; "
        "map cosine: the lowest; in float: linear layers left in float"
    )
    for row in done.rows:
        label = f"{row.candidate.slot.name} {row.candidate.recipe}"
        for line in (*row.failures, *([row.remark] if row.remark else [])):
            console.print(f"{label}: {line}")
        if row.status == "kept" and row.proofs:
            console.print(f"{label}: {proven_line(row.proofs)}")
        if row.status == "kept" and 0 < len(row.candidate.artefact.float_layers) <= 12:
            console.print(f"{label}: left in float: {', '.join(row.candidate.artefact.float_layers)}")
    if done.manifest.merged:
        console.print(f"tokens merged away, block by block: {', '.join(map(str, done.manifest.merge))}")
    for line in (*done.warnings, *done.manifest.notices):
        console.print(line)


def _cells(row: Any) -> tuple[str, ...]:
    parity = row.parity
    return (
        f"{row.candidate.slot.name} {row.candidate.artefact.precision} {row.candidate.recipe}",
        row.status if not row.failures else "FAILED",
        f"{row.size_mb:.1f}",
        "-" if row.p50_ms is None else f"{row.p50_ms:.1f}",
        "-" if row.float_p50_ms is None else f"{row.float_p50_ms:.1f}",
        f"{parity.max_abs_dp:.1e}",
        f"{parity.mean_abs_dp:.1e}",
        str(parity.flips),
        f"{parity.heatmap_cosine_min:.4f}",
        str(len(row.candidate.artefact.float_layers)),
    )
