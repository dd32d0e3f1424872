"""Cleaning of a proposed mask: morphology, smoothing, holes, components, dilation, in this order.

Discs are exact Euclidean ones. The image's edge is no border of an object: one that the frame cuts
is neither opened nor smoothed away there. An empty mask stays empty, and nothing leaves the image.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..core.errors import UsgsegError
from ..core.geometry import mask_window, scribble_to_points
from ..core.types import BoolArray, FloatArray, Prompts

Keep = Literal["prompted", "largest", "all"]


@dataclass(frozen=True, slots=True)
class PostprocessSettings:
    """Settings of the cleaning; radii and deviations are pixels of the image, 0 leaves a step out.

    The defaults mend what segmenters get wrong most often and move no border: pieces far from the
    prompt go, small holes are filled.

    Attributes:
        enabled: False leaves the mask as it is.
        keep: which 8-connected components stay: those under a positive point or scribble or in the
            box ("prompted"; the largest where none is, all where there is no prompt), the
            "largest", or "all".
        min_area: components with fewer pixels go.
        fill_holes: holes up to this fraction of the filled mask's area are filled, 1 fills all. A
            hole with a negative point in it stays.
        opening: radius of what is cut off (bridges, spurs).
        closing: radius of what is bridged (clefts, gaps).
        smoothing: standard deviation of a Gaussian that rounds the border.
        dilation: by how much the result grows, last of all.
    """

    enabled: bool = True
    keep: Keep = "prompted"
    min_area: int = 0
    fill_holes: float = 0.1
    opening: int = 0
    closing: int = 0
    smoothing: float = 0.0
    dilation: int = 0

    def __post_init__(self) -> None:
        if self.keep not in get_args(Keep):
            raise UsgsegError(f"keep={self.keep!r}: expected one of {', '.join(get_args(Keep))}")
        for name in ("min_area", "fill_holes", "opening", "closing", "smoothing", "dilation"):
            value = getattr(self, name)
            if not 0 <= value < float("inf"):
                raise UsgsegError(f"{name}={value}: expected 0 (off) or more")


def postprocess(
    mask: ArrayLike, settings: PostprocessSettings, prompts: Prompts | None = None
) -> BoolArray:
    """Clean a mask (H, W); the result is a new bool mask of the same size.

    Args:
        mask: what is not 0 is inside.
        settings: the steps.
        prompts: what the person pointed at, for ``keep="prompted"`` and for holes; XY pixels.
    """
    given = np.array(mask, bool)
    if not settings.enabled or not given.any():
        return given
    reach = int(
        np.ceil(max(settings.opening, settings.closing, 4 * settings.smoothing, settings.dilation))
    )
    # Every step reaches at most so far (a Gaussian 4 deviations), so work on the mask's own box
    # gives what work on all of the image would.
    window = mask_window(given, reach + 2)
    work = _shaped(given[window], settings)
    if settings.fill_holes:
        work = _without_holes(
            work, settings.fill_holes, pointed_pixels(prompts, 0, given.shape)[window]
        )
    touched = pointed_pixels(prompts, 1, given.shape)
    if prompts is not None and prompts.box is not None:
        touched[_box_window(prompts.box)] = True
    work = _kept(work, settings, touched[window] if _is_positive(prompts) else None)
    if settings.dilation:
        work = _dilated(work, settings.dilation)
    cleaned = np.zeros_like(given)
    cleaned[window] = work
    return cleaned


def _shaped(mask: BoolArray, settings: PostprocessSettings) -> BoolArray:
    from skimage.filters import gaussian
    from skimage.morphology import isotropic_dilation, isotropic_erosion

    # The distance transforms behind these want a pixel of background: there is none where the mask
    # fills the window, and there is nothing to do either.
    if settings.opening and not mask.all():
        mask = _dilated(isotropic_erosion(mask, settings.opening), settings.opening)
    if settings.closing and mask.any() and not mask.all():
        # Padded, so that there is ground beyond the image's edge: a gap between object and edge
        # would be filled without it.
        grown = isotropic_dilation(np.pad(mask, settings.closing + 1), settings.closing)
        inner = slice(settings.closing + 1, -settings.closing - 1)
        mask = isotropic_erosion(grown, settings.closing)[inner, inner]
    if settings.smoothing:
        # "nearest" goes on with the edge's pixels; with zeros beyond, an object that the image cuts
        # would be rounded off there.
        blurred = gaussian(mask.astype(np.float32), settings.smoothing, mode="nearest")
        mask = blurred > 0.5
    return mask


def _dilated(mask: BoolArray, radius: int) -> BoolArray:
    from skimage.morphology import isotropic_dilation

    return isotropic_dilation(mask, radius) if mask.any() else mask


def _without_holes(mask: BoolArray, fraction: float, negative: BoolArray) -> BoolArray:
    from skimage.measure import label

    # Ground is 4-connected where objects are 8-connected, else a diagonal line of one would be both
    # closed and open.
    numbered = label(~mask, connectivity=1)
    sizes = np.bincount(numbered.ravel())
    hole = np.ones(len(sizes), bool)
    hole[0] = False
    # Ground that reaches the window's edge is no hole.
    for edge in (numbered[0], numbered[-1], numbered[:, 0], numbered[:, -1]):
        hole[edge] = False
    filled_area = int(mask.sum()) + int(sizes[hole].sum())
    hole &= sizes <= fraction * filled_area
    hole[numbered[negative]] = False
    return mask | hole[numbered]


def _kept(mask: BoolArray, settings: PostprocessSettings, prompted: BoolArray | None) -> BoolArray:
    from skimage.measure import label

    numbered = label(mask, connectivity=2)
    sizes = np.bincount(numbered.ravel())
    sizes[0] = 0
    if len(sizes) == 1:
        return mask
    kept = sizes >= max(1, settings.min_area)
    if settings.keep == "prompted" and prompted is not None:
        touched = np.zeros(len(sizes), bool)
        touched[numbered[prompted]] = True
        # A click on ground touches no component.
        touched[0] = False
        kept &= touched if touched.any() else _largest(sizes)
    elif settings.keep == "largest":
        kept &= _largest(sizes)
    return kept[numbered]


def _largest(sizes: NDArray[Any]) -> BoolArray:
    return np.arange(len(sizes)) == sizes.argmax()


def _is_positive(prompts: Prompts | None) -> bool:
    """Whether something is pointed at as inside the object."""
    if prompts is None:
        return False
    points = bool((np.asarray(prompts.point_labels) == 1).any())
    return points or prompts.box is not None or any(label == 1 for _, label in prompts.scribbles)


def pointed_pixels(prompts: Prompts | None, label: int, shape: tuple[int, ...]) -> BoolArray:
    """The pixels (H, W) under the points and scribbles of a label."""
    pixels = np.zeros(shape, bool)
    if prompts is None:
        return pixels
    groups = [np.asarray(prompts.point_coords)[np.asarray(prompts.point_labels) == label]]
    groups += [
        scribble_to_points(line, 0.5, 8 * sum(shape))
        for line, kind in prompts.scribbles
        if kind == label
    ]
    rows_columns = np.rint(np.concatenate(groups).reshape(-1, 2)[:, ::-1]).astype(np.intp)
    inside = ((rows_columns >= 0) & (rows_columns < shape)).all(axis=1)
    pixels[tuple(rows_columns[inside].T)] = True
    return pixels


def _box_window(box: FloatArray) -> tuple[slice, slice]:
    """The rows and columns of the pixels in a box XYXY, whose edges may lie outside the image."""
    corners = np.asarray(box, float).ravel()
    first = np.maximum(np.ceil(corners[:2] - 0.5), 0).astype(int)
    stop = np.maximum(np.floor(corners[2:] + 0.5) + 1, 0).astype(int)
    return slice(first[1], stop[1]), slice(first[0], stop[0])
