"""Images with their label maps: the two of a pair have one size."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import DatasetError
from .datasets import DatasetItem
from .images import read_image
from .labels import LabelMap, read_labels


def read_pair(item: DatasetItem) -> tuple[NDArray[np.uint8], LabelMap]:
    """The image (H, W, 3) of an item, and its labels (H, W).

    Raises:
        ImageReadError: one of the files is missing or damaged.
        DatasetError: their sizes differ.
    """
    image, labels = read_image(item.image_path), read_labels(item.mask_path)
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
