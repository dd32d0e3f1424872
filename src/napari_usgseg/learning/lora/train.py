"""Tuning of a detector to new targets with LoRA.

<out>/adapter_config.json, adapter_model.safetensors, README.md, usgseg.json   the best adapter
<out>/last/     that of the last step
<out>/training.json, training.pt, log.jsonl   the run (``learning.trainer``)
<out>/losses.png, validation.png, tensorboard/
<out>/fold-N/   the trainings of a cross-validation, the same again
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from ...io.datasets import Dataset, Split
from ...models.grounding.nano_detector import NanoDetector, load_sentence_encoder
from ...models.interfaces import Detector
from ...models.lora.adapter import save_adapter
from ...models.lora.card import AdapterCard, is_adapter, read_adapter_card, write_adapter_card
from ...models.registry import embedded_detector, load_detector, resolve_device
from ..cross_validation import Fold, Score, cross_validate, folds
from ..labelled import LabelledImage
from ..trainer import (
    VALIDATION,
    Decay,
    Progress,
    TrainerSettings,
    begin,
    finish,
    is_done,
    is_same,
    make_accelerator,
    mean_of_all,
    train,
)
from .data import TuningData, UnrelatedPhrases, check_images, choose_images, tuning_data
from .detector import TunableDetector, Tuning
from .pictures import Pictures
from .thresholds import THRESHOLDS, AskedImage, ask, choose_threshold, thresholds

if TYPE_CHECKING:
    from accelerate import Accelerator

WARMUP = 0.08
"""Share of the steps with a rising rate."""
CHECK_EVERY = 20
"""Steps between two validations."""


class Validation:
    """What happens between the steps: measuring, pictures, and the saving of adapters.

    Args:
        tuning: the detector under training.
        own: the detector's own threshold.
        data: the images.
        out: folder of the best adapter; the last one is in ``last`` in it.
        card: of the adapter, without its scores and thresholds.
        pictures: where they are drawn.
        accelerator: of the trainer.
    """

    def __init__(
        self,
        tuning: Tuning,
        own: float,
        data: TuningData,
        out: Path,
        card: AdapterCard,
        pictures: Pictures | None,
        accelerator: Accelerator,
    ) -> None:
        self.tuning, self.own, self.data, self.out, self.card = tuning, own, data, out, card
        self.pictures, self.accelerator = pictures, accelerator

    def check(self, step: int) -> dict[str, float]:
        """The mean Dice of boxes on the images to stop by; no number where there are none.

        Each is at the threshold that suits its phrase best on all of them, which the card keeps.
        Every process asks for a share of the images.
        """
        share = slice(self.accelerator.process_index, None, self.accelerator.num_processes)
        images = self.data.asked
        answers = ask(self.tuning.detector, images[share])
        asked = sorted({phrase for image in images for phrase in image.phrases.values()})
        places = {phrase: self._place(phrase, answers) for phrase in asked}
        thresholds = {phrase: round(float(THRESHOLDS[at]), 2) for phrase, at in places.items()}
        self.card = replace(self.card, box_thresholds=thresholds)
        if not self.data.checking:
            answers = []
        judged = [answer.at(places[answer.phrase]) for answer in answers]
        if self.pictures is not None:
            self.pictures.checked(step, judged)
        scores = np.reshape([answer.score for answer in judged], (-1, 1))
        return {VALIDATION: float(mean_of_all(self.accelerator, scores)[0])}

    def _place(self, phrase: str, answers: list[AskedImage]) -> int:
        """The place of the threshold of a phrase that some image was asked for."""
        own = [answer.dice for answer in answers if answer.phrase == phrase]
        means = mean_of_all(self.accelerator, np.reshape(own, (-1, len(THRESHOLDS))))
        count = sum(phrase in image.phrases.values() for image in self.data.asked)
        return choose_threshold(means, count, self.own)

    def keep(self, kind: str, step: int, score: float) -> None:
        """Save the adapter as it is now."""
        folder = self.out if kind == "best" else self.out / "last"
        save_adapter(self.tuning.tuned, folder)
        scores = {} if math.isnan(score) else {VALIDATION: round(score, 4)}
        write_adapter_card(folder, replace(self.card, scores={**scores, "step": step}))


Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class LoraSettings:
    """Everything about a tuning but its images. None takes what suits the detector.

    Attributes:
        preset: which layers (``models.lora.adapter``).
        rank: of the matrices.
        alpha: their product is scaled by ``alpha / rank``; None takes ``rank``.
        steps: of the optimiser, at most.
        epochs: times that each image is seen, instead of ``steps``.
        batch: images of a process in a part of a step.
        accumulate: parts of a step.
        lr: peak learning rate.
        decay, patience, minutes: as in ``TrainerSettings``.
        precision: as in ``make_accelerator``.
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
        device: "auto", "cpu", "cuda", ...; the `nano` detector is tuned on the CPU.
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
    batch = settings.batch or base.batch
    how = _trainer(settings, base, len(data.training), batch * accelerator.num_processes)
    request = {
        "source": source,
        "grounder": base.base_id,
        "images": list(data.image_ids),
        "settings": {**asdict(settings), "minutes": 0},
        "steps": how.steps,
    }
    if resume and is_same(out, request) and is_done(out) and is_adapter(out):
        card = read_adapter_card(out)
        if card is not None:
            return card
    main = accelerator.is_main_process
    if main:
        begin(out, request, resume=resume)
    accelerator.wait_for_everyone()
    torch.manual_seed(settings.seed)
    tuning = base.prepare(
        data,
        UnrelatedPhrases(data.targets, _encoder(base)),
        preset=settings.preset,
        rank=settings.rank,
        alpha=settings.alpha or settings.rank,
        batch=batch,
        image_size=settings.image_size or base.image_size,
        seed=settings.seed,
    )
    if main:
        count = sum(t.numel() for t in tuning.task.model.parameters() if t.requires_grad)
        say(
            f"{source}: {len(data.training)} images to learn {', '.join(data.targets)} from, "
            f"{len(data.checking)} to stop by; {count:,} numbers of {base.base_id} are tuned"
        )
    card = AdapterCard(
        base=base.base,
        base_id=base.base_id,
        targets=data.targets,
        phrases=data.phrases,
        images=data.image_ids,
        preset=settings.preset,
        rank=settings.rank,
        source=source,
        seed=settings.seed,
        training={**asdict(how), "batch": batch, "precision": settings.precision},
    )
    drawn = Pictures(out, say) if pictures and main else None
    validation = Validation(tuning, base.box_threshold, data, out, card, drawn, accelerator)

    def told(step: int, steps: int, figures: dict[str, float]) -> None:
        if drawn is not None:
            drawn.step(step, figures)
        progress(step, steps, figures)

    trained = train(
        tuning.task,
        how,
        out,
        accelerator=accelerator,
        check=validation.check,
        keep=validation.keep,
        resume=resume,
        progress=told,
        cancelled=cancelled,
    )
    if drawn is not None:
        drawn.close()
    if main:
        say(f"best after {trained.best_step} of {trained.step} steps")
        finish(out, request)
    accelerator.wait_for_everyone()
    found = read_adapter_card(out)
    assert found is not None
    return found


