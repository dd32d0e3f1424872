"""Measures of an object: area, perimeter, longest and short axis, the ellipse that fits it.

Everything is measured in the spacing that is given, rows and columns each by its own: in pixels by
(1, 1), in millimetres by millimetres per pixel. A pixel counts whole, from edge to edge, so that a
disc of 20 pixels across has a diameter of 20.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .geometry import mask_window
from .types import BoolArray, FloatArray

BLUR = 1.0
"""Pixels; perimeters are then right to 1 %, to 4 % where pixels are four times as long as wide."""


@dataclass(frozen=True, slots=True)
class Measures:
    """Measures of one object, all in the unit of the spacing (the area in its square).

    Attributes:
        area: of its pixels.
        perimeter: of its outer outline, of all its pieces.
        long_axis: the longest distance between two points of its outline.
        short_axis: its extent at right angles to that.
        ellipse_long: the longer axis of the ellipse with the object's second moments; of a fetal
            head the occipitofrontal diameter (OFD).
        ellipse_short: its shorter axis; of a fetal head the biparietal diameter (BPD).
        ellipse_circumference: of that ellipse; of a fetal head its circumference (HC).
    """

    area: float
    perimeter: float
    long_axis: float
    short_axis: float
    ellipse_long: float
    ellipse_short: float
    ellipse_circumference: float


def measure(mask: BoolArray, spacing: tuple[float, float] = (1.0, 1.0)) -> Measures:
    """Measure an object (H, W) that has pixels.

    Args:
        mask: the object; several pieces are one.
        spacing: of a pixel along (row, column).
    """
    # The perimeter is of the blurred outline, for the steps of pixels make a straight slope too
    # long. The axes are of the sharp one, for blurring shortens the tips of a thin object.
    lines = [line * spacing for line in outlines(mask, BLUR)]
    steps = (np.hypot(*np.diff(line, axis=0).T).sum() for line in lines)
    long_axis, short_axis = _axes(np.concatenate(outlines(mask)) * spacing)
    longer, shorter = _ellipse(mask, spacing)
    return Measures(
        area=float(np.count_nonzero(mask) * spacing[0] * spacing[1]),
        perimeter=float(sum(steps)),
        long_axis=long_axis,
        short_axis=short_axis,
        ellipse_long=longer,
        ellipse_short=shorter,
        ellipse_circumference=circumference(longer, shorter),
    )


def outlines(mask: BoolArray, blur: float = 0.0) -> list[FloatArray]:
    """The outer outlines (N, 2), closed, as (row, column), of the pieces of a mask with pixels.

    Args:
        mask: (H, W).
        blur: deviation in pixels of a Gaussian that takes the steps of pixels out of them.
    """
    from scipy import ndimage
    from skimage.measure import find_contours

    rows, columns = mask_window(mask)
    # The window must hold all of the blurred edge: scipy cuts a Gaussian at 4 deviations, and the
    # outline must not meet the array's border, where find_contours leaves it open.
    margin = 4
    filled = np.pad(ndimage.binary_fill_holes(mask[rows, columns]), margin).astype(np.float32)
    lines = find_contours(ndimage.gaussian_filter(filled, blur), 0.5)
    if not lines:  # so small or so thin that nothing is left of it
        lines = find_contours(filled, 0.5)
    corner = rows.start - margin, columns.start - margin
    return [np.asarray(line + corner, np.float32) for line in lines]


def _axes(points: FloatArray) -> tuple[float, float]:
    """The longest distance between points (N, 2), and their extent at right angles to it."""
    from scipy.spatial import ConvexHull
    from scipy.spatial.distance import pdist, squareform

    # The two points farthest apart lie on the hull, which has tens of corners where an outline has
    # thousands of points: all pairs of those would be too many.
    hull = points[ConvexHull(points).vertices]
    distances = squareform(pdist(hull))
    a, b = np.unravel_index(int(distances.argmax()), distances.shape)
    along = (hull[b] - hull[a]) / distances[a, b]
    across = hull @ np.array([-along[1], along[0]])
    return float(distances[a, b]), float(np.ptp(across))


def _ellipse(mask: BoolArray, spacing: tuple[float, float]) -> tuple[float, float]:
    """The axes of the ellipse that has the second moments of a mask; a pixel is a small square."""
    places = np.argwhere(mask[mask_window(mask)]) * np.asarray(spacing)
    # Variance of a uniform distribution over one pixel. Without it a line of pixels would have no
    # width.
    own = np.square(spacing) / 12
    # bias=True: the pixels are the whole object, no sample of it.
    spread = np.cov(places.T, bias=True) if len(places) > 1 else np.zeros((2, 2))
    shorter, longer = np.linalg.eigvalsh(spread + np.diag(own))
    # Along a semi-axis a, a filled ellipse has variance a**2 / 4; so the whole axis, 2a, is 4
    # deviations. eigvalsh gives the smaller one first.
    return float(4 * np.sqrt(longer)), float(4 * np.sqrt(shorter))


def circumference(long_axis: float, short_axis: float) -> float:
    """Circumference of an ellipse with these axes, by Ramanujan's second formula."""
    a, b = long_axis / 2, short_axis / 2
    h = ((a - b) / (a + b)) ** 2
    return float(np.pi * (a + b) * (1 + 3 * h / (10 + np.sqrt(4 - 3 * h))))
