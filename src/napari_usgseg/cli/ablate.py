"""``usgseg ablate``: what post-processing, thresholds, LoRA and the choice of words are worth."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ..errors import PromptError
from .evaluate import read_chosen

GROUPS = ("post-processing", "threshold", "adapter", "phrasing")


def ablate(
    datasets: Annotated[
        list[Path], typer.Argument(metavar="DATASET...", help="Data set folders (dataset.json).")
    ],
    out: Annotated[Path, typer.Option(help="Folder for ablation.md, .csv, .json and .svg.")],
    vary: Annotated[
        list[str] | None,
        typer.Option(help=f"Only this, repeatable: {', '.join(GROUPS)}; else all."),
    ] = None,
    phrase: Annotated[
        list[str] | None,
        typer.Option(help="A phrasing of label 1 to try, repeatable; else the project's own."),
    ] = None,
    adapter: Annotated[
        list[Path] | None, typer.Option(help="A LoRA adapter's folder to try; repeatable.")
    ] = None,
    limit: Annotated[
        int | None, typer.Option(min=1, help="At most so many images of each data set.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Of --limit's draw.")] = 0,
    split: Annotated[
        Path | None, typer.Option(help="Split file; scores only one --side of it.")
    ] = None,
    side: Annotated[str, typer.Option(help="train, val or test.")] = "val",
    model: Annotated[str, typer.Option(help="Segmenter: a name or a checkpoint.")] = "nano",
    grounder: Annotated[str, typer.Option(help="Detector: a name or a folder.")] = "nano",
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
) -> None:
    """Change one thing at a time on the way from a phrase to a mask; a table and a plot."""
    from ..models.registry import load_detector, load_segmenter
    from ..pipeline.ablate import run_ablation, variants, write_ablation
    from ..pipeline.methods import EvaluationRequest

    strange = [name for name in vary or () if name not in GROUPS]
    if strange:
        raise PromptError(f"--vary {strange[0]!r}: expected one of {', '.join(GROUPS)}")
    chosen = read_chosen(datasets, split, side)
    adapters = {folder.name: folder for folder in adapter or ()}
    if len(adapters) < len(adapter or ()):
        raise PromptError("two --adapter folders have the same name; rename one")
    phrasings = {item.name: phrase or phrasings_of(item.target) for item in chosen}
    asked = variants(EvaluationRequest("text", limit=limit, seed=seed), adapters, phrasings)
    if vary:
        asked = [item for item in asked if item.group in ("as it is", *vary)]
    segmenter = load_segmenter(model, device=device)
    detectors = {"": load_detector(grounder, device=device)}
    for name, folder in adapters.items():
        detectors[name] = load_detector(grounder, adapter=folder, device=device)
    result = run_ablation(chosen, segmenter, detectors, asked, typer.echo)
    write_ablation(result, out)
    for name, spread in result["phrasing_spread"].items():
        typer.echo(
            f"{name}: Dice {spread['lowest']:.3f} to {spread['highest']:.3f} over "
            f"{spread['phrasings']} phrasings, standard deviation {spread['std']:.3f}"
        )
    typer.echo(f"wrote ablation.md, .csv, .json, .svg in {out}")


def phrasings_of(target: str) -> list[str]:
    """Phrasings of a target: its own name, some that were trained with, all held-out ones."""
    from ..training.phrases import concept_of

    concept = concept_of(target)
    some = [phrase for phrase in concept.phrases if phrase != target][:5]
    return [target, *some, *concept.held_out]
