"""What ``usgseg train lora`` does."""

from __future__ import annotations

import math
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from ..errors import DatasetError
from .common import progress
from .train_ppn import from_project, is_dataset

if TYPE_CHECKING:
    from ..io.datasets import Dataset
    from ..training.lora import LoraSettings


def train_lora_command(
    data: Sequence[Path],
    out: Path,
    settings: LoraSettings,
    *,
    grounder: str,
    images: int | None,
    splits: Path | None,
    device: str,
    resume: bool,
    pictures: bool,
) -> None:
    """Read, tune, report; see ``cli.train`` for the options.

    Raises:
        LabelWriteError: ``out`` holds something else than a training that is resumed.
        DatasetError: a folder is neither a data set nor a labelled folder, two share a name, or
            there are too few images.
        ModelError: the grounder cannot be tuned, or not with this preset.
        CheckpointError: ``resume`` with another training in ``out``.
    """
    from ..io.datasets import read_splits
    from ..io.outputs import check_model_folder
    from ..training.lora import train_lora

    check_model_folder(out, resume=resume)
    with tempfile.TemporaryDirectory(prefix="usgseg-train-") as scratch:
        datasets = [_read(folder, Path(scratch) / str(i)) for i, folder in enumerate(data)]
        names = [dataset.name for dataset in datasets]
        for folder, name in zip(data, names, strict=True):
            if names.count(name) > 1:
                raise DatasetError(folder, f"another data set is named '{name}' too")
        started = time.monotonic()
        with progress(settings.steps or 0, "tuning") as step:

            def said(now: int, total: int, figures: dict[str, float]) -> None:
                shown = {name: figures.get(name, math.nan) for name in ("loss", "validation")}
                parts = [f"{name} {x:.3f}" for name, x in shown.items() if not math.isnan(x)]
                worth = "validation" in figures
                step(f"step {now} of {total}: {', '.join(parts)}" if worth else "")

            card = train_lora(
                datasets,
                out,
                settings,
                grounder=grounder,
                images=images,
                splits=read_splits(splits) if splits else None,
                device=device,
                resume=resume,
                pictures=pictures,
                say=typer.echo,
                progress=said,
            )
    score = card.scores.get("validation")
    measured = f", Dice of validation boxes {score:.3f}" if score is not None else ""
    from accelerate import PartialState

    if not PartialState().is_main_process:
        return
    typer.echo(f"adapter of {card.base} in {out}, {time.monotonic() - started:.0f} s{measured}")
    typer.echo(f"use it: usgseg segment IMAGES --text '{card.targets[0]}' --grounder {out}")


def _read(folder: Path, scratch: Path) -> Dataset:
    from ..io.datasets import read_dataset

    return read_dataset(folder) if is_dataset(folder) else from_project(folder, scratch)
