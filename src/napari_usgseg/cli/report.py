"""Command ``usgseg report``: what labelling a project took, as a page and as tables."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .common import end_if_failed, progress, result_folder


def report(
    project: Annotated[Path, typer.Argument(help="The folder of images, or of the project.")],
    out: Annotated[Path, typer.Option(help="Folder for index.html and the CSV files.")],
    labels: Annotated[
        Path | None, typer.Option(help="Where the project is, if not in PROJECT/usgseg.")
    ] = None,
    annotator: Annotated[
        str | None, typer.Option(help='Only this annotator; "" is the first. Else all together.')
    ] = None,
) -> None:
    """Report seconds, clicks, models, and how much of the proposals was changed, per image."""
    from ..effort.efforts import span
    from ..effort.ledger import FILES, open_for_report, read_ledger, write_csv
    from ..effort.page import write_page

    with open_for_report(project, labels, annotator) as stores:
        folder = result_folder(out, *FILES)
        with progress(sum(len(store.records) for store in stores), "images") as advance:
            ledger = read_ledger(stores, lambda done, total: advance(""))
        write_csv(ledger, out, folder.write)
        write_page(ledger, stores, out / "index.html", folder.write)
    if not ledger.efforts:
        typer.echo(f"nothing is recorded in {ledger.name} yet")
    else:
        images = ledger.images
        typer.echo(
            f"{len(ledger.accepted)} of {ledger.image_count} images accepted, "
            f"{span(images['active_s'].sum())} of work, {images['click'].sum()} clicks"
        )
    typer.echo(f"report: {out / 'index.html'}")
    end_if_failed(ledger.failures)
