"""Training of a prompt predictor on a few labelled images.

<out>/ppn.json, ppn.safetensors   the result (``models.ppn.card``)
<out>/training.json, training.pt, log.jsonl   the run (``learning.trainer``)
<out>/fold-N/                     the trainings of a cross-validation, the same again
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import numpy as np
import torch

from ...core.errors import DatasetError
from ...core.metrics import dice
from ...models.interfaces import Segmenter
from ...models.ppn.card import CARD_FILE, PpnCard, write_card
from ...models.ppn.model import (
    FrozenDecoder,
    PpnModel,
    begin_at_the_mean,
    load_ppn,
    new_prompter,
    save_ppn,
)
from ..cross_validation import Fold, cross_validate, folds
from ..labelled import LabelledImage
from ..trainer import Progress, TrainerSettings, begin, finish, is_same, train
from .task import PpnTask, PpnTraining
from .views import ViewCache, Views, present_targets

CHECK_EVERY = 50
"""Steps between two measurements of the held-out images."""

STEPS_FOR_TEN = 450
"""Steps for ten images, or fewer."""

VIEWS_IN_ALL = 200
"""Views that are encoded at most, where there are so few images."""


@dataclass(frozen=True, slots=True)
class PpnSettings:
    """Everything about a training but its images.

    Attributes:
        steps: optimiser steps.
        lr: of the prompt predictor, at its peak.
        decoder_lr: of the LoRA on the mask decoder, at its peak.
        lora_rank: 0 keeps all of SAM frozen.
        seed: of everything random.
        task: batches, views and losses.
        levels: feature levels that the network looks at, from the coarsest on.
    """

    steps: int = 450
    lr: float = 1.5e-3
    decoder_lr: float = 3e-4
    lora_rank: int = 0
    seed: int = 0
    task: PpnTraining = field(default_factory=PpnTraining)
    levels: int = 1

    @classmethod
    def for_images(cls, count: int, seed: int = 0, lora_rank: int = 0) -> PpnSettings:
        """Steps and views that suit so many images: more images, more steps and fewer views."""
        steps = int(np.clip(STEPS_FOR_TEN * np.sqrt(count / 10), STEPS_FOR_TEN, 4 * STEPS_FOR_TEN))
        views = int(np.clip(VIEWS_IN_ALL // count, 1, 12))
        return cls(steps, seed=seed, lora_rank=lora_rank, task=PpnTraining(views=views))

    def trainer(self) -> TrainerSettings:
        """The part that the trainer asks for."""
        return TrainerSettings(
            self.steps,
            self.lr,
            warmup=min(30, max(1, self.steps // 5)),
            weight_decay=0.1,
            ema=0.98,
            save_every=25,
            check_every=CHECK_EVERY,
            seed=self.seed,
        )


def train_ppn(
    images: Sequence[LabelledImage],
    classes: Mapping[int, str],
    segmenter: Segmenter,
    out: Path,
    settings: PpnSettings,
    *,
    source: str = "",
    held_out: Sequence[LabelledImage] = (),
    resume: bool = False,
    views: Views | None = None,
    progress: Progress = lambda step, steps, figures: None,
    cancelled: Callable[[], bool] = lambda: False,
) -> PpnModel:
    """Train, save and return a prompt predictor.

    Args:
        images: to learn from; those of ``held_out`` must not be among them.
        classes: label value -> name.
        segmenter: of SAM's kind; it is only read.
        out: folder of the result.
        settings: how.
        source: name of the data set or project, for the card.
        held_out: to measure on while training and afterwards.
        resume: go on from ``out`` where the same training was interrupted or finished there.
        views: of these images and classes in this order, where another training shares them.
        progress: called after each step with (step, steps, figures); "held_out_dice" is among the
            figures now and then.
        cancelled: asked after each step.

    Raises:
        DatasetError: there is no image, or a class is in none of them.
        CheckpointError: ``out`` holds another training, and ``resume`` is asked for.
        Cancelled: ``cancelled()`` turned true; the state is saved.
    """
    _check(images, classes, source)
    request = {
        "source": source,
        "segmenter": segmenter.model_id,
        "classes": [[value, name] for value, name in classes.items()],
        "images": [image.image_id for image in images],
        "settings": asdict(settings),
    }
    if resume and is_same(out, request) and (out / CARD_FILE).exists():
        return load_ppn(out, segmenter)
    begin(out, request, resume=resume)

    decoder = FrozenDecoder(segmenter)
    torch.manual_seed(settings.seed)
    if settings.lora_rank:
        decoder.add_lora(settings.lora_rank)
    prompter = new_prompter(segmenter, len(classes), settings.levels).to(decoder.device)
    if views is None:
        views = ViewCache(segmenter, images, list(classes), settings.seed)
    present = present_targets(views)
    if len(present):
        begin_at_the_mean(prompter, present)
    held_out = [_embedded(segmenter, image) for image in held_out]
    task = PpnTask(prompter, decoder, views, settings.task, settings.decoder_lr / settings.lr)
    card = PpnCard(
        classes=dict(classes),
        segmenter=segmenter.model_id,
        shape={},
        source=source,
        images=tuple(image.image_id for image in images),
        seed=settings.seed,
        training=asdict(settings),
        lora_rank=settings.lora_rank,
    )

    def check(step: int) -> dict[str, float]:
        now = PpnModel(segmenter, prompter, card, decoder)
        return {"held_out_dice": mean_dice(now, held_out)}

    trained = train(
        task,
        settings.trainer(),
        out,
        check=check if held_out else None,
        resume=resume,
        progress=progress,
        cancelled=cancelled,
    )
    task.model.load_state_dict(trained.weights)
    model = PpnModel(segmenter, prompter, card, decoder)
    if held_out:
        scores = {"held_out_dice": mean_dice(model, held_out), "held_out_images": len(held_out)}
        card = replace(card, scores=scores)
    saved = save_ppn(out, prompter, card, decoder)
    finish(out, request)
    return PpnModel(segmenter, prompter, saved, decoder)


def mean_dice(model: PpnModel, images: Sequence[LabelledImage]) -> float:
    """Mean over images of the mean Dice over classes, nobody having pointed at anything."""
    return float(np.mean([np.mean(list(class_dice(model, image).values())) for image in images]))


def class_dice(model: PpnModel, image: LabelledImage) -> dict[int, float]:
    """Label value -> Dice; a class that is said to be absent has an empty mask."""
    embedding = image.embedding or model.segmenter.embed(image.image, image.image_id)
    scores = {}
    for value, prediction in model.predict(embedding).items():
        mask = prediction.masks[0] & (prediction.object_score >= 0)
        scores[value] = dice(image.labels == value, mask)
    return scores


def _embedded(segmenter: Segmenter, image: LabelledImage) -> LabelledImage:
    if image.embedding is not None:
        return image
    return replace(image, embedding=segmenter.embed(image.image, image.image_id))


def _check(images: Sequence[LabelledImage], classes: Mapping[int, str], source: str) -> None:
    if not images or not classes:
        raise DatasetError(source or "training", "no labelled image; label and accept some first")
    for value, name in classes.items():
        if not any((image.labels == value).any() for image in images):
            raise DatasetError(
                source or "training",
                f"class {value} ({name}) is in none of the {len(images)} training images; "
                "label one with it, or leave the class out",
            )


def cross_validate_ppn(
    images: Sequence[LabelledImage],
    classes: Mapping[int, str],
    segmenter: Segmenter,
    out: Path,
    settings: PpnSettings,
    *,
    source: str = "",
    progress: Progress = lambda step, steps, figures: None,
    cancelled: Callable[[], bool] = lambda: False,
) -> PpnModel:
    """Train in ``out``, with out-of-fold scores in the card.

    The same call goes on where an earlier one was stopped or killed.

    Args:
        images: all that are accepted.
        out: folder of the result; the trainings of a cross-validation are in ``fold-N`` in it.
        settings: of the training on all; those of a cross-validation have fewer steps.
        progress: (step, steps, figures) over all trainings together.
        classes, segmenter, source, cancelled: as in `train_ppn`.

    Raises:
        DatasetError: all images are of one group, or a class is in none to learn from.
        Cancelled: ``cancelled()`` turned true.
    """
    views = ViewCache(segmenter, images, list(classes), settings.seed)

    def train_fold(fold: Fold, told: Progress) -> PpnModel:
        return train_ppn(
            [images[index] for index in fold.train],
            fold.classes,
            segmenter,
            fold.folder,
            replace(settings, steps=fold.steps),
            source=source,
            held_out=[images[index] for index in fold.test],
            resume=True,
            views=views.part(fold.train, list(fold.classes)),
            progress=told,
            cancelled=cancelled,
        )

    needed = folds(images, classes, out, settings.steps)
    model, scores = cross_validate(images, classes, needed, train_fold, class_dice, progress)
    card = replace(model.card, scores=scores)
    write_card(out, card)
    return model.with_card(card)
