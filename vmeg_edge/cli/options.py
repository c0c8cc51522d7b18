"""Options that several commands share, and how their values are read."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from vmeg_edge.frames import Region

F = TypeVar("F", bound=Callable[..., Any])

DEMO_BUNDLE = Path(__file__).parents[1] / "demo.vmeg"


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


def runtime_options(command: F) -> F:
    """``--bundle``, ``--backend``, ``--device``, ``--threads``: what opens a scorer."""
    for option in (
        click.option("--threads", type=click.IntRange(1, 1024), help="Threads for inference. [default: all]"),
        click.option("--device", default="CPU", show_default=True, help="Device of the backend."),
        click.option("--backend", help="Backend to run on. [default: the bundle's first]"),
        click.option(
            "--bundle",
            type=click.Path(path_type=Path),
            default=DEMO_BUNDLE,
            help="Bundle folder. [default: the embedded demo bundle]",
        ),
    ):
        command = option(command)
    return command
