"""The objects of a label map and their tight boxes, as the protocol defines them."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from ..geometry import components, mask_to_box
from ..io.datasets import DatasetItem
from ..io.pairs import read_mask
from ..types import BoolArray, FloatArray


def objects_of(labels: NDArray[np.integer]) -> Iterator[BoolArray]:
    """Every object of a label map (H, W): label by label, its components in reading order."""
    for value in np.unique(labels[labels > 0]):
        yield from components(labels == value)


def tight_box(truth: BoolArray) -> FloatArray:
    """The box (4,) XYXY of an object (H, W) that has pixels."""
    return np.asarray(mask_to_box(truth), np.float32)


def foreign_boxes(other: DatasetItem, size_hw: tuple[int, int], count: int) -> list[FloatArray]:
    """``count`` boxes of another image's objects, scaled to this image's size."""
    labels = read_mask(other)
    height, width = size_hw
    scale = np.array([width / labels.shape[1], height / labels.shape[0]] * 2, np.float32)
    boxes = [tight_box(truth) * scale for truth in objects_of(labels)]
    return [boxes[index % len(boxes)] for index in range(count)] if boxes else []
