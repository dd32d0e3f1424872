"""Images that an adapter learns from: a person's, and phantoms of what these do not show."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from ...core.errors import DatasetError
from ...io.datasets import Dataset, Split, read_pair
from ...models.grounding.nano_detector import SentenceEncoder
from ...phantoms.anatomy import ANATOMIES
from ...phantoms.phantom import KINDS, make_phantom
from ..augmentation import squash, squash_labels
from ..labelled import LabelledImage, choose_items
from ..phrases import Concept, concept_of, draw_absent
from .questions import POOL_SIDE, PoolImage, number_objects

LEAST_TO_CHECK = 8
"""Of fewer images of a project all are learned from, and the last step is the best."""
PROJECT = "project"
"""What a project's images are called in the pool, where names of data sets have a meaning."""


def tuning_data(
    images: Sequence[LabelledImage], phrases: Mapping[int, str], seed: int, side: int
) -> TuningData:
    """What an adapter learns from; of fewer than eight images from all, and none is to stop by.

    Nor is one where those to learn from would lack a class.

    Args:
        images: with their label maps.
        phrases: label value -> what a person would type, of the classes to learn.
        seed: of the draw of those to stop by.
        side: in pixels of the square that the detector sees.

    Raises:
        DatasetError: no image to learn from shows a class.
    """
    learned, checked = part(images, seed) if len(images) >= LEAST_TO_CHECK else (images, [])
    if _shown(learned, phrases) != _shown(images, phrases):
        learned, checked = images, []
    side = max(side, POOL_SIDE)
    numbers, names = _numbers(phrases)
    pool = [
        pool_image(PROJECT, "", image.image, _numbered(image, numbers), names, side)
        for image in learned
    ]
    if not any(image.labels.any() for image in pool):
        raise DatasetError("training", "no image shows a class to learn; label and accept more")
    return gathered(
        pool,
        check_images(checked, phrases),
        list(names.values()),
        [image.image_id for image in images],
    )


def check_images(images: Sequence[LabelledImage], phrases: Mapping[int, str]) -> list[CheckImage]:
    """Images to measure on, with their classes numbered as those to learn from are."""
    numbers, names = _numbers(phrases)
    return [
        CheckImage(image.image_id, image.image, _numbered(image, numbers), names)
        for image in images
    ]


def _shown(images: Sequence[LabelledImage], phrases: Mapping[int, str]) -> set[int]:
    return {value for value in phrases if any((i.labels == value).any() for i in images)}


def _numbers(phrases: Mapping[int, str]) -> tuple[dict[int, int], dict[int, str]]:
    """Label value -> number from 1 on, and number -> phrase."""
    numbers = {value: number for number, value in enumerate(phrases, start=1)}
    return numbers, {numbers[value]: phrase for value, phrase in phrases.items()}


def _numbered(image: LabelledImage, numbers: Mapping[int, int]) -> NDArray[np.uint8]:
    """The label map with the classes' numbers, 0 for all others."""
    labels = np.zeros(image.labels.shape, np.uint8)
    for value, number in numbers.items():
        labels[image.labels == value] = number
    return labels


CHECKED_SHARE = 0.15
"""Of the drawn images; they are not learned from, but say when to stop."""
LEAST_CHECKED = 3
MOST_ASKED = 12
"""Images to learn from on which thresholds are chosen."""
STRANGE_SHARE = 0.25
"""Phantoms of other organs beside the images that are learned from."""
RELATED = 0.6
"""A phrase as similar as this (cosine) to a target may be in its images: a kidney has a cortex."""


class Grouped(Protocol):
    """What is of a patient, a video or a case."""

    @property
    def group(self) -> str:
        """Its name."""
        ...


G = TypeVar("G", bound=Grouped)


@dataclass(frozen=True, slots=True, eq=False)
class CheckImage:
    """An image to measure on.

    Attributes:
        image_id: "data set/item".
        image: (H, W, 3) RGB uint8.
        labels: (H, W) label map.
        phrases: label -> what a sonographer would type.
    """

    image_id: str
    image: NDArray[np.uint8]
    labels: NDArray[np.integer]
    phrases: dict[int, str]


