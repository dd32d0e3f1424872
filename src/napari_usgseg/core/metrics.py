"""Metrics of a mask (Dice, IoU, HD95), and where a person would click next.

Masks are (H, W), anything but 0 counts as inside. Conventions for empty masks: where both are
empty, Dice and IoU are 1 and HD95 is 0; where one is, Dice and IoU are 0 and HD95 is the image's
diagonal in pixels, as if the missing surface lay as far away as the image allows.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .geometry import mask_window
from .types import BoolArray


def dice(a: ArrayLike, b: ArrayLike) -> float:
    """Dice coefficient of two masks (H, W), in [0, 1]."""
    first, second = _pair(a, b)
    total = int(first.sum()) + int(second.sum())
    return 1.0 if total == 0 else 2.0 * int((first & second).sum()) / total


def iou(a: ArrayLike, b: ArrayLike) -> float:
    """Intersection over union (Jaccard index) of two masks (H, W), in [0, 1]."""
    first, second = _pair(a, b)
    union = int((first | second).sum())
    return 1.0 if union == 0 else int((first & second).sum()) / union


def hd95(a: ArrayLike, b: ArrayLike, spacing: tuple[float, float] = (1.0, 1.0)) -> float:
    """95th percentile of the Hausdorff distance between two masks' surfaces.

    It is in the unit of the spacing: in pixels by (1, 1), else by that of a pixel (row, column).

    The distances of every surface pixel of one mask to the nearest surface pixel of the other, from
    both sides together; the surface is a mask's pixels with a 4-neighbour outside it (or outside
    the image).
    """
    from scipy import ndimage

    first, second = _pair(a, b)
    if not first.any() or not second.any():
        diagonal = np.hypot(first.shape[0] * spacing[0], first.shape[1] * spacing[1])
        return float(diagonal) if first.any() or second.any() else 0.0
    # Neither surface leaves the union, so distances within its box are those in the image.
    window = mask_window(first | second)
    # binary_erosion counts what is beyond the array as outside, so a mask that touches the image's
    # edge has a surface there too.
    surfaces = [_surface(mask[window]) for mask in (first, second)]
    to_first, to_second = (
        # distance_transform_edt measures to the nearest zero, hence the inverse.
        ndimage.distance_transform_edt(~surface, sampling=spacing)
        for surface in surfaces
    )
    distances = np.concatenate([to_second[surfaces[0]], to_first[surfaces[1]]])
    return float(np.percentile(distances, 95))


def next_click(truth: ArrayLike, prediction: ArrayLike) -> tuple[tuple[int, int], int] | None:
    """The next click of the standard simulated annotator.

    The deepest point (by Euclidean distance to the region's border, the image's edge being a
    border) of the larger error region, missed or in excess; an equal depth is settled for a missed
    part, then in reading order. As in the interactive-segmentation literature (RITM, arXiv
    2102.06583), the two whole error maps are compared by their depth, not connected parts by area.

    Returns:
        ((x, y), label), label 1 in a missed part and 0 in an excess part; None where the two masks
        are equal.
    """
    wanted, given = _pair(truth, prediction)
    missed, excess = _depth(wanted & ~given), _depth(given & ~wanted)
    # >= and argmax's first hit settle ties, so the annotator is the same on every machine.
    label = int(missed.max() >= excess.max())
    depth = missed if label else excess
    if depth.max() == 0:
        return None
    row, column = np.unravel_index(int(depth.argmax()), depth.shape)
    return (int(column), int(row)), label


def _pair(a: ArrayLike, b: ArrayLike) -> tuple[BoolArray, BoolArray]:
    first, second = np.asarray(a, bool), np.asarray(b, bool)
    if first.shape != second.shape or first.ndim != 2:
        raise ValueError(
            f"masks of shapes {first.shape} and {second.shape} cannot be compared; "
            "expected two (H, W) of one size"
        )
    return first, second


def _surface(mask: BoolArray) -> BoolArray:
    from scipy import ndimage

    return mask & ~ndimage.binary_erosion(mask)


def _depth(region: BoolArray) -> NDArray[np.float64]:
    """Distance of every pixel of a region to the nearest pixel outside it, 0 outside."""
    from scipy import ndimage

    depth = np.zeros(region.shape)
    if region.any():
        window = mask_window(region)
        # A border of zeros, as the image's edge counts as the region's.
        depth[window] = ndimage.distance_transform_edt(np.pad(region[window], 1))[1:-1, 1:-1]
    return depth
