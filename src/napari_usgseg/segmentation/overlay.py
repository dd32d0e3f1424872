"""Label maps drawn over their image, for a person to look at."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from ..core.types import LabelClass
from ..io.atomic import Write, write_new
from ..io.labels import write_png

FILL = 0.25
"""Opacity of a label's area; its outline is opaque."""


def draw_overlay(
    image: NDArray[np.uint8], labels: NDArray[np.integer], classes: Sequence[LabelClass]
) -> NDArray[np.uint8]:
    """Draw every class of a label map over its image.

    Args:
        image: (H, W, 3) RGB uint8.
        labels: (H, W), 0 background.
        classes: give the colours; a value without a class is not drawn.

    Returns:
        (H, W, 3) RGB uint8, a new array.
    """
    drawn = image.astype(np.float32)
    for label_class in classes:
        mask = labels == label_class.class_id
        if not mask.any():
            continue
        color = np.array([int(label_class.color[i : i + 2], 16) for i in (1, 3, 5)], np.float32)
        drawn[mask] = (1 - FILL) * drawn[mask] + FILL * color
        drawn[mask & ~ndimage.binary_erosion(mask)] = color
    return drawn.round().astype(np.uint8)


def write_overlay(
    path: Path,
    image: NDArray[np.uint8],
    labels: NDArray[np.integer],
    classes: Sequence[LabelClass],
    write: Write = write_new,
) -> None:
    """Write ``draw_overlay`` as a PNG.

    Raises:
        LabelWriteError: the file is there already, or the folder cannot be written.
    """
    write_png(path, draw_overlay(image, labels, classes), write)
