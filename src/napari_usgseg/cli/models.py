"""``usgseg models``: what is here, what can be had, and whether it is whole."""

from __future__ import annotations

from typing import Annotated

import typer

from . import models_lora
from .common import EXIT_SOME_FAILED

app = typer.Typer(help="List, download, verify, merge and import models.", no_args_is_help=False)


@app.command("list")
def list_all() -> None:
    """Show every model with a name, and whether it is on this machine."""
    from ..models.registry import list_models

    rows = [("name", "does", "from", "here", "MB", "licence")]
    for info in list_models():
        size = f"{info.size_bytes / 1e6:.1f}" if info.size_bytes else "-"
        here = "yes" if info.present else "no"
        rows.append((info.name, info.kind, info.repo or info.source, here, size, info.licence))
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        cells = zip(row, widths, strict=True)
        typer.echo("  ".join(cell.ljust(width) for cell, width in cells).rstrip())


@app.command()
def download(names: Annotated[list[str], typer.Argument(metavar="NAME...")]) -> None:
    """Fetch models from the Hugging Face hub into its cache; resumes, and skips what is there."""
    from ..models.registry import download_model

    for name in names:
        for path in download_model(name):
            typer.echo(f"{name}: {path}")


@app.command()
def verify() -> None:
    """Compare the files of embedded and downloaded models with their checksums."""
    from ..models.registry import verify_models

    damaged = 0
    for info, sound, message in verify_models():
        damaged += not sound
        line = f"{info.name} ({info.kind}): {'ok' if sound else 'DAMAGED'}, {message}"
        typer.echo(line, err=not sound)
    if damaged:
        raise typer.Exit(EXIT_SOME_FAILED)


app.command("adapters")(models_lora.adapters)
app.command("merge-lora")(models_lora.merge_lora)
app.command("import-lora")(models_lora.import_lora)
