"""``usgseg train``: train the embedded models; resumable."""

from __future__ import annotations

import math
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..core.errors import DatasetError
from .common import end_if_failed, progress

if TYPE_CHECKING:
    from ..io.datasets import Dataset
    from ..learning.lora.train import LoraSettings


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
    from ..learning.labelled import classes_in, load_chosen
    from ..learning.ppn.train import PpnSettings, train_ppn
    from ..models.registry import load_segmenter

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
            words = ", ".join(f"{name} {value:.3g}" for name, value in figures.items())
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
    from ..learning.lora.train import train_lora

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


app = typer.Typer(help='Train a prompt predictor, or the embedded models (extra "train").')

Data = Annotated[
    list[Path], typer.Argument(metavar="DATASET...", help="Data set folders (dataset.json).")
]
Out = Annotated[Path, typer.Option(help="Folder for checkpoints, log.jsonl and the weights.")]
Splits = Annotated[Path, typer.Option(help="Split file; only its training sides are learnt from.")]
Seed = Annotated[int, typer.Option(help="Of everything random.")]
Resume = Annotated[bool, typer.Option(help="Go on from the checkpoints in --out.")]
Steps = Annotated[
    int | None, typer.Option(min=1, help="Instead of the schedule's own (each stage).")
]
Minutes = Annotated[
    float, typer.Option(min=0, help="Stop (each stage) after so long; 0: no limit but the steps.")
]
ImageSize = Annotated[
    int | None, typer.Option(min=32, help="Side of the network's square (of the last stage).")
]

LeaveOut = Annotated[
    list[str] | None,
    typer.Option(help="A target phrase to leave out of training, its images with it; repeatable."),
]


@app.command("nano-segmenter")
def nano_segmenter(
    data: Data,
    out: Out,
    splits: Splits,
    seed: Seed = 0,
    resume: Resume = False,
    steps: Steps = None,
    minutes: Minutes = 0.0,
    image_size: ImageSize = None,
    teacher_cache: Annotated[
        Path | None, typer.Option(help="Where LiteMedSAM's targets are kept; else OUT/teacher.")
    ] = None,
) -> None:
    """Train the prompted segmenter."""
    from dataclasses import replace

    from ..io.outputs import OutputFolder, check_model_folder
    from ..lab.nano_factory.segmenter import STAGES, train

    check_model_folder(out, resume=resume)
    if teacher_cache is not None:
        OutputFolder(teacher_cache)
    stages = [replace(s, steps=steps or s.steps, minutes=minutes) for s in STAGES]
    stages[-1] = replace(stages[-1], image_size=image_size or stages[-1].image_size)
    train(
        data,
        out,
        splits=splits,
        seed=seed,
        teacher_cache=teacher_cache,
        stages=stages,
        resume=resume,
        say=typer.echo,
    )


@app.command("nano-grounder")
def nano_grounder(
    data: Data,
    out: Out,
    splits: Splits,
    seed: Seed = 0,
    resume: Resume = False,
    steps: Steps = None,
    minutes: Minutes = 0.0,
    image_size: ImageSize = None,
    leave_out: LeaveOut = None,
) -> None:
    """Train the nano detector."""
    from ..io.outputs import check_model_folder
    from ..lab.nano_factory.detector import train

    check_model_folder(out, resume=resume)
    train(
        data,
        out,
        splits=splits,
        seed=seed,
        steps=steps,
        minutes=minutes,
        image_size=image_size,
        leave_out=leave_out or (),
        resume=resume,
        say=typer.echo,
    )


@app.command("nano-dino")
def nano_dino(
    data: Data,
    out: Out,
    splits: Splits,
    seed: Seed = 0,
    resume: Resume = False,
    steps: Steps = None,
    minutes: Minutes = 0.0,
    image_size: ImageSize = None,
    leave_out: LeaveOut = None,
    trunk: Annotated[
        Path | None, typer.Option(help="A trained grounder.safetensors to take the trunk from.")
    ] = None,
) -> None:
    """Train the small Grounding DINO."""
    from ..io.outputs import check_model_folder
    from ..lab.nano_factory.dino import train

    check_model_folder(out, resume=resume)
    train(
        data,
        out,
        splits=splits,
        seed=seed,
        steps=steps,
        minutes=minutes,
        image_size=image_size,
        leave_out=leave_out or (),
        trunk=trunk,
        resume=resume,
        say=typer.echo,
    )


