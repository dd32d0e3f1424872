"""Commands ``usgseg evaluate`` and ``usgseg benchmark``: how good a model is, and how fast."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..core.errors import DatasetError, PromptError
from .common import (
    Adapter,
    BoxThreshold,
    DetectorName,
    Device,
    JsonFile,
    Limit,
    ModelName,
    Side,
    SplitFile,
    TextThreshold,
    as_json,
    end_if_failed,
    files_of,
    progress,
    read_chosen,
    report_writer,
    result_folder,
)

if TYPE_CHECKING:
    from ..io.datasets import Dataset
    from ..io.outputs import OutputFolder
    from ..lab.evaluation.evaluate import Scorer

RESULTS = (
    "report.json", "tables.md", "tables.json", "seen.csv", "unseen.csv", "others.csv", "worst.png"
)  # fmt: skip
COMPARISON = ("comparison.json", "comparison.md")


def evaluate(
    datasets: Annotated[
        list[Path] | None,
        typer.Argument(metavar="DATASET...", help="Data set folders (dataset.json)."),
    ] = None,
    prompt: Annotated[str | None, typer.Option(help="text, box, clicks, ppn or ppn+box.")] = None,
    text: Annotated[
        str | None, typer.Option(help="Phrase for label 1 instead of the data set's target.")
    ] = None,
    one_sentence: Annotated[
        bool, typer.Option(help="Ask for all labels in one sentence; score the one label map.")
    ] = False,
    out: Annotated[
        Path | None,
        typer.Option(help="Write report.json, tables (Markdown, CSV, JSON) and worst.png in here."),
    ] = None,
    worst: Annotated[int, typer.Option(min=0, help="So many images on worst.png.")] = 16,
    json_file: JsonFile = None,
    compare: Annotated[
        tuple[Path, Path] | None,
        typer.Option(metavar="A B", help="Compare two reports (--per-image) instead; B minus A."),
    ] = None,
    predictions: Annotated[
        Path | None,
        typer.Option(help="Score anybody's label maps: DIR/<data set>/<id>.png or DIR/<id>.png."),
    ] = None,
    baseline: Annotated[
        str | None,
        typer.Option(help="Score dark-blob or box-blob (image processing), or litemedsam."),
    ] = None,
    name: Annotated[str | None, typer.Option(help="Of the method, in the report.")] = None,
    limit: Limit = None,
    seed: Annotated[int, typer.Option(help="Of --limit's draw, --jitter and shuffling.")] = 0,
    per_image: Annotated[bool, typer.Option(help="Report each image too.")] = False,
    split: SplitFile = None,
    side: Side = "test",
    jitter: Annotated[
        float, typer.Option(min=0, max=1, help="Shake box edges by this part of the box's side.")
    ] = 0.0,
    shuffle_prompts: Annotated[
        bool, typer.Option(help="Prompt with another image's box: Dice must collapse.")
    ] = False,
    model: ModelName = "nano",
    detector: DetectorName = "nano",
    adapter: Adapter = None,
    ppn: Annotated[
        Path | None, typer.Option(help="Folder of a prompt predictor, for ppn and ppn+box.")
    ] = None,
    include_trained: Annotated[
        bool, typer.Option(help="Also score images that the prompt predictor was trained on.")
    ] = False,
    box_threshold: BoxThreshold = None,
    text_threshold: TextThreshold = None,
    priors: Annotated[
        bool, typer.Option(help="Feed the detector's coarse masks to the segmenter.")
    ] = True,
    cleaning: Annotated[
        bool, typer.Option(help="Post-process masks as a person gets them.")
    ] = True,
    device: Device = "auto",
) -> None:
    """Score a model, a baseline or anybody's predictions on labelled data sets; compare reports."""
    if compare is not None:
        _compare(*compare, json_file, out)
        return
    from ..lab.evaluation.evaluate import Asked, load_scorer
    from ..lab.evaluation.methods import EvaluationRequest
    from ..segmentation.postprocess import PostprocessSettings

    asked = Asked(prompt, model, detector, adapter, ppn, predictions, baseline, name, device)
    if (jitter or shuffle_prompts) and asked.kind != "box":
        raise PromptError("--jitter and --shuffle-prompts are for --prompt box")
    request = EvaluationRequest(
        asked.kind,
        text=text,
        box_threshold=box_threshold,
        text_threshold=text_threshold,
        one_sentence=one_sentence,
        jitter=jitter,
        shuffle_prompts=shuffle_prompts,
        settings=PostprocessSettings(enabled=cleaning),
        use_priors=priors,
        include_trained=include_trained,
        limit=limit,
        seed=seed,
    )
    if not datasets:
        raise PromptError("name a data set folder to score on (or --compare two reports)")
    chosen = read_chosen(datasets, split, side)
    reads = [*files_of(chosen), *filter(None, (split, predictions, ppn, adapter))]
    write_report = report_writer(json_file, reads=reads)
    folder = result_folder(out, *RESULTS, reads=reads) if out is not None else None
    scorer = load_scorer(asked, request)
    _score(chosen, scorer, per_image, worst, folder, write_report)


