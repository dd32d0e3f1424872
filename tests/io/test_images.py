from __future__ import annotations

import contextlib

import numpy as np
import pytest
import tifffile
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image, ImageOps

from napari_usgseg.core.errors import ImageReadError
from napari_usgseg.io.images import image_files, image_size, read_image, to_rgb_uint8
from napari_usgseg.io.reading import frames
from napari_usgseg.io.reading.files import frame_sizes

quick = settings(
    deadline=None, max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
SHAPES = st.tuples(st.integers(1, 20), st.integers(1, 20))
DEEP = st.sampled_from([np.uint16, np.int16, np.uint32, np.int32, np.float32, np.float64])


def ramp(height=40, width=64, dtype=np.uint8, top=255):
    return np.linspace(0, top, height * width).reshape(height, width).astype(dtype)


# One rule


@quick
@given(hnp.arrays(np.uint8, SHAPES))
def test_8_bit_stays_as_it_is(grey):
    assert np.array_equal(to_rgb_uint8(grey), np.repeat(grey[..., None], 3, axis=2))


@quick
@given(hnp.arrays(bool, SHAPES))
def test_1_bit_becomes_black_and_white(bits):
    assert np.array_equal(to_rgb_uint8(bits)[..., 1], np.where(bits, 255, 0))


@quick
@given(st.data(), DEEP)
def test_anything_deeper_keeps_its_order_whatever_its_values(data, dtype):
    values = data.draw(hnp.arrays(dtype, SHAPES))
    rgb = to_rgb_uint8(values)
    assert rgb.shape == (*values.shape, 3)
    assert rgb.dtype == np.uint8
    known = ~np.isnan(values.ravel())
    order = np.argsort(values.ravel()[known], kind="stable")
    assert (np.diff(rgb[..., 0].ravel()[known][order].astype(int)) >= 0).all()
    assert not rgb[np.isnan(values)].any()


@pytest.mark.parametrize("top", [255, 1023, 4095, 65535])
def test_16_bits_of_any_depth_fill_the_8(top):
    grey = to_rgb_uint8(ramp(64, 64, np.uint16, top))[..., 0]
    assert (grey.min(), grey.max()) == (0, 255)
    assert len(np.unique(grey)) == 256


def test_16_bits_are_a_straight_line():
    values = ramp(64, 64, np.uint16, 40000)
    expected = np.rint(values / 40000 * 255)
    assert np.abs(to_rgb_uint8(values)[..., 0] - expected).max() <= 1


@pytest.mark.parametrize("dtype", [np.uint16, np.float32])
def test_a_few_hot_pixels_do_not_blacken_the_rest(dtype):
    values = ramp(200, 200, dtype, 1000)
    plain = to_rgb_uint8(values)[..., 0].astype(int)
    values[3, 4] = 60000
    with_hot = to_rgb_uint8(values)[..., 0].astype(int)
    assert with_hot[3, 4] == 255
    assert len(np.unique(with_hot)) > 160
    assert with_hot.mean() > 0.6 * plain.mean()


def test_a_few_bright_pixels_on_black_are_seen():
    values = np.zeros((100, 100), np.uint16)
    values[50, 50:52] = 300
    assert (to_rgb_uint8(values)[50, 50:52] == 255).all()


@pytest.mark.parametrize("value", [0, 7, -3.5, np.nan, np.inf, -np.inf, 1e308])
def test_a_constant_image_does_not_crash(value):
    rgb = to_rgb_uint8(np.full((5, 6), value))
    assert len(np.unique(rgb)) == 1


def test_nan_is_black_and_infinity_ends_the_scale():
    values = np.linspace(0, 1, 1000).reshape(20, 50)
    values[0, 0], values[1, 1], values[2, 2] = np.nan, np.inf, -np.inf
    rgb = to_rgb_uint8(values)[..., 0]
    assert (rgb[0, 0], rgb[1, 1], rgb[2, 2]) == (0, 255, 0)
    assert rgb[10, 0] == pytest.approx(128, abs=2)


def test_the_colours_of_deep_rgb_share_one_line():
    deep = np.stack([ramp(30, 30, np.uint16, top) for top in (20000, 10000, 0)], axis=2)
    rgb = to_rgb_uint8(deep).astype(int)
    assert rgb[-1, -1].tolist() == pytest.approx([255, 128, 0], abs=2)


def test_alpha_lays_the_image_over_black():
    rgba = np.full((2, 2, 4), 200, np.uint8)
    rgba[..., 3] = [[255, 128], [0, 255]]
    rgb = to_rgb_uint8(rgba)
    assert rgb[..., 0].tolist() == [[200, 100], [0, 200]]
    assert np.array_equal(to_rgb_uint8(rgba[..., [0, 3]]), rgb)


@pytest.mark.parametrize(
    "array",
    [
        np.zeros(5),
        np.zeros((2, 2, 5)),
        np.zeros((0, 4)),
        np.zeros((2, 2), complex),
        np.zeros((2, 2, 2, 2)),
    ],
)
def test_an_array_that_is_no_image_says_what_was_expected(array):
    with pytest.raises(ImageReadError, match="expected"):
        to_rgb_uint8(array)


# Files


@pytest.mark.parametrize("suffix", [".png", ".bmp", ".tif"])
@pytest.mark.parametrize("mode", ["1", "L", "RGB", "P"])
def test_every_lossless_format_gives_the_pixels_that_were_stored(tmp_path, suffix, mode):
    colors = np.random.default_rng(0).integers(0, 256, (37, 53, 3), np.uint8)
    image = Image.fromarray(colors)
    image = image.quantize(64) if mode == "P" else image.convert(mode)
    path = tmp_path / f"bild ü {mode}{suffix}"
    image.save(path)
    assert np.array_equal(read_image(path), np.asarray(image.convert("RGB")))
    assert image_size(path) == (37, 53)


@pytest.mark.parametrize("mode", ["LA", "RGBA"])
def test_alpha_in_a_png_lays_the_image_over_black(tmp_path, mode):
    image = Image.new(mode, (4, 3), (100,) * (len(mode) - 1) + (128,))
    image.save(tmp_path / "a.png")
    assert (read_image(tmp_path / "a.png") == 50).all()


def test_a_transparent_palette_colour_is_black(tmp_path):
    image = Image.fromarray(np.array([[0, 1]], np.uint8), "P")
    image.putpalette([200, 0, 0, 0, 200, 0])
    image.save(tmp_path / "p.png", transparency=0)
    assert read_image(tmp_path / "p.png").tolist() == [[[0, 0, 0], [0, 200, 0]]]


def test_a_jpeg_is_read_as_pillow_reads_it(tmp_path):
    path = tmp_path / "a.jpg"
    Image.fromarray(ramp()).save(path)
    with Image.open(path) as image:
        assert np.array_equal(read_image(path), np.asarray(image.convert("RGB")))


def test_a_cmyk_jpeg_becomes_rgb(tmp_path):
    Image.new("CMYK", (8, 8), (0, 0, 0, 0)).save(tmp_path / "a.jpg")
    assert read_image(tmp_path / "a.jpg").min() > 250


@pytest.mark.parametrize(
    "dtype", [np.uint16, np.int16, np.uint32, np.int32, np.float32, np.float64]
)
def test_deep_tiffs_keep_their_contrast(tmp_path, dtype):
    tifffile.imwrite(tmp_path / "a.tif", ramp(64, 64, dtype, 3000))
    assert len(np.unique(read_image(tmp_path / "a.tif"))) == 256


def test_a_16_bit_png_keeps_its_contrast(tmp_path):
    values = ramp(64, 64, np.uint16, 4095)
    Image.fromarray(values).save(tmp_path / "a.png")
    assert np.array_equal(read_image(tmp_path / "a.png"), to_rgb_uint8(values))


@pytest.mark.parametrize("compression", [None, "tiff_lzw", "packbits", "tiff_adobe_deflate"])
def test_compressed_tiffs_need_no_further_package(tmp_path, compression):
    Image.fromarray(ramp()).save(tmp_path / "a.tif", compression=compression)
    assert np.array_equal(read_image(tmp_path / "a.tif")[..., 0], ramp())


def test_a_16_bit_lzw_tiff_keeps_its_contrast(tmp_path):
    values = ramp(64, 64, np.uint16, 4095)
    Image.fromarray(values).save(tmp_path / "a.tif", compression="tiff_lzw")
    assert np.array_equal(read_image(tmp_path / "a.tif"), to_rgb_uint8(values))


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_a_tiff_in_which_white_is_zero_is_turned(tmp_path, dtype):
    values = ramp(40, 64, dtype, np.iinfo(dtype).max)
    tifffile.imwrite(tmp_path / "a.tif", values, photometric="miniswhite")
    assert np.array_equal(read_image(tmp_path / "a.tif"), 255 - to_rgb_uint8(values))


def test_colours_in_separate_planes_are_brought_together(tmp_path):
    colors = np.random.default_rng(0).integers(0, 256, (3, 20, 30), np.uint8)
    tifffile.imwrite(tmp_path / "a.tif", colors, photometric="rgb", planarconfig="separate")
    assert np.array_equal(read_image(tmp_path / "a.tif"), colors.transpose(1, 2, 0))


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["png", "tiff", "lzw"])
def test_the_orientation_is_applied_to_pixels_and_size(tmp_path, orientation, kind):
    grey = ramp(3, 5)
    path = tmp_path / f"a.{kind[:3]}"
    image = Image.fromarray(grey)
    exif = image.getexif()
    exif[274] = orientation
    if kind == "png":
        image.save(path, exif=exif)
    else:
        compression = "tiff_lzw" if kind == "lzw" else None
        image.save(path, "TIFF", tiffinfo={274: orientation}, compression=compression)
    image.save(tmp_path / "reference.png", exif=exif)
    with Image.open(tmp_path / "reference.png") as reference:
        upright = np.asarray(ImageOps.exif_transpose(reference))
    assert np.array_equal(read_image(path)[..., 0], upright)
    assert image_size(path) == upright.shape


