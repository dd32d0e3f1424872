"""The images that the embedded models learn from, squashed, in memory."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..core.geometry import components
from ..io.datasets import Dataset, Split, read_pair
from ..phantoms.phantom import make_phantom
from .images import squash, squash_labels
from .phrases import Concept, concept_of
from .teacher import TeacherTargets, read_cache

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
        teacher: LiteMedSAM's targets, or None.
    """

    dataset: str
    organ: str
    image: NDArray[np.uint8]
    objects: NDArray[np.uint8]
    labels: NDArray[np.uint8]
    phrases: dict[int, str] = field(default_factory=dict)
    finding: str | None = None
    teacher: TeacherTargets | None = None


def number_objects(labels: NDArray[np.integer]) -> NDArray[np.uint8]:
    """Label map (H, W) to object map: 0 background, 1.. the protocol's objects (at most 255)."""
    objects = np.zeros(labels.shape, np.uint8)
    count = 0
    for value in np.unique(labels[labels > 0]):
        for part in components(labels == value):
            count = min(count + 1, 255)
            objects[part] = count
    return objects


def load_pool(
    datasets: Sequence[Dataset],
    splits: dict[str, Split],
    side: str,
    teacher_cache: Path | None = None,
) -> list[PoolImage]:
    """Read one side ("train", "val" or "test") of every data set.

    A data set that ``splits`` does not name is taken whole as training data.
    """
    chosen = []
    for dataset in datasets:
        split = splits.get(dataset.name)
        kept = dataset.only(getattr(split, side)) if split else dataset
        if split or side == "train":
            chosen += [(dataset, item) for item in kept.items]
    pool = []
    for dataset, item in chosen:
        image, labels = read_pair(item)
        pool.append(
            PoolImage(
                dataset=dataset.name,
                organ=dataset.organ,
                image=squash(image, POOL_SIDE),
                objects=squash_labels(number_objects(labels), POOL_SIDE),
                labels=squash_labels(labels, POOL_SIDE),
                phrases={label: dataset.phrase(label) for label in dataset.labels},
                finding=item.finding,
                teacher=read_cache(teacher_cache, dataset.name, item.item_id)
                if teacher_cache
                else None,
            )
        )
    return pool


def phantom_pool(count: int, seed: int) -> list[PoolImage]:
    """``count`` phantoms of our own, as training images."""
    pool = []
    for index in range(count):
        phantom = make_phantom(seed * 100_003 + index)
        pool.append(
            PoolImage(
                dataset="phantoms",
                organ="phantom",
                image=squash(phantom.image, POOL_SIDE),
                objects=squash_labels(phantom.instances, POOL_SIDE),
                labels=squash_labels(phantom.labels, POOL_SIDE),
                phrases=dict(phantom.names),
            )
        )
    return pool


def without(pool: Sequence[PoolImage], left_out: Sequence[Concept]) -> list[PoolImage]:
    """The images whose targets are none of ``left_out``."""
    families = {concept.family for concept in left_out}
    return [
        image
        for image in pool
        if families.isdisjoint(concept_of(phrase).family for phrase in image.phrases.values())
    ]


def draw(pool: Sequence[PoolImage], rng: np.random.Generator, count: int) -> list[PoolImage]:
    """``count`` images: first a data set by ``SHARES``, then any of its images."""
    by_name: dict[str, list[PoolImage]] = {}
    for image in pool:
        by_name.setdefault(image.dataset, []).append(image)
    names = sorted(by_name)
    weights = np.array([SHARES.get(name, OTHER_SHARE) for name in names])
    picks = rng.choice(len(names), count, p=weights / weights.sum())
    return [by_name[names[i]][int(rng.integers(len(by_name[names[i]])))] for i in picks]
