"""``usgseg models``: what is here, what can be had, whether it is whole, and how to convert it."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Annotated

import typer

from ..core.errors import CheckpointError, ModelNotFoundError
from .common import EXIT_SOME_FAILED, end_if_failed, print_table

NEAR = ("", "*/", "usgseg/models/*/", "usgseg/models/by-*/*/")
"""Where ``usgseg models`` looks for adapters below the current folder: there may be a lot else."""

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
    from ..models.registry import PUBLISHED_ADAPTERS, list_models

    rows = [("name", "does", "from", "here", "MB", "licence")]
    for info in list_models():
        size = f"{info.size_bytes / 1e6:.1f}" if info.size_bytes else "-"
        here = "yes" if info.present else "no"
        rows.append((info.name, info.kind, info.repo or info.source, here, size, info.licence))
    print_table(rows)
    for adapter, base in PUBLISHED_ADAPTERS.items():
        typer.echo(f"adapter on the hub, of {base}: {adapter} (usgseg models import-lora)")
    near = [] if folders else _near_adapters()
    if folders or near:
        typer.echo("")
    if folders:
        adapters(folders)
    else:
        _show_adapters(near)


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


@app.command()
def adapters(
    folders: Annotated[list[Path] | None, typer.Argument(metavar="FOLDER...")] = None,
) -> None:
    """List the LoRA adapters in folders and below; here where none is given."""
    from ..models.lora.card import find_adapters

    folders = folders or [Path()]
    for folder in folders:
        if not folder.is_dir():
            raise ModelNotFoundError(f"{folder}: no such folder; give one that holds adapters")
    found = list(find_adapters(folders))
    _show_adapters(found)
    if not found:
        typer.echo("no adapter here; usgseg train lora makes one")


def _near_adapters() -> list[Path]:
    """The adapters in the current folder, in those in it, and of its project."""
    from ..models.lora.card import ADAPTER_CONFIG, is_adapter

    configs = (file for place in NEAR for file in Path().glob(place + ADAPTER_CONFIG))
    return sorted({file.parent for file in configs if is_adapter(file.parent)})


def _show_adapters(folders: Iterable[Path]) -> None:
    """Print a line for each adapter; those that cannot be read are told last."""
    damaged = []
    for folder in folders:
        try:
            typer.echo(f"{folder}: {_described(folder)}")
        except CheckpointError as error:
            damaged.append(error)
    end_if_failed(damaged)


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


@app.command()
def merge_lora(
    adapter: Annotated[Path, typer.Argument(help="Folder of the adapter.")],
    out: Annotated[Path, typer.Option(help="New folder of the detector.")],
    detector: Annotated[
        str | None, typer.Option(help="Name or folder of its detector; else what the adapter says.")
    ] = None,
) -> None:
    """Write a detector with an adapter merged into it."""
    from ..models.registry import merge_to_folder

    merge_to_folder(adapter, out, detector)
    typer.echo(f"{out}: use it with --detector {out}")


@app.command()
def import_lora(
    file: Annotated[Path, typer.Argument(help="PyTorch file of GroundingDINO-US-SAM.")],
    out: Annotated[Path, typer.Option(help="New folder of the adapter.")],
    detector: Annotated[
        str, typer.Option(help="Name or folder of the Grounding DINO that it belongs to.")
    ] = "grounding-dino-tiny",
    alpha: Annotated[float | None, typer.Option(min=0, help="LoRA's; else the rank.")] = None,
) -> None:
    """Convert an adapter of the original Grounding DINO code into a PEFT folder."""
    from ..models.lora.adapter import import_lora as convert

    preset = convert(file, out, detector, alpha)
    typer.echo(f"{out}: layers as in --preset {preset}; use it with --detector {out}")


@app.command()
def import_ppn(
    file: Annotated[Path, typer.Argument(help="Weights of Sam2Rad's code: .pt, .pth, .ckpt ...")],
    out: Annotated[Path, typer.Option(help="New folder of the prompt predictor.")],
    model: Annotated[
        str, typer.Option(help="The SAM or SAM 2 that it was trained on: a name or a checkpoint.")
    ] = "nano",
    classes: Annotated[
        str | None,
        typer.Option(help="Names of labels 1, 2, ...: femur,acetabulum; else class 1, class 2."),
    ] = None,
    dataset: Annotated[
        str | None, typer.Option(help="Whose classes, where the file has those of several.")
    ] = None,
) -> None:
    """Make a prompt predictor's folder of weights that Sam2Rad's own code saved."""
    from ..io.outputs import check_model_folder
    from ..models.ppn.published import import_published
    from ..models.registry import load_segmenter

    check_model_folder(out)
    names = [name.strip() for name in classes.split(",")] if classes else []
    card = import_published(file, out, load_segmenter(model), names, dataset)
    typer.echo(f"{out}: {', '.join(card.classes.values())}; use it with --ppn {out}")