def test_a_frame_of_a_multi_page_tiff_is_read_by_its_index(tmp_path):
    frames = np.random.default_rng(0).integers(0, 256, (4, 20, 30), np.uint8)
    path = tmp_path / "video.tif"
    tifffile.imwrite(path, frames, photometric="minisblack")
    assert len(frame_sizes(path)) == 4
    for index in range(4):
        assert np.array_equal(read_image(path, index)[..., 0], frames[index])
    assert np.array_equal(read_image(path), read_image(path, 0))
    for wrong in (4, -1):
        with pytest.raises(ImageReadError, match="frames 0 to 3"):
            read_image(path, wrong)


def test_a_png_has_one_frame(tmp_path):
    Image.fromarray(ramp()).save(tmp_path / "a.png")
    assert len(frame_sizes(tmp_path / "a.png")) == 1
    with pytest.raises(ImageReadError, match="no frame 1"):
        read_image(tmp_path / "a.png", 1)


def test_the_content_counts_and_not_the_suffix(tmp_path):
    tifffile.imwrite(tmp_path / "a.png", ramp())
    Image.fromarray(ramp()).save(tmp_path / "b.tif", "PNG")
    assert np.array_equal(read_image(tmp_path / "a.png"), read_image(tmp_path / "b.tif"))


