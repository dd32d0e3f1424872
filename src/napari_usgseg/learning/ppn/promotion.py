"""Train a prompt predictor and measure it on images that it did not learn from; `promotion`."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from ...models.interfaces import Segmenter
from ...models.ppn.card import write_card
from ...models.ppn.model import PpnModel
from .. import promotion
from ..promotion import Lesson, Say, lessons, teach_and_measure
from .train import PpnSettings, class_dice, train_ppn
from .views import LabelledImage, ViewCache


def train_and_measure(
    images: Sequence[LabelledImage],
    classes: Mapping[int, str],
    segmenter: Segmenter,
    out: Path,
    settings: PpnSettings,
    *,
    source: str = "",
    progress: Say = lambda step, steps, figures: None,
    cancelled: Callable[[], bool] = lambda: False,
) -> PpnModel:
    """Train in ``out``, with ``scores`` in the card that were measured on images not learnt from.

    The same call goes on where an earlier one was stopped or killed.

    Args:
        images: all that are committed.
        classes: label value -> name.
        segmenter: of SAM's kind.
        out: folder of the result; the trainings of a cross-validation are in ``fold-N`` in it.
        settings: of the training on all; those of a cross-validation have fewer steps.
        source: name of the data set or project.
        progress: (step, steps, figures) over all trainings together.
        cancelled: asked after each step.

    Raises:
        DatasetError: all images are of one group, or a class is in none to learn from.
        Cancelled: ``cancelled()`` turned true.
    """
    views = ViewCache(segmenter, images, list(classes), settings.seed)

    def teach(lesson: Lesson, said: Say) -> PpnModel:
        return train_ppn(
            [images[index] for index in lesson.part.train],
            lesson.classes,
            segmenter,
            lesson.folder,
            replace(settings, steps=lesson.steps),
            source=source,
            held_out=[images[index] for index in lesson.part.test],
            resume=True,
            views=views.part(lesson.part.train, list(lesson.classes)),
            progress=said,
            cancelled=cancelled,
        )

    needed = lessons(images, classes, out, settings.steps)
    model, scores = teach_and_measure(images, classes, needed, teach, class_dice, progress)
    card = replace(model.card, scores=scores)
    write_card(out, card)
    return model.with_card(card)


def honest_scores(
    model: PpnModel,
    images: Sequence[LabelledImage],
    classes: Collection[int] | None = None,
    cancelled: Callable[[], bool] = lambda: False,
) -> dict[str, float]:
    """Dice by image id, as `promotion.honest_scores` says.

    Args:
        model: to measure.
        images: to measure on; also those that it learnt from, so that their groups are known.
        classes: label values that the mean is of, where they are not the model's own.
        cancelled: asked between two images.

    Raises:
        Cancelled: ``cancelled()`` turned true.
    """
    card = model.card
    wanted = card.classes if classes is None else classes
    return promotion.honest_scores(
        card.images,
        card.scores,
        lambda image: class_dice(model, image),
        images,
        wanted,
        card.classes,
        cancelled,
    )
