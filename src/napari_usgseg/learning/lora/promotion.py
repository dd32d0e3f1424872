"""Tune a detector to a project's images and measure it on images not learnt from; `promotion`."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from pathlib import Path

import numpy as np

from ...models.interfaces import Detector
from ...models.lora.card import AdapterCard, read_adapter_card, write_adapter_card
from ...models.registry import load_detector
from ..ppn.views import LabelledImage
from ..promotion import Lesson, Say, Score, lessons, teach_and_measure
from .check import THRESHOLDS, Answer, ask, choose_threshold
from .data import check_images, tuning_data
from .train import LoraSettings, steps_for, tune_lora
from .ways import TunableDetector


def set_thresholds(
    done: Sequence[Lesson],
    images: Sequence[LabelledImage],
    phrases: Mapping[int, str],
    own: float,
) -> None:
    """Write thresholds into the cards of those adapters that had no images to stop by.

    Args:
        done: trainings that ended; the last one is no fold.
        images: of all of them.
        phrases: label value -> what a person would type.
        own: the detector's own threshold.
    """
    lacking = [lesson for lesson in done if lesson.classes and not _checked(lesson.folder)]
    if not lacking:
        return
    answers = {
        lesson.folder: _answers(lesson, images, phrases) for lesson in done[:-1] if lesson.classes
    }
    for lesson in lacking:
        found = [a for folder, some in answers.items() if folder != lesson.folder for a in some]
        _add(lesson.folder, thresholds(found, own))


def thresholds(answers: Iterable[Answer], own: float) -> dict[str, float]:
    """Phrase -> the least score of a box that suits it best."""
    rows: dict[str, list[np.ndarray]] = {}
    for answer in answers:
        rows.setdefault(answer.phrase, []).append(answer.dice)
    return {
        phrase: round(float(THRESHOLDS[choose_threshold(np.mean(some, 0), len(some), own)]), 2)
        for phrase, some in sorted(rows.items())
    }


def _answers(
    lesson: Lesson, images: Sequence[LabelledImage], phrases: Mapping[int, str]
) -> list[Answer]:
    """Of a fold's adapter, on what it did not learn from."""
    asked = {value: phrase for value, phrase in phrases.items() if value in lesson.classes}
    return ask(
        load_detector(lesson.folder), check_images([images[i] for i in lesson.part.test], asked)
    )


def _checked(folder: Path) -> bool:
    card = read_adapter_card(folder)
    return card is not None and "validation" in card.scores


def _add(folder: Path, least: Mapping[str, float]) -> None:
    card = read_adapter_card(folder)
    assert card is not None  # it was written with the adapter
    write_adapter_card(folder, replace(card, box_thresholds={**card.box_thresholds, **least}))


def train_and_measure(
    images: Sequence[LabelledImage],
    phrases: Mapping[int, str],
    grounder: str,
    out: Path,
    settings: LoraSettings,
    scorer: Callable[[Detector], Score],
    *,
    source: str = "",
    progress: Say = lambda step, steps, figures: None,
    cancelled: Callable[[], bool] = lambda: False,
) -> AdapterCard:
    """Tune in ``out``, with ``scores`` in the card that were measured on images not learnt from.

    The same call goes on where an earlier one was stopped or killed. A training that does not get
    better any more ends before its steps are done.

    Args:
        images: all that are committed.
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

    def teach(lesson: Lesson, said: Say) -> Path:
        def told(step: int, steps: int, figures: dict[str, float]) -> None:
            shown = {"loss": figures["loss"]}
            if not math.isnan(figures.get("validation", math.nan)):
                shown["held_out_dice"] = figures["validation"]
            said(step, steps, shown)

        base = TunableDetector(grounder)
        side = settings.image_size or base.image_size
        learnt = [images[index] for index in lesson.part.train]
        tune_lora(
            tuning_data(learnt, lesson.classes, settings.seed, side),
            base,
            lesson.folder,
            replace(settings, steps=lesson.steps),
            source=source,
            resume=True,
            progress=told,
            cancelled=cancelled,
        )
        if lesson is needed[-1]:
            set_thresholds(needed, images, phrases, own)
        return lesson.folder

    @lru_cache(1)
    def score_of(folder: Path) -> Score:
        return scorer(load_detector(folder))

    base = TunableDetector(grounder)
    own, steps = base.box_threshold, settings.steps or steps_for(len(images), base)
    needed = lessons(images, phrases, out, steps)
    _, scores = teach_and_measure(
        images, phrases, needed, teach, lambda folder, image: score_of(folder)(image), progress
    )
    card = read_adapter_card(out)
    assert card is not None  # it was written with the adapter
    card = replace(card, scores={**card.scores, **scores})
    write_adapter_card(out, card)
    return card
