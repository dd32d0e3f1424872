"""Tune a detector to new targets with LoRA; what ``usgseg train lora`` and the window call.

<out>/adapter_config.json, adapter_model.safetensors, README.md, usgseg.json   the best adapter
<out>/last/          that of the last step
<out>/training.json  what is trained on, so that only the same training is resumed
<out>/training.pt    the state of an unfinished training
<out>/log.jsonl, losses.png, validation.png, tensorboard/
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..io.datasets import Dataset, Split
from ..models.lora_card import AdapterCard, is_adapter, read_adapter_card
from ..models.phrase_grounder import PhraseGrounder
from ..models.registry import embedded_grounder, resolve_device
from ..models.text import load_sentence_encoder
from .lora_data import TuningData, UnrelatedPhrases, choose_images
from .lora_loop import Decay, Progress, TuneSettings, make_accelerator, tune
from .lora_pictures import Pictures
from .lora_run import Run
from .lora_ways import TunableDetector
from .resuming import DONE, is_done, is_same, write_request

Say = Callable[[str], None]

STATE = "training.pt"


@dataclass(frozen=True, slots=True)
class LoraSettings:
    """Everything about a tuning but its images. None takes what suits the detector.

    Attributes:
        preset: which layers (``models.lora_presets``).
        rank: of the matrices.
        alpha: their product is scaled by ``alpha / rank``; None takes ``rank``.
        steps: of the optimiser, at most.
        epochs: times that each image is seen, instead of ``steps``.
        batch: images of a process in a part of a step.
        accumulate: parts of a step.
        lr: peak learning rate.
        decay, patience, minutes, precision: as in ``lora_loop.TuneSettings``.
        image_size: side in pixels of the square that is trained on.
        seed: of everything random.
    """

    preset: str = "decoder"
    rank: int = 32
    alpha: float | None = None
    steps: int | None = None
    epochs: int | None = None
    batch: int | None = None
    accumulate: int = 1
    lr: float | None = None
    decay: Decay = "cosine"
    patience: int = 20
    minutes: float = 0.0
    precision: str = "auto"
    image_size: int | None = None
    seed: int = 0


def train_lora(
    datasets: Sequence[Dataset],
    out: Path,
    settings: LoraSettings,
    *,
    grounder: str = "nano",
    images: int | None = None,
    splits: dict[str, Split] | None = None,
    device: str = "cpu",
    resume: bool = False,
    pictures: bool = True,
    say: Say = lambda text: None,
    progress: Progress = lambda step, steps, figures: None,
    cancelled: Callable[[], bool] = lambda: False,
) -> AdapterCard:
    """Tune, save and return the card of the best adapter.

    Args:
        datasets: labelled images.
        out: folder of the adapter.
        settings: how.
        grounder: the detector to tune: a name or a folder.
        images: so many of each data set, drawn by the seed; None takes all. Some of them are not
            learned from, but say when to stop.
        splits: where given, only training sides are drawn from.
        device: "auto", "cpu", "cuda", ...; the phrase grounder is tuned on the CPU.
        resume: go on from ``out``.
        pictures: draw losses and validation boxes.
        say: told what happens, in lines for a person.
        progress: called after each step with (step, steps, figures); "validation" is among the
            figures now and then.
        cancelled: asked after each step.

    Raises:
        DatasetError: there are too few images, or none with a target.
        ModelError: the detector cannot be tuned, or not with this preset.
        CheckpointError: ``out`` holds another training, and ``resume`` is asked for.
        Cancelled: ``cancelled()`` turned true; the state is saved.
    """
    base = TunableDetector(grounder, resolve_device(device))
    base.check_preset(settings.preset)
    side = settings.image_size or base.image_size
    data = choose_images(datasets, images, splits, settings.seed, side)
    return tune_lora(
        data,
        base,
        out,
        settings,
        source=", ".join(dataset.name for dataset in datasets),
        on_cpu=base.on_cpu(device),
        resume=resume,
        pictures=pictures,
        say=say,
        progress=progress,
        cancelled=cancelled,
    )


def tune_lora(
    data: TuningData,
    base: TunableDetector,
    out: Path,
    settings: LoraSettings,
    *,
    source: str = "",
    on_cpu: bool = True,
    resume: bool = False,
    pictures: bool = False,
    say: Say = lambda text: None,
    progress: Progress = lambda step, steps, figures: None,
    cancelled: Callable[[], bool] = lambda: False,
) -> AdapterCard:
    """The same with images that were read already; ``base`` is of no use afterwards.

    Raises:
        ModelError: the detector has no such preset.
        CheckpointError: ``out`` holds another training, and ``resume`` is asked for.
        Cancelled: ``cancelled()`` turned true; the state is saved.
    """
    accelerator = make_accelerator(settings.precision, settings.accumulate, on_cpu)
    how = _loop(settings, base, len(data.training), accelerator.num_processes)
    request = _request(base, data, settings, source, how)
    if resume and is_same(out, request) and is_done(out) and is_adapter(out):
        card = read_adapter_card(out)
        if card is not None:
            return card
    main = accelerator.is_main_process
    if not resume and main:
        for name in (STATE, "log.jsonl"):
            (out / name).unlink(missing_ok=True)
    if main:
        write_request(out, request)
    accelerator.wait_for_everyone()

    import torch

    torch.manual_seed(settings.seed)
    way = base.prepare(
        data,
        UnrelatedPhrases(data.targets, _encoder(base)),
        preset=settings.preset,
        rank=settings.rank,
        alpha=settings.alpha or settings.rank,
        batch=how.batch,
        image_size=settings.image_size or base.image_size,
        seed=settings.seed,
    )
    count = sum(tensor.numel() for tensor in way.lesson.parameters() if tensor.requires_grad)
    if main:
        say(
            f"{source}: {len(data.training)} images to learn {', '.join(data.targets)} from, "
            f"{len(data.checking)} to stop by; {count:,} numbers of {way.base_id} are tuned"
        )
    card = AdapterCard(
        base=way.base,
        base_id=way.base_id,
        targets=data.targets,
        phrases=data.phrases,
        images=data.image_ids,
        preset=settings.preset,
        rank=settings.rank,
        source=source,
        seed=settings.seed,
        training=asdict(how),
    )
    drawn = Pictures(out, say) if pictures and main else None
    run = Run(way, data, out, card, drawn, progress, accelerator)
    outcome = tune(
        way.lesson,
        how,
        out / STATE,
        accelerator,
        check=run.check,
        keep=run.keep,
        settle=way.lesson.settle,
        resume=resume,
        progress=run.step,
        cancelled=cancelled,
    )
    run.close()
    if main:
        say(f"best after {outcome.best_step} of {outcome.last_step} steps")
        write_request(out, {**request, DONE: True})
        (out / STATE).unlink(missing_ok=True)
    accelerator.wait_for_everyone()
    found = read_adapter_card(out)
    assert found is not None
    return found


def _encoder(base: TunableDetector) -> Any:
    """Says which phrases are related: the detector's own, or the embedded one."""
    if isinstance(base.detector, PhraseGrounder):
        return base.detector.encoder
    return load_sentence_encoder(embedded_grounder())


