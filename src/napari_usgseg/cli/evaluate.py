"""``usgseg evaluate``: a model's quality on data sets, by the project's protocol."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..errors import DatasetError, PromptError
from .common import EXIT_SOME_FAILED, Advance, progress, write_json

if TYPE_CHECKING:
    from ..io.datasets import Dataset, DatasetItem

SIDES = ("train", "val", "test")


def evaluate(
    datasets: Annotated[
        list[Path], typer.Argument(metavar="DATASET...", help="Data set folders (dataset.json).")
    ],
    prompt: Annotated[str, typer.Option(help="text, box, clicks, ppn or ppn+box.")],
    text: Annotated[
        str | None, typer.Option(help="Phrase for label 1 instead of the data set's target.")
    ] = None,
    json_file: Annotated[
        Path | None, typer.Option("--json", metavar="FILE", help="Write the report here.")
    ] = None,
    limit: Annotated[
        int | None, typer.Option(min=1, help="At most so many images of each data set.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Of --limit's draw, --jitter and shuffling.")] = 0,
    per_image: Annotated[bool, typer.Option(help="Report each image too.")] = False,
    split: Annotated[
        Path | None, typer.Option(help="Split file; scores only one --side of it.")
    ] = None,
    side: Annotated[str, typer.Option(help="train, val or test.")] = "test",
    jitter: Annotated[
        float, typer.Option(min=0, max=1, help="Shake box edges by this part of the box's side.")
    ] = 0.0,
    shuffle_prompts: Annotated[
        bool, typer.Option(help="Prompt with another image's box: Dice must collapse.")
    ] = False,
    model: Annotated[str, typer.Option(help="Segmenter: a name or a checkpoint.")] = "nano",
    grounder: Annotated[str, typer.Option(help="Detector: a name or a folder.")] = "nano",
    adapter: Annotated[
        Path | None, typer.Option(help="LoRA adapter folder on top of the grounder.")
    ] = None,
    ppn: Annotated[
        Path | None, typer.Option(help="Folder of a prompt predictor, for ppn and ppn+box.")
    ] = None,
    include_trained: Annotated[
        bool, typer.Option(help="Also score images that the prompt predictor was trained on.")
    ] = False,
    box_threshold: Annotated[
        float | None, typer.Option(min=0, max=1, help="Least score of a box.")
    ] = None,
    text_threshold: Annotated[
        float | None, typer.Option(min=0, max=1, help="Least score of a token.")
    ] = None,
    priors: Annotated[
        bool, typer.Option(help="Feed the detector's coarse masks to the segmenter.")
    ] = True,
    cleaning: Annotated[
        bool, typer.Option(help="Post-process masks as a person gets them.")
    ] = True,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
) -> None:
    """Score text, box or click prompts, or a prompt predictor, on labelled data sets."""
    from ..pipeline.evaluate import PROMPT_KINDS, EvaluationRequest, evaluate_dataset
    from ..pipeline.postprocess import PostprocessSettings
    from ..pipeline.report import dataset_report, evaluation_report

    kind = next((kind for kind in PROMPT_KINDS if kind == prompt), None)
    if kind is None:
        raise PromptError(f"--prompt {prompt!r}: expected one of {', '.join(PROMPT_KINDS)}")
    if (jitter or shuffle_prompts) and kind != "box":
        raise PromptError("--jitter and --shuffle-prompts are for --prompt box")
    if (ppn is not None) != kind.startswith("ppn"):
        raise PromptError("--ppn DIR goes with --prompt ppn or ppn+box, and they with it")
    request = EvaluationRequest(
        kind,
        text=text,
        box_threshold=box_threshold,
        text_threshold=text_threshold,
        jitter=jitter,
        shuffle_prompts=shuffle_prompts,
        settings=PostprocessSettings(enabled=cleaning),
        use_priors=priors,
        include_trained=include_trained,
        limit=limit,
        seed=seed,
    )
    chosen = read_chosen(datasets, split, side)

    from ..models.registry import load_detector, load_segmenter

    segmenter = load_segmenter(model, device=device)
    detector = load_detector(grounder, adapter=adapter, device=device) if kind == "text" else None
    auto = None
    if ppn is not None:
        from ..models.ppn_model import load_ppn

        auto = load_ppn(ppn, segmenter)
    reports: dict[str, dict[str, Any]] = {}
    failed: list[str] = []
    for dataset in chosen:
        total = min(limit or len(dataset.items), len(dataset.items))
        with progress(total, dataset.name) as step:
            say = partial(_count, step)
            try:
                result = evaluate_dataset(
                    dataset, segmenter, detector, request, on_image=say, auto=auto
                )
            except DatasetError as error:
                failed.append(str(error))
                continue
        reports[dataset.name] = dataset_report(result.scores, per_image=per_image)
        typer.echo(describe(dataset.name, reports[dataset.name]))
        failed += [str(error) for _, error in result.failures]
    if not reports:
        raise PromptError(f"nothing could be scored: {failed[0]}")
    used = {"id": auto.card.ppn_id, "images": len(auto.card.images)} if auto else None
    report = evaluation_report(request, model, grounder if detector else None, reports, used)
    typer.echo(f"mean: Dice {report['mean']['dice']:.3f}, IoU {report['mean']['iou']:.3f}")
    if json_file is not None:
        write_json(json_file, report)
    for line in failed:
        typer.echo(f"usgseg: {line}", err=True)
    if failed:
        raise typer.Exit(EXIT_SOME_FAILED)


def _count(step: Advance, item: DatasetItem) -> None:
    step("")


def read_chosen(folders: Sequence[Path], split: Path | None, side: str) -> list[Dataset]:
    """Read data sets, and keep one side of a split file where one is given.

    Raises:
        DatasetError: a folder or the split file cannot be used, or two data sets share a name.
    """
    from ..io.datasets import read_dataset, read_splits

    if side not in SIDES:
        raise PromptError(f"--side {side!r}: expected one of {', '.join(SIDES)}")
    datasets = [read_dataset(folder) for folder in folders]
    names = [dataset.name for dataset in datasets]
    for folder, name in zip(folders, names, strict=True):
        if names.count(name) > 1:
            raise DatasetError(folder, f"another data set is named '{name}' too; give each once")
    if split is None:
        return datasets
    splits = read_splits(split)
    for name in names:
        if name not in splits:
            raise DatasetError(split, f"says nothing of '{name}', only of {', '.join(splits)}")
    return [dataset.only(getattr(splits[dataset.name], side)) for dataset in datasets]


def describe(name: str, entry: dict[str, Any]) -> str:
    """One line for a person: "hc18: 60 images, Dice 0.951, ..."."""
    parts = [
        f"{entry['images']} images",
        f"Dice {entry['dice']:.3f}",
        f"IoU {entry['iou']:.3f}",
        f"HD95 {entry['hd95_px']:.1f} px",
    ]
    if "dice_at_clicks" in entry:
        at_clicks = entry["dice_at_clicks"].items()
        parts += [f"Dice at {count} click(s) {dice:.3f}" for count, dice in at_clicks]
        parts += [f"NoC@85 {entry['noc85']:.2f}", f"NoC@90 {entry['noc90']:.2f}"]
    if "empty_kept" in entry:
        parts.append(f"{entry['empty_kept']:.0%} of {entry['empty_images']} empty ones kept empty")
    return f"{name}: " + ", ".join(parts) + f", {entry['seconds_per_image']:.2f} s each"