def _encoder(base: TunableDetector) -> Any:
    """Says which phrases are related: the detector's own, or the embedded one."""
    if isinstance(base.detector, NanoDetector):
        return base.detector.encoder
    return load_sentence_encoder(embedded_detector())


def steps_for(images: int, base: TunableDetector) -> int:
    """Steps that suit so many images: more ask for more, by the square root."""
    return int(np.clip(base.steps * np.sqrt(images / 100), base.steps / 2, 4 * base.steps))


def _trainer(
    settings: LoraSettings, base: TunableDetector, images: int, at_once: int
) -> TrainerSettings:
    """The part that the trainer asks for, with steps that suit so many images where none are given.

    Args:
        settings: of the tuning.
        base: the detector.
        images: to learn from.
        at_once: of them, in all processes.
    """
    steps = settings.steps
    if steps is None and settings.epochs is not None:
        steps = math.ceil(settings.epochs * images / (at_once * settings.accumulate))
    if steps is None:
        steps = steps_for(images, base)
    every = min(CHECK_EVERY, steps)
    return TrainerSettings(
        steps=steps,
        lr=settings.lr or base.lr,
        warmup=max(1, round(WARMUP * steps)),
        decay=settings.decay,
        accumulate=settings.accumulate,
        save_every=every,
        check_every=every,
        patience=settings.patience,
        minutes=settings.minutes,
        seed=settings.seed,
    )


