"""Is a new prompt predictor better than what is in use? Measured on images not learnt from.

With 30 or more images some groups (patients, videos, cases; near duplicates together) are kept out
of training for good. Below that, grouped three-fold cross-validation stands in: every image is
scored by a training that had none of its group, and the predictor itself learns from all. Those
trainings have fewer images and as many fewer steps, so that each image is learnt from as often.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from ..errors import Cancelled, DatasetError
from ..io.near_duplicates import average_hash, join_groups
from ..models.base import Segmenter
from ..models.ppn_card import write_card
from ..models.ppn_model import PpnModel
from .ppn_train import PpnSettings, Say, class_dice, train_ppn
from .ppn_views import LabelledImage, ViewCache

LEAST_HELD_OUT = 30
"""From so many images on, some are kept out for good."""

HELD_OUT_SHARE = 0.2
FOLDS = 3


@dataclass(frozen=True, slots=True)
class Fold:
    """Indices of images to learn from and of images to measure on; no group is on both sides."""

    train: tuple[int, ...]
    test: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether a new prompt predictor replaces what is in use, and the sentence that says why."""

    promoted: bool
    new_dice: float
    old_dice: float
    images: int
    sentence: str


def folds(images: Sequence[LabelledImage]) -> tuple[Fold, ...]:
    """One fold with groups kept out, or three for cross-validation (two where groups are two).

    A group's side depends on its name alone, so a kept-out group stays kept out as images come.

    Raises:
        DatasetError: all images are of one group, so that nothing can be measured.
    """
    groups = joined_groups(images)
    names = sorted(set(groups), key=_rank)
    if len(names) < 2:
        raise DatasetError(
            "training", "all images are of one group; label images of another patient or video"
        )
    if len(images) >= LEAST_HELD_OUT:
        limit = int(HELD_OUT_SHARE * 2**32)
        kept = [name for name in names if int(_rank(name)[:8], 16) < limit] or names[:1]
        while len(kept) > 1 and sum(g in kept for g in groups) > len(images) / 3:
            kept.pop()
        return (_fold(groups, kept),)
    parts: list[list[str]] = [[] for _ in range(min(FOLDS, len(names)))]
    for name in sorted(names, key=lambda n: (-groups.count(n), _rank(n))):
        min(parts, key=lambda part: sum(groups.count(n) for n in part)).append(name)
    return tuple(_fold(groups, part) for part in parts)


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
    parts = folds(images)
    kept_out = len(images) >= LEAST_HELD_OUT
    each = [settings if kept_out else _shorter(settings, part) for part in parts]
    total = sum(item.steps for item in each) + (0 if kept_out else settings.steps)
    views = ViewCache(segmenter, images, list(classes), settings.seed)
    found: dict[str, dict[str, float]] = {}
    done = 0

    def said(step: int, steps: int, figures: dict[str, float]) -> None:
        progress(done + step, total, figures)

    model = None
    for number, part in enumerate(parts):
        training = [images[index] for index in part.train]
        testing = [images[index] for index in part.test]
        here = {v: n for v, n in classes.items() if any((i.labels == v).any() for i in training)}
        if kept_out or here:
            model = train_ppn(
                training,
                classes if kept_out else here,
                segmenter,
                out if kept_out else out / f"fold-{number + 1}",
                each[number],
                source=source,
                held_out=testing,
                resume=True,
                views=views.part(part.train, list(classes if kept_out else here)),
                progress=said,
                cancelled=cancelled,
            )
        for image in testing:
            dice_of = class_dice(model, image) if model is not None and here else {}
            found[image.image_id] = {
                str(value): round(dice_of.get(value, _missed(image, value)), 5) for value in classes
            }
        done += each[number].steps
    if not kept_out or model is None:
        model = train_ppn(
            images,
            classes,
            segmenter,
            out,
            settings,
            source=source,
            resume=True,
            views=views,
            progress=said,
            cancelled=cancelled,
        )
    scores = {image_id: float(np.mean(list(item.values()))) for image_id, item in found.items()}
    card = replace(
        model.card,
        scores={
            "held_out_dice": float(np.mean(list(scores.values()))),
            "held_out_images": len(scores),
            "method": "held-out groups" if kept_out else f"{len(parts)}-fold cross-validation",
            "per_image": scores,
            "per_class": found,
        },
    )
    write_card(out, card)
    return model.with_card(card)


