"""PNGs of 16 bits in colour or with alpha, which Pillow cuts down to 8 bits.

A 12-bit image in such a file would lose all but 16 of its grey levels. Grey PNGs of 16 bits without
alpha are read by Pillow as they are, and interlaced ones stay with it.
"""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_CHANNELS = {2: 3, 4: 2, 6: 4}
"""PNG colour type -> channels: RGB, grey and alpha, RGB and alpha."""


def is_deep_color_png(path: Path) -> bool:
    """Whether ``read_deep_color_png`` is for this file."""
    with path.open("rb") as file:
        head = file.read(29)
    return (
        len(head) == 29
        and head[:8] == _SIGNATURE
        and head[12:16] == b"IHDR"
        and head[24] == 16
        and head[25] in _CHANNELS
        and head[28] == 0
    )


def read_deep_color_png(path: Path) -> NDArray[np.uint16]:
    """The pixels (H, W, 2..4) of a file that ``is_deep_color_png``.

    Raises:
        ValueError: the file is truncated or damaged.
    """
    data = path.read_bytes()
    width, height = struct.unpack(">II", data[16:24])
    pixel_bytes = 2 * _CHANNELS[data[25]]
    size = height * (1 + width * pixel_bytes)
    inflate = zlib.decompressobj()
    stream = inflate.decompress(_pixel_data(data), size)  # never more than the header says
    if len(stream) < size:
        raise ValueError(f"{len(stream)} of {size} bytes of pixels")
    rows = np.frombuffer(stream, np.uint8).reshape(height, 1 + width * pixel_bytes)
    filtered = rows[:, 1:].reshape(height, width, pixel_bytes)
    pixels = _unfiltered(filtered, rows[:, 0])
    return pixels.view(">u2").astype(np.uint16)


def _pixel_data(data: bytes) -> bytes:
    parts, place = [], len(_SIGNATURE)
    while place + 8 <= len(data):
        length, kind = struct.unpack(">I4s", data[place : place + 8])
        body = data[place + 8 : place + 8 + length]
        check = data[place + 8 + length : place + 12 + length]
        if kind == b"IDAT":
            if check != struct.pack(">I", zlib.crc32(kind + body)):
                raise ValueError("a block of pixels is incomplete or its checksum is wrong")
            parts.append(body)
        place += 12 + length
    return b"".join(parts)


def _unfiltered(filtered: NDArray[np.uint8], kinds: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Undo PNG's filters: (H, W, bytes of a pixel) and the filter of each row (H,).

    A pixel is predicted from those to its left, above it, and above to the left; so all pixels of
    an anti-diagonal are independent of one another and are done at once.
    """
    if kinds.max(initial=0) > 4:
        raise ValueError(f"unknown filter {kinds.max()}")
    height, width, depth = filtered.shape
    padded = np.zeros((height + 1, width + 1, depth), np.uint8)
    for diagonal in range(height + width - 1):
        rows = np.arange(max(0, diagonal - width + 1), min(height, diagonal + 1))
        columns = diagonal - rows
        left = padded[rows + 1, columns].astype(np.int16)
        above = padded[rows, columns + 1].astype(np.int16)
        corner = padded[rows, columns].astype(np.int16)
        kind = kinds[rows, None]
        guess = np.select(
            [kind == 1, kind == 2, kind == 3, kind == 4],
            [left, above, (left + above) >> 1, _paeth(left, above, corner)],
            np.int16(0),
        )
        padded[rows + 1, columns + 1] = filtered[rows, columns] + guess.astype(np.uint8)
    return np.ascontiguousarray(padded[1:, 1:])


def _paeth(
    left: NDArray[np.int16], above: NDArray[np.int16], corner: NDArray[np.int16]
) -> NDArray[np.int16]:
    to_left, to_above = np.abs(above - corner), np.abs(left - corner)
    to_corner = np.abs(left + above - 2 * corner)
    nearest_above = np.where(to_above <= to_corner, above, corner)
    return np.where((to_left <= to_above) & (to_left <= to_corner), left, nearest_above)
