"""Sector of a picture: the fan or the rectangle that holds the ultrasound, found by its pixels.

For pictures whose file names no region. What is brighter than the ground in most of a
neighbourhood is taken for tissue; letters, rulers and colour bars are too thin or too small. A
rectangle and fans (of linear, curved and phased probes; three or four corners, cut off by the
picture or not) are fitted to it: tissue outside costs three times what black inside does, for
shadows and cysts are black and letters are not tissue.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..core.types import BoolArray, FloatArray

_SIDE = 160
"""Pixels of the longer side of the picture that is searched in."""
_FINE = 480
"""And of the one that is fitted to."""
_OUTSIDE = 3.0
_LEAST = 0.05
"""A sector has at least this part of the picture."""
_WIDE = 0.96
_FEW = 0.01
"""This part of a row or a column of a rectangle is bright, at the least."""
_PIECE = 0.15
"""Smaller pieces beside the largest are none of it."""
_DENSE = 0.15
"""This part of a neighbourhood is bright where there is tissue."""
_EVERYTHING = 0.97
_ASKEW = 0.1
"""What a radian costs by which a fan does not hang straight down."""
_GOES_ON, _TRIED = 2, 90
"""Of the places where the search for a fan begins so many go to the end, after so many steps."""
_GAIN = 0.006
"""A fan must fit by so much better than a rectangle, which has fewer parameters."""


@dataclass(frozen=True, slots=True)
class Sector:
    """A fan or a rectangle, in XY pixels of the picture.

    Attributes:
        kind: "rectangle" or "fan".
        values: of a rectangle (x0, y0, x1, y1), half open; of a fan the apex (x, y), the radii of
            the probe's surface and of the deepest echo, and the angles of the left and the right
            side, in radians from straight down, to the right positive.
        fit: 0..1, how much of what the fit looks at agrees with it.
    """

    kind: str
    values: tuple[float, ...]
    fit: float

    def mask(self, size_hw: tuple[int, int]) -> BoolArray:
        """Where it is, (H, W)."""
        y, x = np.mgrid[: size_hw[0], : size_hw[1]].astype(np.float32)
        distance = _rectangle if self.kind == "rectangle" else _fan
        return np.asarray(distance(self.values, x, y) > 0, bool)

    def depth(self, points: FloatArray, spacing: tuple[float, float] = (1.0, 1.0)) -> FloatArray:
        """How far points (N, 2) XY are below the probe's surface, (N,), in the unit of the spacing.

        Args:
            points: in pixels of the picture.
            spacing: of a pixel along (row, column).
        """
        x, y = np.asarray(points, np.float64).T
        if self.kind == "rectangle":
            return np.asarray((y + 0.5 - self.values[1]) * spacing[0], np.float32)
        apex_x, apex_y, near = self.values[:3]
        distance = np.hypot((x - apex_x) * spacing[1], (y - apex_y) * spacing[0])
        return np.asarray(distance - near * spacing[0], np.float32)


def find_sector(pictures: NDArray[Any] | Sequence[NDArray[Any]]) -> Sector | None:
    """Find the sector of a picture, or of a few frames of a loop; None where there is none.

    Args:
        pictures: (H, W) or (H, W, 3) uint8, or several of one size.
    """
    frames = [pictures] if isinstance(pictures, np.ndarray) else list(pictures)
    # The brightest of the frames: what is in shadow in one is seen in another.
    grey = np.max([_grey(frame) for frame in frames], axis=0)
    # Percentiles: some scanners' black is not 0, and a white logo must not set the scale.
    ground = float(np.percentile(grey, 2))
    spread = float(np.percentile(grey, 99)) - ground
    if spread < 8:
        return None
    found = None
    # First a threshold that noise does not pass; then any pixel that is not the ground, for
    # pictures with a dark depth. The second is taken only where it fits better.
    for least in (max(3.0, 0.02 * spread), 0.5):
        other = _found(grey > ground + least)
        if other is None or (found is not None and other.fit < found.fit + 0.01):
            continue
        if found is not None and other.mask(grey.shape).mean() > _EVERYTHING:
            continue  # noise of the ground, not of tissue
        found = other
    return found


def find_tissue(picture: NDArray[Any]) -> BoolArray:
    """Where a picture has tissue, (H, W), to some pixels: as it is bright, no sector is fitted.

    Args:
        picture: (H, W) or (H, W, 3) uint8.
    """
    from skimage.transform import resize

    grey = _grey(picture)
    ground = float(np.percentile(grey, 2))
    least = max(3.0, 0.02 * (float(np.percentile(grey, 99)) - ground))
    coarse, _ = _smaller(grey > ground + least, _SIDE)
    found = _tissue(coarse)
    if found is None:
        return np.zeros(grey.shape, bool)
    return np.asarray(resize(found.astype(np.float32), grey.shape, order=1) > 0.5, bool)


def _found(bright: BoolArray) -> Sector | None:
    """The sector of what is brighter than the ground, (H, W)."""
    coarse, scale = _smaller(bright, _SIDE)
    tissue = _tissue(coarse)
    if tissue is None:
        return None
    if _is_wide_at_the_probe(tissue):
        window = _window(bright, [scale * value for value in _bounds(tissue)])
        fit = 1 - _cost(_rectangle, [value / scale for value in window], tissue)
        return Sector("rectangle", window, max(0.0, fit))
    box = _fitted(_rectangle, [_bounds(tissue)], tissue)
    fan = _fitted(_fan, _fans(tissue), tissue)
    kind, model, best = "rectangle", _rectangle, box
    if fan[1] + _GAIN < box[1]:
        kind, model, best = "fan", _fan, fan
    values = _scaled(kind, best[0], scale)
    fine, scale = _smaller(bright, _FINE)
    if (fine_tissue := _tissue(fine)) is not None:
        best = _fitted(model, [_scaled(kind, values, 1 / scale)], fine_tissue, steps=250)
        values = _scaled(kind, best[0], scale)
    if kind == "rectangle":
        values = _snapped(values, bright.shape)
    return Sector(kind, tuple(float(value) for value in values), float(max(0.0, 1 - best[1])))


def _grey(picture: NDArray[Any]) -> NDArray[np.float32]:
    values = picture.max(axis=2) if picture.ndim == 3 else picture
    return values.astype(np.float32)


def _smaller(bright: BoolArray, side: int) -> tuple[NDArray[np.float32], float]:
    """What part is bright, with a side of at most so many pixels; and how much larger it was."""
    import cv2

    scale = max(1.0, max(bright.shape) / side)
    height, width = (max(8, round(length / scale)) for length in bright.shape)
    small = cv2.resize(bright.view(np.uint8) * 255, (width, height), interpolation=cv2.INTER_AREA)
    return np.asarray(small, np.float32) / np.float32(255), scale


def _tissue(density: NDArray[np.float32]) -> BoolArray | None:
    """Where there is tissue: bright in part, in the large pieces that are not thin."""
    from scipy import ndimage

    reach = max(1, round(max(density.shape) / 80))
    ball, thick = _disk(reach), _disk(2 * reach)
    bright = np.pad(density > _DENSE, 2 * reach)
    closed = ndimage.binary_closing(bright, ball)[2 * reach : -2 * reach, 2 * reach : -2 * reach]
    # mode="edge": a sector that the picture cuts must not be opened away there.
    opened = ndimage.binary_opening(np.pad(closed, 2 * reach, mode="edge"), thick)
    numbers, count = ndimage.label(opened[2 * reach : -2 * reach, 2 * reach : -2 * reach])
    if not count:
        return None
    sizes = np.bincount(numbers.ravel())[1:]
    kept = np.isin(numbers, 1 + np.flatnonzero(sizes >= _PIECE * sizes.max()))
    kept = ndimage.binary_fill_holes(kept)
    return np.asarray(kept, bool) if kept.mean() >= _LEAST else None


def _disk(radius: int) -> BoolArray:
    y, x = np.mgrid[-radius : radius + 1, -radius : radius + 1]
    return np.asarray(x**2 + y**2 <= (radius + 0.3) ** 2, bool)


# Models: signed distances in pixels, positive inside


def _rectangle(values: Sequence[float], x: Any, y: Any) -> Any:
    x0, y0, x1, y1 = values
    return np.minimum(
        np.minimum(x - x0 + 0.5, x1 - 0.5 - x), np.minimum(y - y0 + 0.5, y1 - 0.5 - y)
    )


def _fan(values: Sequence[float], x: Any, y: Any) -> Any:
    apex_x, apex_y, near, far, left, right = values
    across, down = x - apex_x, y - apex_y
    distance = np.sqrt(across * across + down * down)
    from_left = across * np.cos(left) - down * np.sin(left)
    from_right = down * np.sin(right) - across * np.cos(right)
    sides = np.minimum(from_left, from_right)
    return np.minimum(np.minimum(distance - near, far - distance), sides) + 0.5


def _fitted(
    model: Any, starts: Sequence[Sequence[float]], tissue: BoolArray, steps: int = 500
) -> tuple[Any, float]:
    """The values of a model that fit best, and what they cost: 0 is a perfect fit.

    All starts go a few steps; the best ``_GOES_ON`` go to the end.
    """
    from scipy.optimize import minimize

    size = float(max(tissue.shape))
    cost = _cost_of(model, tissue)

    def searched(first: NDArray[np.float64], most: int, reach: float) -> tuple[float, Any]:
        step = np.full(len(first), 0.03 * size * reach)
        # A fan: its last two values are angles in radians, where a step of pixels would be turns.
        if len(first) == 6:
            step[4:] = 0.08 * reach
        simplex = np.vstack([first, *(first + np.eye(len(first)) * step)])
        options = {"initial_simplex": simplex, "maxfev": most, "xatol": 0.02, "fatol": 1e-5}
        found = minimize(cost, first, method="Nelder-Mead", options=options)
        return float(found.fun), found.x

    firsts = [np.asarray(start, float) for start in starts]
    if len(firsts) > _GOES_ON:
        tried = sorted((searched(first, _TRIED, 1.0) for first in firsts), key=lambda t: t[0])
        firsts = [values for _, values in tried[:_GOES_ON]]
    least, values = min((searched(first, steps, 1.0) for first in firsts), key=lambda t: t[0])
    return values, least


def _cost(model: Any, values: Sequence[float], tissue: BoolArray) -> float:
    """What a model costs: tissue outside, ground inside, and hanging askew."""
    return _cost_of(model, tissue)(values)


def _cost_of(model: Any, tissue: BoolArray) -> Callable[[Any], float]:
    """``_cost`` of one picture: its grid is made once."""
    y, x = np.ogrid[: tissue.shape[0], : tissue.shape[1]]
    x, y = x.astype(np.float32), y.astype(np.float32)
    total = float(tissue.sum())
    # Cost = tissue outside x _OUTSIDE + ground inside, as one dot product; Nelder-Mead calls this
    # thousands of times.
    weights = np.where(tissue, np.float32(-_OUTSIDE), np.float32(1)).ravel()

    def cost(values: Any) -> float:
        values = [np.float32(value) for value in values]
        inside = model(values, x, y)
        inside += np.float32(0.5)
        # Soft within a pixel of the border: a count of whole pixels would have steps, on which the
        # search stops.
        np.clip(inside, 0, 1, out=inside)
        askew = _ASKEW * abs(float(values[4]) + float(values[5])) if len(values) == 6 else 0.0
        wrong = _OUTSIDE * total + float(np.dot(inside.ravel(), weights))
        return wrong / total + askew

    return cost


def _bounds(tissue: BoolArray) -> tuple[float, float, float, float]:
    rows, columns = np.flatnonzero(tissue.any(1)), np.flatnonzero(tissue.any(0))
    return float(columns[0]), float(rows[0]), float(columns[-1] + 1), float(rows[-1] + 1)


def _fans(tissue: BoolArray) -> list[tuple[float, ...]]:
    """Where to begin to look for a fan: its sides along the outline's, or as they often are."""
    x0, y0, x1, y1 = _bounds(tissue)
    width, height = x1 - x0, y1 - y0
    middle = (x0 + x1) / 2
    found: list[tuple[float, ...]] = []
    for half in (0.35, 0.6, 0.8):
        for share in (0.05, 0.35):  # of the width, at the probe
            near = max(1.0, share * width / 2 / np.sin(half))
            apex = y0 - near * np.cos(half)
            found.append((middle, apex, near, near * np.cos(half) + height, -half, half))
    sides = _sides(tissue)
    if sides is not None:
        (slope_l, at_l), (slope_r, at_r) = sides
        if slope_r - slope_l > 0.1:
            apex_y = (at_l - at_r) / (slope_r - slope_l)
            apex_x = slope_l * apex_y + at_l
            left, right = np.arctan(slope_l), np.arctan(slope_r)
            top = max(1.0, y0 - apex_y)
            found.insert(0, (apex_x, apex_y, top, y1 - apex_y, left, right))
    return found


