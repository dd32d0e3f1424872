from __future__ import annotations

import struct
import zlib

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image

from napari_usgseg.core.errors import ImageReadError
from napari_usgseg.io.images import read_image, to_rgb_uint8
from napari_usgseg.io.reading.files import read_stored

COLOR_TYPES = {2: 4, 3: 2, 4: 6}


def png_bytes(pixels, filters):
    """Encode (H, W, C) uint16 as a PNG, each row by the filter that is asked for."""
    height, width, channels = pixels.shape
    step = 2 * channels
    raw = pixels.astype(">u2").reshape(height, width * channels).view(np.uint8).astype(int)
    above = np.zeros(width * step, int)
    stream = bytearray()
    for row, kind in zip(raw, filters, strict=True):
        left = np.concatenate([np.zeros(step, int), row[:-step]])
        corner = np.concatenate([np.zeros(step, int), above[:-step]])
        guess = left + above - corner
        gaps = [np.abs(guess - side) for side in (left, above, corner)]
        paeth = np.choose(np.argmin(gaps, axis=0), [left, above, corner])
        predictions = [0, left, above, (left + above) // 2, paeth]
        stream += bytes([kind]) + ((row - predictions[kind]) % 256).astype(np.uint8).tobytes()
        above = row

    def chunk(kind, body):
        return (
            struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        )

    header = struct.pack(">IIBBBBB", width, height, 16, COLOR_TYPES[channels], 0, 0, 0)
    packed = zlib.compress(bytes(stream))
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", packed[:9])
        + chunk(b"IDAT", packed[9:])
        + chunk(b"IEND", b"")
    )


PIXELS = st.tuples(st.integers(1, 12), st.integers(1, 12), st.sampled_from([2, 3, 4])).flatmap(
    lambda shape: hnp.arrays(np.uint16, shape)
)


@settings(
    deadline=None, max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(PIXELS, st.data())
def test_every_filter_gives_the_pixels_that_were_stored(tmp_path, pixels, data):
    rows = len(pixels)
    filters = data.draw(st.lists(st.integers(0, 4), min_size=rows, max_size=rows))
    path = tmp_path / "a.png"
    path.write_bytes(png_bytes(pixels, filters))
    stored = read_stored(path)
    values, orientation = stored.values, stored.orientation
    assert orientation == 1
    assert values.dtype == np.uint16
    assert np.array_equal(values, pixels)
    with Image.open(path) as image:  # the same file by another decoder, cut to 8 bits
        channels = pixels.shape[2]  # (grey and alpha come as RGBA)
        assert np.array_equal(np.asarray(image)[..., -channels:], pixels >> 8)


def test_12_bits_in_a_16_bit_colour_png_keep_their_contrast(tmp_path):
    grey = np.linspace(0, 4095, 64 * 64).reshape(64, 64, 1).astype(np.uint16)
    pixels = np.repeat(grey, 3, axis=2)
    (tmp_path / "a.png").write_bytes(png_bytes(pixels, [4] * 64))
    assert np.array_equal(read_image(tmp_path / "a.png"), to_rgb_uint8(pixels))
    assert len(np.unique(read_image(tmp_path / "a.png"))) == 256


@pytest.mark.parametrize("part", [0.5, 0.9])
def test_a_truncated_one_names_the_file_and_the_cause(tmp_path, part):
    pixels = np.random.default_rng(0).integers(0, 65536, (20, 20, 3), np.uint16)
    data = png_bytes(pixels, [1] * 20)
    path = tmp_path / "a.png"
    path.write_bytes(data[: int(part * len(data))])
    with pytest.raises(ImageReadError, match=r"a\.png: truncated or damaged"):
        read_image(path)


def test_an_unknown_filter_is_an_error(tmp_path):
    data = png_bytes(np.zeros((2, 2, 3), np.uint16), [0, 0])
    stream = zlib.compress(b"\x07" + bytes(12) + b"\0" + bytes(12))
    start = data.index(b"IDAT") - 4
    body = struct.pack(">I4s", len(stream), b"IDAT") + stream
    body += struct.pack(">I", zlib.crc32(b"IDAT" + stream))
    (tmp_path / "a.png").write_bytes(data[:start] + body + data[-12:])
    with pytest.raises(ImageReadError, match=r"damaged .*filter"):
        read_image(tmp_path / "a.png")
