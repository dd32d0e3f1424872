"""Labelled images to learn from, and the drawing of them from a data set."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..core.errors import DatasetError, FileError
from ..core.types import ImageEmbedding
from ..io.datasets import Dataset, DatasetItem, read_mask, read_pair


@dataclass(frozen=True, slots=True, eq=False)
class LabelledImage:
    """An image with its label map.

    Attributes:
        image_id: its name in the checkpoint's card.
        group: patient, video or case.
        image: (H, W, 3) RGB uint8.
        labels: (H, W) label values, 0 background.
        embedding: of ``image`` by the segmenter, where it is in hand.
    """

    image_id: str
    group: str
    image: NDArray[np.uint8]
    labels: NDArray[np.integer]
    embedding: ImageEmbedding | None = None


def choose_items(
    dataset: Dataset, count: int | None, held_out: int, seed: int
) -> tuple[list[DatasetItem], list[DatasetItem]]:
    """Draw images to learn from, and others, of no common group, to measure on.

    The draw is repeated, at most twenty times, until every label of the data set is in it.

    Args:
        dataset: to draw from.
        count: images to learn from; None takes all that are not held out.
        held_out: images to measure on, at most.
        seed: of the draw.

    Raises:
        DatasetError: there are fewer than ``count`` images.
    """
    if count is not None and count > len(dataset.items):
        raise DatasetError(dataset.name, f"has {len(dataset.items)} images, {count} were asked for")
    items = sorted(dataset.items, key=lambda item: item.item_id)
    rng = random.Random(seed)
    if count is None:
        groups = sorted({item.group for item in items})
        rng.shuffle(groups)
        kept: list[DatasetItem] = []
        for group in groups:
            members = [item for item in items if item.group == group]
            if len(kept) + len(members) <= held_out:
                kept += members
        chosen = [item for item in items if item not in kept]
        return chosen, kept
    chosen = _draw(dataset, items, count, rng)
    groups_in = {item.group for item in chosen}
    others = [item for item in items if item.group not in groups_in]
    rng.shuffle(others)
    return chosen, others[:held_out]


def _draw(
    dataset: Dataset, items: Sequence[DatasetItem], count: int, rng: random.Random
) -> list[DatasetItem]:
    best: list[DatasetItem] = []
    most = -1
    for _ in range(20):
        drawn = rng.sample(list(items), count)
        there = {int(v) for item in drawn for v in np.unique(read_mask(item)) if v}
        found = len(there & set(dataset.labels))
        if found > most:
            best, most = drawn, found
        if most == len(dataset.labels):
            break
    return best


def load_chosen(
    dataset: Dataset, count: int | None, held_out: int, seed: int
) -> tuple[list[LabelledImage], list[LabelledImage], list[FileError]]:
    """``choose_items`` among the images that can be read, read; and why others could not.

    A draw with a damaged file in it is drawn anew without that image.

    Raises:
        DatasetError: too few of them are left.
    """
    files = {path: item for item in dataset.items for path in (item.image_path, item.mask_path)}
    failures: list[FileError] = [
        DatasetError(path, "listed in the data set but missing; put it there, or take it out")
        for path in files
        if not path.is_file()
    ]
    bad = {files[error.path].item_id for error in failures}
    while True:
        left = dataset.only(item.item_id for item in dataset.items if item.item_id not in bad)
        if failures and not left.items:
            cause = f"none of its {len(dataset.items)} images can be used; first {failures[0]}"
            raise DatasetError(dataset.name, cause)
        try:
            chosen, rest = choose_items(left, count, held_out, seed)
            return load_items(chosen), load_items(rest), failures
        except FileError as error:
            if error.path in files:
                bad.add(files[error.path].item_id)
                failures.append(error)
                continue
            if not failures:
                raise
            cause = f"{error.cause}; {len(failures)} cannot be used, first {failures[0]}"
            raise DatasetError(error.path, cause) from error


def load_items(items: Sequence[DatasetItem]) -> list[LabelledImage]:
    """Read images and label maps.

    Raises:
        FileError: one of them cannot be read.
    """
    return [LabelledImage(item.item_id, item.group, *read_pair(item)) for item in items]


def classes_in(dataset: Dataset, images: Sequence[LabelledImage]) -> dict[int, str]:
    """The classes that are in the images: label value -> its class's name.

    Raises:
        DatasetError: there is none.
    """
    classes = {
        label: name
        for label, name in sorted(dataset.class_names().items())
        if any((image.labels == label).any() for image in images)
    }
    if not classes:
        names = ", ".join(f"{value} ({name})" for value, name in dataset.labels.items())
        raise DatasetError(
            dataset.name, f"none of the {len(images)} images holds a label, {names}; choose others"
        )
    return classes
