"""``usgseg report`` and ``usgseg measure``: what labelling took, and what came of it, as tables."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import Annotated

import typer

from .common import end_if_failed, progress, result_folder

ProjectFolder = Annotated[Path, typer.Argument(help="The folder of images, or of the project.")]
ProjectPlace = Annotated[
    Path | None, typer.Option(help="Where the project is, if not in PROJECT/usgseg.")
]


def report(
    project: ProjectFolder,
    out: Annotated[Path, typer.Option(help="Folder for index.html and the CSV files.")],
    labels: ProjectPlace = None,
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


def measure(
    project: ProjectFolder,
    out: Annotated[Path, typer.Option(help="Folder for measurements.csv.")],
    labels: ProjectPlace = None,
    annotator: Annotated[str, typer.Option(help='Whose labels; "" is the first.')] = "",
) -> None:
    """Measure the objects of accepted images, in pixels and where it is known in millimetres.

    A row an object: area, perimeter, longest and short axis, depth below the probe, and the axes
    and circumference of an ellipse (of a fetal head: OFD, BPD, HC).
    """
    from ..project.measuring import TABLE, write_measurements
    from ..project.project import Project

    with closing(Project(project, labels, annotator=annotator, write=False)) as store:
        folder = result_folder(out, TABLE)
        with progress(len(store.records), "measuring") as advance:
            count, in_mm, failed = write_measurements(
                store, out / TABLE, folder.write, lambda done, total: advance("")
            )
    typer.echo(f"{count} objects measured, {in_mm} of them in millimetres: {out / TABLE}")
    end_if_failed(failed)
