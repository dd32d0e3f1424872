"""What a file stores is what is read, whatever the file's kind."""

from __future__ import annotations

import io
import logging
import struct
import zipfile
import zlib
from pathlib import Path

import imagecodecs
import numpy as np
import pytest
import tifffile
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from PIL import Image, ImageCms

from napari_usgseg.core.errors import ImageReadError
from napari_usgseg.core.notes import listening
from napari_usgseg.io.images import image_size, read_image, to_rgb_uint8
from napari_usgseg.io.labels import read_labels
from napari_usgseg.io.reading.files import frame_sizes, read_stored
from napari_usgseg.io.reading.frames import read_errors, words_of

CASES = Path(__file__).parents[2] / "cases"
quick = settings(
    deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


def noise(shape, dtype=np.uint8, bits=None, seed=0):
    rng = np.random.default_rng(seed)
    dtype = np.dtype(dtype)
    if dtype.kind == "b":
        return rng.integers(0, 2, shape).astype(bool)
    if dtype.kind == "f":
        return rng.normal(0, 100, shape).astype(dtype)
    if bits:
        return rng.integers(0, 2**bits, shape, dtype=np.uint64).astype(dtype)
    limits = np.iinfo(dtype)
    return rng.integers(limits.min // 2, limits.max // 2, shape).astype(dtype)


def smooth(height=48, width=64, top=255, dtype=np.uint8):
    rows, columns = np.mgrid[:height, :width]
    return np.rint((np.sin(rows / 9) + np.cos(columns / 7) + 2) / 4 * top).astype(dtype)


# TIFF: what tifffile can write


ANY = [None, "lzw", "packbits", "deflate", "adobe_deflate", "zstd", "lzma"]
TYPES = [
    (bool, 1), *((np.uint8, bits) for bits in range(2, 9)),
    *((np.uint16, bits) for bits in (9, 10, 12, 13, 14, 16)),
    *((np.uint32, bits) for bits in (17, 24, 32)),
    *((t, None) for t in (np.int8, np.int16, np.int32, np.int64, np.uint64)),
    *((t, None) for t in (np.float16, np.float32, np.float64)),
]  # fmt: skip
PICTURE_CODECS = {  # lossless for these only
    "png": [(np.uint8, 8), (np.uint16, 16)],
    "jpeg2000": [(np.uint8, 8), (np.uint16, 12), (np.uint16, 16)],
    "jpegxl": [(np.uint8, 8), (np.uint16, 16)],
    "lerc": [(np.uint8, 8), (np.uint16, 16), (np.float32, None)],
}
CHANNELS = {
    "minisblack": (1, 2, 3, 4), "miniswhite": (1,), "palette": (1,), "rgb": (3, 4),
    "separated": (4,), "ycbcr": (3,), "cielab": (3,),
}  # fmt: skip


@st.composite
def lossless(draw):
    """(pixels as read back, keywords of ``imwrite``, pixels as written)."""
    compression = draw(st.sampled_from([*ANY, *PICTURE_CODECS]))
    dtype, bits = draw(st.sampled_from(PICTURE_CODECS.get(compression, TYPES)))
    photometrics = ["minisblack", "rgb"] if compression in PICTURE_CODECS else sorted(CHANNELS)
    photometric = draw(st.sampled_from(photometrics))
    channels = draw(st.sampled_from(CHANNELS[photometric]))
    planar = draw(st.sampled_from(["contig", "separate"])) if channels > 1 else None
    assume(dtype is not bool or planar != "contig")  # tifffile packs these by columns, not by rows
    predictor = 1
    if compression in ANY[1:] and dtype is not bool:
        predictor = draw(st.sampled_from([1, 3 if np.dtype(dtype).kind == "f" else 2]))
    tile = draw(st.sampled_from([None, (16, 32)]))
    height, width = draw(st.integers(1, 40)), draw(st.integers(1, 40))
    shape = (height, width, channels) if channels > 1 else (height, width)
    pixels = noise(shape, dtype, bits, draw(st.integers(0, 99)))
    packed = bits is not None and bits not in (1, 8, 16, 32)
    swapped = not packed and compression not in PICTURE_CODECS  # others tifffile writes unswapped
    order = draw(st.sampled_from("<>" if swapped else "<"))
    keywords = {
        "photometric": photometric, "compression": compression, "planarconfig": planar,
        "predictor": predictor, "tile": tile, "byteorder": order,
    }  # fmt: skip
    if packed:
        keywords["bitspersample"] = bits
        assume(predictor == 1)  # (nor does tifffile write it)
    if photometric == "palette":
        assume(dtype is bool or (np.dtype(dtype).kind == "u" and (bits or 64) <= 16))
        keywords["colormap"] = noise((3, 2**bits), np.uint16, 16)
    written = np.moveaxis(pixels, -1, 0) if planar == "separate" else pixels
    return pixels, keywords, written


@settings(quick, max_examples=400)
@given(lossless())
def test_every_lossless_tiff_gives_the_array_that_was_written(tmp_path, drawn):
    pixels, keywords, written = drawn
    path = tmp_path / "a.tif"
    try:
        tifffile.imwrite(path, written, **keywords)
    except Exception:  # not a combination that tifffile writes
        assume(False)
    stored = read_stored(path)
    values, orientation = stored.values, stored.orientation
    assert orientation == 1
    assert values.dtype == pixels.dtype
    np.testing.assert_array_equal(values, pixels)
    if keywords["photometric"] in ("minisblack", "miniswhite", "rgb", "palette"):
        assert read_image(path).shape == (*pixels.shape[:2], 3)


@pytest.mark.parametrize(
    ("compression", "decode"),
    [
        ("jpeg", imagecodecs.jpeg8_decode),
        ("webp", imagecodecs.webp_decode),
        ("jpegxl", imagecodecs.jpegxl_decode),
        ("jpegxr", imagecodecs.jpegxr_decode),
        ("jpeg2000", imagecodecs.jpeg2k_decode),
    ],
)
@pytest.mark.parametrize("photometric", ["minisblack", "rgb"])
def test_a_lossy_tiff_is_what_imagecodecs_decodes(tmp_path, compression, decode, photometric):
    pixels = smooth()
    if photometric == "rgb" or compression == "webp":
        photometric = "rgb"
        pixels = np.stack([pixels, pixels[::-1], 255 - pixels], -1)
    level = {"jpegxl": 85, "webp": 80, "jpegxr": 0.7, "jpeg": 80, "jpeg2000": 35}[compression]
    tifffile.imwrite(
        tmp_path / "a.tif", pixels, photometric=photometric, compression=compression,
        compressionargs={"level": level} | ({"lossless": False} if compression == "webp" else {}),
        rowsperstrip=len(pixels),
    )  # fmt: skip
    with tifffile.TiffFile(tmp_path / "a.tif") as tiff:
        (start,), (count,) = tiff.pages[0].dataoffsets, tiff.pages[0].databytecounts
    data = (tmp_path / "a.tif").read_bytes()[start : start + count]
    values = read_stored(tmp_path / "a.tif").values
    np.testing.assert_array_equal(values, decode(data).reshape(pixels.shape))
    assert not np.array_equal(values, pixels)
    assert np.abs(values.astype(int) - pixels).mean() < 8


@pytest.mark.parametrize("mode", ["L", "RGB", "CMYK", "YCbCr"])
@pytest.mark.parametrize("compression", [None, "tiff_lzw", "jpeg"])
def test_a_tiff_of_pillow_looks_as_it_was_saved(tmp_path, mode, compression):
    colors = np.stack([smooth(), smooth()[::-1], smooth()[:, ::-1]], -1)
    image = Image.fromarray(colors).convert(mode)
    image.save(tmp_path / "a.tif", compression=compression)
    shown = np.asarray(image.convert("RGB")).astype(int)
    tolerance = 12 if compression == "jpeg" else 2
    assert np.abs(read_image(tmp_path / "a.tif") - shown).max() <= tolerance * 3
    assert np.abs(read_image(tmp_path / "a.tif") - shown).mean() <= tolerance


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_cie_lab_becomes_rgb(tmp_path, dtype):
    colors = np.stack([smooth(), smooth()[::-1], smooth()[:, ::-1]], -1)
    to_lab = ImageCms.buildTransform(
        ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB"), "RGB", "LAB"
    )
    lab = np.asarray(ImageCms.applyTransform(Image.fromarray(colors), to_lab))
    stored = lab
    if dtype == np.uint16:
        signed = lab[..., 1:].copy().view(np.int8).astype(np.int16) * 256
        light = lab[..., :1].astype(np.uint16) * 257
        stored = np.concatenate([light, signed.view(np.uint16)], -1)
    tifffile.imwrite(tmp_path / "a.tif", stored, photometric="cielab")
    assert np.abs(read_image(tmp_path / "a.tif").astype(int) - colors).mean() < 6


@pytest.mark.parametrize("bits", range(1, 17))
def test_a_palette_of_any_depth_is_looked_up(tmp_path, bits):
    dtype = bool if bits == 1 else np.uint8 if bits <= 8 else np.uint16
    table = noise((3, 2**bits), np.uint16, 16)
    values = noise((9, 13), dtype, bits)
    for compression in (None, "lzw") if bits in (1, 8, 16) else (None,):
        tifffile.imwrite(  # (as a palette it writes 8 and 16 bits only)
            tmp_path / "a.tif", values, photometric="minisblack", compression=compression,
            bitspersample=bits, extratags=[(320, 3, table.size, table.ravel(), True)],
        )  # fmt: skip
        with_tag(tmp_path / "a.tif", 262, 3)
        expected = np.moveaxis(table[:, values.astype(int)] >> 8, 0, -1)
        np.testing.assert_array_equal(read_image(tmp_path / "a.tif"), expected)
        np.testing.assert_array_equal(read_labels(tmp_path / "a.tif"), values)


def test_a_palette_of_8_bits_in_the_tag_s_16_is_not_black(tmp_path):
    table = noise((3, 256), np.uint16, 8)
    values = noise((9, 13))
    tifffile.imwrite(tmp_path / "a.tif", values, photometric="palette", colormap=table)
    expected = np.moveaxis(table[:, values], 0, -1)
    np.testing.assert_array_equal(read_image(tmp_path / "a.tif"), expected)


@pytest.mark.parametrize("compression", ANY)
@pytest.mark.parametrize("planar", ["contig", "separate"])
def test_12_bits_in_16_bit_colours_are_as_bright_whatever_the_compression(
    tmp_path, compression, planar
):
    pixels = np.stack([smooth(top=4095, dtype=np.uint16)] * 3, -1)
    written = np.moveaxis(pixels, -1, 0) if planar == "separate" else pixels
    tifffile.imwrite(
        tmp_path / "a.tif", written, photometric="rgb", compression=compression, planarconfig=planar
    )
    np.testing.assert_array_equal(read_image(tmp_path / "a.tif"), to_rgb_uint8(pixels))
    assert read_image(tmp_path / "a.tif").max() == 255


@pytest.mark.parametrize("bits", [1, 2, 3, 4, 5, 6, 7])
@pytest.mark.parametrize("photometric", ["minisblack", "miniswhite"])
def test_few_bits_fill_the_8(tmp_path, bits, photometric):
    values = noise((9, 13), bool if bits == 1 else np.uint8, bits)
    keywords = {} if bits == 1 else {"bitspersample": bits}
    tifffile.imwrite(tmp_path / "a.tif", values, photometric=photometric, **keywords)
    expected = np.rint(values * (255 / (2**bits - 1)))
    expected = 255 - expected if photometric == "miniswhite" else expected
    assert np.abs(read_image(tmp_path / "a.tif")[..., 0] - expected).max() < 1
    np.testing.assert_array_equal(read_labels(tmp_path / "a.tif"), values)


# Labels are as stored, images are turned


@quick
@given(
    st.sampled_from(["minisblack", "miniswhite"]),
    st.sampled_from([(bool, 1), (np.uint8, 8), (np.uint8, 4), (np.uint16, 16), (np.uint16, 12)]),
    st.sampled_from(ANY),
    st.integers(1, 8),
)
def test_a_label_map_keeps_its_values_whatever_zero_means(
    tmp_path, photometric, kind, compression, orientation
):
    dtype, bits = kind
    values = noise((9, 13), dtype, bits)
    keywords = {"bitspersample": bits} if bits in (4, 12) else {}
    tifffile.imwrite(
        tmp_path / "a.tif", values, photometric=photometric,
        compression=None if keywords else compression,
        extratags=[(274, 3, 1, orientation, True)], **keywords,
    )  # fmt: skip
    turned = upright(values, orientation)
    np.testing.assert_array_equal(read_labels(tmp_path / "a.tif"), turned)
    assert read_image(tmp_path / "a.tif").shape[:2] == turned.shape


def upright(values, orientation):
    """By Pillow, which is another program's opinion."""
    ways = {
        2: ["FLIP_LEFT_RIGHT"], 3: ["ROTATE_180"], 4: ["FLIP_TOP_BOTTOM"], 5: ["TRANSPOSE"],
        6: ["ROTATE_270"], 7: ["TRANSVERSE"], 8: ["ROTATE_90"],
    }  # fmt: skip
    image = Image.fromarray(values.astype(np.int32), "I")
    for way in ways.get(orientation, []):
        image = image.transpose(getattr(Image.Transpose, way))
    return np.asarray(image)


def png(bits, color_type, rows, extra=b""):
    """A PNG of packed rows (bytes each)."""

    def chunk(kind, body):
        check = struct.pack(">I", zlib.crc32(kind + body))
        return struct.pack(">I", len(body)) + kind + body + check

    header = struct.pack(">IIBBBBB", len(rows[0]) * 8 // bits, len(rows), bits, color_type, 0, 0, 0)
    data = zlib.compress(b"".join(b"\0" + row for row in rows))
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + extra
        + chunk(b"IDAT", data) + chunk(b"IEND", b"")
    )  # fmt: skip


@pytest.mark.parametrize("bits", [1, 2, 4])
def test_a_grey_png_of_few_bits_is_a_label_map_of_its_values(tmp_path, bits):
    (tmp_path / "a.png").write_bytes(png(bits, 0, [bytes([0b00011011, 0b11100100])]))
    per_byte = 8 // bits
    values = [
        (byte >> (8 - bits * (i + 1))) & (2**bits - 1)
        for byte in (0b00011011, 0b11100100)
        for i in range(per_byte)
    ]
    np.testing.assert_array_equal(read_labels(tmp_path / "a.png"), [values])
    expected = np.array(values) * (255 // (2**bits - 1))
    np.testing.assert_array_equal(read_image(tmp_path / "a.png")[0, :, 0], expected)


def test_a_bool_array_saved_by_tifffile_is_its_mask():
    found = read_labels(CASES / "15-bool-tiff-mask-inverted" / "in" / "b" / "masks" / "1.tif")
    assert int((found > 0).sum()) == 1513


# The cases of images


@pytest.mark.parametrize("name", ["raw", "lzw"])
def test_case_10(name):
    image = read_image(CASES / "10-rgb16-lzw-tiff-dark" / "in" / f"{name}.tif")
    other = read_image(CASES / "10-rgb16-lzw-tiff-dark" / "in" / "raw.tif")
    assert (int(image.min()), int(image.max())) == (0, 255)
    np.testing.assert_array_equal(image, other)


def test_case_13():
    path = CASES / "13-palette-tiff-of-1-bit" / "in" / "a.tif"
    assert read_image(path)[0, :, 0].tolist() == [255, 0, 255, 255, 0, 0, 0, 255]


@pytest.mark.parametrize("name", ["packed12", "pred3", "f64lzw"])
def test_case_14(name):
    image = read_image(CASES / "14-intact-tiffs-called-damaged" / "in" / f"{name}.tif")
    assert len(np.unique(image)) > 50


def test_case_24():
    path = CASES / "24-tiff-pages-of-several-sizes" / "in" / "m.tif"
    assert frame_sizes(path) == [(24, 32), (12, 16)]
    assert [read_image(path, frame).shape[:2] for frame in (0, 1)] == [(24, 32), (12, 16)]
    assert image_size(path, 1) == (12, 16)


def test_case_32():
    path = CASES / "32-metadata-that-refuses-an-image" / "in" / "a.jpg"
    with Image.open(path) as stored:
        expected = np.asarray(stored.convert("RGB").transpose(Image.Transpose.ROTATE_270))
    np.testing.assert_array_equal(read_image(path), expected)
    assert image_size(path) == expected.shape[:2]


# Frames


@quick
@given(
    st.lists(st.tuples(st.integers(1, 30), st.integers(1, 30)), min_size=1, max_size=5),
    st.lists(st.sampled_from([1, 4, 5, 9]), max_size=3),
    st.booleans(),
)
def test_each_page_has_its_size_and_thumbnails_are_none(tmp_path, sizes, flags, first):
    path = tmp_path / "a.tif"
    small = [(smooth(5, 7), flag) for flag in flags]
    pages = [(noise(size, seed=i), 0) for i, size in enumerate(sizes)]
    with tifffile.TiffWriter(path) as tiff:
        for pixels, flag in [*small, *pages] if first else [*pages, *small]:
            pixels = pixels > 99 if flag & 4 else pixels
            tiff.write(pixels, photometric="mask" if flag & 4 else "minisblack", subfiletype=flag)
    assert frame_sizes(path) == sizes
    assert len(frame_sizes(path)) == len(sizes)
    for frame, (pixels, _) in enumerate(pages):
        np.testing.assert_array_equal(read_image(path, frame)[..., 0], pixels)
        assert image_size(path, frame) == pixels.shape
    np.testing.assert_array_equal(read_image(path)[..., 0], pages[0][0])
    for read in (read_image, image_size):
        with pytest.raises(ImageReadError, match=f"frames 0 to {len(sizes) - 1}"):
            read(path, len(sizes))


def test_a_pyramid_in_subifds_is_one_frame(tmp_path):
    with tifffile.TiffWriter(tmp_path / "a.tif") as tiff:
        tiff.write(smooth(64, 64), subifds=2)
        tiff.write(smooth(32, 32), subfiletype=1)
        tiff.write(smooth(16, 16), subfiletype=1)
    assert frame_sizes(tmp_path / "a.tif") == [(64, 64)]


def test_a_file_that_calls_its_only_page_a_thumbnail_is_read(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", smooth(), subfiletype=1)
    assert np.array_equal(read_image(tmp_path / "a.tif")[..., 0], smooth())


# Alpha


BMP_MASKS = (0x00FF0000, 0x0000FF00, 0x000000FF, 0xFF000000)


def bmp32(pixels, alpha, version):
    """A bottom-up BMP of 32 bits with bit fields for BGRA, of header V4 (108) or V5 (124)."""
    height, width = pixels.shape[:2]
    data = np.dstack([pixels[::-1, :, ::-1], alpha[::-1]]).astype(np.uint8).tobytes()
    header = struct.pack("<IiiHHIIiiII", version, width, height, 1, 32, 3, len(data), 0, 0, 0, 0)
    header += struct.pack("<IIII", *BMP_MASKS)
    header = header.ljust(version, b"\0")
    offset = 14 + len(header)
    return struct.pack("<2sIHHI", b"BM", offset + len(data), 0, 0, offset) + header + data


@pytest.mark.parametrize("version", [108, 124])
@pytest.mark.parametrize("value", [0, 1, 255])
def test_a_bmp_whose_alpha_would_blacken_it_is_seen(tmp_path, version, value):
    colors = np.stack([smooth(), smooth()[::-1], smooth()[:, ::-1]], -1)
    path = tmp_path / "a.bmp"
    path.write_bytes(bmp32(colors, np.full(colors.shape[:2], value), version))
    with listening() as notes:
        np.testing.assert_array_equal(read_image(path), colors)
    said = [f"{path}: its alpha hides the whole picture and was ignored"]
    assert notes.lines() == ([] if value == 255 else said)


def test_case_08():
    folder = CASES / "08-alpha-of-zeros-bmp" / "in"
    np.testing.assert_array_equal(read_image(folder / "a.bmp"), read_image(folder / "same.bmp"))
    assert read_image(folder / "a.bmp").max() == 216


@pytest.mark.parametrize("mode", ["LA", "RGBA"])
@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_an_alpha_of_zeros_is_ignored_and_one_of_some_is_laid_over_black(tmp_path, mode, suffix):
    grey = smooth()
    for name, alpha in (("none", np.zeros_like(grey)), ("some", np.uint8(255) * (grey > 99))):
        bands = [grey] * (len(mode) - 1) + [alpha]
        image = Image.merge(mode, [Image.fromarray(band) for band in bands])
        image.save(tmp_path / f"{name}{suffix}")
    assert np.array_equal(read_image(tmp_path / f"none{suffix}")[..., 0], grey)
    assert np.array_equal(read_image(tmp_path / f"some{suffix}")[..., 0], grey * (grey > 99))


@pytest.mark.parametrize(
    ("extra", "laid"), [(["unspecified"], False), (["unassalpha"], True), (["assocalpha"], False)]
)
@pytest.mark.parametrize("channels", [1, 3])
def test_only_what_the_file_calls_alpha_is_alpha(tmp_path, extra, laid, channels):
    colors, more = noise((9, 13, channels)), noise((9, 13, 1), seed=1)
    tifffile.imwrite(
        tmp_path / "a.tif", np.concatenate([colors, more], -1), planarconfig="contig",
        photometric="rgb" if channels == 3 else "minisblack", extrasamples=extra,
    )  # fmt: skip
    expected = np.rint(colors * (more / np.float32(255))) if laid else colors
    np.testing.assert_array_equal(
        read_image(tmp_path / "a.tif"), np.broadcast_to(expected, (9, 13, 3))
    )


# Metadata


def jpeg(exif=b"", app=b""):
    """A JPEG with an EXIF block, or any other segments, put in after its beginning."""
    data = io.BytesIO()
    Image.fromarray(np.stack([smooth()] * 3, -1)).save(data, "JPEG", quality=90)
    if exif:
        exif = b"\xff\xe1" + struct.pack(">H", len(exif) + 8) + b"Exif\0\0" + exif
    return b"\xff\xd8" + exif + app + data.getvalue()[2:]


def exif_entry(kind, count, value):
    """A TIFF block of big-endian order with the orientation tag alone."""
    entry = struct.pack(">HHI", 274, kind, count) + value[:4].ljust(4, b"\0")
    return b"MM\0*\0\0\0\x08" + struct.pack(">H", 1) + entry + b"\0\0\0\0"


ODD_TAGS = [
    (1, 1, b"\x06", 6), (2, 2, b"6\0", 6), (3, 1, b"\0\x06", 6), (4, 1, b"\0\0\0\x06", 6),
    (7, 1, b"\x06", 6), (7, 4, b"abcd", 1), (3, 1, b"\0\0", 1), (3, 1, b"\0\x09", 1),
    (3, 2, b"\0\x06\0\x01", 6), (9, 1, b"\xff\xff\xff\xff", 1), (2, 4, b"top\0", 1),
    (5, 1, b"\0\0\0\x70", 1), (99, 1, b"\0\x06", 1), (3, 0, b"", 1), (1, 4, b"\x06\0\0\0", 6),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "count", "value", "orientation"), ODD_TAGS)
def test_an_orientation_of_another_type_costs_no_jpeg(tmp_path, kind, count, value, orientation):
    path = tmp_path / "a.jpg"
    path.write_bytes(jpeg())
    expected = read_image(path)
    path.write_bytes(jpeg(exif_entry(kind, count, value)))
    turned = np.rot90(expected, -1) if orientation == 6 else expected
    np.testing.assert_array_equal(read_image(path), turned)
    assert image_size(path) == turned.shape[:2]


@pytest.mark.parametrize(("kind", "count", "value", "orientation"), ODD_TAGS)
def test_an_orientation_of_another_type_costs_no_tiff(tmp_path, kind, count, value, orientation):
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, smooth(), byteorder=">", extratags=[(274, 3, 1, 1, True)])
    data = path.read_bytes()
    place = data.index(struct.pack(">HH", 274, 3))
    entry = struct.pack(">HHI", 274, kind, count) + value[:4].ljust(4, b"\0")
    path.write_bytes(data[:place] + entry + data[place + 12 :])
    turned = np.rot90(smooth(), -1) if orientation == 6 else smooth()
    assert read_image(path).shape[:2] in (turned.shape, smooth().shape)
    assert np.array_equal(np.sort(read_image(path)[..., 0], None), np.sort(smooth(), None))
    assert image_size(path) == read_image(path).shape[:2]


@settings(quick, max_examples=150)
@given(st.data())
def test_whatever_stands_in_a_jpeg_s_metadata_its_pixels_are_read(tmp_path, data):
    path = tmp_path / "a.jpg"
    path.write_bytes(jpeg())
    expected = read_image(path)
    blocks = [
        b"Exif\0\0" + exif_entry(3, 1, b"\0\x01"), b"ICC_PROFILE\0\x01\x01" + bytes(40),
        b"http://ns.adobe.com/xap/1.0/\0<x:xmpmeta/>", b"MPF\0MM\0*\0\0\0\x08\0\x01",
        b"Photoshop 3.0\0" + b"8BIM\x04\x04\0\0\0\0\0\x04abcd", b"any comment",
    ]  # fmt: skip
    number = data.draw(st.integers(0, len(blocks) - 1))
    block = bytearray(blocks[number])
    changes = st.tuples(st.integers(0, len(block) - 1), st.integers(0, 255))
    for place, value in data.draw(st.lists(changes, max_size=6)):
        block[place] = value
    block = block[: data.draw(st.integers(0, len(block)))]
    marker = data.draw(st.sampled_from([0xE1, 0xE2, 0xED, 0xE3, 0xFE]))
    path.write_bytes(jpeg(app=bytes([0xFF, marker]) + struct.pack(">H", len(block) + 2) + block))
    image = read_image(path)
    assert np.array_equal(np.sort(image, None), np.sort(expected, None))
    assert image_size(path) == image.shape[:2]


@settings(quick, max_examples=100)
@given(
    st.sampled_from([b"eXIf", b"iCCP", b"tEXt", b"zTXt", b"iTXt", b"gAMA", b"pHYs", b"tIME",
                     b"cHRM", b"sRGB", b"sBIT", b"bKGD", b"hIST", b"acTL", b"quRk"]),
    st.one_of(st.binary(max_size=40), st.just(b"Raw profile type exif\0\0" + b"x" * 9),
              st.just(b"a\0\0" + zlib.compress(bytes(2_000_000)))),
)  # fmt: skip
def test_whatever_stands_in_a_png_s_metadata_its_pixels_are_read(tmp_path, kind, body):
    check = struct.pack(">I", zlib.crc32(kind + body))
    extra = struct.pack(">I", len(body)) + kind + body + check
    path = tmp_path / "a.png"
    rows = [bytes(row) for row in noise((6, 8))]
    path.write_bytes(png(8, 0, rows, extra))
    image = read_image(path)
    assert np.array_equal(np.sort(image[..., 0], None), np.sort(noise((6, 8)), None))
    assert image_size(path) == image.shape[:2]


@settings(quick, max_examples=150)
@given(
    st.sampled_from([254, 255, 269, 270, 271, 282, 283, 296, 305, 306, 315, 318, 34675, 34665,
                     700, 33432, 37724, 50838, 50839, 42112, 34853]),
    st.sampled_from([1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 16, 99]),
    st.integers(0, 9), st.binary(min_size=4, max_size=4),
)  # fmt: skip
def test_whatever_stands_in_a_tiff_s_metadata_its_pixels_are_read(
    tmp_path, tag, kind, count, value
):
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, smooth(), software=None, extratags=[(65000, 3, 1, 1, True)])
    data = path.read_bytes()
    place = data.index(struct.pack("<HH", 65000, 3))
    path.write_bytes(
        data[:place] + struct.pack("<HHI", tag, kind, count) + value + data[place + 12 :]
    )
    assert np.array_equal(read_image(path)[..., 0], smooth())


# What is not supported is not called damaged


def with_tag(path, tag, value):
    with tifffile.TiffFile(path, mode="r+") as tiff:
        tiff.pages[0].tags[tag].overwrite(value)


@pytest.mark.parametrize("compression", [34676, 32809, 65535, 9])
def test_an_unknown_compression_is_named_with_a_cure(tmp_path, compression):
    tifffile.imwrite(tmp_path / "a.tif", smooth())
    with_tag(tmp_path / "a.tif", 259, compression)
    with pytest.raises(ImageReadError, match=rf"{compression}\), is not supported; save it as"):
        read_image(tmp_path / "a.tif")
    assert image_size(tmp_path / "a.tif") == smooth().shape


def test_an_unknown_depth_predictor_or_type_is_named_with_a_cure(tmp_path):
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, noise((5, 6), np.uint64))
    with_tag(path, 258, 48)
    with pytest.raises(ImageReadError, match=r"values of 48 bits .* not supported; save it as"):
        read_image(path)
    tifffile.imwrite(path, noise((5, 6)) + 1j)
    with pytest.raises(ImageReadError, match="not supported; save it as"):
        read_image(path)
    tifffile.imwrite(path, smooth(), compression="lzw", predictor=2)
    with_tag(path, 317, 99)
    with pytest.raises(ImageReadError, match=r"predictor 99 .* not supported; save it as"):
        read_image(path)