def _score(
    chosen: Sequence[Dataset],
    scorer: Scorer,
    per_image: bool,
    worst: int,
    out: OutputFolder | None,
    write_report: Callable[[dict[str, Any]], None],
) -> None:
    from ..lab.evaluation.report import (
        WorstCases,
        dataset_report,
        evaluation_report,
        write_tables,
    )

    cases = WorstCases(worst if out else 0)
    take = cases.take if cases.count else lambda score, scene, answer: None
    reports: dict[str, dict[str, Any]] = {}
    failed: list[str] = []
    for dataset in chosen:
        total = min(scorer.request.limit or len(dataset.items), len(dataset.items))
        with progress(total, dataset.name) as step:
            try:
                result = scorer.score(dataset, lambda item: step(""), take)
            except DatasetError as error:
                failed.append(str(error))
                continue
        entry = dataset_report(result.scores, per_image=per_image or out is not None)
        reports[dataset.name] = entry
        typer.echo(describe(dataset.name, entry))
        failed += [str(error) for _, error in result.failures]
    if not reports:
        raise PromptError(f"nothing could be scored: {failed[0]}")
    report = evaluation_report(scorer, reports)
    typer.echo(f"mean: Dice {report['mean']['dice']:.3f}, IoU {report['mean']['iou']:.3f}")
    write_report(report)
    if out is not None:
        written = write_tables(report, {item.name: item.organ for item in chosen}, out)
        out.write(out.root / "report.json", as_json(report))
        cases.save(out.root / "worst.png", out.write)
        names = [*(path.name for path in written), "report.json"]
        typer.echo(f"wrote {', '.join(names)}{', worst.png' if cases.count else ''} in {out.root}")
    end_if_failed(failed)


def _compare(first: Path, second: Path, json_file: Path | None, out: Path | None) -> None:
    from ..lab.evaluation.compare import compare_reports, comparison_markdown

    reads = (first, second)
    write_report = report_writer(json_file, reads=reads)
    folder = result_folder(out, *COMPARISON, reads=reads) if out is not None else None
    comparison = compare_reports(first, second)
    text = comparison_markdown(comparison)
    typer.echo(text)
    if folder is not None:
        for name, data in zip(COMPARISON, (as_json(comparison), text.encode()), strict=True):
            folder.write(folder.root / name, data)
    write_report(comparison)


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


def benchmark(
    repeats: Annotated[int, typer.Option(min=1, help="Measurements of each; medians count.")] = 5,
    model: ModelName = "nano",
    json_file: JsonFile = None,
) -> None:
    """Time nano and our full path beside SAM2ImagePredictor, as ratios of one run."""
    from ..lab.evaluation.benchmark import run_benchmark
    from ..models.registry import load_segmenter

    write_report = report_writer(json_file)
    nano = load_segmenter(model)
    with progress(repeats + 1, "measuring") as step:
        report = run_benchmark(repeats, nano, progress=lambda done, total: step(""))
    typer.echo(f"peer: {report['peer']}, {report['threads']} thread(s)")
    for name, seconds in report["seconds"].items():
        ratio = report["ratios"].get(name)
        beside = f"  {ratio:.3f} of the peer's" if ratio is not None else ""
        typer.echo(f"{name}: {1000 * seconds:.1f} ms{beside}")
    write_report(report)
