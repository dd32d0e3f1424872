"""``usgseg export``: what a person labelled, as a data set that ``evaluate`` and ``train`` read."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ..errors import DatasetError, PromptError
from .common import EXIT_SOME_FAILED

FORMATS = ("png",)


def export(
    folder: Annotated[Path, typer.Argument(help="The folder of images that was labelled.")],
    out: Annotated[Path, typer.Option(help="The data set's folder.")],
    format: Annotated[str, typer.Option(help="png: images/, masks/ and dataset.json.")] = "png",
    labels: Annotated[
        Path | None, typer.Option(help="Where the labels are, if not in FOLDER/usgseg.")
    ] = None,
    name: Annotated[str | None, typer.Option(help="Of the data set; else the folder's.")] = None,
    organ: Annotated[str, typer.Option(help="What is shown, for dataset.json.")] = "unknown",
    target: Annotated[
        str | None, typer.Option(help="Phrase for label 1; else the first class's name.")
    ] = None,
    overwrite: Annotated[bool, typer.Option(help="Replace files that are there.")] = False,
) -> None:
    """Export committed labels as PNG label maps in the documented data set layout."""
    if format not in FORMATS:
        raise PromptError(f"--format {format!r}: expected one of {', '.join(FORMATS)}")
    from ..io.export import export_images
    from ..io.instances import labelling_in
    from ..store.base import ImageState
    from ..store.folder import FolderStore

    store = FolderStore(folder, labels)
    states = store.states()
    records = [
        (record, store.label_path(record.image_id))
        for record in store.records
        if states[record.image_id] is ImageState.COMMITTED
    ]
    if not records:
        raise DatasetError(
            folder,
            f"nothing is labelled here yet ({store.root / 'labels'} holds no label map); "
            "commit an image in the widget first",
        )
    classes = store.classes()
    phrase = target or (classes[0].name if classes else "object")
    report = export_images(
        records,
        out,
        name=name or store.name,
        organ=organ,
        target=phrase,
        classes=classes,
        labelling=labelling_in(store.settings()),
        overwrite=overwrite,
    )
    failed = [*store.problems, *(f"{item.image_id}: {item.error}" for item in report.failures)]
    for line in failed:
        typer.echo(f"usgseg: {line}", err=True)
    typer.echo(f"{len(report.exported)} of {len(store.records)} images exported to {out}")
    if failed:
        raise typer.Exit(EXIT_SOME_FAILED)
