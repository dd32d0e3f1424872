"""Data that a detector learns from: images in memory, and phrases that are asked of them.

The images of a data set or a project are squashed to squares, and phantoms of other organs show
what they do not. A question is a phrase about an image, there or not there.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from ...core.errors import DatasetError
from ...core.geometry import components
from ...io.datasets import Dataset, DatasetItem, Split, read_pair
from ...models.grounding.nano_detector import SentenceEncoder
from ...phantoms.anatomy import ANATOMIES
from ...phantoms.phantom import KINDS, make_phantom
from ..augmentation import (
    Augmentation,
    bend_intensities,
    random_affine,
    squash,
    squash_labels,
    warp,
)
from ..labelled import LabelledImage, choose_items
from ..phrases import Concept, concept_of, draw_absent, draw_phrase

# -- images in memory ------------------------------------------------------------------------------

POOL_SIDE = 448
SHARES = {
    "busi": 0.26,
    "ddti_crops": 0.14,
    "hc18": 0.12,
    "usgra": 0.22,
    "dltrack_apo": 0.06,
    "camus_sample": 0.06,
    "phantoms": 0.14,
}
"""How often an image comes from each data set; others share what ``OTHER_SHARE`` gives each."""
OTHER_SHARE = 0.15
SYNTHETIC = ("phantoms", "organs")
"""Pools of phantoms: they show more than their names say, so nothing is asked as absent there."""


@dataclass(frozen=True, slots=True, eq=False)
class PoolImage:
    """One training image.

    Attributes:
        dataset: name of the data set it comes from.
        image: (S, S, 3) uint8 RGB, squashed; S is ``POOL_SIDE`` or more.
        objects: (S, S) uint8, one number per object (component of a label).
        labels: (S, S) uint8, the label map.
        phrases: label -> what a sonographer would type.
        finding: "benign", "malignant", "normal" and the like, where the data set says it.
    """

    dataset: str
    image: NDArray[np.uint8]
    objects: NDArray[np.uint8]
    labels: NDArray[np.uint8]
    phrases: dict[int, str] = field(default_factory=dict)
    finding: str | None = None


def pool_image(
    dataset: str,
    image: NDArray[np.uint8],
    labels: NDArray[np.integer],
    phrases: dict[int, str],
    side: int,
    finding: str | None = None,
) -> PoolImage:
    """An image to learn from, squashed to a square of ``side`` pixels."""
    return PoolImage(
        dataset=dataset,
        image=squash(image, side).copy(),
        objects=squash_labels(number_objects(labels), side),
        labels=squash_labels(labels, side),
        phrases=phrases,
        finding=finding,
    )


def number_objects(labels: NDArray[np.integer]) -> NDArray[np.uint8]:
    """Label map (H, W) to object map: 0 background, 1.. the protocol's objects (at most 255)."""
    objects = np.zeros(labels.shape, np.uint8)
    count = 0
    for value in np.unique(labels[labels > 0]):
        for part in components(labels == value):
            count = min(count + 1, 255)
            objects[part] = count
    return objects


def draw(pool: Sequence[PoolImage], rng: np.random.Generator, count: int) -> list[PoolImage]:
    """``count`` images: first a data set by ``SHARES``, then any of its images."""
    by_name: dict[str, list[PoolImage]] = {}
    for image in pool:
        by_name.setdefault(image.dataset, []).append(image)
    names = sorted(by_name)
    weights = np.array([SHARES.get(name, OTHER_SHARE) for name in names])
    picks = rng.choice(len(names), count, p=weights / weights.sum())
    return [by_name[names[i]][int(rng.integers(len(by_name[names[i]])))] for i in picks]


# -- questions -------------------------------------------------------------------------------------

DrawAbsent = Callable[[Sequence[Concept], np.random.Generator], str]

SURROUNDINGS = ("usgra", "dltrack_apo")
"""Data sets whose tissue may lie around a lesion; nobody has marked lesions in them."""
LEAST_FRACTION = 0.0008
"""A target that augmentation leaves with less of the image than this is no longer asked for."""

NEAR = Augmentation(zoom=1.5, shift=0.15)
FAR = Augmentation(zoom=1.05, shift=0.0, degrees=0.0, vertical_flip=0.0)


@dataclass(frozen=True, slots=True, eq=False)
class Question:
    """One phrase about one image of the batch: its mask (S, S), empty where it is not there."""

    owner: int
    phrase: str
    mask: Tensor
    present: bool


