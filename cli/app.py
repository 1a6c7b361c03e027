"""The table of commands, and how errors become one line and an exit code."""

from __future__ import annotations

import logging
import sys
import warnings
from collections.abc import Sequence

import typer

from lavatube.cli.demo import demo
from lavatube.cli.diff import diff
from lavatube.cli.doctor import doctor
from lavatube.cli.encode import encode
from lavatube.cli.energy import energy
from lavatube.cli.export import export
from lavatube.cli.inspect import inspect
from lavatube.cli.lower import lower
from lavatube.cli.map import map as map_cores
from lavatube.cli.parity import parity
from lavatube.cli.quantize import quantize
from lavatube.cli.report import report
from lavatube.cli.run import run
from lavatube.cli.train import train
from lavatube.errors import LavatubeError

COMMANDS = (demo, doctor, train, quantize, export, inspect, lower, encode, run, parity, energy, map_cores, report, diff)
INTERRUPTED = 130
UNREAD = 141  # as a shell says of one that SIGPIPE ended: the gate may have failed, which 0 would hide

app = typer.Typer(
    name="lavatube",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    help="From a trained spiking network to Loihi's integers and Lava processes, with every spike compared on the way. "
    "Start with `lavatube demo`.",
)
for command in COMMANDS:
    app.command()(command)


def version(value: bool) -> None:
    """Print the version and stop."""
    if value:
        from lavatube import __version__

        typer.echo(f"lavatube {__version__}")
        raise typer.Exit


@app.callback()
def options(
    _: bool = typer.Option(False, "--version", callback=version, is_eager=True, help="Print the version."),
) -> None:
    """Options before the command."""


def invoke(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code; every error is one line on stderr."""
    _quiet_libraries()
    try:
        result = app(args=None if arguments is None else list(arguments), standalone_mode=False)
    except LavatubeError as error:
        return _fail(str(error))
    except (KeyboardInterrupt, typer.Abort):
        result = INTERRUPTED
    except BrokenPipeError:
        return UNREAD
    except SystemExit as stop:  # what typer and rich make of it
        if not isinstance(stop.__context__, BrokenPipeError):
            raise
        return UNREAD
    except MemoryError as error:
        return _fail(f"not enough memory: {error}")
    except OSError as error:
        return _fail(f"{error.filename or 'system'}: {error.strerror or error}")
    except Exception as error:
        if isinstance(error, RuntimeError) and "memory" in str(error) and "alloc" in str(error):
            # what torch raises on a CPU has no class of its own
            return _fail(f"not enough memory: {str(error).splitlines()[0]}")
        # typer's usage errors have no public class of their own; what is not one is our mistake and keeps its traceback
        if not hasattr(error, "format_message"):
            raise
        return _fail(" ".join(error.format_message().split()) or "usage: lavatube --help")
    if result == INTERRUPTED:  # some versions of typer return it, some raise
        print("interrupted; the same command goes on where it stopped, if it keeps a checkpoint", file=sys.stderr)
    return result if isinstance(result, int) else 0


def _quiet_libraries() -> None:
    """Brevitas' docstrings warn when compiled, and its import makes torch look for a compiler of CUDA."""
    warnings.filterwarnings("ignore", message="invalid escape sequence")
    logging.getLogger("torch.utils.cpp_extension").setLevel(logging.ERROR)


def _fail(line: str) -> int:
    print(f"error: {line}", file=sys.stderr)
    return 2
