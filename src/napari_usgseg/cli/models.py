"""``usgseg models``: what is here, what can be had, and whether it is whole."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from . import models_lora
from .common import EXIT_SOME_FAILED, print_table

app = typer.Typer()


@app.callback(invoke_without_command=True)
def models(context: typer.Context) -> None:
    """List, download, verify, merge and import models."""
    if context.invoked_subcommand is None:
        list_all()


@app.command("list")
def list_all(
    folders: Annotated[list[Path] | None, typer.Argument(metavar="FOLDER...")] = None,
) -> None:
    """Show every model with a name, whether it is here, and the LoRA adapters in folders and below.

    Without a folder: those of the current folder, of the folders in it and of its project.
    """
    from ..models.registry import list_models

    rows = [("name", "does", "from", "here", "MB", "licence")]
    for info in list_models():
        size = f"{info.size_bytes / 1e6:.1f}" if info.size_bytes else "-"
        here = "yes" if info.present else "no"
        rows.append((info.name, info.kind, info.repo or info.source, here, size, info.licence))
    print_table(rows)
    near = [] if folders else models_lora.near_adapters()
    if folders or near:
        typer.echo("")
    if folders:
        models_lora.show_adapters_below(folders)
    else:
        models_lora.show_adapters(near)


@app.command()
def download(names: Annotated[list[str], typer.Argument(metavar="NAME...")]) -> None:
    """Fetch models from the Hugging Face hub into its cache; what is there is left alone."""
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