@pytest.mark.parametrize(("name", "kind"), [("a.ppm", "PPM"), ("a.tga", "TGA")])
def test_another_format_is_named(tmp_path, name, kind):
    Image.fromarray(np.stack([smooth()] * 3, -1)).save(tmp_path / name)
    with pytest.raises(ImageReadError, match=f"a {kind} file; save it as PNG or TIFF"):
        read_image(tmp_path / name)


def test_a_bmp_of_an_unknown_compression_is_not_called_damaged(tmp_path):
    path = tmp_path / "a.bmp"
    Image.fromarray(smooth()).save(path)
    data = bytearray(path.read_bytes())
    data[30:34] = struct.pack("<I", 11)
    path.write_bytes(data)
    with pytest.raises(ImageReadError, match=r"not supported .*save it as"):
        read_image(path)


@pytest.mark.parametrize("compression", [*ANY, "png", "jpeg", "jpeg2000", "webp", "jpegxl", "lerc"])
@pytest.mark.parametrize("part", [0.4, 0.8])
def test_a_cut_off_tiff_is_called_damaged_whatever_its_compression(tmp_path, compression, part):
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, noise((64, 64, 3)), photometric="rgb", compression=compression)
    data = path.read_bytes()
    with tifffile.TiffFile(path) as tiff:
        start, size = tiff.pages[0].dataoffsets[0], sum(tiff.pages[0].databytecounts)
    path.write_bytes(data[: start + int(part * size)])
    with pytest.raises(ImageReadError, match="truncated or damaged"):
        read_image(path)


