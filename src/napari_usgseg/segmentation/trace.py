"""Traces: bright or dark lines that are followed from one clicked point to the next.

The path of least cost between two points (live wire: Mortensen and Barrett, SIGGRAPH 1995), whose
cost falls with the brightness of the smoothed image: it stays on the surface of a bone, a fascia or
a vessel's wall. Points and paths are XY pixels of the image.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..core.errors import PromptError
from ..core.geometry import scribble_to_points
from ..core.types import FloatArray

SMOOTHED = 2.0
"""Pixels over which the image is smoothed, in the copy that is searched."""
SHARPNESS = 4.0
"""How much dearer the darkest pixel is than the brightest one: e to this power."""
MOST_SEARCHED = 60_000
"""Pixels that are searched for one path; where there are more, in a smaller copy."""
MARGIN = 0.35
"""How far a path may leave the box of its two ends, in parts of their distance."""
LEAST_MARGIN = 24.0
"""The same in pixels, where the ends are near each other."""
REACH = 3.0
"""How far the middle of a band may lie beside the path, in pixels: on what is bright as a whole."""
SNAPPED = 8.0
"""How far beside the line a person may click, in pixels; never more than half the band's width."""


class Trace:
    """A line through an image that is drawn from point to point.

    Args:
        image: (H, W, 3) or (H, W), uint8.
        width: of the band along the line, in pixels, > 0.
        dark: the line is darker than what is around it, not brighter.

    Attributes:
        points: [(x, y), ...] that were pinned, on the line.

    Raises:
        PromptError: the width is not positive.
    """

    def __init__(self, image: NDArray[np.uint8], width: float, dark: bool = False) -> None:
        if not width > 0:
            raise PromptError(f"a trace is {width} pixels wide: give a width above 0")
        self._image = image
        self._dark = dark
        self._paths: list[FloatArray] = []
        self.width = float(width)
        self.points: list[tuple[float, float]] = []

    def pin(self, x: float, y: float) -> None:
        """Have the line go through the brightest pixel near a point; the first one begins it."""
        point = self._snapped(x, y)
        if self.points:
            self._paths.append(self._path(self.points[-1], point))
        self.points.append(point)

    def unpin(self) -> None:
        """Take the newest point away, if there is one."""
        self.points = self.points[:-1]
        self._paths = self._paths[: max(len(self.points) - 1, 0)]

    def line(self, to: tuple[float, float] | None = None) -> FloatArray:
        """The middle of the band through all points: (M, 2) XY, about a pixel apart.

        Args:
            to: XY where the line goes on to, as if it were pinned; None where it ends.
        """
        paths = list(self._paths)
        if to is not None and self.points:
            paths.append(self._path(self.points[-1], self._snapped(*to)))
        if not paths:
            return np.array(self.points, np.float32).reshape(-1, 2)
        return self._centred(np.concatenate(paths))

    def _snapped(self, x: float, y: float) -> tuple[float, float]:
        """The brightest pixel near a point, which is moved into the image first."""
        from scipy import ndimage

        height, width = self._image.shape[:2]
        column, row = min(max(round(x), 0), width - 1), min(max(round(y), 0), height - 1)
        reach = int(min(SNAPPED, self.width / 2))
        x0, y0 = max(0, column - 2 * reach), max(0, row - 2 * reach)
        part = self._bright(x0, y0, column + 2 * reach + 1, row + 2 * reach + 1)
        part = ndimage.gaussian_filter(part, SMOOTHED)
        rows, columns = np.ogrid[: part.shape[0], : part.shape[1]]
        near = (rows + y0 - row) ** 2 + (columns + x0 - column) ** 2 <= reach**2
        best = np.unravel_index(int(np.where(near, part, -1.0).argmax()), part.shape)
        return float(x0 + best[1]), float(y0 + best[0])

    def _path(self, a: tuple[float, float], b: tuple[float, float]) -> FloatArray:
        """The path (M, 2) XY of least cost from one pixel to another, both among its points."""
        from scipy import ndimage
        from skimage.graph import MCP_Geometric

        height, width = self._image.shape[:2]
        ends = np.array([a, b])
        margin = max(MARGIN * float(np.linalg.norm(ends[1] - ends[0])), LEAST_MARGIN)
        x0, y0 = (int(v) for v in np.maximum(np.floor(ends.min(0) - margin), 0))
        x1, y1 = (int(v) for v in np.minimum(np.ceil(ends.max(0) + margin) + 1, (width, height)))
        step = max(1, int(np.ceil(((x1 - x0) * (y1 - y0) / MOST_SEARCHED) ** 0.5)))
        part = self._bright(x0, y0, x1, y1, step)
        part = ndimage.gaussian_filter(part, SMOOTHED / min(step, 2))
        cost = np.exp(-SHARPNESS * (part - part.min()) / max(float(np.ptp(part)), 1e-6))
        first, last = np.minimum((ends - (x0, y0)) // step, np.array(part.shape[::-1]) - 1)
        search = MCP_Geometric(cost)
        start, end = [(int(row), int(column)) for column, row in (first, last)]
        search.find_costs([start], [end])
        between = np.array(search.traceback(end), float)[1:-1, ::-1]
        between = between * step + (x0, y0) + (step - 1) / 2
        return np.concatenate([ends[:1], between, ends[1:]]).astype(np.float32)

    def _bright(self, x0: int, y0: int, x1: int, y1: int, step: int = 1) -> NDArray[np.float32]:
        """How bright, or dark, a part of the image is; each pixel a mean of ``step`` x ``step``."""
        import cv2

        few = max(1, step // 4)  # of very many pixels some do for a mean
        part = np.ascontiguousarray(self._image[y0:y1:few, x0:x1:few])
        if step == 1:
            return self._grey(part)
        smaller = max((x1 - x0) // step, 1), max((y1 - y0) // step, 1)
        return self._grey(np.asarray(cv2.resize(part, smaller, interpolation=cv2.INTER_AREA)))

    def _grey(self, values: NDArray[Any]) -> NDArray[np.float32]:
        """Values (..., 3) or (...) as one channel that is bright on the line."""
        grey = values.astype(np.float32)
        if self._image.ndim == 3:
            grey = grey.mean(axis=-1)
        return 255 - grey if self._dark else grey

    def _centred(self, path: FloatArray) -> FloatArray:
        """A path without its steps, moved to the middle of the band that is brightest."""
        from scipy import ndimage

        length = float(np.linalg.norm(np.diff(path, axis=0), axis=1).sum())
        points = scribble_to_points(path, 1.0, 2 + int(length))
        if len(points) < 3:
            return points
        wide = max(self.width / 2, 3.0)
        points = ndimage.gaussian_filter1d(points, wide, axis=0, mode="nearest")
        along = np.gradient(points, axis=0)
        normal = np.stack([-along[:, 1], along[:, 0]], axis=1)
        normal /= np.maximum(np.linalg.norm(normal, axis=1, keepdims=True), 1e-6)
        reach = min(REACH, self.width / 3)
        far = int(np.ceil(reach + self.width))
        beside = np.arange(-far, far + 1.0)
        profile = self._profile(points, normal, beside)
        inside, around = (
            ndimage.uniform_filter1d(profile, max(1, round(size)), axis=1, mode="nearest")
            for size in (self.width, 2 * self.width)
        )
        contrast = ndimage.gaussian_filter1d(2 * inside - around, 2 * wide, axis=0)
        near = np.abs(beside) <= reach
        shift = beside[near][contrast[:, near].argmax(axis=1)]
        shift = ndimage.gaussian_filter1d(shift, 2 * wide, mode="nearest")
        return np.asarray(points + normal * shift[:, None], np.float32)

    def _profile(
        self, points: FloatArray, normal: FloatArray, beside: NDArray[np.float64]
    ) -> NDArray[np.float32]:
        """Brightness (M, N) of the pixels at distances (N,) beside points (M, 2)."""
        height, width = self._image.shape[:2]
        at = np.rint(points[:, None] + normal[:, None] * beside[:, None]).astype(int)
        columns, rows = np.clip(at[..., 0], 0, width - 1), np.clip(at[..., 1], 0, height - 1)
        return self._grey(self._image[rows, columns])


def trace(
    image: NDArray[np.uint8],
    points: Sequence[tuple[float, float]] | FloatArray,
    width: float,
    dark: bool = False,
) -> FloatArray:
    """The middle of a bright or dark band through points: (M, 2) XY, about a pixel apart.

    Args:
        image: (H, W, 3) or (H, W), uint8.
        points: [(x, y), ...], two at least: both ends, and what it goes through; what lies outside
            is moved to the image's edge.
        width: of the band, in pixels.
        dark: the line is darker than what is around it, not brighter.

    Raises:
        PromptError: there are fewer than two points, one is no (x, y), or the width is not
            positive.
    """
    drawn = Trace(image, width, dark)
    at = np.asarray(points, np.float32)
    if len(at) < 2:
        raise PromptError(f"{len(at)} points of a trace; expected one at each end at least")
    if at.ndim != 2 or at.shape[1] != 2 or not np.isfinite(at).all():
        raise PromptError(
            f"points of a trace: expected finite (N, 2), an (x, y) each, got {points}"
        )
    for x, y in at:
        drawn.pin(float(x), float(y))
    return drawn.line()
