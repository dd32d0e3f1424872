"""What ``usgseg train ppn`` does."""

from __future__ import annotations

import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from ..errors import DatasetError
from .common import end_if_failed, progress

if TYPE_CHECKING:
    from ..io.datasets import Dataset


def train_ppn_command(
    data: Path,
    out: Path,
    *,
    images: int | None,
    seed: int,
    splits: Path | None,
    held_out: int,
    model: str,
    steps: int | None,
    augment: bool,
    paper_losses: bool,
    lora: int,
    device: str,
    resume: bool,
) -> None:
    """Read, choose, train, report; see ``cli.train`` for the options.

    Raises:
        LabelWriteError: ``out`` holds something else than a training that is resumed.
        DatasetError: ``data`` is neither a data set nor a labelled folder, or has too few images.
        CheckpointError: ``resume`` with another training in ``out``.
    """
    from ..io.datasets import read_dataset, read_splits
    from ..io.outputs import check_model_folder
    from ..models.registry import load_segmenter
    from ..training.ppn_data import classes_in, load_chosen
    from ..training.ppn_train import PpnSettings, train_ppn

    check_model_folder(out, resume=resume)
    with tempfile.TemporaryDirectory(prefix="usgseg-train-") as scratch:
        dataset = read_dataset(data) if is_dataset(data) else from_project(data, Path(scratch))
        side = read_splits(splits).get(dataset.name) if splits else None
        if splits and side is None:
            raise DatasetError(splits, f"says nothing of '{dataset.name}'")
        pool = dataset.only(side.train) if side else dataset
        training, checking, failures = load_chosen(pool, images, held_out, seed)
    classes = classes_in(dataset, training)
    settings = PpnSettings.for_images(len(training), seed=seed, lora_rank=lora)
    settings = replace(
        settings,
        steps=steps or settings.steps,
        task=settings.task if augment else replace(settings.task, views=0),
    )
    if paper_losses:
        settings = replace(settings, task=settings.task.with_paper_losses())
    segmenter = load_segmenter(model, device=device)
    typer.echo(f"{dataset.name}: {len(training)} images, {', '.join(classes.values())}")
    started = time.monotonic()
    with progress(settings.steps, "training") as step:

        def said(now: int, total: int, figures: dict[str, float]) -> None:
            worth = now == total or now % 50 == 0
            words = ", ".join(f"{name} {value:.3f}" for name, value in figures.items())
            step(f"step {now} of {total}: {words}" if worth else "")

        trained = train_ppn(
            training,
            classes,
            segmenter,
            out,
            settings,
            source=dataset.name,
            held_out=checking,
            resume=resume,
            progress=said,
        )
    scores = trained.card.scores
    measured = f", held-out Dice {scores['held_out_dice']:.3f}" if scores else ""
    typer.echo(f"{trained.card.ppn_id} in {out}, {time.monotonic() - started:.0f} s{measured}")
    end_if_failed(failures)


def is_dataset(folder: Path) -> bool:
    """Whether a folder is a data set in one of the layouts that ``read_dataset`` knows."""
    return (folder / "dataset.json").is_file() or any(
        (folder / part / "imgs").is_dir() for part in ("Train", "Test")
    )


def from_project(folder: Path, scratch: Path) -> Dataset:
    """The committed images of a labelled folder, as a data set that is written to ``scratch``.

    Raises:
        DatasetError: nothing is committed there.
    """
    from ..io.datasets import read_dataset
    from .export import export

    export(folder, scratch / "data", name=folder.resolve().name)
    return read_dataset(scratch / "data")