def honest_scores(
    model: PpnModel,
    images: Sequence[LabelledImage],
    classes: Collection[int] | None = None,
    cancelled: Callable[[], bool] = lambda: False,
) -> dict[str, float]:
    """Dice by image id: measured where the model never saw the group, else as cross-validated.

    Images of a group that it learnt from, without a cross-validated score, are left out.

    Args:
        model: to measure.
        images: to measure on; also those that it learnt from, so that their groups are known.
        classes: label values that the mean is of, where they are not the model's own; one that
            it never learnt counts as not found.
        cancelled: asked between two images.

    Raises:
        Cancelled: ``cancelled()`` turned true.
    """
    wanted = set(model.card.classes if classes is None else classes)
    same = wanted == set(model.card.classes)
    learnt = set(model.card.images)
    groups = joined_groups(images) if images else []
    seen = {group for group, image in zip(groups, images, strict=True) if image.image_id in learnt}
    means, parts = (model.card.scores.get(name, {}) for name in ("per_image", "per_class"))
    scores = {}
    for group, image in zip(groups, images, strict=True):
        if cancelled():
            raise Cancelled("stopped while the result was measured")
        image_id = image.image_id
        if group not in seen:
            each = class_dice(model, image)
        elif image_id in parts:
            each = {int(value): float(score) for value, score in parts[image_id].items()}
        elif same and image_id in means:
            scores[image_id] = float(means[image_id])
            continue
        else:
            continue
        each = {value: each.get(value, _missed(image, value)) for value in wanted}
        scores[image_id] = float(np.mean(list(each.values())))
    return scores


def _missed(image: LabelledImage, value: int) -> float:
    """Dice of a class that is not looked for: 1 where it is not there."""
    return float(not (image.labels == value).any())


def _shorter(settings: PpnSettings, part: Fold) -> PpnSettings:
    """As many passes over the images of a fold as over all."""
    share = len(part.train) / (len(part.train) + len(part.test))
    return replace(settings, steps=math.ceil(settings.steps * share))


def judge(new: Mapping[str, float], old: Mapping[str, float], old_name: str) -> Verdict:
    """Compare Dice by image id on the images that both have; the new one must be better.

    Args:
        new: of the new prompt predictor.
        old: of what is in use: an earlier one, or the text prompt.
        old_name: how to call it ("PPN v2", "the text prompt").
    """
    common = sorted(set(new) & set(old))
    if not common:
        return Verdict(False, 0.0, 0.0, 0, f"Not used: no image to compare it with {old_name} on.")
    now = float(np.mean([new[image] for image in common]))
    then = float(np.mean([old[image] for image in common]))
    measured = (
        f"Dice {now:.3f}, {old_name} {then:.3f}, on {len(common)} images that were not learnt from"
    )
    if now > then:
        return Verdict(True, now, then, len(common), f"In use now: {measured}.")
    return Verdict(False, now, then, len(common), f"Not used: {measured}.")


def joined_groups(images: Sequence[LabelledImage]) -> list[str]:
    """The group of each image; groups that share near duplicates are one."""
    hashes = np.stack([average_hash(image.image) for image in images])
    return join_groups([image.group for image in images], hashes)


def _rank(group: str) -> str:
    return hashlib.sha256(f"held-out/{group}".encode()).hexdigest()


def _fold(groups: Sequence[str], test: Sequence[str]) -> Fold:
    inside = [group in set(test) for group in groups]
    return Fold(
        tuple(i for i, held in enumerate(inside) if not held),
        tuple(i for i, held in enumerate(inside) if held),
    )
