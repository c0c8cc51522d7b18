"""``vmeg-edge finetune``: a pre-trained encoder and labelled frames in, a classifier checkpoint out."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from vmeg_edge.cli.options import ARCHITECTURES, FAMILIES, given_options, read_numbers

_SAME = "[default: the encoder's own record, else {}]"


@click.command(name="finetune")
@click.argument("labels", metavar="LABELS", type=click.Path(path_type=Path))
@click.option("--out", required=True, type=click.Path(path_type=Path), help="Checkpoint to write, such as c.pt.")
@click.option(
    "--encoder",
    type=click.Path(path_type=Path),
    help="Pre-trained weights; their head is replaced, but for --reduce-tokens.",
)
@click.option(
    "--reduce-tokens",
    type=click.IntRange(1, 1024),
    metavar="R",
    help="Tune --encoder, a trained ViT classifier, for merging as convert --reduce-tokens R; it is the teacher.",
)
@click.option(
    "--arch",
    type=click.Choice([*FAMILIES, *ARCHITECTURES]),
    help="Train this from scratch; with --encoder, the file is held against it.",
)
@click.option("--pool", type=click.Choice(["mean", "token"]), help="A ViT's pooling. [default: the encoder's]")
@click.option("--image-size", type=click.IntRange(16, 2048), help="Input in pixels. [default: the encoder's, else 224]")
@click.option(
    "--resize",
    type=click.Choice(["nearest", "bilinear", "bicubic"]),
    help=f"Pillow's, to the input size. {_SAME.format('nearest')}",
)
@click.option(
    "--mean",
    callback=read_numbers(3, "three numbers such as 0.485,0.456,0.406"),
    metavar="R,G,B",
    help=f"Normalisation. {_SAME.format('ImageNet')}",
)
@click.option(
    "--std",
    callback=read_numbers(3, "three numbers such as 0.229,0.224,0.225"),
    metavar="R,G,B",
    help=f"Normalisation. {_SAME.format('ImageNet')}",
)
@click.option("--labels", "names", metavar="A,B,...", help="Class names in the head's order. [default: the table's]")
@click.option("--positive", help="The class that F1 is of. [default: the second of two labels]")
@click.option("--epochs", type=click.IntRange(1), help="At most so many. [default: 50; 3 with --reduce-tokens]")
@click.option("--batch", type=click.IntRange(2), help="Frames a step. [default: 32]")
@click.option("--learning-rate", type=float, help="The highest. [default: by architecture, in proportion to --batch]")
@click.option("--weight-decay", type=float, help="AdamW's, on weight matrices alone. [default: 0.05]")
@click.option("--layer-decay", type=float, help="Each stage's rate by the next one's. [default: a ViT encoder's 0.75]")
@click.option(
    "--warmup-epochs", type=float, help="Epochs until the highest rate. [default: 5; 0.2 with --reduce-tokens]"
)
@click.option(
    "--drop-path", type=float, help="Stochastic depth of the last block. [default: a ViT's 0.1; 0 with --reduce-tokens]"
)
@click.option(
    "--balance",
    type=click.Choice(["none", "weights", "sampling"]),
    help="Even out classes, in the loss or in the draw. [default: weights]",
)
@click.option("--patience", type=click.IntRange(1), help="Stop after so many epochs without a better. [default: 10]")
@click.option(
    "--precision",
    type=click.Choice(["auto", "float32", "bfloat16"]),
    help="Of training; auto is mixed bfloat16 where the device has it. [default: auto]",
)
@click.option(
    "--validation-share",
    type=click.FloatRange(0.05, 0.5),
    default=0.2,
    show_default=True,
    help="Part of the patients (1 in N) that chooses the epoch, where the table has no split 'validation'.",
)
@click.option("--skip-unreadable", is_flag=True, help="Train without the files that do not open.")
@click.option("--recipe", type=click.Choice(["default", "demo"]), default="default", help="demo: the embedded model's.")
@click.option("--phantoms", "count", type=click.IntRange(20), help="How many heads, where LABELS is phantoms.")
@click.option("--saliency-weight", type=float, help="Of the demo's loss that shapes the heat map. [default: 1]")
@click.option("--seed", type=click.IntRange(0), help="Of weights, order, augmentation, split. [default: 0; demo: 7]")
@click.option("--curves", type=click.Path(path_type=Path), help="PNG of loss, accuracy and F1 by epoch.")
@click.option("--bundle", type=click.Path(path_type=Path), help="Also convert: float32 for ONNX Runtime and OpenVINO.")
@click.option("--report", type=click.Path(path_type=Path), help="JSON of the bundle's figures on unseen phantoms.")
@click.option("--unseen", type=click.IntRange(10), default=1000, show_default=True, help="Phantoms for --report.")
@click.option(
    "--device", default="auto", show_default=True, help="torch's: cpu, cuda; auto takes a GPU if there is one."
)
@click.option("--threads", type=click.IntRange(1, 1024), help="Threads for training. [default: all]")
@click.option("--resume", is_flag=True, help="Go on from OUT.state, where a run was cut off; else start.")
@click.option("--force", is_flag=True, help="Replace --out and --bundle, and forget a run that was cut off.")
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
def command(**options: Any) -> None:
    """Train a classifier on labelled frames, from an encoder's weights or from scratch.

    LABELS is a CSV with the columns path (relative to it) and label, and perhaps patient and split (train, validation
    or test); or the word phantoms, for simulated heads. Patients, or series (_1_of_3) where none is named, are never
    torn apart. The epoch with the best F1 on the validation part is kept; the test part, if any, is scored once.

    Every epoch's end is kept in OUT.state until the run is done, so that a run which was cut off goes on with --resume.
    The checkpoint records its input and labels: vmeg-edge convert needs no option for it.

    With --reduce-tokens R, a copy of the encoder's classifier that merges as many tokens as convert does with R
    learns what the classifier itself, the teacher, which merges none, says of the same pixels: a few epochs at a fifth
    of the usual rate, whatever the labels say. The epoch that agrees best with the teacher on the validation part is
    kept, and a table shows the agreement before and after, for R and for more. The checkpoint goes to convert with
    --reduce-tokens R, whose gate then compares with these same weights without merging, in float32: how near they are
    to the teacher is for the table here to say.

    \b
    Examples:
      vmeg-edge finetune labels.csv --encoder usf_mae.pt --out classifier.pt --curves curves.png
      vmeg-edge finetune labels.csv --encoder usf_mae.pt --out classifier.pt --resume
      vmeg-edge finetune labels.csv --encoder classifier.pt --reduce-tokens 16 --out merging.pt
      vmeg-edge finetune labels.csv --arch resnet50 --out scratch.pt --bundle scratch.vmeg
      vmeg-edge finetune phantoms --out try.pt --bundle try.vmeg
      vmeg-edge finetune phantoms --recipe demo --out demo.pt --bundle demo.vmeg --report results.json
    """
    from vmeg_edge.cli.finetune_run import run, show

    content = run(options, given_options())
    if options["as_json"]:
        click.echo(json.dumps(content, indent=2))
    else:
        show(content)
