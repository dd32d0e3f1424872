"""Questions that a detector learns from: phrases about images, there and not there.

The images are in memory, squashed to squares.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from ...core.geometry import components
from ..augmentation import Augmentation, bend_intensities, random_affine, warp
from ..phrases import Concept, concept_of, draw_absent, draw_phrase

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


@dataclass(frozen=True, slots=True, eq=False)
class PoolImage:
    """One training image.

    Attributes:
        dataset: name of the data set it comes from.
        organ: what the data set shows.
        image: (S, S, 3) uint8 RGB, squashed; S is ``POOL_SIDE`` or more.
        objects: (S, S) uint8, one number per object (component of a label).
        labels: (S, S) uint8, the label map.
        phrases: label -> what a sonographer would type.
        finding: "benign", "malignant", "normal" and the like, where the data set says it.
    """

    dataset: str
    organ: str
    image: NDArray[np.uint8]
    objects: NDArray[np.uint8]
    labels: NDArray[np.uint8]
    phrases: dict[int, str] = field(default_factory=dict)
    finding: str | None = None


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


DrawAbsent = Callable[[Sequence[Concept], np.random.Generator], str]

SURROUNDINGS = ("usgra", "dltrack_apo")
"""Data sets whose tissue may lie around a lesion; nobody has marked lesions in them."""
LEAST_FRACTION = 0.0008
"""A target that augmentation leaves with less of the image than this is no longer asked for."""


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
        self.near = Augmentation(zoom=1.5, shift=0.15)
        self.far = Augmentation(zoom=1.05, shift=0.0, degrees=0.0, vertical_flip=0.0)

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
            matrix = random_affine(rng, self.far if shrunk else self.near)
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
        if hidden and sample.dataset != "phantoms" and rng.random() < 0.8:
            phrase = draw_phrase(hidden[int(rng.integers(len(hidden)))], rng)
            asked.append(Question(owner, phrase, empty, False))
        all_shown = [concept_of(phrase) for s in samples for phrase in s.phrases.values()]
        if sample.dataset != "phantoms":  # they show more than their names say
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
