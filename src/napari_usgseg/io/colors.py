"""From what a file stores to grey or RGB: palettes, white as zero, CMYK, YCbCr and Lab."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .decoders import CHANNELS, Stored, unsupported


def color_channels(path: Path, stored: Stored) -> tuple[NDArray[Any], NDArray[Any] | None]:
    """Grey (H, W, 1) or RGB (H, W, 3) of a file, not turned upright; and its alpha (H, W) or None.

    Bits below 8 are multiplied up to uint8; deeper values stay what they are. Alpha that the
    colours have been multiplied by already is None, for over black nothing is left to do.

    Raises:
        ImageReadError: the values are of a kind that cannot be converted.
    """
    values = stored.values if stored.values.ndim == 3 else stored.values[..., None]
    alpha = None
    if stored.alpha is not None and not stored.premultiplied:
        alpha = _spread(values[..., stored.alpha], stored.bits)
    color = values[..., : CHANNELS[stored.kind]]
    if stored.palette is not None:
        table = stored.palette
        looked_up = table[np.clip(color[..., 0].astype(np.int64), 0, len(table) - 1)]
        if looked_up.shape[2] == 4 and alpha is None:
            alpha = looked_up[..., 3]
        return looked_up[..., :3], alpha
    if stored.white_is_zero:
        color = _turned(color, stored.bits)
    color = _spread(color, stored.bits)
    if stored.kind in ("grey", "rgb"):
        return color, alpha
    if color.dtype not in (np.uint8, np.uint16):
        raise unsupported(path, f"{stored.kind} colours of type {color.dtype} are not supported")
    if stored.kind == "cmyk":
        return _from_cmyk(color), alpha
    if stored.kind == "ycbcr":
        return _from_ycbcr(color), alpha
    return _from_lab(color, signed=stored.kind == "lab"), alpha


def _spread(values: NDArray[Any], bits: int) -> NDArray[Any]:
    """Values of 2 to 7 bits over 0..255."""
    if values.dtype != np.uint8 or not 2 <= bits <= 7:
        return values
    return np.rint(values * (255 / (2**bits - 1))).astype(np.uint8)


def _turned(values: NDArray[Any], bits: int) -> NDArray[Any]:
    if values.dtype.kind == "u":
        return values.dtype.type(2**bits - 1) - values
    return -values if values.dtype.kind == "f" else ~values


def _from_cmyk(values: NDArray[Any]) -> NDArray[Any]:
    full = float(np.iinfo(values.dtype).max)
    light = 1 - values.astype(np.float32) / full
    return np.rint(light[..., :3] * light[..., 3:] * full).astype(values.dtype)


def _from_ycbcr(values: NDArray[Any]) -> NDArray[Any]:
    """By ITU-R BT.601 over the full range, as JPEG has it and TIFF where nothing else is said."""
    full = float(np.iinfo(values.dtype).max)
    luma = values[..., 0].astype(np.float32)
    blue, red = (values[..., c].astype(np.float32) - (full + 1) / 2 for c in (1, 2))
    rgb = (luma + 1.402 * red, luma - 0.344136 * blue - 0.714136 * red, luma + 1.772 * blue)
    return np.rint(np.clip(np.stack(rgb, -1), 0, full)).astype(values.dtype)


def _from_lab(values: NDArray[Any], signed: bool) -> NDArray[np.uint8]:
    """CIE L*a*b* to sRGB; white is white, whatever the illuminant of the file was."""
    from skimage.color import lab2rgb

    deep = values.dtype == np.uint16
    light = values[..., 0].astype(np.float32) * (100 / np.iinfo(values.dtype).max)
    chroma = values[..., 1:]
    if signed:
        chroma = chroma.view(np.int16 if deep else np.int8).astype(np.float32)
    else:
        chroma = chroma.astype(np.float32) - (32768 if deep else 128)
    lab = np.concatenate([light[..., None], chroma / (256 if deep else 1)], axis=-1)
    return np.rint(lab2rgb(lab) * 255).astype(np.uint8)
