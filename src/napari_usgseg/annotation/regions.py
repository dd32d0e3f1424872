"""Regions of an image: inside a lasso, along a line, the objects of a label map, pieces of a mask.

Lines and polygons are XY pixels, masks and label maps (H, W). Nothing here changes its arguments.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ..core.geometry import box_within, mask_to_box, scribble_to_points, stroke_mask, value_at
from ..core.types import BoolArray, FloatArray
from ..io.labels import Labelling, LabelMap, instance_of

SLIVER = 0.01
"""A piece with less than this fraction of a mask, beside a cut, goes to its neighbour."""

OUTSIDE = "Draw inside the image."
NO_LINE = "Draw a line, with the mouse held down."
NO_LOOP = "Draw a line round the object, with the mouse held down."
NO_AREA = "A box has width and height: draw it from one corner to the opposite one."

EIGHT = np.ones((3, 3), bool)


def lasso_mask(polygon: FloatArray, size_hw: tuple[int, int]) -> BoolArray:
    """The inside of a closed line (M, 2), its own pixels and all that it encloses among them."""
    from PIL import Image, ImageDraw
    from scipy import ndimage

    x0, y0, x1, y1 = _window(polygon, 1, size_hw)
    mask = np.zeros(size_hw, bool)
    if x1 <= x0 or y1 <= y0:
        return mask
    canvas = Image.new("1", (x1 - x0, y1 - y0))
    corners = [(float(x) - x0, float(y) - y0) for x, y in polygon]
    ImageDraw.Draw(canvas).polygon(corners, fill=1, outline=1)
    mask[y0:y1, x0:x1] = ndimage.binary_fill_holes(np.asarray(canvas, bool))
    return mask


def _window(
    points: FloatArray, margin: float, size_hw: tuple[int, int]
) -> tuple[int, int, int, int]:
    """First and last-but-one pixel columns and rows around points, cut off at the image."""
    low, high = np.floor(points.min(0) - margin), np.ceil(points.max(0) + margin) + 1
    x0, y0 = (int(value) for value in np.maximum(low, 0))
    x1, y1 = (int(value) for value in np.minimum(high, (size_hw[1], size_hw[0])))
    return x0, y0, x1, y1


def pieces(mask: BoolArray) -> list[BoolArray]:
    """The 8-connected components of a mask, largest first."""
    from scipy import ndimage

    numbered, count = ndimage.label(mask, structure=EIGHT)
    sizes = np.bincount(numbered.ravel())[1:]
    return [numbered == 1 + index for index in np.argsort(-sizes[:count], kind="stable")]


def cut(mask: BoolArray, line: FloatArray) -> list[BoolArray]:
    """A mask cut along a line (M, 2), largest piece first; one piece where nothing is severed.

    No pixel is lost: those under the line, and slivers beside it, go to the nearest piece. What
    the line does not touch stays with the largest piece.
    """
    from scipy import ndimage

    blade = stroke_mask(line, 3, mask.shape) & mask
    touched: BoolArray = np.zeros_like(mask)
    for piece in pieces(mask):
        if (piece & blade).any():
            touched |= piece
    sides = pieces(touched & ~blade)
    least = SLIVER * np.count_nonzero(touched)
    sides = [side for side in sides if np.count_nonzero(side) >= max(least, 2)]
    if len(sides) < 2:
        return [mask]
    nearest: NDArray[np.intp] = ndimage.distance_transform_edt(
        ~np.any(sides, axis=0), return_distances=False, return_indices=True
    )
    full = [side[nearest[0], nearest[1]] & touched for side in sides]
    full[0] |= mask & ~touched
    return sorted(full, key=np.count_nonzero, reverse=True)


def with_gap(parts: Sequence[BoolArray]) -> BoolArray:
    """The parts in one mask with a pixel's gap between them, taken from the smaller ones."""
    from scipy import ndimage

    joined = parts[0].copy()
    for part in parts[1:]:
        joined |= part & ~ndimage.binary_dilation(joined, structure=EIGHT)
    return joined


