"""Polygons of masks and masks of polygons, in the two ways in which programs read coordinates.

*Corners* (COCO, CVAT): pixel (0, 0) covers the square from (0, 0) to (1, 1), and a pixel is inside
where its centre is. *Pixels* (labelme, YOLO and whoever draws with OpenCV or Pillow): coordinates
are numbers of pixels, and those under the line belong to the shape.

Components of a mask are 8-connected, as everywhere here (``core.geometry``).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from ...core.types import BoolArray

Ring = NDArray[np.int64]
"""(N, 2) XY, closed: the first point follows the last."""
MAX_POINTS, MAX_POLYGONS, MAX_RIM = 200_000, 20_000, 5_000_000
"""Points of a polygon, polygons of an object, and pixels along their rims; what has more is refused
before it is drawn, for drawing takes time and memory by the rim, wherever it runs."""
FAR = 10
"""So many times its size a shape may reach out of its image; what is further away is a mistake."""


def corner_rings(mask: BoolArray) -> list[tuple[Ring, list[Ring]]]:
    """The rim of each component of a mask (H, W), and of its holes, along the pixels' edges.

    Rims have the component on their right.
    """
    found: dict[int, tuple[list[Ring], list[Ring]]] = {}
    for ring, component in _traced(mask):
        corners = ring[:-1]
        kept = _without_straight(corners)
        following = np.roll(kept, -1, axis=0)
        area = int((kept[:, 0] * following[:, 1] - following[:, 0] * kept[:, 1]).sum())
        # The sign of twice the area tells a rim from a hole, which runs the other way.
        found.setdefault(component, ([], []))[0 if area > 0 else 1].append(kept)
    return [(outer[0], holes) for _, (outer, holes) in sorted(found.items())]


def pixel_rings(mask: BoolArray) -> list[tuple[Ring, list[Ring]]]:
    """The same through the pixels at the rim, so that what is drawn with its line is the mask."""
    numbered: dict[int, tuple[list[Ring], list[Ring]]] = {}
    for ring, component in _traced(mask):
        steps = np.diff(ring, axis=0)
        # of an edge's pixel, which lies on its right: (dx, dy) -> from the edge's upper left end
        inside = np.minimum(ring[:-1], ring[1:]) - np.stack(
            [steps[:, 1] == 1, steps[:, 0] == -1], axis=1
        )
        area = int((ring[:-1, 0] * ring[1:, 1] - ring[1:, 0] * ring[:-1, 1]).sum())
        changed = (inside != np.roll(inside, 1, axis=0)).any(1)
        path = inside[changed] if changed.any() else inside[:1]
        numbered.setdefault(component, ([], []))[0 if area > 0 else 1].append(
            _without_straight(path)
        )
    return [(outer[0], holes) for _, (outer, holes) in sorted(numbered.items())]


def _traced(mask: BoolArray) -> Iterable[tuple[Ring, int]]:
    """Each rim as (N + 1, 2) corners, one step an edge, and the number of its component."""
    from scipy import ndimage

    width = mask.shape[1]
    numbers, _ = ndimage.label(mask, structure=np.ones((3, 3), int))
    padded = np.pad(mask, 1)
    inside = padded[1:-1, 1:-1]
    side = width + 1
    starts, ends, owners = [], [], []
    for out, start, end in (
        (~padded[:-2, 1:-1], (0, 0), (0, 1)),  # above: to the right
        (~padded[1:-1, 2:], (0, 1), (1, 1)),  # right: down
        (~padded[2:, 1:-1], (1, 1), (1, 0)),  # below: to the left
        (~padded[1:-1, :-2], (1, 0), (0, 0)),  # left: up
    ):
        rows, columns = np.nonzero(inside & out)
        starts.append((rows + start[0]) * side + columns + start[1])
        ends.append((rows + end[0]) * side + columns + end[1])
        owners.append(numbers[rows, columns])
    start, end, owner = (np.concatenate(parts).tolist() for parts in (starts, ends, owners))
    # Directed edges with the component on the right; following them from corner to corner closes
    # each rim.
    leaving: dict[int, list[int]] = {}
    for index, corner in enumerate(start):
        leaving.setdefault(corner, []).append(index)
    used = [False] * len(start)
    left_of = {1: -side, side: 1, -1: side, -side: -1}
    for first in range(len(start)):
        if used[first]:
            continue
        ring, index = [start[first]], first
        while not used[index]:
            used[index] = True
            ring.append(end[index])
            waiting = [each for each in leaving[end[index]] if not used[each]]
            if len(waiting) > 1:  # two pixels that touch at a corner: to the left joins them
                turn = end[index] + left_of[end[index] - start[index]]
                waiting = [each for each in waiting if end[each] == turn] or waiting
            if not waiting:
                break
            index = waiting[0]
        flat = np.array(ring, np.int64)
        yield np.stack([flat % side, flat // side], axis=1), int(owner[first])


def _without_straight(points: Ring) -> Ring:
    """Points of a closed line of single steps, without those in the middle of a straight part."""
    if len(points) < 3:
        return points
    ahead = np.sign(np.roll(points, -1, axis=0) - points)
    behind = np.sign(points - np.roll(points, 1, axis=0))
    turns = (ahead != behind).any(1)
    return points[turns] if turns.any() else points


def joined(outer: Ring, holes: Sequence[Ring]) -> Ring:
    """One closed line of a rim and its holes, each joined to it there and back by the same way."""
    line = outer
    waiting = list(holes)
    while waiting:
        pairs = []
        for hole in waiting:
            distance = ((line[:, None] - hole[None]) ** 2).sum(-1)
            at = int(distance.argmin())
            pairs.append((int(distance.flat[at]), *divmod(at, len(hole))))
        best = min(range(len(waiting)), key=lambda index: pairs[index][0])
        _, here, there = pairs[best]
        hole = waiting.pop(best)
        turned = np.roll(hole, -there, axis=0)
        line = np.concatenate([line[: here + 1], turned, turned[:1], line[here:]])
    return line


def corners_mask(polygons: Iterable[Sequence[float]], size_hw: tuple[int, int]) -> BoolArray:
    """The pixels (H, W) whose centre is in one of the polygons [x0, y0, x1, y1, ...].

    Raises:
        ValueError: one is no polygon, or they are too large to be drawn.
    """
    from pycocotools import mask as run_lengths

    rings = checked(polygons, size_hw)
    if not rings:
        return np.zeros(size_hw, bool)
    runs = run_lengths.frPyObjects([ring.ravel().tolist() for ring in rings], *size_hw)
    return np.asarray(run_lengths.decode(run_lengths.merge(runs)), bool)


def pixels_mask(points: object, size_hw: tuple[int, int]) -> BoolArray:
    """The pixels (H, W) in and under a closed line of points (x, y), as Pillow draws it.

    Raises:
        ValueError: it is no polygon, or too large to be drawn.
    """
    (ring,) = checked([points], size_hw)
    canvas = Image.new("1", (size_hw[1], size_hw[0]))
    ImageDraw.Draw(canvas).polygon([tuple(xy) for xy in ring.tolist()], outline=1, fill=1)
    return np.array(canvas, bool)


def checked(polygons: Iterable[object], size_hw: tuple[int, int]) -> list[NDArray[np.float64]]:
    """Polygons of an object in an image (H, W), each (N, 2) with three points at least.

    Raises:
        ValueError: they are none, or cannot be drawn in bounded time and memory.
    """
    rings, rim, limit = [], 0.0, FAR * max(size_hw)
    for polygon in polygons:
        ring = np.asarray(polygon, np.float64)
        ring = ring.reshape(-1, 2) if ring.ndim == 1 and ring.size % 2 == 0 else ring
        if ring.ndim != 2 or ring.shape[1] != 2 or len(ring) < 3:
            raise ValueError(
                f"a polygon of shape {ring.shape}; expected at least three points (x, y)"
            )
        if not np.isfinite(ring).all():
            raise ValueError("a polygon with points that are no numbers")
        if np.abs(ring).max() > limit + max(size_hw):
            raise ValueError(f"a polygon that lies more than {limit} pixels outside of its image")
        rim += float(np.abs(ring - np.roll(ring, 1, axis=0)).max(axis=1).sum())
        rings.append(ring)
        if len(ring) > MAX_POINTS or len(rings) > MAX_POLYGONS or rim > MAX_RIM:
            raise ValueError(
                f"more than {MAX_POINTS} points, {MAX_POLYGONS} polygons or {MAX_RIM} pixels along "
                "the rim of one object"
            )
    return rings
