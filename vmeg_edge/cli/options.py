"""Options that several commands share, and how their values are read."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from vmeg_edge.frames import Region

F = TypeVar("F", bound=Callable[..., Any])

DEMO_BUNDLE = Path(__file__).parents[1] / "demo.vmeg"

FAMILIES = ("vit", "resnet", "vgg")
ARCHITECTURES = (
    *("vit_tiny", "vit_small", "vit_base", "vit_large"),
    *("resnet18", "resnet34", "resnet50", "resnet101"),
    *("vgg16", "vgg16_bn", "vgg19", "vgg19_bn"),
)
"""The toolchain's names, written out so that a device without the toolchain can show its help."""


def given_options() -> set[str]:
    """The running command's options that stand on the command line, not by default."""
    context = click.get_current_context()
    default = click.core.ParameterSource.DEFAULT
    return {name for name in context.params if context.get_parameter_source(name) is not default}


def read_region(_: click.Context, param: click.Parameter, value: str | None) -> Region | None:
    """The option value ``x,y,width,height``, in pixels of the frame, as a `Region`."""
    if value is None:
        return None
    try:
        x, y, width, height = (int(part) for part in value.split(","))
    except ValueError:
        raise click.BadParameter(f"{value!r} is not four whole numbers such as 80,0,640,600", param=param) from None
    if min(x, y) < 0 or min(width, height) < 1:
        raise click.BadParameter(f"{value!r} is not a rectangle inside a frame", param=param)
    return Region(x, y, width, height)


region_option = click.option(
    "--region",
    callback=read_region,
    metavar="X,Y,WIDTH,HEIGHT",
    help="Part of each frame to score. [default: the file's, else all]",
)


def read_reduction(_: click.Context, param: click.Parameter, value: str) -> str | int:
    """The option value ``auto``, ``off``, or a number of tokens above zero."""
    if value in ("auto", "off"):
        return value
    if not (value.isdecimal() and 0 < int(value) <= 1024):
        raise click.BadParameter(f"{value!r} is neither auto nor off nor a number of tokens from 1", param=param)
    return int(value)


def read_counts(_: click.Context, param: click.Parameter, value: str) -> tuple[int, ...]:
    """The option value ``N,N,...``: whole numbers above zero, none of them twice; empty for none."""
    parts = [part.strip() for part in value.split(",")] if value else []
    if not all(part.isdecimal() and 0 < int(part) <= 16384 for part in parts) or len(set(parts)) < len(parts):
        raise click.BadParameter(f"{value!r} is not a list of different numbers such as 143,111", param=param)
    return tuple(int(part) for part in parts)


def read_size(_: click.Context, param: click.Parameter, value: str | None) -> tuple[int, int] | None:
    """The option value ``WIDTHxHEIGHT`` in pixels."""
    if value is None:
        return None
    width, _by, height = value.lower().partition("x")
    if not (width.isdecimal() and height.isdecimal() and int(width) > 0 and int(height) > 0):
        raise click.BadParameter(f"{value!r} is not a size such as 1280x720", param=param)
    return int(width), int(height)


def read_numbers(count: int, what: str) -> Callable[[click.Context, click.Parameter, str | None], Any]:
    """A callback for an option whose value is ``count`` numbers with commas between; ``what`` shows an example."""

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


_read_pair = read_numbers(2, "two probabilities such as 0.4,0.6")


def read_band(context: click.Context, param: click.Parameter, value: str | None) -> tuple[float, float] | None:
    """The option value ``low,high``: two probabilities, the lower first."""
    band: tuple[float, float] | None = _read_pair(context, param, value)
    if band is not None and not 0 <= band[0] <= band[1] <= 1:
        raise click.BadParameter(f"{value!r} is not two probabilities from 0 to 1, the lower first", param=param)
    return band


def runtime_options(command: F) -> F:
    """``--bundle`` and `engine_options`: what opens a scorer."""
    for option in (
        click.option(
            "--bundle",
            type=click.Path(path_type=Path),
            default=DEMO_BUNDLE,
            help="Bundle folder. [default: the embedded demo bundle]",
        ),
    ):
        command = option(command)
    return engine_options(command)


def engine_options(command: F) -> F:
    """``--backend``, ``--device``, ``--threads``, ``--hint``, ``--tune``, ``--no-cache``, ``--no-self-test``."""
    for option in (
        click.option(
            "--no-self-test",
            "self_test",
            flag_value=False,
            default=True,
            help="Do not run the golden frames on opening; every result then says so.",
        ),
        click.option(
            "--tune",
            is_flag=True,
            help="Try how many threads are fastest here, and which backend without --backend and --device; later runs "
            "that leave them open keep to the answer.",
        ),
        click.option(
            "--no-cache", "cache", flag_value=False, default=True, help="Compile anew; keep no engine on this device."
        ),
        click.option(
            "--hint",
            type=click.Choice(["LATENCY", "THROUGHPUT"], case_sensitive=False),
            default="LATENCY",
            show_default=True,
            help="OpenVINO's performance hint.",
        ),
        click.option("--threads", type=click.IntRange(1, 1024), help="Threads for inference. [default: all]"),
        click.option("--device", help="Device: CPU, GPU, NPU, CUDA:0. [default: the backend's own]"),
        click.option("--backend", help="Backend to run on. [default: the bundle's first that is usable]"),
    ):
        command = option(command)
    return command
