"""``usgseg ablate``: what post-processing, thresholds, LoRA and the choice of words are worth."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..core.errors import PromptError
from .common import (
    Datasets,
    DetectorName,
    Device,
    Limit,
    ModelName,
    Side,
    SplitFile,
    check_choice,
    end_if_failed,
    files_of,
    progress,
    read_chosen,
    result_folder,
)

if TYPE_CHECKING:
    from ..io.datasets import Dataset


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