class Questioner:
    """Draws augmented images and asks for phrases in them.

    Args:
        pool: the images.
        image_size: side S in pixels of the squares that are drawn.
        batch: images a draw.
        never: concepts that are not asked for in any image.
        absent: draws a phrase for what an image does not show, given what it may show.
    """

    def __init__(
        self,
        pool: Sequence[PoolImage],
        image_size: int,
        batch: int = 8,
        never: Sequence[Concept] = (),
        absent: DrawAbsent = draw_absent,
    ) -> None:
        self.pool = pool
        self.absent = absent
        self.never = tuple(never)
        self.image_size = image_size
        self.batch = batch

    def draw(self, rng: np.random.Generator) -> tuple[list[Tensor], list[Question]]:
        """Augmented images (3, S, S) in [0, 1] and what is asked of them."""
        images: list[Tensor] = []
        questions: list[Question] = []
        for sample in draw(self.pool, rng, self.batch):
            labels = [int(v) for v in np.unique(sample.labels) if v > 0]
            stack = (
                torch.stack([torch.from_numpy(sample.labels == v).float() for v in labels])
                if labels
                else torch.zeros(0, *sample.labels.shape)
            )
            picture = torch.tensor(sample.image).permute(2, 0, 1).float() / 255
            whole = torch.cat([picture, stack])
            shrunk = sample.dataset == "ddti_crops" and rng.random() < 0.6
            matrix = random_affine(rng, FAR if shrunk else NEAR)
            bent = warp(whole, matrix, self.image_size)
            around = None
            if shrunk:
                around = self._surroundings(rng)
                bent = _within(bent, around, rng)
            images.append(bend_intensities(bent[:3], rng))
            shown = [sample] if around is None else [sample, around]
            questions += self._questions(shown, labels, bent[3:], len(images) - 1, rng)
        return images, questions

    def _questions(
        self,
        samples: Sequence[PoolImage],
        labels: list[int],
        masks: Tensor,
        owner: int,
        rng: np.random.Generator,
    ) -> list[Question]:
        """One phrase for up to two labels of the first sample that are there, one or two not."""
        sample = samples[0]
        shown = {v: concept_of(phrase) for v, phrase in sample.phrases.items()}
        asked: list[Question] = []
        empty = torch.zeros(masks.shape[-2:])
        for index in rng.permutation(len(labels))[:2]:
            mask = (masks[int(index)] > 0.5).float()
            concept = shown.get(labels[int(index)])
            if concept is not None:
                there = bool(mask.mean() > LEAST_FRACTION)
                phrase = draw_phrase(concept, rng, sample.finding)
                asked.append(Question(owner, phrase, mask if there else empty, there))
        hidden: list[Concept] = [c for v, c in shown.items() if v not in labels]
        if hidden and sample.dataset not in SYNTHETIC and rng.random() < 0.8:
            phrase = draw_phrase(hidden[int(rng.integers(len(hidden)))], rng)
            asked.append(Question(owner, phrase, empty, False))
        all_shown = [concept_of(phrase) for s in samples for phrase in s.phrases.values()]
        if sample.dataset not in SYNTHETIC:  # they show more than their names say
            phrase = self.absent([*all_shown, *self.never], rng)
            asked.append(Question(owner, phrase, empty, False))
        return asked

    def _surroundings(self, rng: np.random.Generator) -> PoolImage:
        """An image of other tissue, without lesions."""
        others = [s for s in self.pool if s.dataset in SURROUNDINGS or s.finding == "normal"]
        others = others or list(self.pool)
        return others[int(rng.integers(len(others)))]


def _within(bent: Tensor, around: PoolImage, rng: np.random.Generator) -> Tensor:
    """Put a crop (3 + N, S, S) where it may lie in a whole frame: smaller, in other tissue.

    ``ddti_crops`` shows nodules only from near; a person's frames show the whole neck.
    """
    side = bent.shape[-1]
    height, width = (int(side * v) for v in rng.uniform(0.3, 0.8, 2))
    crop = F.interpolate(bent[None], (height, width), mode="bilinear", antialias=True)[0]
    canvas = torch.zeros_like(bent)
    if rng.random() < 0.9:
        picture = torch.tensor(around.image).permute(2, 0, 1)[None].float() / 255
        picture = F.interpolate(picture, (side, side), mode="bilinear", antialias=True)[0]
        if rng.random() < 0.5:
            picture = picture.flip(-1)
        # As bright as the crop, or the seam would tell where the nodule is.
        gain = crop[:3].mean() / picture.mean().clamp(min=0.02)
        canvas[:3] = (picture * gain.clamp(0.3, 3)).clamp(0, 1)
    y, x = int(rng.integers(0, side - height + 1)), int(rng.integers(0, side - width + 1))
    softness = float(rng.uniform(4, 20))
    alpha = _ramp(height, softness)[:, None] * _ramp(width, softness)[None]
    patch = canvas[:, y : y + height, x : x + width]
    canvas[:, y : y + height, x : x + width] = crop * alpha + patch * (1 - alpha)
    return canvas


