"""Options, progress, reports and texts that several commands share."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..core.errors import DatasetError, PromptError

if TYPE_CHECKING:
    from ..io.datasets import Dataset
    from ..io.outputs import OutputFolder

EXIT_SOME_FAILED = 3

Advance = Callable[[str], None]

ModelName = Annotated[str, typer.Option(help="Segmenter: a name or a checkpoint.")]
DetectorName = Annotated[str, typer.Option(help="Detector: a name or a folder.")]
Adapter = Annotated[Path | None, typer.Option(help="LoRA adapter folder on top of the detector.")]
BoxThreshold = Annotated[float | None, typer.Option(min=0, max=1, help="Least score of a box.")]
TextThreshold = Annotated[float | None, typer.Option(min=0, max=1, help="Least score of a token.")]
Device = Annotated[str, typer.Option(help="auto, cpu or cuda.")]
Scheduler = Annotated[
    str | None,
    typer.Option(metavar="ADDRESS", help="Have the machines of this Dask scheduler work."),
]
Datasets = Annotated[
    list[Path], typer.Argument(metavar="DATASET...", help="Data set folders (dataset.json).")
]
Limit = Annotated[int | None, typer.Option(min=1, help="At most so many images of each data set.")]
SplitFile = Annotated[
    Path | None,
    typer.Option(help="Split file; scores only one --side of it. FILE#NAME takes a fold of it."),
]
Side = Annotated[str, typer.Option(help="train, val or test.")]
JsonFile = Annotated[
    Path | None, typer.Option("--json", metavar="FILE", help="Write the figures here.")
]


@contextmanager
def progress(total: int, title: str) -> Iterator[Advance]:
    """Yield a function that counts one step and says what it was.

    A bar on a terminal; elsewhere one plain line on standard output for each step that has a text.
    """
    if not sys.stderr.isatty():
        yield _plain_line
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
    from rich.progress import TimeRemainingColumn as Remaining

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), Remaining())
    console = Console(stderr=True)
    with Progress(*columns, console=console, transient=True, redirect_stdout=False) as bar:
        task = bar.add_task(title, total=total)

        def advance(line: str) -> None:
            if line:
                console.print(_named(line), markup=False, highlight=False)
            bar.advance(task)

        yield advance


def _plain_line(line: str) -> None:
    if line:
        typer.echo(_named(line))


@contextmanager
def machines(scheduler: str | None) -> Iterator[Any]:
    """Yield what has a function done on chunks: ``map``, or that of a scheduler's machines.

    Raises:
        ClusterError: it cannot be reached.
    """
    if scheduler is None:
        yield map
        return
    from ..jobs.cluster import Cluster

    with Cluster(scheduler) as cluster:
        yield cluster.map


def print_table(rows: Sequence[Sequence[str]]) -> None:
    """Print rows with their columns one below the other."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = zip(row, widths, strict=True)
        typer.echo("  ".join(cell.ljust(width) for cell, width in cells).rstrip())


def complain(line: str) -> None:
    """A line on standard error; what came out of an archive is named through it."""
    typer.echo(f"usgseg: {_named(line)}", err=True)


def _named(line: str) -> str:
    if "archives" not in line:  # most have no need of the import
        return line
    from ..io.archives import by_archive

    return by_archive(line)


def end_if_failed(failures: Collection[object]) -> None:
    """Say what failed and end with the code for that; go on where nothing did."""
    for line in failures:
        complain(str(line))
    if failures:
        raise typer.Exit(EXIT_SOME_FAILED)


def report_writer(
    path: Path | None, *, reads: Iterable[Path] = ()
) -> Callable[[dict[str, Any]], None]:
    """A function that writes a JSON report to ``path``, or does nothing where there is no path.

    Whether it may be written is asked now, before the work. An earlier report is replaced.

    Raises:
        LabelWriteError: it may not be written, or its folder cannot be.
    """
    if path is None:
        return lambda content: None
    from ..io.outputs import output_file

    folder = output_file(path, reads=reads)
    return lambda content: folder.write(path, as_json(content))


