"""``usgseg train``: prompt predictors, LoRA adapters and the embedded models; resumable."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from . import common
from .common import Advance, Datasets, DetectorName, Device, ModelName

if TYPE_CHECKING:
    from ..io.datasets import Dataset

app = typer.Typer(help='Train a prompt predictor, or the embedded models (extra "train").')

Out = Annotated[Path, typer.Option(help="Folder for checkpoints, log.jsonl and the weights.")]
Splits = Annotated[Path, typer.Option(help="Split file; only its training sides are learnt from.")]
SplitsIfAny = Annotated[
    Path | None,
    typer.Option(help="Split file, or FILE#FOLD; only its training sides are learnt from."),
]
Seed = Annotated[int, typer.Option(help="Of everything random.")]
Resume = Annotated[bool, typer.Option(help="Go on with the training in --out.")]
StageSteps = Annotated[
    int | None, typer.Option(min=1, help="Instead of the schedule's own (each stage).")
]
Minutes = Annotated[
    float, typer.Option(min=0, help="Stop (each stage) after so long; 0: no limit but the steps.")
]
ImageSize = Annotated[
    int | None, typer.Option(min=32, help="Side of the network's square (of the last stage).")
]
Study = Annotated[
    bool,
    typer.Option("--study", help="For weights that never ship: data sets of any licence teach."),
]
LeaveOut = Annotated[
    list[str] | None,
    typer.Option(help="A target phrase to leave out of training, its images with it; repeatable."),
]


@app.command()
def nano_segmenter(
    data: Datasets,
    out: Out,
    splits: Splits,
    seed: Seed = 0,
    resume: Resume = False,
    study: Study = False,
    steps: StageSteps = None,
    minutes: Minutes = 0.0,
    image_size: ImageSize = None,
    teacher_cache: Annotated[
        Path | None, typer.Option(help="Where LiteMedSAM's targets are kept; else OUT/teacher.")
    ] = None,
) -> None:
    """Train the prompted segmenter."""
    from ..io.outputs import OutputFolder, check_model_folder
    from ..lab.nano_factory.segmenter import STAGES, train

    check_model_folder(out, resume=resume)
    if teacher_cache is not None:
        OutputFolder(teacher_cache)
    stages = [replace(s, steps=steps or s.steps, minutes=minutes) for s in STAGES]
    stages[-1] = replace(stages[-1], image_size=image_size or stages[-1].image_size)
    train(
        data, out, splits=splits, seed=seed, teacher_cache=teacher_cache, stages=stages,
        resume=resume, study=study, say=typer.echo,
    )  # fmt: skip


@app.command()
def nano_detector(
    data: Datasets,
    out: Out,
    splits: Splits,
    seed: Seed = 0,
    resume: Resume = False,
    study: Study = False,
    steps: StageSteps = None,
    minutes: Minutes = 0.0,
    image_size: ImageSize = None,
    leave_out: LeaveOut = None,
) -> None:
    """Train the nano detector."""
    from ..io.outputs import check_model_folder
    from ..lab.nano_factory.detector import train

    check_model_folder(out, resume=resume)
    train(
        data, out, splits=splits, seed=seed, steps=steps, minutes=minutes, image_size=image_size,
        leave_out=leave_out or (), resume=resume, study=study, say=typer.echo,
    )  # fmt: skip


@app.command()
def nano_dino(
    data: Datasets,
    out: Out,
    splits: Splits,
    seed: Seed = 0,
    resume: Resume = False,
    study: Study = False,
    steps: StageSteps = None,
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
        data, out, splits=splits, seed=seed, steps=steps, minutes=minutes, image_size=image_size,
        leave_out=leave_out or (), trunk=trunk, resume=resume, study=study, say=typer.echo,
    )  # fmt: skip


@app.command()
def ppn(
    data: Annotated[
        Path, typer.Argument(metavar="DATASET_OR_PROJECT", help="Labelled images to learn from.")
    ],
    out: Annotated[Path, typer.Option(help="Folder of the prompt predictor.")],
    images: Annotated[
        int | None, typer.Option(min=1, help="So many, drawn by --seed; else all.")
    ] = None,
    seed: Seed = 0,
    splits: SplitsIfAny = None,
    held_out: Annotated[
        int, typer.Option(min=0, help="Measure on so many images that are not learnt from.")
    ] = 0,
    model: ModelName = "nano",
    steps: Annotated[int | None, typer.Option(min=1, help="Of the optimiser.")] = None,
    augment: Annotated[bool, typer.Option(help="Learn from bent views of the images too.")] = True,
    paper_losses: Annotated[
        bool, typer.Option("--paper-losses", help="Focal, box and object losses, 10 : 1 : 1.")
    ] = False,
    recipe: Annotated[
        str, typer.Option(help="ours, or paper: rates, losses, views and levels as published.")
    ] = "ours",
    lora: Annotated[
        int, typer.Option(min=0, help="Rank of a LoRA on the mask decoder; 0 keeps SAM frozen.")
    ] = 0,
    device: Device = "auto",
    resume: Resume = False,
) -> None:
    """Train a prompt predictor: a few labelled images, then images segment themselves."""
    from ..io.datasets import split_of
    from ..io.outputs import check_model_folder
    from ..learning.labelled import classes_in, load_chosen
    from ..learning.ppn import RECIPES, PpnSettings, train_ppn
    from ..models.registry import load_segmenter

    common.check_choice("--recipe", recipe, RECIPES)
    check_model_folder(out, resume=resume)
    with _labelled([data]) as (dataset,):
        pool = dataset.only(split_of(splits, dataset.name).train) if splits else dataset
        training, checking, failures = load_chosen(pool, images, held_out, seed)
    classes = classes_in(dataset, training)
    settings = PpnSettings.for_images(len(training), seed=seed, lora_rank=lora)
    settings = settings.with_recipe(recipe)
    task = settings.task if augment else replace(settings.task, views=0)
    settings = replace(
        settings,
        steps=steps or settings.steps,
        task=task.with_paper_losses() if paper_losses else task,
    )
    segmenter = load_segmenter(model, device=device)
    typer.echo(f"{dataset.name}: {len(training)} images, {', '.join(classes.values())}")
    started = time.monotonic()
    with common.progress(settings.steps, "training") as step:
        trained = train_ppn(
            training,
            classes,
            segmenter,
            out,
            settings,
            source=dataset.name,
            held_out=checking,
            resume=resume,
            progress=lambda now, total, figures: _say_step(
                step, now, total, figures, worth=now == total or now % 50 == 0
            ),
        )
    score = trained.card.scores.get("held_out_dice")
    measured = f", held-out Dice {score:.3f}" if score is not None else ""
    typer.echo(f"{trained.card.ppn_id} in {out}, {time.monotonic() - started:.0f} s{measured}")
    common.end_if_failed(failures)


@app.command()
def lora(
    data: Annotated[
        list[Path],
        typer.Argument(metavar="DATASET_OR_PROJECT...", help="Labelled images to learn from."),
    ],
    out: Annotated[Path, typer.Option(help="Folder of the adapter.")],
    detector: DetectorName = "nano",
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
    splits: SplitsIfAny = None,
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
    device: Device = "auto",
    resume: Resume = False,
    pictures: Annotated[
        bool, typer.Option(help="Draw losses and validation boxes, and write for TensorBoard.")
    ] = True,
) -> None:
    """Tune a detector to new targets with a LoRA adapter.

    Several GPUs: accelerate launch -m napari_usgseg.cli train lora ... Several processes without
    a GPU: torchrun --nproc-per-node 2 -m napari_usgseg.cli train lora ... (accelerate launch --cpu
    starts a single one, whatever --num_processes says, where it has no --mpirun_hostfile).
    """
    from ..io.datasets import read_splits
    from ..io.outputs import check_model_folder
    from ..learning.lora.train import LoraSettings, train_lora

    common.check_choice("--decay", decay, ("cosine", "step"))
    common.check_choice("--precision", precision, ("auto", "no", "bf16", "fp16"))
    settings = LoraSettings(
        preset, rank, alpha, steps, epochs, batch, accumulate, lr,
        decay="cosine" if decay == "cosine" else "step", patience=patience, minutes=minutes,
        precision=precision, image_size=image_size, seed=seed,
    )  # fmt: skip
    check_model_folder(out, resume=resume)
    started = time.monotonic()
    with _labelled(data) as datasets, common.progress(steps or 0, "tuning") as step:
        card = train_lora(
            datasets,
            out,
            settings,
            detector=detector,
            images=images,
            splits=read_splits(splits) if splits else None,
            device=device,
            resume=resume,
            pictures=pictures,
            say=typer.echo,
            progress=lambda now, total, figures: _say_step(
                step,
                now,
                total,
                {name: figures[name] for name in ("loss", "validation") if name in figures},
                worth="validation" in figures,
            ),
        )
    from accelerate import PartialState

    if not PartialState().is_main_process:
        return
    score = card.scores.get("validation")
    measured = f", Dice of validation boxes {score:.3f}" if score is not None else ""
    typer.echo(f"adapter of {card.base} in {out}, {time.monotonic() - started:.0f} s{measured}")
    typer.echo(f"use it: usgseg segment IMAGES --text '{card.targets[0]}' --detector {out}")


def _say_step(
    step: Advance, now: int, total: int, figures: dict[str, float], *, worth: bool
) -> None:
    """Count a step, and tell its figures where it is worth a line."""
    parts = [f"{name} {x:.3g}" for name, x in figures.items() if not math.isnan(x)]
    step(f"step {now} of {total}: {', '.join(parts)}" if worth else "")


@contextmanager
def _labelled(folders: Sequence[Path]) -> Iterator[list[Dataset]]:
    """Data sets, and the accepted images of labelled folders as data sets that last as long.

    Raises:
        DatasetError: a folder is neither, nothing is accepted in it, or two have one name.
    """
    import tempfile

    from ..io.datasets import is_dataset, read_dataset
    from .exchange import export

    with tempfile.TemporaryDirectory(prefix="usgseg-train-") as scratch:
        datasets = []
        for index, folder in enumerate(folders):
            place = folder
            if not is_dataset(folder):
                place = Path(scratch) / str(index)
                export(folder, place, name=folder.resolve().name)
            datasets.append(read_dataset(place))
        common.check_names(folders, datasets)
        yield datasets
