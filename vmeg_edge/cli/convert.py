"""``vmeg-edge convert``: a checkpoint in, a bundle out, with the parity table."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from vmeg_edge.cli.console import open_console, table
from vmeg_edge.errors import BackendMissingError, UsageError
from vmeg_edge.manifest import DecisionRule


def _floats(count: int, what: str) -> Any:
    def read(_: click.Context, param: click.Parameter, value: str | None) -> tuple[float, ...] | None:
        if value is None:
            return None
        try:
            numbers = tuple(float(part) for part in value.split(","))
        except ValueError:
            numbers = ()
        if len(numbers) != count:
            raise click.BadParameter(f"{value!r} is not {what}", param=param)
        return numbers

    return read


@click.command(name="convert")
@click.argument("checkpoint", type=click.Path(path_type=Path))
@click.option("--out", required=True, type=click.Path(path_type=Path), help="Bundle folder to write, NAME.vmeg.")
@click.option("--head", type=click.Path(path_type=Path), help="File with the trained head, where CHECKPOINT has none.")
@click.option("--new-head", type=int, metavar="CLASSES", help="Make a random, untrained head; every output says so.")
@click.option("--labels", metavar="A,B,...", help="Class names in the head's order. [default: normal,ventriculomegaly]")
@click.option("--positive", help="The class whose probability is reported. [default: the second label]")
@click.option("--image-size", type=int, help="Input size in pixels. [default: the checkpoint's]")
@click.option(
    "--resize",
    type=click.Choice(["nearest", "bilinear", "bicubic"]),
    default="nearest",
    show_default=True,
    help="The trainer's resize, as Pillow does it.",
)
@click.option(
    "--mean",
    callback=_floats(3, "three numbers such as 0.485,0.456,0.406"),
    metavar="R,G,B",
    help="Normalisation. [default: ImageNet's]",
)
@click.option(
    "--std",
    callback=_floats(3, "three numbers such as 0.229,0.224,0.225"),
    metavar="R,G,B",
    help="Normalisation. [default: ImageNet's]",
)
@click.option("--pool", type=click.Choice(["mean", "token"]), help="Pooling, where the keys cannot tell.")
@click.option("--heads", type=int, help="Attention heads. [default: one for each 64 channels]")
@click.option("--cam-layer", metavar="blocks.K.norm1", help="Layer for the heat map. [default: the last block's]")
@click.option("--temperature", type=float, default=1.0, show_default=True, help="Softmax temperature.")
@click.option("--threshold", type=float, default=0.5, show_default=True, help="Probability that counts as suspected.")
@click.option(
    "--abstain",
    callback=_floats(2, "two probabilities such as 0.4,0.6"),
    metavar="LOW,HIGH",
    help="Between these, no decision is given.",
)
@click.option("--frames", type=click.Path(path_type=Path), help="Frames of yours that parity is measured on as well.")
@click.option(
    "--golden",
    type=click.Path(path_type=Path),
    help="Store frames of this source as the golden ones, instead of phantoms. They travel with the bundle.",
)
@click.option(
    "--precision",
    type=click.Choice(["float32"]),
    default="float32",
    show_default=True,
    help="Precision of the artefact.",
)
@click.option(
    "--target",
    type=click.Choice(["onnxruntime"]),
    default="onnxruntime",
    show_default=True,
    help="Engine to make an artefact for.",
)
@click.option("--seed", type=int, default=0, show_default=True, help="Seed of a random head.")
@click.option("--force", is_flag=True, help="Replace the bundle if it exists.")
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
def command(**options: Any) -> None:
    """Turn CHECKPOINT into a bundle, and prove that it says what the checkpoint says.

    CHECKPOINT is a ViT with patches of 16 pixels as MAE, USF-MAE and timm save it: .pt, .pth or .safetensors, bare or
    under "model" or "state_dict". No bundle is written when parity with the torch reference fails (exit code 1).

    \b
    Examples:
      vmeg-edge convert vit.pt --out vit.vmeg
      vmeg-edge convert usf_mae.pt --head head.pt --out vit.vmeg --frames stills/
      vmeg-edge convert usf_mae.pt --new-head 2 --out untrained.vmeg
      vmeg-edge convert vit.safetensors --out vit.vmeg --labels normal,vm --abstain 0.4,0.6
    """
    try:
        from vmeg_edge.converters import bundle_from_checkpoint as converter
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] == "vmeg_edge":
            raise
        raise BackendMissingError(
            f"convert needs the toolchain, and {error.name} is not installed; add it with: "
            "pip install -c constraints.txt 'vmeg-edge[convert]'"
        ) from None
    if options["out"].exists() and not options["force"]:
        raise UsageError(f"{options['out']}: exists already; choose another name or pass --force to replace it")
    training = converter.Training(
        labels=None if options["labels"] is None else tuple(part.strip() for part in options["labels"].split(",")),
        positive=options["positive"],
        resize=options["resize"],
        mean=options["mean"] or converter.IMAGENET_MEAN,
        std=options["std"] or converter.IMAGENET_STD,
        decision=_rule(options["temperature"], options["threshold"], options["abstain"]),
    )
    weights = converter.Weights(
        head=options["head"],
        new_head=options["new_head"],
        pool=options["pool"],
        image_size=options["image_size"],
        heads=options["heads"],
        seed=options["seed"],
        cam_layer=options["cam_layer"],
    )
    done = converter.convert(
        options["checkpoint"],
        options["out"],
        weights=weights,
        training=training,
        golden=options["golden"],
        frames=options["frames"],
        replace=options["force"],
        report=lambda line: click.echo(line, err=True),
    )
    if options["as_json"]:
        content = {
            "bundle": str(done.path),
            "digest": done.digest,
            "artefacts": [row.to_json() for row in done.rows],
            "notices": list(done.manifest.notices),
        }
        click.echo(json.dumps(content, indent=2))
        return
    _show(done)


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
    rows = [
        (
            row.target,
            row.precision,
            "passed",
            f"{row.size_mb:.1f}",
            f"{row.p50_ms:.1f}",
            f"{row.parity.max_abs_dp:.1e}",
            f"{row.parity.mean_abs_dp:.1e}",
            str(row.parity.flips),
            f"{row.parity.heatmap_cosine_min:.6f}",
        )
        for row in done.rows
    ]
    columns = (
        "target",
        "precision",
        "gate",
        "size MB",
        "p50 ms",
        "max |dp|",
        "mean |dp|",
        "flips",
        "heat-map cosine",
    )
    console.print(table(f"{done.path} ({done.digest[:12]})", columns, rows, text_columns=3))
    frames = done.rows[0].parity.frames
    console.print(f"against the float32 torch reference on {frames} frames; p50 over the same frames, on this machine")
    for notice in done.manifest.notices:
        console.print(notice)
