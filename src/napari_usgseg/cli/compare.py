"""``usgseg compare``: models, baselines and predictions side by side on data sets."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..core.errors import PromptError
from .common import (
    Adapter,
    Datasets,
    DetectorName,
    Device,
    JsonFile,
    Limit,
    Side,
    SplitFile,
    end_if_failed,
    files_of,
    progress,
    read_chosen,
    report_writer,
    result_folder,
)

if TYPE_CHECKING:
    from ..lab.evaluation.evaluate import Asked
    from ..lab.evaluation.methods import EvaluationRequest


def compare(
    datasets: Datasets,
    prompt: Annotated[str, typer.Option(help="text, box, clicks, ppn or ppn+box.")],
    model: Annotated[
        list[str] | None, typer.Option(help="A segmenter's name or checkpoint; repeatable.")
    ] = None,
    baseline: Annotated[
        list[str] | None,
        typer.Option(help="dark-blob, box-blob, persam or litemedsam; repeatable."),
    ] = None,
    predictions: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=DIR", help="Anybody's label maps, under a name; repeatable."),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(help="Write compare.md, .csv, .json and .svg; what is scored is kept there."),
    ] = None,
    json_file: JsonFile = None,
    limit: Limit = None,
    seed: Annotated[int, typer.Option(help="Of --limit's draw.")] = 0,
    split: SplitFile = None,
    side: Side = "test",
    detector: DetectorName = "nano",
    adapter: Adapter = None,
    ppn: Annotated[Path | None, typer.Option(help="Folder of a prompt predictor.")] = None,
    device: Device = "auto",
) -> None:
    """One table, data sets down and models across; with --out it goes on where it was stopped."""
    from ..lab.evaluation.league import FILES, entrants, league_markdown, run_league, write_league
    from ..lab.evaluation.methods import EvaluationRequest

    folders = dict(map(_named, predictions or ()))
    if len(folders) < len(predictions or ()):
        raise PromptError("two --predictions have the same name")
    how: dict[str, Any] = {"detector": detector, "adapter": adapter, "device": device, "ppn": ppn}
    compared = entrants(prompt, model or (), baseline or (), folders, **how)
    chosen = read_chosen(datasets, split, side)
    reads = [*files_of(chosen), *filter(None, (split, adapter, ppn, *folders.values()))]
    write_report = report_writer(json_file, reads=reads)
    folder = result_folder(out, *FILES, reads=reads) if out is not None else None

    def request(asked: Asked) -> EvaluationRequest:
        return EvaluationRequest(asked.kind, limit=limit, seed=seed)

    images = sum(min(limit or len(item.items), len(item.items)) for item in chosen)
    with progress(images * len(compared), "comparing") as step:
        result = run_league(
            chosen,
            compared,
            request,
            folder,
            on_image=lambda name, dataset, item: step(""),
            on_result=lambda *scored: typer.echo(described(*scored)),
        )
    typer.echo(league_markdown(result))
    if folder is not None:
        write_league(result, folder)
        typer.echo(f"wrote {', '.join(FILES)} in {folder.root}")
    write_report(result)
    end_if_failed(result["failures"])


def described(name: str, dataset: str, entry: dict[str, Any]) -> str:
    """One line: "hip, nano: 8 images, Dice 0.647, IoU 0.547"."""
    return (
        f"{dataset}, {name}: {entry['images']} images, Dice {entry['dice']:.3f}, "
        f"IoU {entry['iou']:.3f}"
    )


def _named(given: str) -> tuple[str, Path]:
    """``NAME=DIR``; a folder alone has its own name."""
    name, parted, folder = given.partition("=")
    if not parted:
        return Path(given).name, Path(given)
    if not name or not folder:
        raise PromptError(f"--predictions {given!r}: expected NAME=DIR")
    return name, Path(folder)