def _sides(tissue: BoolArray) -> tuple[tuple[float, float], tuple[float, float]] | None:
    """Straight lines (x = slope y + at) along the left and the right of the upper outline."""
    rows = np.flatnonzero(tissue.any(1))
    # Neither the probe's curve at the top nor the arc at the bottom: the sides alone.
    rows = rows[len(rows) // 8 : max(len(rows) * 5 // 8, 4)]
    if len(rows) < 4:
        return None
    first = tissue[rows].argmax(1)
    last = tissue.shape[1] - 1 - tissue[rows][:, ::-1].argmax(1)
    lines = []
    for points in (first, last):
        # Theil-Sen: the median of many slopes, so that shadows and bumps in the outline count
        # little.
        slopes = [
            (points[j] - points[i]) / (rows[j] - rows[i])
            for i in range(0, len(rows), 3)
            for j in range(i + len(rows) // 3, len(rows), 3)
        ]
        slope = float(np.median(slopes)) if slopes else 0.0
        lines.append((slope, float(np.median(points - slope * rows))))
    return lines[0], lines[1]


def _is_wide_at_the_probe(tissue: BoolArray) -> bool:
    """Whether the picture is as wide near the probe as anywhere: a linear probe's."""
    x0, y0, x1, y1 = _bounds(tissue)
    near = tissue[int(y0) + 1 : int(y0) + 2 + int(0.06 * (y1 - y0))]
    return bool(near.size) and float(near.sum(1).max()) >= _WIDE * (x1 - x0)


def _window(bright: BoolArray, bounds: Sequence[float]) -> tuple[int, ...]:
    """The rectangle about ``bounds`` whose rows and columns hold something bright."""
    height, width = bright.shape
    rim = 0.03
    x0, y0, x1, y1 = bounds
    top, left = max(0, round(y0 - rim * height)), max(0, round(x0 - rim * width))
    right = min(width, round(x1 + rim * width))
    rows = bright[:, left:right].mean(1)
    rows[:top] = 0
    bottom = min(height, round(y1))
    gap, row = round(2 * rim * height), bottom
    while row < height and row - bottom < gap:  # the deepest echoes are few
        bottom = row + 1 if rows[row] > _FEW else bottom
        row += 1
    known = np.flatnonzero(rows[:bottom] > _FEW)
    columns = bright[top:bottom].mean(0)
    columns[:left] = columns[right:] = 0
    across = np.flatnonzero(columns > _FEW)
    box = (across[0], known[0], across[-1] + 1, known[-1] + 1)
    return tuple(int(value) for value in box)


def _scaled(kind: str, values: Sequence[float], factor: float) -> list[float]:
    lengths = len(values) if kind == "rectangle" else 4
    return [value * factor if i < lengths else value for i, value in enumerate(values)]


def _snapped(values: Sequence[float], size_hw: tuple[int, ...]) -> list[float]:
    """A rectangle whose sides are whole pixels, within the picture."""
    x0, y0, x1, y1 = (round(value) for value in values)
    return [max(x0, 0), max(y0, 0), min(x1, size_hw[1]), min(y1, size_hw[0])]
