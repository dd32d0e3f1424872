"""``usgseg import``: what another program labelled, as proposals to be corrected and accepted."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import Annotated

import typer

from ..io.formats import FORMATS, export_format
from .common import Device, end_if_failed, progress

NAMED = 10


def import_(
    file: Annotated[
        Path, typer.Argument(help=f"A file or a folder: {', '.join(FORMATS)}, or label maps.")
    ],
    into: Annotated[Path, typer.Option(help="The folder of images, or its project.")],
    format: Annotated[
        str | None, typer.Option(help="What it is; else found from the files.")
    ] = None,
    labels: Annotated[
        Path | None, typer.Option(help="Where the project is, if not in INTO/usgseg.")
    ] = None,
    annotator: Annotated[str, typer.Option(help="Whose proposals they become.")] = "",
    model: Annotated[
        str | None,
        typer.Option(help="Segmenter that makes masks of boxes; else a box is its own mask."),
    ] = None,
    replace: Annotated[
        bool, typer.Option(help="Also replace what is proposed already; never what is accepted.")
    ] = False,
    device: Device = "auto",
) -> None:
    """Import labels of another program, or of an export, as proposals.

    Images are found by id, path or file name. What is accepted, set aside or begun stays as it is;
    each image's import is a step that can be undone in the window.
    """
    from ..models.registry import load_segmenter
    from ..project.exchange import import_labels
    from ..project.project import Project

    if format is not None:
        export_format(format)
    segmenter = load_segmenter(model, device=device) if model is not None else None
    with (
        closing(Project(into, labels, annotator=annotator)) as store,
        progress(0, "images") as step,
    ):
        report = import_labels(
            store,
            file,
            format=format,
            segmenter=segmenter,
            replace_proposals=replace,
            progress=lambda done, total: step(""),
        )
        warnings = [*store.problems, *store.take_warnings()]
    typer.echo(
        f"{report.format}: {report.objects} objects proposed on {len(report.imported)} images; "
        "correct and accept them in the window"
    )
    for what, names in (
        ("images were left as they are (accepted, set aside or begun)", report.kept),
        ("images of the file are not here", report.unmatched),
    ):
        if names:
            more = ", ..." if len(names) > NAMED else ""
            typer.echo(f"usgseg: {len(names)} {what}: {', '.join(names[:NAMED])}{more}", err=True)
    for note in (*report.notes, *warnings):
        typer.echo(f"usgseg: {note}", err=True)
    end_if_failed([f"{item.image_id}: {item.error}" for item in report.failures])
