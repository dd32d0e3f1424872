"""Cross-validation by groups, the same for prompt predictors and adapters.

With 30 or more images some groups (patients, videos, cases; near duplicates together) are kept out
of training for good. Below that, grouped three-fold cross-validation stands in: every image is
scored by a training that had none of its group, and the model itself learns from all. Those
trainings have fewer images and as many fewer steps, so that each image is learnt from as often.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from ..core.errors import Cancelled, DatasetError
from ..io.groups import average_hash, join_groups
from .labelled import LabelledImage
from .trainer import Progress

LEAST_HELD_OUT = 30
"""From so many images on, some are kept out for good."""
HELD_OUT_SHARE = 0.2
FOLDS = 3
M = TypeVar("M")
Score = Callable[[LabelledImage], Mapping[int, float]]
"""Label value -> Dice of a model on an image."""


@dataclass(frozen=True, slots=True)
class Partition:
    """Indices of images to learn from and of images to measure on; no group is on both sides."""

    train: tuple[int, ...]
    test: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Fold:
    """One training of those that out-of-fold scores take; the last one learns from all.

    Attributes:
        train: indices of the images to learn from.
        test: indices of the images to measure on, of other groups.
        classes: label value -> name, of those that it can learn; none where it has nothing of any.
        folder: of its result.
        steps: of the optimiser.
    """

    train: tuple[int, ...]
    test: tuple[int, ...]
    classes: dict[int, str]
    folder: Path
    steps: int


def partitions(images: Sequence[LabelledImage]) -> tuple[Partition, ...]:
    """One split with groups kept out, or three for cross-validation (two where groups are two).

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
        # By the name's hash and not by a draw: when images come in later, no group that was kept
        # out is learnt from.
        kept = [name for name in names if int(_rank(name)[:8], 16) < limit] or names[:1]
        # Few large groups (long loops) could take most of the images away from learning.
        while len(kept) > 1 and sum(g in kept for g in groups) > len(images) / 3:
            kept.pop()
        return (_partition(groups, kept),)
    parts: list[list[str]] = [[] for _ in range(min(FOLDS, len(names)))]
    # The largest group first, each into the fold with the fewest images: that keeps folds about
    # equal.
    for name in sorted(names, key=lambda n: (-groups.count(n), _rank(n))):
        min(parts, key=lambda part: sum(groups.count(n) for n in part)).append(name)
    return tuple(_partition(groups, part) for part in parts)


def folds(
    images: Sequence[LabelledImage], classes: Mapping[int, str], out: Path, steps: int
) -> tuple[Fold, ...]:
    """The trainings that it takes: with groups kept out one; else one a split, and one on all.

    Args:
        images: all that are accepted.
        classes: label value -> name.
        out: folder of the last one's result; those of a cross-validation are in ``fold-N`` in it.
        steps: of a training on all.

    Raises:
        DatasetError: all images are of one group.
    """
    parts = partitions(images)
    if len(images) >= LEAST_HELD_OUT:
        return (Fold(parts[0].train, parts[0].test, dict(classes), out, steps),)
    made = []
    for number, part in enumerate(parts, start=1):
        learnt = [images[index] for index in part.train]
        here = {v: n for v, n in classes.items() if any((i.labels == v).any() for i in learnt)}
        fewer = math.ceil(steps * (len(part.train) / len(images)))
        made.append(Fold(part.train, part.test, here, out / f"fold-{number}", fewer))
    return (*made, Fold(tuple(range(len(images))), (), dict(classes), out, steps))