def object_at(labels: LabelMap, x: float, y: float, labelling: Labelling) -> BoolArray | None:
    """The accepted object at a point, or None: all pixels of its code, or its own component."""
    from scipy import ndimage

    value = value_at(labels, x, y)
    if not value:
        return None
    same: BoolArray = labels == value
    if instance_of(value, labelling):
        return same
    numbered, _ = ndimage.label(same, structure=EIGHT)
    return numbered == value_at(numbered, x, y)


def objects_along(labels: LabelMap, line: FloatArray, labelling: Labelling) -> list[BoolArray]:
    """The accepted objects that a line (M, 2) touches, in the order in which it meets them."""
    found: list[BoolArray] = []
    for x, y in along(line):
        if not any(value_at(mask, x, y) for mask in found):
            mask = object_at(labels, x, y, labelling)
            if mask is not None:
                found.append(mask)
    return found


def along(line: FloatArray) -> list[tuple[float, float]]:
    """Points on a line, a pixel apart."""
    length = float(np.linalg.norm(np.diff(line, axis=0), axis=1).sum())
    points = scribble_to_points(line, 1.0, 2 + int(length))
    return [(float(x), float(y)) for x, y in points]


def parts_on(line: FloatArray, mask: BoolArray) -> list[FloatArray]:
    """The parts of a line (M, 2) that lie on a mask (H, W): the line itself where all of it does.

    A part has two points at least, so that it is a line.
    """
    points = np.array(along(line), np.float32)
    on = np.array([value_at(mask, x, y) for x, y in points], bool)
    if on.all():
        return [line]
    ends = np.flatnonzero(np.diff(np.concatenate([[False], on, [False]])))
    runs = zip(ends[::2], ends[1::2], strict=True)
    return [points[begin:end] for begin, end in runs if end - begin > 1]


def line_within(line: FloatArray, size_hw: tuple[int, int]) -> FloatArray:
    """The part of a line (M, 2) that is in the image: its own points where all are, else others."""
    last = np.array([size_hw[1], size_hw[0]], np.float32) - 1
    line = np.asarray(line, np.float32).reshape(-1, 2)
    if len(line) == 0 or bool(((line >= 0) & (line <= last)).all()):
        return line
    points = np.array(along(line), np.float32)
    return points[((points >= 0) & (points <= last)).all(axis=1)]


def why_no_box(box: FloatArray, size_hw: tuple[int, int], least: float) -> str:
    """Why a box (4,) means nothing in an image, and what to do; "" where it does.

    Args:
        box: its sides are ``least`` pixels at least, and so are those of its part in the image.
        size_hw: (H, W) of the image.
        least: pixels.
    """
    if min(box[2] - box[0], box[3] - box[1]) < least:
        return NO_AREA
    part = box_within(box, size_hw)
    tiny = part is None or min(part[2] - part[0], part[3] - part[1]) < least
    return OUTSIDE if tiny else ""


def why_no_lasso(polygon: FloatArray) -> str:
    """Why a closed line (M, 2) goes round nothing, and what to do; "" where it goes round a part.

    That may still lie outside of the image.
    """
    thin = len(polygon) < 3 or float(np.ptp(polygon, axis=0).min()) < 1
    return NO_LOOP if thin else ""


def deepest(mask: BoolArray) -> FloatArray:
    """The pixel (2,) XY of a mask that is farthest from its border; the image's edge is one."""
    from scipy import ndimage

    x0, y0, x1, y1 = (int(value) for value in box_of(mask))
    depth = ndimage.distance_transform_edt(np.pad(mask[y0 : y1 + 1, x0 : x1 + 1], 1))
    row, column = np.unravel_index(int(depth.argmax()), depth.shape)
    return np.array([x0 + column - 1, y0 + row - 1], np.float32)


def box_of(mask: BoolArray) -> FloatArray:
    """The tight box (4,) of a mask; all 0 where it is empty."""
    box = mask_to_box(mask)
    return np.zeros(4, np.float32) if box is None else box
