"""Images, stills and frames of loops and volumes alike, as RGB uint8, by one rule.

What is read and how frames are decoded is ``reading``'s; what they look like is decided here.

The rule (``to_rgb_uint8``):

* 8-bit values stay as they are; 1-bit (and bool) becomes 0 and 255; 2 to 7 bits are multiplied up
  to 0..255; a palette is looked up. Where 0 is white (TIFF's MinIsWhite,
  DICOM's MONOCHROME1), greys are turned. CMYK, YCbCr and Lab become RGB.
* Anything deeper, signed or float is mapped linearly to 0..255, all channels by one line. The line
  starts and ends at the 0.1 and 99.9 percentiles of the finite values, widened on each side by up
  to half their distance but never beyond the least and the greatest value. So an ordinary image
  keeps its whole range, 12 bits in a 16-bit file fill the 8, and a few hot pixels cannot blacken
  the rest. Where the percentiles are equal, the least and greatest value are taken; a constant
  image becomes black. NaN and -inf become 0, +inf 255.
* Grey is repeated to three channels. Alpha is dropped by laying the image over black, save an alpha
  that would leave nothing to see: it is ignored, and said (``core.notes``). Channels that the file
  does not call alpha are none.
* The EXIF (or TIFF) orientation is applied, so that sizes and coordinates are of the upright image.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from cachetools import LRUCache
from numpy.typing import NDArray

from ..core.errors import ImageReadError
from ..core.notes import remark
from ..core.types import Region
from .reading.files import frame_sizes, open_frames, read_stored
from .reading.frames import Frames, Spacing, Stored, color_channels, upright
from .search import search_images

_PERCENTILES = (0.1, 99.9)
_PERCENTILE_SAMPLE = 1_000_000
_HIDDEN = 16
"""An alpha hides a picture where nothing brighter than this part of its greatest value is left."""


def read_image(path: str | Path, frame: int | None = None) -> NDArray[np.uint8]:
    """Read an image file as (H, W, 3) RGB uint8, upright, by the rule of this module.

    Args:
        path: of any kind that ``reading.files.READ`` names; its content counts, not its suffix.
        frame: index in a loop, a volume or a TIFF of several pages; None takes the first.

    Raises:
        ImageReadError: the file is missing, empty, truncated, too large or no such image, or it
            has no such frame.
    """
    path = Path(path)
    return as_shown(path, read_stored(path, frame))


def as_shown(path: Path, stored: Stored) -> NDArray[np.uint8]:
    """What was stored of a frame as (H, W, 3) RGB uint8, upright, by the rule of this module.

    Raises:
        ImageReadError: its values are of a kind that cannot be converted.
    """
    color, alpha = color_channels(path, stored)
    image, hidden = _laid_over_black(_to_uint8(color), alpha)
    if hidden:
        remark(path, "its alpha hides the whole picture and was ignored")
    return np.ascontiguousarray(upright(image, stored.orientation))


class Loop:
    """The frames of an open file as (H, W, 3) RGB uint8, each decoded when it is asked for.

    A frame that cannot be decoded looks like the one that was read before it, so that what follows
    objects through the loop goes on behind it.

    Args:
        frames: the file; whoever opened it closes it.

    Attributes:
        broken: what is wrong with frames that could not be decoded, by frame.
    """

    def __init__(self, frames: Frames) -> None:
        self._frames = frames
        self._read: LRUCache[int, NDArray[np.uint8]] = LRUCache(4)
        self._last = np.zeros((*frames.sizes[0], 3), np.uint8)
        self.broken: dict[int, str] = {}

    def __len__(self) -> int:
        return len(self._frames)

    def __getitem__(self, frame: int) -> NDArray[np.uint8]:
        if frame not in self._read:
            try:
                self._last = as_shown(self._frames.path, self._frames.stored(frame))
            except ImageReadError as error:
                self.broken[frame] = error.cause
            self._read[frame] = self._last
        return self._read[frame]


def content_key(image: NDArray[np.uint8]) -> str:
    """A name for what is in an image, (H, W, 3) uint8: the same for the same pixels only."""
    digest = hashlib.blake2b(str(image.shape).encode(), digest_size=16)
    digest.update(np.ascontiguousarray(image).data)
    return digest.hexdigest()


def image_size(path: str | Path, frame: int | None = None) -> tuple[int, int]:
    """(H, W) of an image after its orientation, from the file's header only.

    Args:
        path: as for ``read_image``.
        frame: as for ``read_image``; each has a size of its own.

    Raises:
        ImageReadError: as for ``read_image``, as far as the header shows it.
    """
    sizes = frame_sizes(path)
    if not 0 <= (frame or 0) < len(sizes):
        raise ImageReadError(path, f"no frame {frame}: it has frames 0 to {len(sizes) - 1}")
    return sizes[frame or 0]


def image_files(inputs: str | Path | Iterable[str | Path]) -> list[Path]:
    """The image files among files and folders, each once; see ``search.search_images``.

    Raises:
        ImageReadError: an input does not exist or cannot be read.
    """
    given = {Path(inputs)} if isinstance(inputs, (str, Path)) else dict.fromkeys(map(Path, inputs))
    found = search_images(given)
    for problem in found.problems:
        if problem.path in given:
            raise problem
    return list(found.files)


def to_rgb_uint8(array: NDArray[Any]) -> NDArray[np.uint8]:
    """Take an image array of any depth to (H, W, 3) RGB uint8 by the rule of this module.

    Args:
        array: (H, W), or (H, W, C) with C = 1 grey, 2 grey and alpha, 3 RGB, 4 RGB and alpha;
            bool, integer or float. Alpha is full at the greatest integer, or at 1.0.

    Raises:
        ImageReadError: another shape or type.
    """
    array = np.asarray(array)
    image = array[..., None] if array.ndim == 2 else array
    if image.ndim != 3 or not 1 <= image.shape[2] <= 4 or image.size == 0:
        raise ImageReadError(
            "image array", f"shape {array.shape} is no image; expected (H, W) or (H, W, 1..4)"
        )
    if image.dtype.kind not in "buif":
        raise ImageReadError(
            "image array", f"values of type {image.dtype}; expected bool, integers or floats"
        )
    channels = image.shape[2]
    if channels in (2, 4):
        return _laid_over_black(_to_uint8(image[..., :-1]), image[..., -1])[0]
    return _laid_over_black(_to_uint8(image), None)[0]


def _laid_over_black(
    color: NDArray[np.uint8], alpha: NDArray[Any] | None
) -> tuple[NDArray[np.uint8], bool]:
    """(H, W, 1 or 3) uint8 as RGB; and whether the alpha (H, W) was ignored, for it hid all."""
    hidden = False
    if alpha is not None and not (alpha == _full(alpha.dtype)).all():
        opacity = np.clip(np.nan_to_num(alpha.astype(np.float32)) / _full(alpha.dtype), 0, 1)
        laid = np.rint(color * opacity[..., None]).astype(np.uint8)
        hidden = bool(color.any()) and int(laid.max()) <= int(color.max()) // _HIDDEN
        color = color if hidden else laid
    if color.shape[2] == 1:
        return np.repeat(color, 3, axis=2), hidden
    return np.ascontiguousarray(color), hidden


def _full(dtype: np.dtype[Any]) -> float:
    return float(np.iinfo(dtype).max) if dtype.kind in "ui" else 1.0


def _to_uint8(values: NDArray[Any]) -> NDArray[np.uint8]:
    if values.dtype == np.uint8:
        return values
    if values.dtype == np.bool_:
        return values.astype(np.uint8) * np.uint8(255)
    values = values.astype(np.float32 if values.dtype.itemsize <= 2 else np.float64)
    finite = values[np.isfinite(values)]
    greatest = float(np.abs(finite).max(initial=0.0))
    if greatest > 1e300:  # so that no difference below can overflow
        values, finite = values / greatest, finite / greatest
    low, high = _range(finite)
    if high <= low:
        low, high = low, low + 1.0
    with np.errstate(invalid="ignore", over="ignore"):
        scaled = (values - low) / (high - low) * 255.0
    scaled = np.nan_to_num(scaled, nan=0.0, posinf=255.0, neginf=0.0)
    return np.rint(np.clip(scaled, 0.0, 255.0)).astype(np.uint8)


def _range(finite: NDArray[Any]) -> tuple[float, float]:
    """Where the line from values to 0..255 starts and ends; see the module's docstring."""
    if finite.size == 0:
        return 0.0, 0.0
    least, greatest = float(finite.min()), float(finite.max())
    step = max(1, finite.size // _PERCENTILE_SAMPLE)
    low, high = (float(p) for p in np.percentile(finite[::step], _PERCENTILES))
    if high <= low:
        return least, greatest
    margin = (high - low) / 2
    return max(least, low - margin), min(greatest, high + margin)


def read_spacing(path: str | Path) -> Spacing | None:
    """Millimetres per pixel (row, column) of the upright image; None where they are not known.

    Args:
        path: any image file; one that cannot be read has no spacing.
    """
    try:
        with open_frames(path) as frames:
            return frames.about.spacing_mm
    except ImageReadError:  # whoever reads its pixels says so
        return None


def read_regions(path: str | Path) -> tuple[Region, ...]:
    """The regions of an image file's picture, as the scanner wrote them; () where it says nothing.

    Args:
        path: any image file; DICOM files of ultrasound have regions.

    Raises:
        ImageReadError: as for ``image_size``.
    """
    with open_frames(path) as frames:
        return frames.about.regions


def card_entry(spacing: Spacing | None) -> float | list[float] | None:
    """``pixel_size_mm`` of ``dataset.json``: a number, or [row, column] where the two differ."""
    if spacing is None:
        return None
    row, column = (float(f"{size:.9g}") for size in spacing)
    return row if abs(row - column) <= 1e-5 * row else [row, column]
