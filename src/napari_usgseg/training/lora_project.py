"""A project's committed images as an adapter learns from them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from ..errors import DatasetError
from .lora_data import CheckImage, TuningData, gathered, part, pool_image
from .pool import POOL_SIDE
from .ppn_views import LabelledImage

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
