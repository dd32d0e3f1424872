"""``usgseg export``, ``import`` and ``deidentify``: labels and archives, to others and back in."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..core.errors import DatasetError, PromptError, UsgsegError, readable
from ..io.formats import DEFAULT_FORMAT, DEFAULT_ORGAN, FORMATS, export_format
from .common import Device, end_if_failed, parse_box, progress

if TYPE_CHECKING:
    from ..project.project import Project

ALL, FIRST = "all", "first"
FORMAT_HELP = " ".join(f"{name}: {each.summary}." for name, each in FORMATS.items())
GROUPS_HELP = (
    "Images of one patient or loop: folder (the folder they lie in), prefix:_ (the file name up to "
    "the first _), a regular expression whose first group names it, such as '(P\\d+)_', or a CSV "
    "with the columns image and group. Else the first folder below FOLDER, the frames of a file, "
    "or each image alone."
)


def export(
    folder: Annotated[
        Path, typer.Argument(help="The folder of images that was labelled, or its project.")
    ],
    out: Annotated[Path, typer.Option(help="The data set's folder.")],
    format: Annotated[str, typer.Option(help=FORMAT_HELP)] = DEFAULT_FORMAT,
    labels: Annotated[
        Path | None, typer.Option(help="Where the labels are, if not in FOLDER/usgseg.")
    ] = None,
    name: Annotated[str | None, typer.Option(help="Of the data set; else the folder's.")] = None,
    organ: Annotated[str, typer.Option(help="What is shown, for dataset.json.")] = DEFAULT_ORGAN,
    target: Annotated[
        str | None, typer.Option(help="Phrase for label 1; else the name of class 1.")
    ] = None,
    annotator: Annotated[
        str,
        typer.Option(help="Whose labels; all: each in OUT/NAME, the first annotator in OUT/first."),
    ] = "",
    groups: Annotated[
        str | None, typer.Option(metavar="RULE_OR_CSV", help=GROUPS_HELP, show_default=False)
    ] = None,
    licence: Annotated[
        str, typer.Option(help="Of the images, for the data card: 'CC BY 4.0'.")
    ] = "",
    split: Annotated[bool, typer.Option(help="Part the patients into train, val and test.")] = True,
    measurements: Annotated[
        bool, typer.Option(help="Also write measurements.csv, as usgseg measure does.")
    ] = False,
    black_text: Annotated[
        bool,
        typer.Option(help="Blacken what looks like burned-in text; OUT-check has a sheet of it."),
    ] = False,
    overwrite: Annotated[
        bool, typer.Option(help="Replace an earlier export that nobody changed since.")
    ] = False,
) -> None:
    """Export accepted labels as a data set.

    OUT is a new or an empty folder. Images of one patient or loop have one group in dataset.json,
    and no split tears a group apart.
    """
    export_format(format)
    failed: list[str] = []

    def export_one(store: Project, place: Path) -> None:
        options = {
            "name": name,
            "organ": organ,
            "target": target,
            "groups": groups,
            "format": format,
            "licence": licence,
            "split": split,
            "measurements": measurements,
            "black_text": black_text,
            "overwrite": overwrite,
        }
        failed.extend(_export(store, place, options))

    if annotator == ALL:
        with _accepted(folder, labels) as stores:
            _export_all(stores, out, export_one, failed, overwrite)
    else:
        with closing(_open(folder, labels, "" if annotator == FIRST else annotator)) as store:
            export_one(store, out)
    end_if_failed(dict.fromkeys(failed))


def _export_all(
    stores: dict[str, Project],
    out: Path,
    export_one: Callable[[Project, Path], None],
    failed: list[str],
    overwrite: bool,
) -> None:
    """Export each annotator's labels to a folder of ``out``; one that fails stops no other."""
    from ..io.names import safe_file_names
    from ..io.outputs import OutputFolder

    place = OutputFolder(out, overwrite=overwrite)
    place.check_only_own()
    folders = {name: out / part for name, part in safe_file_names(stores).items()}
    errors: list[UsgsegError] = []
    for name, folder in folders.items():
        try:
            export_one(stores[name], folder)
        except UsgsegError as error:
            errors.append(error)
    if len(errors) == len(folders):
        raise errors[0]
    failed.extend(map(str, errors))
    place.remove_others(*folders.values())


