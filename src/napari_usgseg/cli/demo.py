"""``usgseg demo``: the whole main job on phantoms, without a window and without a network."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .common import DetectorName, Device, JsonFile, ModelName, print_table, report_writer

if TYPE_CHECKING:
    from ..lab.demo import DemoStep


def demo(
    out: Annotated[Path, typer.Option(help="Folder for images, masks and overlays.")] = Path(
        "usgseg-demo"
    ),
    count: Annotated[int, typer.Option(min=1, help="How many phantoms.")] = 6,
    seed: Annotated[int, typer.Option(help="Of the phantoms.")] = 0,
    json_file: JsonFile = None,
    model: ModelName = "nano",
    detector: DetectorName = "nano",
    overwrite: Annotated[bool, typer.Option(help="Replace an earlier demo.")] = False,
    device: Device = "auto",
) -> None:
    """Make phantoms, find their lesions by a phrase, correct by a click, export PNGs."""
    from ..io.outputs import OutputFolder

    folder = OutputFolder(out, overwrite=overwrite)
    folder.check_only_own()
    write_report = report_writer(json_file)
    from ..lab.demo import run_demo
    from ..models.registry import load_detector, load_segmenter

    models = load_segmenter(model, device=device), load_detector(detector, device=device)
    steps = run_demo(*models, folder, count=count, seed=seed)
    _show(steps)
    typer.echo(f"data set with images and masks: {out / 'dataset'}")
    typer.echo(f"overlays to look at: {out / 'overlays'}")
    typer.echo(f"score it yourself: usgseg evaluate {out / 'dataset'} --prompt box")
    write_report({"schema": 1, "steps": [asdict(step) for step in steps]})


def _show(steps: list[DemoStep]) -> None:
    rows = [("phantom", "phrase", "found", "Dice: phrase", "Dice: + 1 click", "click")]
    for step in steps:
        dices = f"{step.dice_text:.3f}", f"{step.dice_click:.3f}"
        rows.append((step.image_id, step.phrase, str(step.found), *dices, step.click_text))
    mean_text = sum(step.dice_text for step in steps) / len(steps)
    mean_click = sum(step.dice_click for step in steps) / len(steps)
    rows.append(("mean", "", "", f"{mean_text:.3f}", f"{mean_click:.3f}", ""))
    print_table(rows)
