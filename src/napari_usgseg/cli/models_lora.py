"""``usgseg models adapters | merge-lora | import-lora``: LoRA adapters of detectors."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Base = Annotated[
    str | None, typer.Option(help="Name or folder of its detector; else what the adapter says.")
]


def adapters(
    folders: Annotated[list[Path] | None, typer.Argument(metavar="FOLDER...")] = None,
) -> None:
    """List the LoRA adapters in folders and below; here where none is given."""
    from ..models.lora_card import base_of, find_adapters, read_adapter_card

    found = False
    for folder in find_adapters(folders or [Path()]):
        found = True
        card = read_adapter_card(folder)
        if card is None:
            typer.echo(f"{folder}: for {base_of(folder)}, made elsewhere")
            continue
        score = card.scores.get("validation")
        measured = f", validation {score:.3f}" if score is not None else ""
        typer.echo(
            f"{folder}: {', '.join(card.targets)}, for {card.base}, {card.preset}, "
            f"rank {card.rank}, {len(card.images)} images{measured}"
        )
    if not found:
        typer.echo("no adapter here; usgseg train lora makes one")


def merge_lora(
    adapter: Annotated[Path, typer.Argument(help="Folder of the adapter.")],
    out: Annotated[Path, typer.Option(help="New folder of the detector.")],
    grounder: Base = None,
) -> None:
    """Write a detector with an adapter merged into it."""
    from ..models.lora_merge import merge_to_folder

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
    from ..models.lora_import import import_lora as convert

    preset = convert(file, out, grounder, alpha)
    typer.echo(f"{out}: layers as in --preset {preset}; use it with --grounder {out}")
