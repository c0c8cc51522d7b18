"""The command line: one file a command, each imported when it is called, and no traceback for a user."""

from __future__ import annotations

import io
import os
import sys
import traceback
from importlib import import_module

import click

from vmeg_edge.errors import VmegError
from vmeg_edge.outputs import is_closed_pipe

_COMMANDS = {
    "demo": "Play a phantom cine through the embedded demo model.",
    "convert": "Turn a checkpoint into a bundle, quantize it, prove parity.",
    "score": "Score files: JSON lines, overlay video or picture.",
    "stream": "Score a live source with a deadline; record, replay, serve.",
    "bench": "Measure bundles on this machine, with parity beside speed.",
    "verify": "Check a bundle's digests and golden frames.",
    "finetune": "Train a classifier on labelled frames, resumable.",
    "evaluate": "Hold labelled frames against bundles; fit a rule.",
    "info": "Show backends, kernels, CPU and versions.",
}


class _Commands(click.Group):
    """A group whose help is data, so that ``vmeg-edge --help`` imports no command."""

    def list_commands(self, _: click.Context) -> list[str]:
        """In the order of use."""
        return list(_COMMANDS)

    def get_command(self, _: click.Context, cmd_name: str) -> click.Command | None:
        """Import the command's file."""
        if cmd_name not in _COMMANDS:
            return None
        command: click.Command = import_module(f"vmeg_edge.cli.{cmd_name}").command
        return command

    def format_commands(self, _: click.Context, formatter: click.HelpFormatter) -> None:
        """List the commands with their one line."""
        with formatter.section("Commands"):
            formatter.write_dl(list(_COMMANDS.items()))


def _version(ctx: click.Context, _: click.Parameter, value: bool) -> None:
    if value and not ctx.resilient_parsing:
        from vmeg_edge._version import __version__

        click.echo(f"vmeg-edge {__version__}")
        ctx.exit()


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--version", is_flag=True, is_eager=True, expose_value=False, callback=_version, help="Show the version.")
def cli() -> None:
    """Edge inference for ultrasound classifiers. Research use only; not for diagnosis.

    \b
    Examples:
      vmeg-edge demo
      vmeg-edge convert vit.pt --out vit.vmeg
      vmeg-edge score cine.mp4 --bundle vit.vmeg --out results.jsonl --overlay overlay.mp4
      vmeg-edge stream phantom: --duration 20
      vmeg-edge bench
      vmeg-edge info

    Exit codes: 0 done; 1 it ran and the answer is no; 2 bad usage or bad input.
    """


def main() -> None:
    """Run the command line and exit."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # Windows writes to a file in a code page that lacks some of our signs
    sys.exit(run(sys.argv[1:]))


def run(arguments: list[str]) -> int:
    """Run the command line with ``arguments`` and return the exit code; errors become one line on stderr."""
    try:
        outcome = cli.main(arguments or ["--help"], prog_name="vmeg-edge", standalone_mode=False)
    except click.UsageError as error:
        where = error.ctx.command_path if error.ctx is not None else "vmeg-edge"
        return _fail(f"{error.format_message().rstrip('.')}; see `{where} --help`", 2)
    except click.ClickException as error:
        return _fail(error.format_message(), 2)
    except VmegError as error:
        return _fail(str(error), error.exit_code)
    except (KeyboardInterrupt, click.Abort):
        return _fail("interrupted", 130)
    except MemoryError:
        return _fail("out of memory; close other programs, or use a smaller model or frame", 2)
    except OSError as error:
        if is_closed_pipe(error):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return 0
        return _fail(f"{error.filename or 'system'}: {error.strerror or error}; check the path and its permissions", 2)
    except Exception as error:  # a defect of ours: still one line, with a way to the details
        if os.environ.get("VMEG_EDGE_DEBUG"):
            traceback.print_exc()
        detail = " ".join(str(error).split())
        return _fail(
            f"internal error ({type(error).__name__}: {detail}); set VMEG_EDGE_DEBUG=1 for details and report it",
            2,
        )
    return outcome if isinstance(outcome, int) else 0


def _fail(message: str, code: int) -> int:
    click.echo(f"vmeg-edge: error: {message}", err=True)
    return code
