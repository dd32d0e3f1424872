"""Train a prompt predictor on a few labelled images; what ``usgseg train ppn`` and the loop call.

<out>/training.json   what is trained on, so that only the same training is resumed
<out>/training.pt     the state of an unfinished training
<out>/log.jsonl       losses and held-out Dice
<out>/ppn.json, ppn.safetensors   the result (``models.ppn_card``)
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ...core.errors import DatasetError
from ...core.metrics import dice
from ...models.interfaces import Segmenter
from ...models.ppn.card import CARD_FILE, PpnCard
from ...models.ppn.model import (
    FrozenDecoder,
    PpnModel,
    begin_at_the_mean,
    load_ppn,
    new_prompter,
    save_ppn,
)
from ..resuming import is_same, write_request
from ..trainer import LoopSettings, run
from .task import PpnTask, PpnTraining
from .views import LabelledImage, ViewCache, Views, present_targets

Say = Callable[[int, int, dict[str, float]], None]

CHECK_EVERY = 50
"""Steps between two measurements of the held-out images."""

LOG_EVERY = 10

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

    def loop(self) -> LoopSettings:
        """For ``training.loop``."""
        return LoopSettings(
            self.steps,
            self.lr,
            warmup=min(30, max(1, self.steps // 5)),
            weight_decay=0.1,
            ema=0.98,
            save_every=25,
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
    progress: Say = lambda step, steps, figures: None,
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
    request = _request(images, classes, segmenter, settings, source)
    if resume and is_same(out, request) and (out / CARD_FILE).exists():
        return load_ppn(out, segmenter)
    if not resume:
        for name in ("training.pt", "log.jsonl"):
            (out / name).unlink(missing_ok=True)
    write_request(out, request)

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
        training=request["settings"],
        lora_rank=settings.lora_rank,
    )

    def said(step: int, steps: int, figures: dict[str, float]) -> None:
        if held_out and step % CHECK_EVERY == 0:
            now = PpnModel(segmenter, prompter, card, decoder)
            figures = {**figures, "held_out_dice": mean_dice(now, held_out)}
        if step % LOG_EVERY == 0 or "held_out_dice" in figures:
            _log(out / "log.jsonl", step, figures)
        progress(step, steps, figures)

    weights = run(
        task,
        settings.loop(),
        out / "training.pt",
        resume=resume,
        progress=said,
        cancelled=cancelled,
    )
    task.model.load_state_dict({**task.model.state_dict(), **weights})
    model = PpnModel(segmenter, prompter, card, decoder)
    if held_out:
        scores = {"held_out_dice": mean_dice(model, held_out), "held_out_images": len(held_out)}
        card = replace(card, scores=scores)
    saved = save_ppn(out, prompter, card, decoder)
    (out / "training.pt").unlink(missing_ok=True)
    return PpnModel(segmenter, prompter, saved, decoder)


def mean_dice(model: PpnModel, images: Sequence[LabelledImage]) -> float:
    """Mean over images of the mean Dice over classes, nobody having pointed at anything."""
    return float(np.mean([image_dice(model, image) for image in images]))


def image_dice(model: PpnModel, image: LabelledImage) -> float:
    """Mean Dice over the classes; a class that is said to be absent has an empty mask."""
    return float(np.mean(list(class_dice(model, image).values())))


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


def _request(
    images: Sequence[LabelledImage],
    classes: Mapping[int, str],
    segmenter: Segmenter,
    settings: PpnSettings,
    source: str,
) -> dict[str, Any]:
    return {
        "source": source,
        "segmenter": segmenter.model_id,
        "classes": [[value, name] for value, name in classes.items()],
        "images": [image.image_id for image in images],
        "settings": asdict(settings),
    }


def _log(path: Path, step: int, figures: dict[str, float]) -> None:
    line = {"step": step, **{name: round(value, 5) for name, value in figures.items()}}
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(line) + "\n")