@dataclass(frozen=True, slots=True, eq=False)
class TuningData:
    """The drawn images.

    Attributes:
        training: to learn from.
        checking: of other groups, to stop by; empty where all images are of one group.
        targets: the phrases of the labels, as the data sets give them.
        concepts: what they mean.
        image_ids: "data set/item" of all of them.
    """

    training: tuple[PoolImage, ...]
    checking: tuple[CheckImage, ...]
    targets: tuple[str, ...]
    concepts: tuple[Concept, ...]
    image_ids: tuple[str, ...]

    @property
    def phrases(self) -> tuple[str, ...]:
        """Every phrasing of the targets."""
        made = [*self.targets, *(p for c in self.concepts for p in (c.name, *c.phrases))]
        return tuple(dict.fromkeys(phrase.lower() for phrase in made))

    @property
    def asked(self) -> tuple[CheckImage, ...]:
        """Those to choose thresholds on: to stop by or, where there are none, some to learn from.

        What was learnt from has high scores: a detector's own threshold is lowered only where even
        those need it.
        """
        some = self.training[:: -(-len(self.training) // MOST_ASKED)]
        return self.checking or tuple(
            CheckImage(f"{image.dataset}/{number}", image.image, image.labels, image.phrases)
            for number, image in enumerate(some)
        )


def choose_images(
    datasets: Sequence[Dataset],
    images: int | None,
    splits: dict[str, Split] | None,
    seed: int,
    side: int,
) -> TuningData:
    """Draw images and read them.

    Args:
        datasets: to draw from.
        images: so many of each data set, those to stop by among them; None takes all.
        splits: where given, only training sides are drawn from.
        seed: of the draw.
        side: in pixels of the square that the detector sees.

    Raises:
        DatasetError: there are too few images, or none with a target.
    """
    training: list[PoolImage] = []
    checking: list[CheckImage] = []
    targets: list[str] = []
    ids: list[str] = []
    for dataset in datasets:
        split = splits.get(dataset.name) if splits is not None else None
        if splits is not None and split is None:
            raise DatasetError(dataset.name, "is not in the split file; add it, or leave it out")
        drawn, _ = choose_items(dataset.only(split.train) if split else dataset, images, 0, seed)
        learned, checked = part(drawn, seed)
        phrases = {label: dataset.phrase(label) for label in dataset.labels}
        found = [
            pool_image(
                dataset.name,
                dataset.organ,
                *read_pair(item),
                phrases,
                max(side, POOL_SIDE),
                item.finding,
            )
            for item in learned
        ]
        shown = {int(v) for image in found for v in np.unique(image.labels) if v}
        if not shown & set(phrases):
            raise DatasetError(dataset.name, "no drawn image shows a target; give more images")
        targets += [phrase for label, phrase in phrases.items() if label in shown]
        training += found
        checking += [
            CheckImage(
                f"{dataset.name}/{item.item_id}",
                *read_pair(item),
                {label: phrase for label, phrase in phrases.items() if label in shown},
            )
            for item in checked
        ]
        ids += [f"{dataset.name}/{item.item_id}" for item in drawn]
    return gathered(training, checking, targets, ids)


def gathered(
    training: list[PoolImage], checking: list[CheckImage], targets: list[str], ids: list[str]
) -> TuningData:
    """All of it, with what the targets mean."""
    named = {concept_of(phrase).name: concept_of(phrase) for phrase in targets}
    return TuningData(
        tuple(training),
        tuple(checking),
        tuple(dict.fromkeys(targets)),
        tuple(named.values()),
        tuple(sorted(ids)),
    )


def part(items: Sequence[G], seed: int) -> tuple[list[G], list[G]]:
    """Items to learn from and items to stop by, of no common group; at least half is learned.

    None is to stop by where all are of one group.
    """
    wanted = max(LEAST_CHECKED, round(CHECKED_SHARE * len(items)))
    groups = sorted({item.group for item in items})
    random.Random(seed).shuffle(groups)
    checked: set[str] = set()
    count = 0
    for group in groups:
        members = sum(item.group == group for item in items)
        if count + members <= min(wanted, len(items) // 2):
            checked.add(group)
            count += members
    if not checked and groups:  # of few patients or videos: a whole one rather than none
        size, least = min((sum(item.group == group for item in items), group) for group in groups)
        checked = {least} if size <= len(items) // 2 else checked
    learned = [item for item in items if item.group not in checked]
    return learned, [item for item in items if item.group in checked]


def pool_image(
    dataset: str,
    organ: str,
    image: NDArray[np.uint8],
    labels: NDArray[np.integer],
    phrases: dict[int, str],
    side: int,
    finding: str | None = None,
) -> PoolImage:
    """An image to learn from, squashed to a square of ``side`` pixels."""
    return PoolImage(
        dataset=dataset,
        organ=organ,
        image=squash(image, side).copy(),
        objects=squash_labels(number_objects(labels), side),
        labels=squash_labels(labels, side),
        phrases=phrases,
        finding=finding,
    )


def strange_images(data: TuningData, related: UnrelatedPhrases, seed: int) -> list[PoolImage]:
    """Phantoms of other organs, in which a target must not be found; a few for each data set.

    All of a person's images may show the target: nothing in them says what it is not.
    """
    made = []
    for name in sorted({image.dataset for image in data.training}):
        own = [image for image in data.training if image.dataset == name]
        phrases = own[0].phrases
        kinds = [kind for kind in KINDS if not any(map(related.is_related, _shown_by(kind)))]
        for index in range(round(STRANGE_SHARE * len(own)) if kinds else 0):
            phantom = make_phantom(seed * 100_003 + index, kind=kinds[index % len(kinds)])
            side = len(own[0].image)
            nothing = np.zeros((side, side), np.uint8)
            image = squash(phantom.image, side).copy()
            made.append(PoolImage(name, "phantom", image, nothing, nothing, phrases))
    return made


def _shown_by(kind: str) -> list[str]:
    return [kind.replace("-", " "), *ANATOMIES[kind].names.values()]


class UnrelatedPhrases:
    """Draws phrases for what an image does not show, none of them related to its targets.

    A data set of kidneys may show the renal cortex or the liver beside it without saying so: who
    asks for those as absent would teach what is wrong.

    Args:
        targets: phrases of what is learned.
        encoder: says how similar two phrases are.
    """

    def __init__(self, targets: Sequence[str], encoder: SentenceEncoder) -> None:
        self.encoder = encoder
        with torch.inference_mode():
            self.targets = encoder(list(targets))
        self.related: dict[str, bool] = {}

    def __call__(self, present: Sequence[Concept], rng: np.random.Generator) -> str:
        """A phrase; see ``draw_absent``."""
        for _ in range(100):
            phrase = draw_absent(present, rng)
            if not self.is_related(phrase):
                break
        return phrase

    @torch.inference_mode()
    def is_related(self, phrase: str) -> bool:
        """Whether a phrase may name what the targets' images show."""
        if phrase not in self.related:
            near = float((self.encoder([phrase]) @ self.targets.T).max())
            self.related[phrase] = near >= RELATED
        return self.related[phrase]
