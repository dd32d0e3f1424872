"""``usgseg export``: what a person labelled, as a data set that ``evaluate`` and ``train`` read."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..errors import DatasetError, PromptError
from .common import end_if_failed

if TYPE_CHECKING:
    from ..store.project import ProjectStore

FORMATS = ("png",)
ALL, FIRST = "all", "first"


def export(
    folder: Annotated[
        Path, typer.Argument(help="The folder of images that was labelled, or its project.")
    ],
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
    annotator: Annotated[
        str,
        typer.Option(help="Whose labels; all: each in OUT/NAME, the first annotator in OUT/first."),
    ] = "",
    overwrite: Annotated[bool, typer.Option(help="Replace files that are there.")] = False,
) -> None:
    """Export committed labels as PNG label maps in the documented data set layout."""
    if format not in FORMATS:
        raise PromptError(f"--format {format!r}: expected one of {', '.join(FORMATS)}")
    names = [annotator]
    if annotator == ALL:
        names = _committed(folder, labels)
    failed: list[str] = []
    for each in names:
        place = out / (each or FIRST) if annotator == ALL else out
        with closing(_open(folder, labels, "" if each == FIRST else each)) as store:
            failed += _export(store, place, name, organ, target, overwrite)
    end_if_failed(dict.fromkeys(failed))


def _open(folder: Path, labels: Path | None, annotator: str) -> ProjectStore:
    from ..store.project import ProjectStore

    return ProjectStore(folder, labels, annotator=annotator, write=False)


def _committed(folder: Path, labels: Path | None) -> list[str]:
    """The annotators with something to export; the first one where nobody has anything."""
    from ..store.records import ImageState

    with closing(_open(folder, labels, "")) as store:
        names = store.annotators()
    found: list[str] = []
    for name in names:
        with closing(_open(folder, labels, name)) as store:
            if ImageState.COMMITTED in store.states().values():
                found.append(name)
    return found or [""]


def _export(
    store: ProjectStore,
    out: Path,
    name: str | None,
    organ: str,
    target: str | None,
    overwrite: bool,
) -> list[str]:
    """Export one annotator's labels; gives sentences about what was left out."""
    from ..store.export import export_store
    from ..store.records import ImageState

    if ImageState.COMMITTED not in store.states().values():
        who = ", ".join(each or FIRST for each in store.annotators() if each != store.annotator)
        others = f" by {store.annotator or FIRST} (but by {who})" if who else ""
        raise DatasetError(
            store.folder,
            f"nothing is labelled here yet{others} (no label map in {store.root / 'labels'}); "
            "commit an image in the widget first",
        )
    classes = store.classes()
    report = export_store(
        store,
        out,
        name=name,
        organ=organ,
        target=target or (classes[0].name if classes else "object"),
        classes=classes,
        overwrite=overwrite,
    )
    typer.echo(f"{len(report.exported)} of {len(store.records)} images exported to {out}")
    failures = [f"{item.image_id}: {item.error}" for item in report.failures]
    return [*store.problems, *store.take_warnings(), *failures]