def _open(folder: Path, labels: Path | None, annotator: str) -> Project:
    from ..project.project import Project

    return Project(folder, labels, annotator=annotator, write=False)


@contextmanager
def _accepted(folder: Path, labels: Path | None) -> Iterator[dict[str, Project]]:
    """The project of each annotator with something to export; of the first where nobody has.

    The first annotator's name is ``FIRST``.
    """
    from ..project.records import ImageState

    with ExitStack() as opened:
        first = opened.enter_context(closing(_open(folder, labels, "")))
        stores = [
            opened.enter_context(closing(_open(folder, labels, name))) if name else first
            for name in first.annotators()
        ]
        yield {
            store.annotator or FIRST: store
            for store in stores
            if ImageState.ACCEPTED in store.states().values()
        } or {FIRST: first}


def _export(store: Project, out: Path, options: dict[str, Any]) -> list[str]:
    """Export one annotator's labels; gives sentences about what was left out."""
    from ..effort.efforts import about_the_work
    from ..project.exchange import export_store
    from ..project.records import ImageState

    if ImageState.ACCEPTED not in store.states().values():
        who = ", ".join(each or FIRST for each in store.annotators() if each != store.annotator)
        others = f" by {store.annotator or FIRST} (but by {who})" if who else ""
        raise DatasetError(
            store.folder,
            f"nothing is labelled here yet{others} (no label map in {store.root / 'labels'}); "
            "accept an image in the widget first",
        )
    report = export_store(store, out, made=about_the_work(store), **options)
    typer.echo(f"{len(report.exported)} of {len(store.records)} images exported to {out}")
    for note in report.notes:
        typer.echo(f"usgseg: {note}", err=True)
    failures = [f"{item.image_id}: {item.error}" for item in report.failures]
    return [*store.problems, *store.take_warnings(), *failures, *report.ungrouped]


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
    typer.echo(f"{report.summary}; correct and accept them in the window")
    for note in (*report.remarks(), *warnings):
        typer.echo(f"usgseg: {note}", err=True)
    end_if_failed([f"{item.image_id}: {item.error}" for item in report.failures])


def deidentify(
    inputs: Annotated[
        list[Path], typer.Argument(metavar="INPUT...", help="Folders of DICOM files, or files.")
    ],
    out: Annotated[Path, typer.Option(help="The new archive's folder.")],
    check: Annotated[
        Path | None,
        typer.Option(help="Folder of the sheet with pictures before and after; else OUT-check."),
    ] = None,
    box: Annotated[
        str | None,
        typer.Option(
            metavar="X0,Y0,X1,Y1",
            help="What stays of every picture; else the scanner's regions, or the sector found.",
        ),
    ] = None,
    black_text: Annotated[
        bool, typer.Option(help="Also blacken what looks like text within what stays.")
    ] = False,
    overwrite: Annotated[
        bool, typer.Option(help="Replace what this program wrote, and nothing else.")
    ] = False,
) -> None:
    """Write DICOM files anew without who the patient is, text beside the ultrasound black.

    Attributes that are not known to be harmless are left out; identifiers become pseudonyms, the
    same for the same. Look at the sheet before you give the archive away.
    """
    from ..io.search import search_images
    from ..segmentation.deidentified_archive import SHEET_FILE, check_folder, deidentify_files, said

    found = search_images(inputs, recursive=True)
    if not found.files:
        here = ", ".join(readable(path) for path in inputs)
        raise PromptError(str(found.problems[0]) if found.problems else f"no DICOM in {here}")
    beside = check or check_folder(out)
    failed = [str(error) for error in found.problems]
    done = inside = 0
    with progress(len(found.files), "de-identifying") as step:
        for result in deidentify_files(
            found.files,
            out,
            beside,
            box=None if box is None else parse_box(box),
            black_text=black_text,
            overwrite=overwrite,
        ):
            line = said(result)
            if result.status == "failed":
                failed.append(line)
                step("")
                continue
            done += 1
            inside += bool(result.text_inside)
            step(line)
    typer.echo(f"{done} written, {len(failed)} failed; the archive is in {readable(out)}")
    if inside and not black_text:
        typer.echo(
            f"in {inside} files something looks like text within what stays: look at the sheet "
            "(yellow frames), or use --black-text"
        )
    if done:
        typer.echo(f"pictures before and after: {readable(beside / SHEET_FILE)}")
    end_if_failed(failed)