@pytest.mark.parametrize("bits", [12, 16])
def test_a_jpeg_of_more_than_8_bits_is_read(tmp_path, bits):
    pixels = smooth(top=2**bits - 1, dtype=np.uint16)
    data = imagecodecs.ljpeg_encode(pixels, bitspersample=bits)
    (tmp_path / "a.jpg").write_bytes(data)
    np.testing.assert_array_equal(read_stored(tmp_path / "a.jpg").values, pixels)
    assert image_size(tmp_path / "a.jpg") == pixels.shape
    (tmp_path / "a.jpg").write_bytes(data[: len(data) // 2])
    with pytest.raises(ImageReadError, match="truncated or damaged"):
        read_image(tmp_path / "a.jpg")


def test_what_is_stored_is_told_with_its_meaning(tmp_path):
    tifffile.imwrite(
        tmp_path / "a.tif", noise((4, 5), np.uint16, 12), bitspersample=12, photometric="miniswhite"
    )
    stored = read_stored(tmp_path / "a.tif")
    assert (stored.kind, stored.bits, stored.white_is_zero, stored.lossy) == (
        "grey", 12, True, False
    )  # fmt: skip


def test_a_tiff_of_many_channels_or_pages_is_refused_before_it_is_decoded(tmp_path):
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, np.zeros((4, 5, 9), np.uint8), photometric="minisblack", planarconfig=1)
    with pytest.raises(ImageReadError, match="9 channels are not supported; save it as PNG"):
        read_image(path)
    tifffile.imwrite(path, np.zeros((4, 5), np.float64))
    with tifffile.TiffFile(path, mode="r+b") as tiff:
        for tag in ("ImageWidth", "ImageLength"):
            tiff.pages[0].tags[tag].overwrite(9400)
        tiff.pages[0].tags["SamplesPerPixel"].overwrite(4)
    with pytest.raises(ImageReadError, match=r"bytes is more than|channels"):
        read_image(path)


def test_opening_tiffs_leaves_one_handler(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", np.zeros((4, 5), np.uint8))
    for _ in range(3):
        read_image(tmp_path / "a.tif")
        count = len(logging.getLogger("tifffile").handlers)
    read_image(tmp_path / "a.tif")
    assert len(logging.getLogger("tifffile").handlers) == count


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (OSError(5, "Input/output error", "/scans/Doe_Jane/a.png"), "Input/output error"),
        (
            ValueError("no end of /scans/Doe_Jane/a.png\nat 7"),
            "ValueError: no end of the file at 7",
        ),
        (ValueError("a.png is not supported"), "ValueError: the file is not supported"),
        (KeyError(), "KeyError"),
    ],
)
def test_a_message_has_neither_the_path_nor_the_sentences_of_the_system(error, words):
    path = Path("/scans/Doe_Jane/a.png")
    assert words_of(error, path) == words
    with pytest.raises(ImageReadError) as caught, read_errors(path):
        raise error
    assert "Doe" not in caught.value.cause


def test_a_name_with_the_word_for_it_makes_nothing_unsupported():
    path = Path("/scans/unsupported.png")
    with pytest.raises(ImageReadError, match="truncated or damaged"), read_errors(path):
        raise ValueError(f"{path}: bad block")


def test_a_zip_is_named_with_its_cure(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.png", "w") as packed:
        packed.writestr("b.png", b"")
    with pytest.raises(ImageReadError, match=r"a ZIP archive; name it \.zip, or unpack it"):
        read_image(tmp_path / "a.png")
