"""Traces: bright or dark lines that are followed from one clicked point to the next.

The path of least cost between two points (live wire: Mortensen and Barrett, SIGGRAPH 1995), whose
cost falls with how much brighter the image is than around it: it stays on the surface of a bone, a
fascia or a vessel's wall. What a person takes for that surface often lies a little beside the
brightest line, and as much so on the next image: ``BandHabit`` learns it from bands that were
accepted. Points and paths are XY pixels of the image.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..core.errors import PromptError
from ..core.geometry import mask_window, scribble_to_points, stroke_mask
from ..core.types import BoolArray, FloatArray

SMOOTHED = 2.0
"""Pixels over which the image is smoothed at least, in the copy that is searched."""
INSIDE, AROUND = 0.2, 2.0
"""The same, and how far around it is compared with, in widths of the band."""
SHARPNESS = 4.0
"""How much dearer the darkest pixel is than the brightest one: e to this power."""
STEP_COST = 0.05
"""What a step costs wherever it goes, so that a path takes no long way round."""
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
PARTS = 8
"""Parts of a line, each of which has an offset of its own."""
LIKE = 9
"""So many bands, the nearest to a line, say how it is moved."""
SHORTEST, SLIMMEST = 15.0, 3.0
"""An object is a band where its middle line has so many pixels, and so many times its width."""


@dataclass(frozen=True, slots=True, eq=False)
class Band:
    """An object that is a band, and how it lies to the line that is traced between its ends.

    Attributes:
        width: its mean width, in pixels.
        middle: (2,) XY of the middle between its ends, as fractions of the image's size.
        offsets: (2, PARTS) pixels from the traced line to the band's middle, from its left end to
            its right one (its upper to its lower one, where it is upright); of a line as the path
            goes, and of one that is centred on what is bright.
    """

    width: float
    middle: FloatArray
    offsets: FloatArray


@dataclass(frozen=True, slots=True, eq=False)
class BandHabit:
    """Habit with the bands of a class: their width, and how far beside the brightest line.

    Attributes:
        bands: that were accepted, one at least.
    """

    bands: tuple[Band, ...]

    @property
    def width(self) -> float:
        """Their median width in pixels."""
        return float(np.median([band.width for band in self.bands]))

    @property
    def is_centred(self) -> bool:
        """Whether they lie to a centred line more alike than to the path itself."""
        offsets = np.stack([band.offsets for band in self.bands])
        path, centred = np.abs(offsets - np.median(offsets, axis=0)).mean((0, 2))
        return bool(centred < path)

    def offsets(self, middle: FloatArray) -> FloatArray:
        """(PARTS,) pixels, of the bands nearest to a line whose middle (2,) is given likewise."""
        near = sorted(self.bands, key=lambda band: float(np.abs(band.middle - middle).sum()))
        return np.asarray(
            np.median([band.offsets[int(self.is_centred)] for band in near[:LIKE]], axis=0)
        )


@dataclass(frozen=True, slots=True)
class TracePrompt:
    """A person's trace as a prompt: an object is the band along it, and no model is asked.

    Attributes:
        points: ((x, y), ...) in pixels, two at least.
        width: of the band, in pixels.
        dark: the line is darker than what is around it, not brighter.
    """

    points: tuple[tuple[float, float], ...]
    width: float
    dark: bool = False


class Trace:
    """A line through an image that is drawn from point to point.

    Args:
        image: (H, W, 3) or (H, W), uint8.
        width: of the band along the line, in pixels, > 0.
        dark: the line is darker than what is around it, not brighter.
        habit: of the bands that it is to be like.

    Attributes:
        points: [(x, y), ...] that were pinned, on the line.

    Raises:
        PromptError: the width is not positive.
    """

    def __init__(
        self,
        image: NDArray[np.uint8],
        width: float,
        dark: bool = False,
        habit: BandHabit | None = None,
    ) -> None:
        if not width > 0:
            raise PromptError(f"a trace is {width} pixels wide: give a width above 0")
        self._image = image
        self._dark = dark
        self._habit = habit
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
        smooth = self._smooth(np.concatenate(paths))
        if len(smooth) < 3:
            return smooth
        if self._habit is None:
            return self._centred(smooth)
        line = self._centred(smooth) if self._habit.is_centred else smooth
        return self._moved(line, self._habit)

    def both_lines(self) -> tuple[FloatArray, FloatArray]:
        """The line as the path goes, and the same centred; two points are pinned at least."""
        smooth = self._smooth(np.concatenate(self._paths))
        return smooth, self._centred(smooth) if len(smooth) > 2 else smooth

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
        import cv2
        from skimage.graph import MCP_Geometric

        height, width = self._image.shape[:2]
        ends = np.array([a, b])
        margin = max(MARGIN * float(np.linalg.norm(ends[1] - ends[0])), LEAST_MARGIN)
        x0, y0 = (int(v) for v in np.maximum(np.floor(ends.min(0) - margin), 0))
        x1, y1 = (int(v) for v in np.minimum(np.ceil(ends.max(0) + margin) + 1, (width, height)))
        # The search takes time by the pixel, and a person drags: far ends are searched on a coarser
        # grid.
        step = max(1, int(np.ceil(((x1 - x0) * (y1 - y0) / MOST_SEARCHED) ** 0.5)))
        part = self._bright(x0, y0, x1, y1, step)
        near = max(SMOOTHED / min(step, 2), INSIDE * self.width / step)
        far = max(AROUND * self.width / step, 2 * near)
        # Difference of Gaussians: bright beside what is around it, whatever the gain at that depth.
        part = cv2.GaussianBlur(part, (0, 0), near) - cv2.GaussianBlur(part, (0, 0), far)
        # A caliper's cross or a reflection would take all of the scale.
        part = np.clip(part, *np.percentile(part, (1, 99.5)))
        part = (part - part.min()) / max(float(np.ptp(part)), 1e-6)
        # The second term makes every step cost something, or the way would wind along all that is
        # bright.
        cost = np.exp(-SHARPNESS * part) + STEP_COST
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

    def _smooth(self, path: FloatArray) -> FloatArray:
        """A path without its steps, (M, 2) about a pixel apart."""
        from scipy import ndimage

        length = float(np.linalg.norm(np.diff(path, axis=0), axis=1).sum())
        points = scribble_to_points(path, 1.0, 2 + int(length))
        if len(points) < 3:
            return points
        return np.asarray(
            ndimage.gaussian_filter1d(points, self._wide, axis=0, mode="nearest"), np.float32
        )

    @property
    def _wide(self) -> float:
        """Pixels over which a line is smoothed along itself."""
        return max(self.width / 2, 3.0)

    def _moved(self, line: FloatArray, habit: BandHabit) -> FloatArray:
        """A line (M, 2) moved to where the middle of bands of its kind lies."""
        from scipy import ndimage

        size = np.array(self._image.shape[1::-1], np.float32)
        forward = _forward(line)
        offsets = habit.offsets((forward[0] + forward[-1]) / 2 / size)
        at = np.linspace(0, 1, len(line)) * PARTS - 0.5
        beside = np.interp(at, np.arange(PARTS), offsets)
        beside = ndimage.gaussian_filter1d(beside, self._wide, mode="nearest")
        moved = np.asarray(forward + _normals(forward) * beside[:, None], np.float32)
        return moved if forward is line else moved[::-1]

    def _centred(self, points: FloatArray) -> FloatArray:
        """A smooth line (M, 2) moved to the middle of the band that is brightest."""
        from scipy import ndimage

        wide, normal = self._wide, _normals(points)
        reach = min(REACH, self.width / 3)
        far = int(np.ceil(reach + self.width))
        beside = np.arange(-far, far + 1.0)
        profile = self._profile(points, normal, beside)
        inside, around = (
            ndimage.uniform_filter1d(profile, max(1, round(size)), axis=1, mode="nearest")
            for size in (self.width, 2 * self.width)
        )
        # Mean inside the band minus the mean just outside: ``around`` is twice as wide and holds
        # both.
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


def _normals(line: FloatArray) -> FloatArray:
    """Unit vectors (M, 2) at right angles to a line (M, 2), to its right as it goes."""
    along = np.gradient(line, axis=0)
    normal = np.stack([-along[:, 1], along[:, 0]], axis=1)
    return np.asarray(normal / np.maximum(np.linalg.norm(normal, axis=1, keepdims=True), 1e-6))


def _forward(line: FloatArray) -> FloatArray:
    """A line (M, 2) from its left end to its right one, or from its upper to its lower one."""
    dx, dy = line[-1] - line[0]
    return line if (dx if abs(dx) >= abs(dy) else dy) >= 0 else line[::-1]


def ends_of(mask: BoolArray) -> tuple[FloatArray, float] | None:
    """The ends (2, 2) XY of a band (H, W) and its mean width; None where it is no band.

    They are the ends of the longest way through its middle.
    """
    from skimage.morphology import skeletonize

    if not mask.any():
        return None
    window = mask_window(mask)
    part = np.pad(mask[window], 1)
    area = int(part.sum())
    if not part.any() or max(part.shape) < SHORTEST or area > (max(part.shape) * 3) ** 2:
        return None
    skeleton = skeletonize(part)
    first, _ = _farthest(skeleton, tuple(np.argwhere(skeleton)[0]))
    last, length = _farthest(skeleton, first)
    if length < SHORTEST or length**2 < SLIMMEST * area:
        return None
    corner = np.array([window[1].start - 1, window[0].start - 1], np.float32)
    ends = np.array([first[::-1], last[::-1]], np.float32) + corner
    # A line of this length, drawn with a round pen of the width, has the object's area.
    return ends, 2 / np.pi * (float(np.sqrt(length**2 + np.pi * area)) - length)


def _farthest(skeleton: BoolArray, start: tuple[int, int]) -> tuple[tuple[int, int], float]:
    """The pixel of a skeleton that is farthest from another along it, and how far."""
    from skimage.graph import MCP_Geometric

    costs, _ = MCP_Geometric(np.where(skeleton, 1.0, np.inf)).find_costs([start])
    reached = np.where(np.isfinite(costs), costs, -1)
    row, column = np.unravel_index(int(reached.argmax()), reached.shape)
    return (int(row), int(column)), float(reached.max())


def measure_band(image: NDArray[np.uint8], mask: BoolArray) -> Band | None:
    """How an object (H, W) lies to the line between its ends; None where it is no band.

    Args:
        image: (H, W, 3) or (H, W), uint8.
        mask: (H, W) bool, one connected piece.
    """
    from scipy import ndimage

    found = ends_of(mask)
    if found is None:
        return None
    ends, width = found
    drawn = Trace(image, width)
    for x, y in ends:
        drawn.pin(float(x), float(y))
    beside = np.arange(-2.5 * width, 2.5 * width + 0.25, 0.25)
    offsets = []
    for line in map(_forward, drawn.both_lines()):
        at = line[:, None] + _normals(line)[:, None] * beside[None, :, None]
        inside = ndimage.map_coordinates(mask.astype(np.float32), [at[..., 1], at[..., 0]], order=1)
        inside = inside > 0.5
        there = inside.any(axis=1)
        if there.sum() < len(line) / 2:  # the line went another way
            return None
        low, high = inside.argmax(axis=1), len(beside) - 1 - inside[:, ::-1].argmax(axis=1)
        places = np.arange(len(line))
        middle = np.interp(places, places[there], ((beside[low] + beside[high]) / 2)[there])
        offsets.append([part.mean() for part in np.array_split(middle, PARTS)])
    size = np.array(image.shape[1::-1], np.float32)
    return Band(width, ends.mean(axis=0) / size, np.array(offsets, np.float32))


def trace_mask(
    image: NDArray[np.uint8],
    points: Sequence[tuple[float, float]] | FloatArray,
    width: float,
    dark: bool = False,
    habit: BandHabit | None = None,
) -> BoolArray:
    """The band (H, W) bool along a trace; arguments and errors are those of ``trace``.

    Raises:
        PromptError: the band is wider than the image's longer side, besides.
    """
    height, columns = image.shape[:2]
    if width > max(height, columns):
        raise PromptError(f"a trace is {width:g} pixels wide, its image {columns} x {height}")
    return stroke_mask(trace(image, points, width, dark, habit), width, (height, columns))


def trace(
    image: NDArray[np.uint8],
    points: Sequence[tuple[float, float]] | FloatArray,
    width: float,
    dark: bool = False,
    habit: BandHabit | None = None,
) -> FloatArray:
    """The middle of a bright or dark band through points: (M, 2) XY, about a pixel apart.

    Args:
        image: (H, W, 3) or (H, W), uint8.
        points: [(x, y), ...], two at least: both ends, and what it goes through; what lies outside
            is moved to the image's edge.
        width: of the band, in pixels.
        dark: the line is darker than what is around it, not brighter.
        habit: of the bands that it is to be like; None lays it along what is brightest.

    Raises:
        PromptError: there are fewer than two points, one is no (x, y), or the width is not
            positive.
    """
    drawn = Trace(image, width, dark, habit)
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
