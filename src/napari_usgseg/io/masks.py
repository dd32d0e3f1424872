"""Masks as people make them: the numbers of labels, or one object in black and white.

Whoever reads a mask reads it here, so that all see the same truth:

* The stored values count, upright; a palette's indices too. Where 0 is white (TIFF's MinIsWhite)
  nothing is turned.
* A colour image is a mask where its channels are equal. Alpha is the mask where the colours say
  nothing (constant, or constant wherever something is to be seen), and is said (``core.notes``).
* ``as_labels``: where a data set names one label, a mask of 0 and 255, or of anything like it with
  soft edges (JPEG, anti-aliasing, blur), is cut at half, and is said. All other values that are no
  label are refused, with how many pixels have them.
* ``fitted``: a mask of its image's shape at another scale is brought to the image's size, and is
  said; of another shape it is refused.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..core.errors import DatasetError, ImageReadError
from ..core.notes import remark
from ..core.types import BoolArray
from .reading.files import read_stored
from .reading.frames import CHANNELS, Stored, color_channels, upright

HALF = 128
"""From this of 255 on a pixel is the object where a mask has grey values in between."""
SOFT = "grey values between black and white; what is brighter than half is the object"
IN_ALPHA = "the mask is in its alpha channel"
RESCALED = "a mask of another scale, brought to its image's size"

_FULL_SCALES = (1.0, 255.0, 1023.0, 4095.0, 16383.0, 65535.0)
_TOP = 0.75
"""The brightest value of a black and white mask is at least this part of the full scale."""
_GREY = (32, 224)
"""Of 255, or of the brightest value: between these a pixel is neither black nor white."""
_SHOWN = 5
_ASPECT = 1.05
"""Two aspect ratios differ by less than this, however small a picture is that was rounded."""
_MOST_GREY = 4
"""How many grey pixels there may be for a white one: a blurred object of few pixels has a few."""
_NEAR = 3
"""How far from the rim an area of one grey may be."""
_REACH = 12
"""How far from the rim (pixels) grey may be: blocks of JPEG are 8 wide, their diagonals 11."""


@dataclass(frozen=True, slots=True, eq=False)
class MaskFile:
    """Mask as its file has it: a value for each pixel.

    Attributes:
        values: (H, W) as stored, upright.
        shown: (H, W) uint8, what a grey palette makes of them; None where there is none.
        lossy: whether the values may differ from those that were saved (JPEG).
    """

    values: NDArray[Any]
    shown: NDArray[np.uint8] | None = None
    lossy: bool = False


def read_mask_file(path: Path) -> MaskFile:
    """Read the numbers of a mask.

    Raises:
        ImageReadError: the file is missing or damaged, or is a colour image or a picture with
            transparency, not a mask.
    """
    stored = read_stored(path)
    if stored.palette is not None:
        return _of_palette(stored, stored.palette)
    colors, alpha = _channels(path, stored)
    if alpha is not None and _is_in_alpha(colors, alpha):
        remark(path, IN_ALPHA)
        return MaskFile(alpha, lossy=stored.lossy)
    if alpha is not None and not _is_constant(alpha[..., None]) and colors[alpha == 0].any():
        raise ImageReadError(
            path,
            "is a picture with transparency, not a mask: its colours and its alpha say two "
            "different things; save the mask as a grey PNG without alpha",
        )
    if not (colors == colors[..., :1]).all():
        raise ImageReadError(
            path,
            "is a colour image, not a label map; expected a grey PNG with 0 for background "
            "and 1.. for the classes",
        )
    return MaskFile(colors[..., 0], lossy=stored.lossy)


def read_colors(path: Path) -> NDArray[Any]:
    """Grey (H, W, 1) or RGB (H, W, 3) of a mask in colour, upright; what alpha hides is black.

    Raises:
        ImageReadError: the file is missing or damaged.
    """
    return _seen(*_channels(path, read_stored(path)))


def read_object(path: Path) -> NDArray[Any]:
    """A mask of one object in any colour: as ``read_colors``, or its alpha (H, W).

    Raises:
        ImageReadError: the file is missing or damaged.
    """
    colors, alpha = _channels(path, read_stored(path))
    if alpha is not None and _is_in_alpha(colors, alpha):
        remark(path, IN_ALPHA)
        return alpha
    return _seen(colors, alpha)


def as_labels(path: Path, mask: MaskFile, labels: Sequence[int]) -> NDArray[Any]:
    """The label of each pixel (H, W), integers: 0 or one of ``labels``.

    Args:
        path: of the mask, for messages.
        mask: of it.
        labels: the values that a pixel may have; () where they are not known: then all are taken.

    Raises:
        DatasetError: it holds other values, and is no black and white mask of the only label.
    """
    numbers = whole_numbers(mask.values)
    if mask.lossy and len(labels) == 1 and _is_black(mask.values):
        return np.zeros(mask.values.shape, np.uint8)
    if numbers is not None and (not labels or np.isin(np.unique(numbers), [0, *labels]).all()):
        return numbers
    if len(labels) == 1 and (mask.lossy or numbers is None or not _has_area(numbers, labels[0])):
        for values in (mask.values, mask.shown):
            found = None if values is None else cut_at_half(path, values)
            if found is not None:
                kind = np.uint8 if labels[0] < 256 else np.uint16
                return np.where(found, labels[0], 0).astype(kind)
    raise DatasetError(path, _no_label(mask.values, labels))


def cut_at_half(path: Path, values: NDArray[Any]) -> BoolArray | None:
    """As ``black_and_white``; what is not plainly 0 and 255 is said of the file."""
    found = black_and_white(values)
    if found is not None:
        levels = np.unique(values)
        usual = (0, np.iinfo(values.dtype).max if values.dtype.kind in "ui" else 1)
        if len(levels) > 2:
            remark(path, SOFT)
        elif levels[-1] not in usual:
            remark(path, f"the value {levels[-1]:g} is taken as the object, as 255 is")
    return found


def black_and_white(values: NDArray[Any]) -> BoolArray | None:
    """The object (H, W) of a mask that is black and white but for the rim of its object.

    Its values run from 0 to near the full scale (1.0, 255, or that of 10 to 16 bits), and those in
    between are few, lie near the rim, and form no areas of their own. None for any other picture.
    """
    if values.dtype == np.bool_:
        return values
    level = values.astype(np.float32)
    top = float(level.max(initial=0))
    if not np.isfinite(level).all() or level.min(initial=0) < 0 or top > _FULL_SCALES[-1]:
        return None
    whole = values.dtype.kind in "ui"
    full = next(scale for scale in _FULL_SCALES if top <= scale and not (whole and scale == 1))
    if whole and top == 1:
        return np.asarray(values > 0, bool)
    if top < _TOP * full:
        return np.zeros(values.shape, bool) if top == 0 else None
    level *= 255 / full
    found = level >= HALF
    white = level >= _GREY[1] / 255 * level.max()
    grey = (level >= _GREY[0]) & ~white
    return found if _is_rim(grey, found, int(white.sum()), level) else None


def object_mask(path: Path, size_hw: tuple[int, int]) -> BoolArray:
    """The object (H, W) in a mask of one object, at its image's size.

    Where there are just two values, 0 and another, the other is the object.

    Raises:
        ImageReadError: the file is missing or damaged.
        DatasetError: it is of another shape than its image, or no black and white mask.
    """
    values = read_object(path)
    values = values.max(axis=2) if values.ndim == 3 else values
    levels = np.unique(values)
    if len(levels) <= 2 and not levels[0]:
        found = values > 0
    else:
        found = as_labels(path, MaskFile(values), (1,)) > 0
    return np.asarray(fitted(path, found, size_hw), bool)


def fitted(path: Path, labels: NDArray[Any], size_hw: tuple[int, int]) -> NDArray[Any]:
    """Labels (H, W), or colours (H, W, C), of ``path`` at their image's (H, W), by nearest pixels.

    Raises:
        DatasetError: their shape is not the image's.
    """
    if labels.shape[:2] == tuple(size_hw):
        return labels
    if not same_shape(labels.shape, size_hw):
        raise DatasetError(
            path,
            f"is {labels.shape[1]}x{labels.shape[0]} pixels, its image "
            f"{size_hw[1]}x{size_hw[0]}; they must be the same, or one shape at two scales: make "
            "the mask anew, or put back the image that it was made on",
        )
    remark(path, RESCALED)
    rows, columns = (
        # The pixel under the middle of each new one; without the half the mask would move by half a
        # pixel.
        ((np.arange(wanted) + 0.5) * (given / wanted)).astype(int)
        for wanted, given in zip(size_hw, labels.shape[:2], strict=True)
    )
    return np.ascontiguousarray(labels[rows[:, None], columns])


def same_shape(first: tuple[int, ...], second: tuple[int, ...]) -> bool:
    """Whether one (H, W) is the other at another scale, up to rounding; False for the same scale.

    There is a scale at which both sides of the larger, rounded the same way (down, up, to the
    nearest), are those of the smaller.
    """
    small, large = sorted((tuple(first[:2]), tuple(second[:2])))
    sides = list(zip(small, large, strict=True))
    scales = [less / more for less, more in sides]
    if max(scales) >= 1 or max(scales) > _ASPECT * min(scales):
        return False
    ways = ((0.0, 1.0), (0.5, 0.5), (1.0, 0.0))
    return scales[0] == scales[1] or any(
        max((less - down) / more for less, more in sides)
        < min((less + up) / more for less, more in sides)
        for down, up in ways
    )


def whole_numbers(values: NDArray[Any]) -> NDArray[Any] | None:
    """The values as unsigned integers of at most 16 bits; None where they are none."""
    if values.dtype.kind not in "buif" or values.size == 0:
        return None
    if values.dtype.kind == "f" and not (np.isfinite(values) & (values == np.rint(values))).all():
        return None
    if values.min() < 0 or values.max() > 65535:
        return None
    return values.astype(np.uint8 if values.dtype.itemsize == 1 else np.uint16)


def _of_palette(stored: Stored, palette: NDArray[np.uint8]) -> MaskFile:
    values = stored.values if stored.values.ndim == 2 else stored.values[..., 0]
    values = upright(values, stored.orientation)
    shown = palette[np.clip(values.astype(np.int64), 0, len(palette) - 1)]
    is_grey = bool((shown[..., :3] == shown[..., :1]).all())
    return MaskFile(values, shown[..., 0] if is_grey else None, stored.lossy)


def _channels(path: Path, stored: Stored) -> tuple[NDArray[Any], NDArray[Any] | None]:
    """Colours (H, W, 1 or 3) and alpha (H, W) or None, upright: as stored, a palette looked up."""
    if stored.kind in ("grey", "rgb"):
        values = stored.values if stored.values.ndim == 3 else stored.values[..., None]
        colors = values[..., : CHANNELS[stored.kind]]
        alpha = None if stored.alpha is None else values[..., stored.alpha]
    else:
        colors, alpha = color_channels(path, stored)
    turned = None if alpha is None else upright(alpha, stored.orientation)
    return upright(colors, stored.orientation), turned


def _is_constant(colors: NDArray[Any]) -> bool:
    """Whether all of (..., C) are one colour; True for none."""
    flat = colors.reshape(-1, colors.shape[-1])
    return bool((flat == flat[:1]).all())


def _is_in_alpha(colors: NDArray[Any], alpha: NDArray[Any]) -> bool:
    """Whether the colours say nothing, so that alpha is the mask."""
    varies = not _is_constant(alpha[..., None])
    if _is_constant(colors):
        return varies or not alpha.any()  # nothing is to be seen: an object in alpha, none here
    if not varies:
        return False
    if (colors == colors[..., :1]).all() and not colors[alpha == 0].any():
        return False  # a grey mask, to which alpha adds nothing
    return _is_constant(colors[alpha > 0])


def _seen(colors: NDArray[Any], alpha: NDArray[Any] | None) -> NDArray[Any]:
    if alpha is None or _is_constant(alpha[..., None]):
        return colors
    return np.where(alpha[..., None] > 0, colors, colors.dtype.type(0))


def _is_rim(grey: BoolArray, found: BoolArray, white: int, level: NDArray[np.float32]) -> bool:
    """Whether the grey pixels are no more than the soft rim of what was found."""
    from scipy.ndimage import distance_transform_edt, maximum_filter, minimum_filter

    if not grey.any():
        return True
    if found.all() or int(grey.sum()) > _MOST_GREY * white:
        return False
    distance = np.where(found, distance_transform_edt(found), distance_transform_edt(~found))
    flat = grey & (maximum_filter(level, 3) == minimum_filter(level, 3)) & (distance > _NEAR)
    far = grey & (distance > _REACH)
    return int(far.sum()) <= 0.01 * white and int(flat.sum()) <= 0.05 * white


def _is_black(values: NDArray[Any]) -> bool:
    """Whether a JPEG is black all over: its black may be 1 or 2, the same everywhere."""
    return bool(values.max() == values.min() < _GREY[0])


def _has_area(numbers: NDArray[Any], label: int) -> bool:
    """Whether a label's own number is meant as such, beside values that are no label.

    In a mask with soft edges the number is one grey among others, and lies in patches, or it is the
    black of what was a JPEG; where both it and 0 have an area, or it is the only value beside one
    other, black and white would be a guess.
    """
    if label >= _GREY[1] or not (numbers == label).any():
        return False
    few = len(np.unique(numbers[numbers > 0])) <= 2
    return few or (_is_area(numbers, label) and _is_area(numbers, 0))


def _is_area(numbers: NDArray[Any], value: int) -> bool:
    """Whether most pixels of a value have it all around them, too."""
    from scipy.ndimage import maximum_filter, minimum_filter

    own = numbers == value
    flat = own & (maximum_filter(numbers, 3) == minimum_filter(numbers, 3))
    return int(flat.sum()) > 0.5 * int(own.sum())


def _no_label(values: NDArray[Any], labels: Sequence[int]) -> str:
    """Which values are no label, how many pixels have them, and the cure."""
    found = zip(*(part.tolist() for part in np.unique(values, return_counts=True)), strict=True)
    odd = [(f"{value:g}", str(count)) for value, count in found if value not in (0, *labels)]
    shown, counts = zip(*odd[:_SHOWN], strict=True)
    more = f", and {len(odd) - _SHOWN} values more" if len(odd) > _SHOWN else ""
    named = ", ".join(map(str, labels)) or "whole numbers from 0 to 65535"
    pixels = "pixel" if counts == ("1",) else "pixels"
    return (
        f"holds the values {', '.join(shown)} ({', '.join(counts)} {pixels}){more}, which are none "
        f"of the data set's labels, {named}; expected 0 for background and the labels' own "
        "numbers: correct the mask, or name the values as labels"
    )
