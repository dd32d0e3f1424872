"""Learning from a few images, way by way: a light head, a prompt predictor, and matching."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

from ...core.metrics import dice
from ...core.types import BoolArray, ImageEmbedding
from ...io.datasets import Dataset
from ...learning.labelled import LabelledImage, classes_in, load_chosen
from ...learning.light import train_light
from ...learning.ppn import PpnSettings, train_ppn
from ...models.interfaces import Segmenter
from ...models.ppn.model import PpnModel
from .matching import match, matcher, target_feature

Masks = Callable[[ImageEmbedding], dict[int, BoolArray]]
WAYS = ("light head", "PPN", "PerSAM", "Matcher")


@dataclass(frozen=True, slots=True)
class FewShot:
    """Result of one way of learning from a few images.

    Attributes:
        way: of `WAYS`.
        count: images that it learned from.
        dice: label value -> mean over the measured images that hold the label.
        cpu_seconds: of the process, for learning alone.
    """

    way: str
    count: int
    dice: dict[int, float]
    cpu_seconds: float

    @property
    def mean(self) -> float:
        """Over the labels."""
        return float(np.mean([*self.dice.values()]))


def few_shot(
    dataset: Dataset,
    segmenter: Segmenter,
    counts: Sequence[int] = (1, 3, 5, 10),
    seed: int = 0,
    held_out: int = 80,
    ways: Sequence[str] = WAYS,
    say: Callable[[FewShot], None] = lambda shot: None,
) -> list[FewShot]:
    """Learn from the first images of one draw, measure on others of other groups.

    Args:
        dataset: to draw from.
        segmenter: of SAM's kind, frozen.
        counts: how many of the drawn images are learned from.
        seed: of the draw and of the trainings.
        held_out: images to measure on at most.
        ways: which of `WAYS`.
        say: told each result.

    Raises:
        DatasetError: there are too few images.
    """
    drawn, others, _ = load_chosen(dataset, max(counts), held_out, seed)
    measured = [_embedded(segmenter, image) for image in others]
    results = []
    for count in counts:
        images = drawn[:count]
        classes = classes_in(dataset, images)
        for way in ways:
            started = time.process_time()
            masks = _learn(way, images, classes, segmenter, seed)
            seconds = time.process_time() - started
            results.append(FewShot(way, count, _score(masks, measured, classes), seconds))
            say(results[-1])
    return results


def _learn(
    way: str,
    images: Sequence[LabelledImage],
    classes: dict[int, str],
    segmenter: Segmenter,
    seed: int,
) -> Masks:
    if way in ("PerSAM", "Matcher"):
        return _matching(way, images, classes, segmenter)
    with tempfile.TemporaryDirectory(prefix="usgseg-few-") as folder:
        if way == "PPN":
            settings = PpnSettings.for_images(len(images), seed=seed)
            model = train_ppn(images, classes, segmenter, Path(folder), settings)
        else:
            model = train_light(images, classes, segmenter, Path(folder))
    return _predicting(model)


def _predicting(model: PpnModel) -> Masks:
    def masks(embedding: ImageEmbedding) -> dict[int, BoolArray]:
        found = model.predict(embedding)
        return {value: p.masks[0] & (p.object_score >= 0) for value, p in found.items()}

    return masks


def _matching(
    way: str, images: Sequence[LabelledImage], classes: dict[int, str], segmenter: Segmenter
) -> Masks:
    seen = [_embedded(segmenter, image) for image in images]
    references = {
        value: [
            (image.embedding, image.labels == value)
            for image in seen
            if image.embedding is not None and (image.labels == value).any()
        ]
        for value in classes
    }

    if way == "Matcher":
        return lambda embedding: {
            value: matcher(segmenter, some, embedding) for value, some in references.items()
        }
    targets = {
        value: F.normalize(torch.stack([target_feature(*each) for each in some]).mean(0), dim=0)
        for value, some in references.items()
    }
    return lambda embedding: {
        value: match(segmenter, embedding, target) for value, target in targets.items()
    }


def _score(
    masks: Masks, images: Sequence[LabelledImage], classes: dict[int, str]
) -> dict[int, float]:
    scores: dict[int, list[float]] = {value: [] for value in classes}
    for image in images:
        assert image.embedding is not None
        found = masks(image.embedding)
        for value, each in scores.items():
            if (image.labels == value).any():
                each.append(dice(image.labels == value, found[value]))
    return {value: float(np.mean(each)) for value, each in scores.items() if each}


def _embedded(segmenter: Segmenter, image: LabelledImage) -> LabelledImage:
    return replace(image, embedding=segmenter.embed(image.image, image.image_id))