@pytest.mark.parametrize("size", [(32, 6000), (6000, 32)])
def test_long_images_are_read(tmp_path, size):
    Image.new("L", size, 9).save(tmp_path / "a.png")
    assert read_image(tmp_path / "a.png").shape == (size[1], size[0], 3)


# Errors


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".bmp", ".tif"])
@pytest.mark.parametrize("part", [0.3, 0.7])
def test_a_truncated_file_names_the_file_and_the_cause(tmp_path, suffix, part):
    noise = np.random.default_rng(0).integers(0, 256, (64, 64), np.uint8)
    path = tmp_path / f"cut{suffix}"
    Image.fromarray(noise).save(path)
    path.write_bytes(path.read_bytes()[: int(part * path.stat().st_size)])
    with pytest.raises(ImageReadError, match="truncated or damaged") as caught:
        read_image(path)
    assert caught.value.path == path
    assert str(caught.value).startswith(str(path))


@pytest.mark.parametrize(
    ("content", "cause"),
    [
        (b"", "empty"),
        (b"no image at all", "expected DICOM, PNG"),
        (b"II*\0", "truncated or damaged"),
        (b"\x89PNG\r\n\x1a\n", "damaged"),
    ],
)
def test_what_is_no_image_names_the_cause(tmp_path, content, cause):
    path = tmp_path / "a.png"
    path.write_bytes(content)
    for read in (read_image, image_size, frame_sizes):
        with pytest.raises(ImageReadError, match=cause):
            read(path)


