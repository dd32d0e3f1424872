"""``usgseg datasets``: the public data sets, and their original folders as one layout."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..core.errors import DatasetError
from ..io.formats import DEFAULT_ORGAN
from .common import EXIT_SOME_FAILED, check_choice, print_table, progress

if TYPE_CHECKING:
    from ..lab.public_datasets.finding import Remark

LAYOUTS = ("png", "csv", "sam2rad")
MANY = 20
SEEN = {True: "seen", False: "unseen", None: "extra"}

app = typer.Typer(
    help="Public data sets: what there is, and their original folders as one layout.",
    no_args_is_help=False,
)


@app.command("list")
def list_all() -> None:
    """Show the paper's eighteen data sets and the extras, with its counts.

    "checked" are those that ``prepare`` was tried on in their original folders.
    """
    from ..lab.public_datasets.registry import known_datasets

    rows = [
        ("name", "organ", "target", "paper", "images", "train", "val", "test", "checked", "licence")
    ]
    for known in known_datasets():
        counts = [str(count) if count else "-" for count in known.split or (0, 0, 0)]
        licence = textwrap.shorten(known.licence, 40, placeholder=" ...")
        rows.append(
            (known.name, known.organ, known.target, SEEN[known.seen],
             str(known.images or "-"), counts[0], counts[1], counts[2],
             "yes" if known.layout.checked else "-", licence)
        )  # fmt: skip
    print_table(rows)


@app.command()
def show(name: Annotated[str, typer.Argument(help="As `usgseg datasets list` says it.")]) -> None:
    """Say what is known of one data set, and which folders and files ``prepare`` expects."""
    from ..lab.public_datasets.registry import known_dataset

    known = known_dataset(name)
    layout = known.layout
    counts = "train {}, validation {}, test {}".format(*known.split) if known.split else "none"
    verified = "" if layout.verified else " (by convention, not verified)"
    facts = [
        ("organ", known.organ),
        ("phrases", "; ".join(known.phrases)),
        ("labels", f"merged: {known.target}; kept: " + "; ".join(k.name for k in known.kept)),
        ("home page", known.homepage),
        ("licence", known.licence),
        ("size", known.size),
        ("paper", f"{SEEN[known.seen]}, {known.images} images: {counts}" if known.images else "-"),
        ("groups", known.groups),
        ("files", layout.files),
        ("said by", f"{layout.source}{verified}"),
        ("checked", layout.checked or "not on the original folder; it follows descriptions only"),
        ("note", known.note or "-"),
    ]
    typer.echo(known.name)
    for title, text in facts:
        lines = textwrap.wrap(text, 84, break_long_words=False, break_on_hyphens=False) or [""]
        for number, line in enumerate(lines):
            typer.echo(f"  {title if number == 0 else '':10}{line}")


@app.command()
def prepare(
    name: Annotated[str, typer.Argument(help="As `usgseg datasets list` says it.")],
    folder: Annotated[Path, typer.Argument(help="The data set as downloaded and unpacked.")],
    out: Annotated[Path, typer.Option(help="A new or an empty folder; the original is only read.")],
    keep_labels: Annotated[
        bool, typer.Option(help="The original's labels, not one label for the target.")
    ] = False,
    empty: Annotated[
        bool, typer.Option(help="Keep images without the target; the paper has none.")
    ] = False,
    invert: Annotated[bool, typer.Option(help="Masks are dark on bright.")] = False,
    seed: Annotated[int, typer.Option(help="Of the split.")] = 0,
    overwrite: Annotated[
        bool, typer.Option(help="Replace an earlier result that nobody changed since.")
    ] = False,
) -> None:
    """Read a data set's original folder: images/, masks/, dataset.json, splits.json, report.json.

    Exit code 3 where files were missing or could not be used; each is named.
    """
    from ..lab.public_datasets.prepare import prepare_dataset
    from ..lab.public_datasets.registry import known_dataset

    known = known_dataset(name)
    with progress(known.images or 0, known.name) as step:
        report = prepare_dataset(
            known,
            folder,
            out,
            keep_labels=keep_labels,
            keep_empty=empty,
            invert=invert,
            seed=seed,
            overwrite=overwrite,
            progress=lambda done, total, file: step(
                f"{done} of {total}" if done == total or done % 500 == 0 else ""
            ),
        )
    sides = report.split
    typer.echo(
        f"{known.name}: {report.images} images, {report.groups} groups: train {len(sides.train)}, "
        f"validation {len(sides.val)}, test {len(sides.test)}; in {out}"
    )
    if known.images and report.like_paper:
        typer.echo("as many with the target as the paper counts")
    elif known.images:
        typer.echo(f"the paper counts {known.images}; the sides have its shares")
    if report.empty:
        typer.echo(f"{report.empty} show no target and are {'kept' if empty else 'left out'}")
    _say(report.remarks, out / "report.json")
    if report.left_out:
        raise typer.Exit(EXIT_SOME_FAILED)


@app.command()
def convert(
    source: Annotated[
        Path, typer.Argument(help="A data set in this layout, or in one of the source systems'.")
    ],
    to: Annotated[str, typer.Option(help="png (this layout), csv or sam2rad.")],
    out: Annotated[Path, typer.Option(help="A new or an empty folder.")],
    splits: Annotated[
        Path | None, typer.Option(help="Split file; else SOURCE/splits.json, else made by group.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Of a split that is made.")] = 0,
    organ: Annotated[str, typer.Option(help="For dataset.json, from csv.")] = DEFAULT_ORGAN,
    overwrite: Annotated[
        bool, typer.Option(help="Replace an earlier result that nobody changed since.")
    ] = False,
) -> None:
    """Between this layout, GroundingDINO-US-SAM's CSV and Sam2Rad's Train and Test folders."""
    from ..io.datasets import read_dataset, read_splits, split_by_group
    from ..lab.public_datasets import conversions

    check_choice("--to", to, LAYOUTS)
    if to == "png" and conversions.is_source_csv(source):
        images, remarks = conversions.read_source_csv(source, out, organ=organ, overwrite=overwrite)
        said = f"{images} images"
    elif to == "png":
        dataset = read_dataset(source)
        images, remarks = conversions.write_png_layout(dataset, out, overwrite=overwrite)
        said = f"{images} images"
    else:
        dataset = read_dataset(source)
        file = splits or source / "splits.json"
        split = read_splits(file).get(dataset.name) if splits or file.is_file() else None
        if split is None and splits is not None:
            raise DatasetError(splits, f"holds no split of {dataset.name}; leave out --splits")
        split = split or split_by_group(dataset, seed)
        write = conversions.write_source_csv if to == "csv" else conversions.write_sam2rad
        said, remarks = write(dataset, split, out, overwrite=overwrite)
    typer.echo(f"{said} in {out}")
    _say(remarks)
    if any(remark.kind != "odd" for remark in remarks):
        raise typer.Exit(EXIT_SOME_FAILED)


def _say(remarks: Sequence[Remark], report: Path | None = None) -> None:
    """Say what was left out or is odd, each once; ``report`` is the file that says it of each."""
    from ..core.notes import counted

    files: dict[tuple[str, str], list[str]] = {}
    for remark in remarks:
        files.setdefault((remark.kind, remark.text), []).append(remark.path)
    for (kind, text), paths in list(files.items())[:MANY]:
        typer.echo(f"usgseg: {kind}: {counted(text, paths)}", err=True)
    if len(files) > MANY:
        where = f" in {report}" if report is not None else ""
        typer.echo(f"usgseg: and {len(files) - MANY} more{where}", err=True)
