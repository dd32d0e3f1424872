"""Despeckling of an image for looking at it; models and labels never see the result."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

Uint8Image = NDArray[np.uint8]
MEDIAN_SIDE = 5
LEE_SIDE = 7
STRIP_ROWS = 256
"""The Lee filter goes over so many rows at a time, so that a large image needs little memory."""


def despeckled(image: Uint8Image, kind: str) -> Uint8Image:
    """An image with less speckle.

    Args:
        image: (H, W) or (H, W, 3) uint8.
        kind: "off" gives the image as it is, "median" the median of 5 x 5 pixels, "lee" the filter
            of Lee (IEEE Trans. Pattern Anal. Mach. Intell. 2(2), 1980) in 7 x 7 pixels: the mean
            where the image is even, the pixel itself where it is not.

    Returns:
        Of the same shape and type.
    """
    if kind == "off" or image.size == 0:
        return image
    channels = image[..., None] if image.ndim == 2 else image
    grey = image.ndim == 3 and bool((image == image[..., :1]).all())
    filtered = [_FILTERS[kind](channels[..., n]) for n in range(1 if grey else channels.shape[2])]
    out = np.stack(filtered * 3 if grey else filtered, axis=-1)
    return out if image.ndim == 3 else out[..., 0]


def _median(channel: Uint8Image) -> Uint8Image:
    picture = Image.fromarray(np.ascontiguousarray(channel))
    return np.asarray(picture.filter(ImageFilter.MedianFilter(MEDIAN_SIDE)))


def _lee(channel: Uint8Image) -> Uint8Image:
    """The noise's variance is taken to be the median of the variances of all neighbourhoods."""
    # Every fourth pixel is enough for a median and takes a sixteenth of the time.
    noise = max(float(np.median(_moments(channel[::4, ::4])[1])), 1e-6)
    out = np.empty_like(channel)
    half = LEE_SIDE // 2
    for top in range(0, len(channel), STRIP_ROWS):
        # Strips overlap by half of the window, so that no seam shows between them.
        above = min(half, top)
        strip = channel[top - above : top + STRIP_ROWS + half]
        mean, variance = _moments(strip)
        trust = np.clip((variance - noise) / np.maximum(variance, 1e-6), 0, 1)
        smooth = mean + trust * (strip - mean)
        rows = min(STRIP_ROWS, len(channel) - top)
        out[top : top + rows] = np.clip(np.rint(smooth[above : above + rows]), 0, 255)
    return out


def _moments(channel: Uint8Image) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Mean and variance of each pixel's neighbourhood."""
    from scipy.ndimage import uniform_filter

    values = channel.astype(np.float32)
    mean = uniform_filter(values, LEE_SIDE)
    # In float32 rounding can make it slightly negative.
    variance = uniform_filter(values * values, LEE_SIDE) - mean * mean
    return mean, np.maximum(variance, 0)


_FILTERS: dict[str, Callable[[Uint8Image], Uint8Image]] = {"median": _median, "lee": _lee}