def test_a_dicom_file_without_a_picture_is_called_one_under_any_name(tmp_path):
    for name in ("scan.dcm", "scan.png"):
        (tmp_path / name).write_bytes(bytes(128) + b"DICM" + bytes(range(200)))
        with pytest.raises(ImageReadError, match="a DICOM file without a picture"):
            read_image(tmp_path / name)


def test_a_missing_file_and_a_folder_are_told_apart(tmp_path):
    with pytest.raises(ImageReadError, match="no such file"):
        read_image(tmp_path / "absent.png")
    with pytest.raises(ImageReadError, match="folder"):
        read_image(tmp_path)


def test_a_bmp_of_no_pixels_is_an_error(tmp_path):
    path = tmp_path / "a.bmp"
    Image.new("L", (1, 1)).save(path)
    data = bytearray(path.read_bytes())
    data[18:22] = bytes(4)
    path.write_bytes(data)
    with pytest.raises(ImageReadError):
        read_image(path)


@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_too_large_an_image_is_refused_before_it_is_decoded(tmp_path, monkeypatch, suffix):
    Image.new("L", (50, 40)).save(tmp_path / f"a{suffix}")
    monkeypatch.setattr(frames, "MAX_PIXELS", 1999)
    with pytest.raises(ImageReadError, match=r"40 x 50 pixels.*reduce"):
        read_image(tmp_path / f"a{suffix}")


@settings(quick, max_examples=80)
@given(
    st.sampled_from(["PNG", "JPEG", "BMP", "TIFF"]),
    st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 255)), min_size=1),
)
def test_damaged_bytes_give_an_image_or_our_error_and_nothing_else(tmp_path, kind, changes):
    path = tmp_path / "a"
    Image.fromarray(ramp(9, 11)).save(path, kind)
    data = bytearray(path.read_bytes())
    for place, value in changes:
        data[int(place * len(data))] = value
    path.write_bytes(data)
    with contextlib.suppress(ImageReadError):
        assert read_image(path).ndim == 3


# Folders


def test_a_folder_gives_its_images_in_natural_order(tmp_path):
    for name in ("b10.png", "b2.PNG", "a.jpeg", "notes.txt", ".hidden.png", "C1.tif", "ü 1.bmp"):
        (tmp_path / name).touch()
    (tmp_path / "sub.png").mkdir()
    assert [file.name for file in image_files([tmp_path])] == [
        "a.jpeg",
        "b2.PNG",
        "b10.png",
        "C1.tif",
        "ü 1.bmp",
    ]


def test_a_named_file_is_taken_whatever_its_suffix_and_only_once(tmp_path):
    (tmp_path / "a.png").touch()
    (tmp_path / "scan.dat").touch()
    files = [tmp_path / "scan.dat", tmp_path, tmp_path / "a.png"]
    assert image_files(files) == [tmp_path / "scan.dat", tmp_path / "a.png"]
    assert image_files(tmp_path / "a.png") == [tmp_path / "a.png"]


def test_a_missing_input_is_named(tmp_path):
    with pytest.raises(ImageReadError, match=r"absent: no such file or folder"):
        image_files([tmp_path / "absent"])


def test_every_real_image_is_read_at_its_size(data_folder):
    for folder in sorted(data_folder.glob("*/images")):
        path = image_files(folder)[0]
        image = read_image(path)
        assert image.shape[:2] == image_size(path)
        assert image.std() > 5