@app.command("ppn")
def ppn(
    data: Annotated[
        Path, typer.Argument(metavar="DATASET_OR_PROJECT", help="Labelled images to learn from.")
    ],
    out: Annotated[Path, typer.Option(help="Folder of the prompt predictor.")],
    images: Annotated[
        int | None, typer.Option(min=1, help="So many, drawn by --seed; else all.")
    ] = None,
    seed: Seed = 0,
    splits: Annotated[
        Path | None, typer.Option(help="Split file; only its training side is learnt from.")
    ] = None,
    held_out: Annotated[
        int, typer.Option(min=0, help="Measure on so many images that are not learnt from.")
    ] = 0,
    model: Annotated[str, typer.Option(help="Segmenter: a name or a checkpoint.")] = "nano",
    steps: Annotated[int | None, typer.Option(min=1, help="Of the optimiser.")] = None,
    augment: Annotated[bool, typer.Option(help="Learn from bent views of the images too.")] = True,
    paper_losses: Annotated[
        bool, typer.Option("--paper-losses", help="Focal, box and object losses, 10 : 1 : 1.")
    ] = False,
    lora: Annotated[
        int, typer.Option(min=0, help="Rank of a LoRA on the mask decoder; 0 keeps SAM frozen.")
    ] = 0,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    resume: Annotated[bool, typer.Option(help="Go on with the training in --out.")] = False,
) -> None:
    """Train a prompt predictor: a few labelled images, then images segment themselves."""
    train_ppn_command(
        data,
        out,
        images=images,
        seed=seed,
        splits=splits,
        held_out=held_out,
        model=model,
        steps=steps,
        augment=augment,
        paper_losses=paper_losses,
        lora=lora,
        device=device,
        resume=resume,
    )


@app.command("lora")
def lora(
    data: Annotated[
        list[Path],
        typer.Argument(metavar="DATASET_OR_PROJECT...", help="Labelled images to learn from."),
    ],
    out: Annotated[Path, typer.Option(help="Folder of the adapter.")],
    grounder: Annotated[str, typer.Option(help="Detector: a name or a folder.")] = "nano",
    rank: Annotated[int, typer.Option(min=1, help="Of the matrices.")] = 32,
    alpha: Annotated[
        float | None, typer.Option(min=0, help="Scales them by alpha / rank; else as rank.")
    ] = None,
    preset: Annotated[
        str, typer.Option(help="Layers: decoder; paper (Grounding DINO); phrase (nano).")
    ] = "decoder",
    images: Annotated[
        int | None, typer.Option(min=2, help="So many of each data set, drawn by --seed; else all.")
    ] = None,
    splits: Annotated[
        Path | None, typer.Option(help="Split file; only its training sides are learnt from.")
    ] = None,
    seed: Seed = 0,
    steps: Annotated[int | None, typer.Option(min=1, help="Of the optimiser, at most.")] = None,
    epochs: Annotated[
        int | None, typer.Option(min=1, help="Times each image is seen, instead of --steps.")
    ] = None,
    batch: Annotated[int | None, typer.Option(min=1, help="Images at once.")] = None,
    accumulate: Annotated[int, typer.Option(min=1, help="Batches of a step.")] = 1,
    lr: Annotated[float | None, typer.Option(min=0, help="Peak learning rate.")] = None,
    decay: Annotated[str, typer.Option(help="Of the learning rate: cosine or step.")] = "cosine",
    patience: Annotated[
        int, typer.Option(min=1, help="Validations without a better score until it is enough.")
    ] = 20,
    minutes: Minutes = 0.0,
    precision: Annotated[
        str, typer.Option(help="auto, no, bf16 or fp16; auto is half precision on CUDA only.")
    ] = "auto",
    image_size: ImageSize = None,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    resume: Annotated[bool, typer.Option(help="Go on with the training in --out.")] = False,
    pictures: Annotated[
        bool, typer.Option(help="Draw losses and validation boxes, and write for TensorBoard.")
    ] = True,
) -> None:
    """Tune a detector to new targets with a LoRA adapter.

    Several GPUs: accelerate launch -m napari_usgseg.cli train lora ... Several processes without
    a GPU: torchrun --nproc-per-node 2 -m napari_usgseg.cli train lora ... (accelerate launch --cpu
    starts a single one, whatever --num_processes says, where it has no --mpirun_hostfile).
    """
    from ..core.errors import PromptError
    from ..learning.lora.train import LoraSettings

    if decay not in ("cosine", "step") or precision not in ("auto", "no", "bf16", "fp16"):
        raise PromptError(
            "--decay is cosine or step, --precision auto, no, bf16 or fp16; "
            f"got {decay} and {precision}"
        )
    settings = LoraSettings(
        preset=preset,
        rank=rank,
        alpha=alpha,
        steps=steps,
        epochs=epochs,
        batch=batch,
        accumulate=accumulate,
        lr=lr,
        decay="cosine" if decay == "cosine" else "step",
        patience=patience,
        minutes=minutes,
        precision=precision,
        image_size=image_size,
        seed=seed,
    )
    train_lora_command(
        data,
        out,
        settings,
        grounder=grounder,
        images=images,
        splits=splits,
        device=device,
        resume=resume,
        pictures=pictures,
    )