def _ramp(length: int, softness: float) -> Tensor:
    """0 at both ends, 1 within a ``softness``-th of them."""
    line = torch.linspace(0, 1, length)
    return (torch.minimum(line, 1 - line) * 2 * softness).clamp(0, 1)


# -- data of a tuning ------------------------------------------------------------------------------

LEAST_TO_CHECK = 8
"""Of fewer images of a project all are learned from, and the last step is the best."""
PROJECT = "project"
"""What a project's images are called in the pool, where names of data sets have a meaning."""
CHECKED_SHARE = 0.15
"""Of the drawn images; they are not learned from, but say when to stop."""
LEAST_CHECKED = 3
MOST_ASKED = 12
"""Images to learn from on which thresholds are chosen."""
STRANGE_SHARE = 0.25
"""Phantoms of other organs beside the images that are learned from."""
RELATED = 0.6
"""A phrase as similar as this (cosine) to a target may be in its images: a kidney has a cortex."""

G = TypeVar("G", LabelledImage, DatasetItem)


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
    """Draw images of data sets and read them.

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
        name = dataset.name
        split = splits.get(name) if splits is not None else None
        if splits is not None and split is None:
            raise DatasetError(name, "is not in the split file; add it, or leave it out")
        drawn, _ = choose_items(dataset.only(split.train) if split else dataset, images, 0, seed)
        learned, checked = part(drawn, seed)
        phrases = {label: dataset.phrase(label) for label in dataset.labels}
        found = [
            pool_image(name, *read_pair(item), phrases, max(side, POOL_SIDE), item.finding)
            for item in learned
        ]
        there = {int(v) for image in found for v in np.unique(image.labels) if v}
        shown = {label: phrase for label, phrase in phrases.items() if label in there}
        if not shown:
            raise DatasetError(name, "no drawn image shows a target; give more images")
        targets += shown.values()
        training += found
        checking += [
            CheckImage(f"{name}/{item.item_id}", *read_pair(item), shown) for item in checked
        ]
        ids += [f"{name}/{item.item_id}" for item in drawn]
    return _gathered(training, checking, targets, ids)


def tuning_data(
    images: Sequence[LabelledImage], phrases: Mapping[int, str], seed: int, side: int
) -> TuningData:
    """The images of a project; of fewer than eight all are learned from, and none is to stop by.

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
    names = dict(enumerate(phrases.values(), start=1))
    pool = [
        pool_image(PROJECT, image.image, _numbered(image, phrases), names, max(side, POOL_SIDE))
        for image in learned
    ]
    if not any(image.labels.any() for image in pool):
        raise DatasetError("training", "no image shows a class to learn; label and accept more")
    ids = [image.image_id for image in images]
    return _gathered(pool, check_images(checked, phrases), list(names.values()), ids)


def check_images(images: Sequence[LabelledImage], phrases: Mapping[int, str]) -> list[CheckImage]:
    """Images to measure on, with their classes numbered as those to learn from are."""
    names = dict(enumerate(phrases.values(), start=1))
    return [
        CheckImage(image.image_id, image.image, _numbered(image, phrases), names)
        for image in images
    ]


def _shown(images: Sequence[LabelledImage], phrases: Mapping[int, str]) -> set[int]:
    return {value for value in phrases if any((i.labels == value).any() for i in images)}


def _numbered(image: LabelledImage, values: Iterable[int]) -> NDArray[np.uint8]:
    """The label map with numbers from 1 on in the place of ``values``, 0 for all others."""
    labels = np.zeros(image.labels.shape, np.uint8)
    for number, value in enumerate(values, start=1):
        labels[image.labels == value] = number
    return labels


def _gathered(
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
            made.append(PoolImage(name, image, nothing, nothing, phrases))
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