def steps_for(images: int, base: TunableDetector) -> int:
    """Steps that suit so many images: more ask for more, by the square root."""
    return int(np.clip(base.steps * np.sqrt(images / 100), base.steps / 2, 4 * base.steps))


def _loop(
    settings: LoraSettings, base: TunableDetector, images: int, processes: int
) -> TuneSettings:
    """The loop's settings, with steps that suit so many images where none are given."""
    batch = settings.batch or base.batch
    at_once = batch * settings.accumulate * processes
    steps = settings.steps
    if steps is None and settings.epochs is not None:
        steps = math.ceil(settings.epochs * images / at_once)
    if steps is None:
        steps = steps_for(images, base)
    return TuneSettings(
        steps=steps,
        lr=settings.lr or base.lr,
        batch=batch,
        accumulate=settings.accumulate,
        decay=settings.decay,
        check_every=min(20, steps),
        patience=settings.patience,
        minutes=settings.minutes,
        precision=settings.precision,
        seed=settings.seed,
    )


def _request(
    base: TunableDetector,
    data: TuningData,
    settings: LoraSettings,
    source: str,
    how: TuneSettings,
) -> dict[str, Any]:
    return {
        "source": source,
        "grounder": base.base_id,
        "images": list(data.image_ids),
        "settings": {**asdict(settings), "minutes": 0},
        "steps": how.steps,
    }
