"""``usgseg evaluate``, ``compare``, ``ablate``, ``benchmark``: how good models are, how fast."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..core.errors import DatasetError, PromptError
from .common import (
    Adapter,
    BoxThreshold,
    Datasets,
    DetectorName,
    Device,
    JsonFile,
    Limit,
    ModelName,
    Scheduler,
    Side,
    SplitFile,
    TextThreshold,
    as_json,
    check_choice,
    end_if_failed,
    files_of,
    machines,
    progress,
    read_chosen,
    report_writer,
    result_folder,
)

if TYPE_CHECKING:
    from ..io.datasets import Dataset
    from ..io.outputs import OutputFolder
    from ..lab.evaluation.evaluate import Asked, DatasetEvaluation, Scorer
    from ..lab.evaluation.methods import EvaluationRequest

RESULTS = (
    "report.json", "tables.md", "tables.json", "seen.csv", "unseen.csv", "others.csv",
    "classes.csv", "classes.svg", "worst.png",
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
        typer.Option(
            help="Score dark-blob or box-blob (image processing), persam (matching), or litemedsam."
        ),
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
    scheduler: Scheduler = None,
) -> None:
    """Score a model, a baseline or anybody's predictions on labelled data sets; compare reports."""
    if compare is not None:
        _compare(*compare, json_file, out)
        return
    from ..lab.evaluation.evaluate import Asked, ScoringElsewhere, load_scorer
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
    if scheduler is not None and asked.prompt is None:
        raise PromptError("--scheduler is for --prompt: give one, or leave it out")
    scorer = load_scorer(asked, request)
    elsewhere = ScoringElsewhere(asked.placed(), request, scorer.ids) if scheduler else None
    with machines(scheduler) as run:
        score = partial(scorer.score, run=run, elsewhere=elsewhere)
        _score(chosen, scorer, score, per_image, worst, folder, write_report)