def cross_validate(
    images: Sequence[LabelledImage],
    classes: Mapping[int, str],
    needed: Sequence[Fold],
    train: Callable[[Fold, Progress], M],
    score: Callable[[M, LabelledImage], Mapping[int, float]],
    progress: Progress = lambda step, steps, figures: None,
) -> tuple[M, dict[str, Any]]:
    """Do all trainings, then score each image with one that had none of its group.

    Args:
        images: all that are accepted.
        classes: label value -> name.
        needed: of ``folds``.
        train: does one training, or goes on with it; it is given what to tell of its steps.
        score: label value -> Dice of a result on an image.
        progress: (step, steps, figures) over all trainings together.

    Returns:
        What the last training gave, and the scores as its card keeps them.
    """
    # a fold without a class is not trained: it has no steps, neither here nor in the logs
    total = sum(fold.steps for fold in needed if fold.classes)
    found: dict[str, dict[str, float]] = {}
    done = 0

    def told(step: int, steps: int, figures: dict[str, float]) -> None:
        progress(done + step, total, figures)

    models: list[M | None] = []
    for fold in needed:
        if fold.classes:
            models.append(train(fold, told))
            done += fold.steps
        else:
            models.append(None)
    for fold, model in zip(needed, models, strict=True):
        for index in fold.test:
            image = images[index]
            dice_of = score(model, image) if model is not None else {}
            found[image.image_id] = {
                str(value): round(dice_of.get(value, missed(image, value)), 5) for value in classes
            }
    assert model is not None  # the last one has all classes
    means = {image_id: float(np.mean(list(item.values()))) for image_id, item in found.items()}
    count = len(needed) - 1
    return model, {
        "held_out_dice": float(np.mean(list(means.values()))),
        "held_out_images": len(means),
        "method": f"{count}-fold cross-validation" if count else "held-out groups",
        "per_image": means,
        "per_class": found,
    }


def how_measured(scores: Mapping[str, Any]) -> str:
    """What has to be said of a method beside the verdict, or ""."""
    folds, _, cross = str(scores["method"]).partition("-fold ")
    return (
        f" Measured in {folds} shorter trainings, each without some of the images." if cross else ""
    )


def out_of_fold_scores(
    learnt: Collection[str],
    kept: Mapping[str, Any],
    score: Score,
    images: Sequence[LabelledImage],
    classes: Collection[int],
    own: Collection[int] = (),
    cancelled: Callable[[], bool] = lambda: False,
) -> dict[str, float]:
    """Dice by image id: measured where the model never saw the group, else as cross-validated.

    Images of a group that it learnt from, without a cross-validated score of every class, are
    left out.

    Args:
        learnt: ids of the images that the model learnt from.
        kept: its card's scores, of ``cross_validate``.
        score: measures it now; a class that it does not know counts as not found.
        images: to measure on; also those that it learnt from, so that their groups are known.
        classes: label values that the mean is of.
        own: label values that its card's means are of, for cards without scores of each class.
        cancelled: asked between two images.

    Raises:
        Cancelled: ``cancelled()`` turned true.
    """
    groups = joined_groups(images) if images else []
    seen = {group for group, image in zip(groups, images, strict=True) if image.image_id in learnt}
    means, parts = (kept.get(name, {}) for name in ("per_image", "per_class"))
    scores = {}
    for group, image in zip(groups, images, strict=True):
        if cancelled():
            raise Cancelled("stopped while the result was measured")
        if group not in seen:
            each = score(image)
        elif image.image_id in parts:
            each = {int(value): float(dice) for value, dice in parts[image.image_id].items()}
        elif image.image_id in means and set(classes) == set(own):
            scores[image.image_id] = float(means[image.image_id])
            continue
        else:
            continue
        scores[image.image_id] = float(np.mean([each.get(v, missed(image, v)) for v in classes]))
    return scores


def missed(image: LabelledImage, value: int) -> float:
    """Dice of a class that is not looked for: 1 where it is not there."""
    return float(not (image.labels == value).any())


def joined_groups(images: Sequence[LabelledImage]) -> list[str]:
    """The group of each image; groups that share near duplicates are one."""
    hashes = np.stack([average_hash(image.image) for image in images])
    return join_groups([image.group for image in images], hashes)


def _rank(group: str) -> str:
    return hashlib.sha256(f"held-out/{group}".encode()).hexdigest()


def _partition(groups: Sequence[str], test: Sequence[str]) -> Partition:
    inside = [group in set(test) for group in groups]
    return Partition(
        tuple(i for i, held in enumerate(inside) if not held),
        tuple(i for i, held in enumerate(inside) if held),
    )
