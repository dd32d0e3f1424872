"""Images with their label maps: the two of a pair have one size."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..core.errors import DatasetError
from .datasets import DatasetItem
from .images import read_image
from .labels import LabelMap
from .masks import as_labels, fitted, read_mask_file


def read_mask(item: DatasetItem, size_hw: tuple[int, ...] | None = None) -> LabelMap:
    """The labels (H, W) of an item, by the rules of ``io.masks``.

    Args:
        item: of a data set.
        size_hw: (H, W) of its image, to which the mask is brought; None leaves it as it is.

    Raises:
        ImageReadError: the file is missing or damaged.
        DatasetError: it holds values that are no labels, or is of another shape than the image.
    """
    path = item.mask_path
    labels = as_labels(path, read_mask_file(path), item.labels)
    return labels if size_hw is None else fitted(path, labels, (size_hw[0], size_hw[1]))


def read_pair(item: DatasetItem) -> tuple[NDArray[np.uint8], LabelMap]:
    """The image (H, W, 3) of an item, and its labels (H, W).

    Raises:
        ImageReadError: one of the files is missing or damaged.
        DatasetError: as for ``read_mask``.
    """
    image = read_image(item.image_path)
    return image, read_mask(item, image.shape[:2])


def check_same_size(path: Path, labels: NDArray[Any], size_hw: tuple[int, ...]) -> None:
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