def _score(
    chosen: Sequence[Dataset],
    scorer: Scorer,
    score: Callable[..., DatasetEvaluation],
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
    take = cases.take if cases.count else None
    reports: dict[str, dict[str, Any]] = {}
    failed: list[str] = []
    for dataset in chosen:
        total = min(scorer.request.limit or len(dataset.items), len(dataset.items))
        with progress(total, dataset.name) as step:
            try:
                result = score(dataset, lambda item: step(""), take)
            except DatasetError as error:
                failed.append(str(error))
                continue
        entry = dataset_report(
            result.scores, labels=dataset.labels, per_image=per_image or out is not None
        )
        reports[dataset.name] = entry
        typer.echo(describe(dataset.name, entry))
        for found in entry.get("classes", {}).values():
            typer.echo(describe_class(found))
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


def describe_class(entry: dict[str, Any]) -> str:
    """One line below that of its data set: "  ilium: 31 images, Dice 0.512, ..."."""
    if not entry["images"]:
        return f"  {entry['name']}: in no image that was scored"
    return (
        f"  {entry['name']}: {entry['images']} images, Dice {entry['dice']:.3f}, "
        f"IoU {entry['iou']:.3f}, HD95 {entry['hd95_px']:.1f} px"
    )


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


def ablate(
    datasets: Datasets,
    out: Annotated[Path, typer.Option(help="Folder for ablation.md, .csv, .json and .svg.")],
    vary: Annotated[
        list[str] | None,
        typer.Option(
            help="Only this, repeatable: post-processing, threshold, adapter, sentence, phrasing."
        ),
    ] = None,
    phrase: Annotated[
        list[str] | None,
        typer.Option(help="A phrasing of label 1 to try, repeatable; else the project's own."),
    ] = None,
    phrases: Annotated[
        Path | None,
        typer.Option(help='JSON file of phrasings: {"breast tumor": ["lump in the breast"]}.'),
    ] = None,
    adapter: Annotated[
        list[Path] | None, typer.Option(help="A LoRA adapter's folder to try; repeatable.")
    ] = None,
    box_threshold: Annotated[
        list[float] | None,
        typer.Option(min=0, max=1, help="A least score of a box to try; repeatable."),
    ] = None,
    text_threshold: Annotated[
        list[float] | None,
        typer.Option(min=0, max=1, help="A least score of a token to try; repeatable."),
    ] = None,
    limit: Limit = None,
    seed: Annotated[int, typer.Option(help="Of --limit's draw.")] = 0,
    split: SplitFile = None,
    side: Side = "val",
    model: ModelName = "nano",
    detector: DetectorName = "nano",
    device: Device = "auto",
) -> None:
    """Change one thing at a time on the way from a phrase to a mask; a table and a plot."""
    from ..lab.evaluation.ablation import (
        FILES,
        GROUPS,
        THRESHOLDS,
        UNCHANGED,
        run_ablation,
        variants,
        write_ablation,
    )
    from ..lab.evaluation.methods import EvaluationRequest
    from ..models.grounding.phrases import wanted_phrases
    from ..models.registry import load_detector, load_segmenter

    for text in phrase or ():
        wanted_phrases(text, "--phrase")
    for group in vary or ():
        check_choice("--vary", group, GROUPS)
    chosen = read_chosen(datasets, split, side)
    adapters = {_adapter_name(folder): folder for folder in adapter or ()}
    if len(adapters) < len(adapter or ()):
        raise PromptError("two --adapter folders have the same name; rename one")
    own = read_phrasings(phrases) if phrases else {}
    asked = variants(
        EvaluationRequest("text", limit=limit, seed=seed),
        adapters,
        {item.name: _phrasings(item, phrase or (), own) for item in chosen},
        box_threshold or THRESHOLDS,
        text_threshold or (),
    )
    if vary:
        asked = [item for item in asked if item.group in (UNCHANGED, *vary)]
    reads = [*files_of(chosen), *filter(None, (split, phrases, *adapters.values()))]
    results = result_folder(out, *FILES, reads=reads)
    segmenter = load_segmenter(model, device=device)
    detectors = {"": load_detector(detector, device=device)}
    for name, folder in adapters.items():
        detectors[name] = load_detector(detector, adapter=folder, device=device)
    images = sum(min(limit or len(item.items), len(item.items)) for item in chosen)
    with progress(images, "ablation") as step:
        result = run_ablation(chosen, segmenter, detectors, asked, lambda name: step(""))
    write_ablation(result, results)
    for row in result["rows"]:
        if row["group"] == UNCHANGED:
            typer.echo(f"{row['dataset']}: {row['images']} images, Dice {row['dice']:.3f}")
    for name, spread in result["phrasing_spread"].items():
        typer.echo(
            f"{name}: Dice {spread['lowest']:.3f} to {spread['highest']:.3f} over "
            f"{spread['phrasings']} phrasings, standard deviation {spread['std']:.3f}"
        )
    typer.echo(f"wrote ablation.md, .csv, .json, .svg in {out}")
    end_if_failed(result["failures"])


def _phrasings(
    dataset: Dataset, given: Sequence[str], own: Mapping[str, Sequence[str]]
) -> dict[int, list[str]]:
    """Of each label, the data set's own phrase first."""
    found = {}
    for label in dataset.labels:
        name = dataset.phrase(label)
        if given or own:  # those and no others
            more = [*(given if label == 1 else ()), *own.get(name.casefold(), ())]
        else:
            more = phrasings_of(name)
        if more:
            found[label] = list(dict.fromkeys([name, *more]))
    return found


def phrasings_of(target: str) -> list[str]:
    """Phrasings of a target: its own name, some that were trained with, all held-out ones."""
    from ..learning.phrases import concept_of

    concept = concept_of(target)
    some = [phrase for phrase in concept.phrases if phrase != target][:5]
    return [target, *some, *concept.held_out]


def read_phrasings(path: Path) -> dict[str, list[str]]:
    """A file of phrasings by target, in lower case.

    Raises:
        PromptError: it is not such a file.
    """
    from pydantic import TypeAdapter

    try:
        card = TypeAdapter(dict[str, list[str]]).validate_json(path.read_bytes())
    except (OSError, ValueError) as error:
        raise PromptError(
            f'--phrases {path}: {error}; expected JSON such as {{"breast tumor": ["lump"]}}'
        ) from error
    return {target.casefold(): phrases for target, phrases in card.items()}


def _adapter_name(folder: Path) -> str:
    """The folder's name, with the rank of its matrices where it says one."""
    try:
        rank = json.loads((folder / "adapter_config.json").read_text(encoding="utf-8"))["r"]
    except (OSError, ValueError, KeyError, TypeError):  # load_detector says what is wrong
        return folder.name
    return f"{folder.name}, rank {rank}"


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
