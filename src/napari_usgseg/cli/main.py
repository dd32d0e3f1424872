"""``usgseg``: the command line's entry point and its exit codes.

0 all done; 1 the request was wrong (one line on standard error); 3 done, but some inputs failed
(each named). Command modules import models only inside their functions, so ``--help`` is quick.
"""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Sequence
from typing import Annotated

import typer

from .. import __version__
from ..core.errors import Cancelled, UsgsegError
from ..core.notes import listening
from . import (
    datasets,
    demo,
    evaluate,
    exchange,
    info,
    models,
    propagate,
    report,
    segment,
    train,
)
from .common import complain

EXIT_WRONG_REQUEST = 1
EXIT_INTERRUPTED = 130
OLD_NAMES = {"grounder": "detector", "nano-grounder": "nano-detector"}
"""Options and commands that have other names by now, and are still understood."""

app = typer.Typer(
    name="usgseg",
    help="Label ultrasound images: a phrase, a click, a PNG. Works offline on embedded models.",
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"token_normalize_func": lambda name: OLD_NAMES.get(name, name)},
)
app.command("segment")(segment.segment)
app.command("propagate")(propagate.propagate)
app.command("evaluate")(evaluate.evaluate)
app.command("compare")(evaluate.compare)
app.command("ablate")(evaluate.ablate)
app.add_typer(train.app, name="train")
app.command("export")(exchange.export)
app.command("import")(exchange.import_)
app.command("deidentify")(exchange.deidentify)
app.command("report")(report.report)
app.command("measure")(report.measure)
app.add_typer(models.app, name="models")
app.add_typer(datasets.app, name="datasets")
app.command("demo")(demo.demo)
app.command("benchmark")(evaluate.benchmark)
app.command("info")(info.info)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"usgseg {__version__}")
        raise typer.Exit


@app.callback(invoke_without_command=True)
def _main(
    context: typer.Context,
    version: Annotated[
        bool,
        typer.Option("--version", callback=_print_version, is_eager=True, help="Show the version."),
    ] = False,
) -> None:
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())


def run(arguments: Sequence[str] | None = None) -> int:
    """Run ``usgseg`` with ``arguments`` (None: the process's own) and return its exit code.

    What readers noticed of files that they could read is told at the end (``core.notes``).
    """
    with listening() as notes:
        code = _run(arguments)
    for line in notes.lines():
        complain(f"note: {line}")
    return code


def _run(arguments: Sequence[str] | None) -> int:
    if isinstance(sys.stdout, io.TextIOWrapper):  # a file name that the terminal has no letters for
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        code = app(args=arguments, prog_name="usgseg", standalone_mode=False)
    except (typer.Abort, Cancelled, KeyboardInterrupt):
        code = EXIT_INTERRUPTED  # newer versions of typer return it
    except BrokenPipeError:  # `usgseg ... | head`: nobody listens any more
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_WRONG_REQUEST
    except UsgsegError as error:
        return _refuse(str(error))
    except typer.TyperException as error:
        return _refuse(f"{error.format_message()} (see `usgseg --help`)")
    if code == EXIT_INTERRUPTED:
        typer.echo("usgseg: stopped", err=True)
    return code if isinstance(code, int) else 0


def _refuse(message: str) -> int:
    complain(" ".join(message.split()))
    return EXIT_WRONG_REQUEST