def cross_validate_lora(
    images: Sequence[LabelledImage],
    phrases: Mapping[int, str],
    grounder: str,
    out: Path,
    settings: LoraSettings,
    scorer: Callable[[Detector], Score],
    *,
    source: str = "",
    progress: Progress = lambda step, steps, figures: None,
    cancelled: Callable[[], bool] = lambda: False,
) -> AdapterCard:
    """Tune in ``out``, with out-of-fold scores in the card.

    The same call goes on where an earlier one was stopped or killed. A training that does not get
    better any more ends before its steps are done.

    Args:
        images: all that are accepted.
        phrases: label value -> what a person would type.
        grounder: the detector to tune: a name or a folder.
        out: folder of the adapter; the trainings of a cross-validation are in ``fold-N`` in it.
        settings: of the training on all; those of a cross-validation have fewer steps.
        scorer: given a detector, measures what a person gets by the phrases.
        source: name of the project.
        progress: (step, steps, figures) over all trainings together; "held_out_dice" is the Dice
            of boxes on the images to stop by.
        cancelled: asked after each step.

    Raises:
        DatasetError: all images are of one group, or nothing is there to learn.
        ModelError: the detector cannot be tuned.
        Cancelled: ``cancelled()`` turned true.
    """

    def train_fold(fold: Fold, told: Progress) -> Path:
        def shown(step: int, steps: int, figures: dict[str, float]) -> None:
            points = {"loss": figures["loss"]}
            if not math.isnan(figures.get(VALIDATION, math.nan)):
                points["held_out_dice"] = figures[VALIDATION]
            told(step, steps, points)

        base = TunableDetector(grounder)
        side = settings.image_size or base.image_size
        learnt = [images[index] for index in fold.train]
        tune_lora(
            tuning_data(learnt, fold.classes, settings.seed, side),
            base,
            fold.folder,
            replace(settings, steps=fold.steps),
            source=source,
            resume=True,
            progress=shown,
            cancelled=cancelled,
        )
        if fold is needed[-1]:
            set_thresholds(needed, images, phrases, own)
        return fold.folder

    @lru_cache(1)
    def score_of(folder: Path) -> Score:
        return scorer(load_detector(folder))

    base = TunableDetector(grounder)
    own, steps = base.box_threshold, settings.steps or steps_for(len(images), base)
    needed = folds(images, phrases, out, steps)
    _, scores = cross_validate(
        images, phrases, needed, train_fold, lambda folder, image: score_of(folder)(image), progress
    )
    card = read_adapter_card(out)
    assert card is not None  # it was written with the adapter
    card = replace(card, scores={**card.scores, **scores})
    write_adapter_card(out, card)
    return card


def set_thresholds(
    done: Sequence[Fold],
    images: Sequence[LabelledImage],
    phrases: Mapping[int, str],
    own: float,
) -> None:
    """Write thresholds into the cards of those adapters that had no images to stop by.

    Each is asked for on what the other folds' adapters did not learn from.

    Args:
        done: trainings that ended; the last one is on all images.
        images: of all of them.
        phrases: label value -> what a person would type.
        own: the detector's own threshold.
    """
    lacking = [fold for fold in done if fold.classes and not _was_validated(fold.folder)]
    if not lacking:
        return
    answers = {}
    for fold in done[:-1]:
        if fold.classes:
            asked = {value: phrase for value, phrase in phrases.items() if value in fold.classes}
            held_out = check_images([images[i] for i in fold.test], asked)
            answers[fold.folder] = ask(load_detector(fold.folder), held_out)
    for fold in lacking:
        others = [a for folder, some in answers.items() if folder != fold.folder for a in some]
        card = read_adapter_card(fold.folder)
        assert card is not None  # it was written with the adapter
        least = {**card.box_thresholds, **thresholds(others, own)}
        write_adapter_card(fold.folder, replace(card, box_thresholds=least))


def _was_validated(folder: Path) -> bool:
    card = read_adapter_card(folder)
    return card is not None and VALIDATION in card.scores
