"""Points, boxes and masks in pixels of the image.

Points are XY with the centre of the top-left pixel at ``(0, 0)``. Boxes are XYXY and inclusive:
``(x_min, y_min, x_max, y_max)`` are coordinates of the first and the last pixel, so that the box of
one pixel is ``(x, y, x, y)`` and covers an area of 1. Sizes are ``(H, W)``. Nothing here changes
its arguments.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .errors import PromptError
from .types import BoolArray, FloatArray


def xy_to_rc(points: ArrayLike) -> FloatArray:
    """(N, 2) points as (x, y) to (N, 2) points as (row, column); also for a single (2,) point."""
    return np.ascontiguousarray(np.asarray(points, np.float32)[..., ::-1])


def rc_to_xy(points: ArrayLike) -> FloatArray:
    """(N, 2) points as (row, column) to (N, 2) points as (x, y); also for a single (2,) point."""
    return xy_to_rc(points)


def clip_box(box: ArrayLike, size_hw: tuple[int, int]) -> FloatArray:
    """Move the corners of a box (4,) or of boxes (N, 4) to the nearest place inside the image.

    A box wholly outside collapses to the image's border.
    """
    height, width = size_hw
    limit = np.array([width - 1, height - 1, width - 1, height - 1], np.float32)
    return np.clip(np.asarray(box, np.float32), 0.0, limit)


def box_within(box: ArrayLike, size_hw: tuple[int, int]) -> FloatArray | None:
    """The part of a box (4,) in the image, as ``clip_box`` gives it; None where it covers none."""
    x0, y0, x1, y1 = (float(value) for value in np.asarray(box, np.float32))
    height, width = size_hw
    # Pixel centres are whole numbers, so the picture itself goes from -0.5 to width - 0.5.
    outside = x1 < -0.5 or y1 < -0.5 or x0 > width - 0.5 or y0 > height - 0.5
    return None if outside else clip_box(box, size_hw)


def box_from_points(a: ArrayLike, b: ArrayLike) -> FloatArray:
    """The box (4,) between two opposite corners (x, y), given in any order."""
    corners = np.stack([np.asarray(a, np.float32), np.asarray(b, np.float32)])
    return np.concatenate([corners.min(axis=0), corners.max(axis=0)])


def value_at(array: NDArray[Any], x: float, y: float) -> int:
    """The value of a mask or label map (H, W) in the pixel at XY; 0 beyond its edge."""
    column, row = round(x), round(y)
    inside = 0 <= row < array.shape[0] and 0 <= column < array.shape[1]
    return int(array[row, column]) if inside else 0


def covered_cells(covered: tuple[float, float], grid_hw: tuple[int, int]) -> tuple[int, int]:
    """How many (rows, columns) of a grid a share of it is, at least one of each."""
    rows, columns = (max(1, round(s * n)) for s, n in zip(covered, grid_hw, strict=True))
    return rows, columns


def mask_to_box(mask: ArrayLike) -> FloatArray | None:
    """The tight inclusive box (4,) of a mask (H, W), or None where the mask is empty."""
    extent = mask_extent(np.asarray(mask, bool))
    if extent is None:
        return None
    rows, columns = extent
    return np.array([columns.start, rows.start, columns.stop - 1, rows.stop - 1], np.float32)


def mask_extent(mask: BoolArray) -> tuple[slice, slice] | None:
    """Rows and columns of a mask's bounding box, or None where the mask (H, W) is empty."""
    rows = np.flatnonzero(mask.any(axis=1))
    if len(rows) == 0:
        return None
    first, last = int(rows[0]), int(rows[-1])
    columns = np.flatnonzero(mask[first : last + 1].any(axis=0))
    return slice(first, last + 1), slice(int(columns[0]), int(columns[-1]) + 1)


def mask_window(mask: BoolArray, margin: int = 0) -> tuple[slice, slice]:
    """Rows and columns of a mask's bounding box with a margin, cut at the image's edge.

    Work on a window makes small objects in large images fast. The mask must not be empty.
    """
    extent = mask_extent(mask)
    assert extent is not None
    rows, columns = (
        slice(max(0, side.start - margin), min(length, side.stop + margin))
        for side, length in zip(extent, mask.shape, strict=True)
    )
    return rows, columns


def box_iou(a: ArrayLike, b: ArrayLike) -> FloatArray:
    """IoU of every box of ``a`` (N, 4) with every box of ``b`` (M, 4), as (N, M) in [0, 1].

    Sides count their last pixel (``x_max - x_min + 1``); a box with swapped corners has area 0.
    """
    # float64: areas above 2**24 pixels (a 4096 x 4096 box) are no whole numbers in float32 any
    # more.
    first = np.asarray(a, np.float64).reshape(-1, 4)[:, None]
    second = np.asarray(b, np.float64).reshape(-1, 4)[None]
    low = np.maximum(first[..., :2], second[..., :2])
    high = np.minimum(first[..., 2:], second[..., 2:])
    overlap = np.clip(high - low + 1, 0, None).prod(axis=-1)
    union = _area(first) + _area(second) - overlap
    return np.divide(overlap, union, out=np.zeros_like(overlap), where=union > 0).astype(np.float32)