def result_folder(out: Path, *names: str, reads: Iterable[Path] = ()) -> OutputFolder:
    """A folder for the files ``names`` of a command, which replaces its earlier ones.

    Raises:
        LabelWriteError: one of them may not be written, or the folder cannot be.
    """
    from ..io.outputs import OutputFolder

    folder = OutputFolder(out, reads=reads, overwrite=True)
    folder.check(*(out / name for name in names))
    folder.check_writable()
    return folder


def as_json(content: Mapping[str, Any]) -> bytes:
    """A report as the bytes of its file."""
    return (json.dumps(content, indent=1) + "\n").encode()


def check_choice(option: str, value: str, choices: Collection[str]) -> None:
    """Refuse a value that is none of ``choices``.

    Raises:
        PromptError: it says which there are.
    """
    if value not in choices:
        raise PromptError(f"{option} {value!r}: expected one of {', '.join(choices)}")


def read_chosen(folders: Sequence[Path], split: Path | None, side: str) -> list[Dataset]:
    """Read data sets, and keep one side of a split file where one is given.

    Raises:
        DatasetError: a folder or the split file cannot be used, or two data sets share a name.
    """
    from ..io.datasets import SIDES, read_dataset, split_of

    check_choice("--side", side, SIDES)
    datasets = [read_dataset(folder) for folder in folders]
    check_names(folders, datasets)
    if split is None:
        return datasets
    return [dataset.only(split_of(split, dataset.name).of(side)) for dataset in datasets]


def check_names(folders: Sequence[Path], datasets: Sequence[Dataset]) -> None:
    """Refuse two data sets of one name.

    Raises:
        DatasetError: it names the first folder of the two.
    """
    names = [dataset.name for dataset in datasets]
    for folder, name in zip(folders, names, strict=True):
        if names.count(name) > 1:
            raise DatasetError(folder, f"another data set is named '{name}' too; give each once")


def files_of(datasets: Sequence[Dataset]) -> list[Path]:
    """The images and masks of data sets."""
    items = [item for dataset in datasets for item in dataset.items]
    return [path for item in items for path in (item.image_path, item.mask_path)]


def parse_box(text: str) -> tuple[float, float, float, float]:
    """``x0,y0,x1,y1`` in pixels, corners in any order, to XYXY.

    Raises:
        PromptError: not four numbers.
    """
    try:
        x0, y0, x1, y1 = (_pixel(part) for part in text.split(","))
    except ValueError:
        raise PromptError(f"--box {text!r}: expected x0,y0,x1,y1 in pixels") from None
    return min(x0, x1), min(y0, y1), max(x0, x1), max(y0, y1)


def parse_point(text: str) -> tuple[float, float, int]:
    """``x,y`` (on the object) or ``x,y,-`` (not on it) to (x, y, 1 or 0).

    Raises:
        PromptError: not of these forms.
    """
    parts = text.split(",")
    sign = parts[2].strip() if len(parts) == 3 else "+"
    try:
        if sign not in ("+", "-") or len(parts) > 3:
            raise ValueError
        return _pixel(parts[0]), _pixel(parts[1]), 1 if sign == "+" else 0
    except (ValueError, IndexError):
        raise PromptError(
            f"--point {text!r}: expected x,y in pixels, and ,- for a place outside the object"
        ) from None


def parse_trace(text: str) -> tuple[tuple[float, float], ...]:
    """``x,y x,y ...`` in pixels, two points or more.

    Raises:
        PromptError: not of this form.
    """
    try:
        points = tuple((_pixel(x), _pixel(y)) for x, y in (at.split(",") for at in text.split()))
        if len(points) < 2:
            raise ValueError
    except ValueError:
        raise PromptError(
            f'--trace {text!r}: expected "x,y x,y ..." in pixels, both ends of the line at least'
        ) from None
    return points


def _pixel(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError
    return value
