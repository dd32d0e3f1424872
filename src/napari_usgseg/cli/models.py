"""``usgseg models``: what is here, what can be had, and whether it is whole."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Annotated

import typer

from ..core.errors import CheckpointError, ModelNotFoundError
from .common import EXIT_SOME_FAILED, print_table

Base = Annotated[
    str | None, typer.Option(help="Name or folder of its detector; else what the adapter says.")
]


NEAR = ("", "*/", "usgseg/models/*/", "usgseg/models/by-*/*/")
"""Where ``usgseg models`` looks for adapters below the current folder: there may be a lot else."""


def adapters(
    folders: Annotated[list[Path] | None, typer.Argument(metavar="FOLDER...")] = None,
) -> None:
    """List the LoRA adapters in folders and below; here where none is given."""
    show_adapters_below(folders or [Path()])


def show_adapters_below(folders: Iterable[Path]) -> None:
    """Print a line for each adapter in ``folders`` and below, or that there is none.

    Raises:
        ModelNotFoundError: there is no such folder.
        typer.Exit: some cannot be read; the others were printed.
    """
    from ..models.lora.card import find_adapters

    for folder in folders:
        if not folder.is_dir():
            raise ModelNotFoundError(f"{folder}: no such folder; give one that holds adapters")
    found = list(find_adapters(folders))
    show_adapters(found)
    if not found:
        typer.echo("no adapter here; usgseg train lora makes one")


def near_adapters() -> list[Path]:
    """The adapters in the current folder, in those in it, and of its project."""
    from ..models.lora.card import ADAPTER_CONFIG, is_adapter

    configs = (file for place in NEAR for file in Path().glob(place + ADAPTER_CONFIG))
    return sorted({file.parent for file in configs if is_adapter(file.parent)})


def show_adapters(folders: Iterable[Path]) -> None:
    """Print a line for each adapter.

    Raises:
        typer.Exit: some cannot be read; the others were printed.
    """
    damaged = False
    for folder in folders:
        try:
            typer.echo(f"{folder}: {_described(folder)}")
        except CheckpointError as error:
            damaged = True
            typer.echo(f"usgseg: {error}", err=True)
    if damaged:
        raise typer.Exit(EXIT_SOME_FAILED)


def _described(folder: Path) -> str:
    from ..models.lora.card import base_of, read_adapter_card

    card = read_adapter_card(folder)
    if card is None:
        return f"adapter for {base_of(folder)}, made elsewhere"
    score = card.scores.get("validation")
    measured = f", validation {score:.3f}" if score is not None else ""
    return (
        f"adapter for {card.base}: {', '.join(card.targets)}; {card.preset}, rank {card.rank}, "
        f"{len(card.images)} images{measured}"
    )


def merge_lora(
    adapter: Annotated[Path, typer.Argument(help="Folder of the adapter.")],
    out: Annotated[Path, typer.Option(help="New folder of the detector.")],
    grounder: Base = None,
) -> None:
    """Write a detector with an adapter merged into it."""
    from ..models.lora.convert import merge_to_folder

    merge_to_folder(adapter, out, grounder)
    typer.echo(f"{out}: use it with --grounder {out}")


def import_lora(
    file: Annotated[Path, typer.Argument(help="PyTorch file of GroundingDINO-US-SAM.")],
    out: Annotated[Path, typer.Option(help="New folder of the adapter.")],
    grounder: Annotated[
        str, typer.Option(help="Name or folder of the Grounding DINO that it belongs to.")
    ] = "grounding-dino-tiny",
    alpha: Annotated[float | None, typer.Option(min=0, help="LoRA's; else the rank.")] = None,
) -> None:
    """Convert an adapter of the original Grounding DINO code into a PEFT folder."""
    from ..models.lora.convert import import_lora as convert

    preset = convert(file, out, grounder, alpha)
    typer.echo(f"{out}: layers as in --preset {preset}; use it with --grounder {out}")


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
    near = [] if folders else near_adapters()
    if folders or near:
        typer.echo("")
    if folders:
        show_adapters_below(folders)
    else:
        show_adapters(near)


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


app.command("adapters")(adapters)
app.command("merge-lora")(merge_lora)
app.command("import-lora")(import_lora)