def _area(boxes: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.clip(boxes[..., 2:] - boxes[..., :2] + 1, 0, None).prod(axis=-1)


def nms(boxes: ArrayLike, scores: ArrayLike, threshold: float) -> NDArray[np.intp]:
    """Non-maximum suppression: indices of the boxes to keep, best score first.

    Args:
        boxes: (N, 4) XYXY.
        scores: (N,); equal scores keep their order.
        threshold: a box goes where its IoU with a better, kept one is above this.
    """
    scores = np.asarray(scores, np.float64).ravel()
    waiting = np.argsort(-scores, kind="stable")
    # All pairs at once: a detector gives hundreds of boxes at most, where one (N, N) matrix costs
    # less than N calls.
    overlap = box_iou(boxes, boxes)
    kept: list[int] = []
    while len(waiting):
        best = int(waiting[0])
        kept.append(best)
        rest = waiting[1:]
        waiting = rest[overlap[best, rest] <= threshold]
    return np.array(kept, np.intp)


def scribble_to_points(polyline: ArrayLike, spacing: float, limit: int) -> FloatArray:
    """Points (N, 2) along a scribble, evenly spaced by length, both ends among them.

    Args:
        polyline: (M, 2) XY, M >= 1.
        spacing: wanted pixels between two points; it grows where ``limit`` would be passed.
        limit: at most this many points; with 1, the middle of the scribble.

    Raises:
        PromptError: the scribble has no vertex, or spacing or limit is not positive.
    """
    vertices = np.asarray(polyline, np.float32).reshape(-1, 2)
    if len(vertices) == 0:
        raise PromptError("the scribble has no point: draw at least one")
    if spacing <= 0 or limit < 1:
        raise PromptError(
            f"a scribble's spacing ({spacing}) and limit ({limit}) must be positive: "
            "give pixels between points, and the most points wanted"
        )
    steps = np.linalg.norm(np.diff(vertices, axis=0), axis=1)
    along = np.concatenate([[0.0], np.cumsum(steps)])
    length = float(along[-1])
    count = min(limit, 1 + int(np.ceil(length / spacing)))
    # By arc length and not by vertex: a mouse reports more vertices where the hand is slow.
    at = np.linspace(0.0, length, count) if count > 1 else np.array([length / 2])
    xy = [np.interp(at, along, vertices[:, axis]) for axis in (0, 1)]
    return np.stack(xy, axis=1).astype(np.float32)


def stroke_mask(line: FloatArray, width: float, size_hw: tuple[int, int]) -> BoolArray:
    """The pixels (H, W) within half of ``width`` pixels of a line (M, 2); at least the line's.

    A disc is stamped at each of its pixels: a person waits for it.
    """
    radius = max(width / 2, 0.5)
    reach = int(radius)
    height, width_px = size_hw
    length = float(np.linalg.norm(np.diff(line, axis=0), axis=1).sum())
    points = scribble_to_points(line, 0.5, 2 + int(2 * length))
    at = np.unique(np.rint(points).astype(int), axis=0)
    at = at[((at >= -reach) & (at < (width_px + reach, height + reach))).all(1)]
    side = np.arange(-reach, reach + 1)
    disc = side[:, None] ** 2 + side**2 <= radius**2
    # A canvas with a margin, so that no disc needs clipping.
    beyond = np.zeros((height + 4 * reach, width_px + 4 * reach), bool)  # discs may lie over edges
    for x, y in at + reach:
        beyond[y : y + len(side), x : x + len(side)] |= disc
    inside = slice(2 * reach, 2 * reach + height), slice(2 * reach, 2 * reach + width_px)
    return beyond[inside].copy()


def jitter_box(
    box: ArrayLike, fraction: float, size_hw: tuple[int, int], rng: np.random.Generator
) -> FloatArray:
    """Shake each edge of a box (4,) by up to ``fraction`` of its side, as a hurried hand does.

    The result lies inside the image and keeps its corners in order.
    """
    corners = np.asarray(box, np.float32)
    sides = np.tile(corners[2:] - corners[:2] + 1, 2)
    # A fraction above one half can carry an edge past the one opposite; box_from_points orders
    # them.
    shaken = clip_box(corners + rng.uniform(-fraction, fraction, 4) * sides, size_hw)
    return box_from_points(shaken[:2], shaken[2:])


def components(mask: ArrayLike, min_fraction: float = 0.0005) -> Iterator[BoolArray]:
    """The objects of a mask (H, W): its 8-connected components, in reading order.

    Components with less than ``min_fraction`` of the image's pixels are left out; the default is
    the protocol's 0.05 %.
    """
    from scipy import ndimage

    inside = np.asarray(mask, bool)
    # scipy's default joins by edges only (4-connected) and would part objects that touch at a
    # corner.
    numbered, count = ndimage.label(inside, structure=np.ones((3, 3), int))
    sizes = np.bincount(numbered.ravel(), minlength=count + 1)
    least = min_fraction * inside.size
    return (numbered == number for number in range(1, count + 1) if sizes[number] >= least)
