"""Images with their label maps: the two of a pair have one size."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import DatasetError
from .datasets import DatasetItem
from .images import read_image
from .labels import LabelMap, read_labels

GREY_LEVEL = 50
"""Values from this on are grey levels to look at, where a mask holds no value of a label."""


def read_mask(item: DatasetItem) -> LabelMap:
    """The labels (H, W) of an item.

    A mask of 0 and 255 is read as 0 and the label, where the data set names just one.

    Raises:
        ImageReadError: the file is missing or damaged.
        DatasetError: it holds grey levels where numbers of labels were expected.
    """
    labels = read_labels(item.mask_path)
    values = np.unique(labels[labels > 0])
    if not item.labels or not len(values) or set(values.tolist()) & set(item.labels):
        return labels
    if len(item.labels) == 1 and values.tolist() == [255]:
        return np.where(labels > 0, labels.dtype.type(item.labels[0]), labels.dtype.type(0))
    if values.max() >= GREY_LEVEL:
        raise DatasetError(
            item.mask_path,
            f"holds the values {_listed(values)} and none of the data set's labels, "
            f"{_listed(item.labels)}; expected 0 for background and the labels' own numbers",
        )
    return labels


def _listed(values: Iterable[int]) -> str:
    words = [str(value) for value in values]
    return ", ".join([*words[:5], *(["..."] if len(words) > 5 else [])])


def read_pair(item: DatasetItem) -> tuple[NDArray[np.uint8], LabelMap]:
    """The image (H, W, 3) of an item, and its labels (H, W).

    Raises:
        ImageReadError: one of the files is missing or damaged.
        DatasetError: their sizes differ, or as for ``read_mask``.
    """
    image, labels = read_image(item.image_path), read_mask(item)
    check_same_size(item.mask_path, labels, image.shape[:2])
    return image, labels


def check_same_size(path: Path, labels: NDArray[np.integer[Any]], size_hw: tuple[int, ...]) -> None:
    """Refuse labels that were read from ``path`` and do not have their image's (H, W).

    Raises:
        DatasetError: they are of another size.
    """
    if labels.shape != size_hw:
        raise DatasetError(
            path,
            f"is {labels.shape[1]}x{labels.shape[0]} pixels, its image "
            f"{size_hw[1]}x{size_hw[0]}; a label map has exactly its image's size: make it anew, "
            "or put back the image that it was made on",
        )
