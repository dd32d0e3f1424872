"""What a mask is, however it was saved."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
import tifffile
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image, ImageDraw, ImageFilter

from napari_usgseg.core.errors import DatasetError, ImageReadError
from napari_usgseg.core.notes import listening
from napari_usgseg.io.datasets import DatasetItem, read_dataset, read_mask, read_pair
from napari_usgseg.io.labels import read_labels
from napari_usgseg.io.masks import IN_ALPHA, SOFT, black_and_white, object_mask

CASES = Path(__file__).parents[1] / "cases"
SIZE = (96, 128)
quick = settings(
    deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@st.composite
def shapes(draw, scale=1):
    """(H, W) uint8 of 0 and 255: ellipses and a rectangle, ``scale`` times as large as ``SIZE``."""
    image = Image.new("L", (SIZE[1] * scale, SIZE[0] * scale))
    pen = ImageDraw.Draw(image)
    for _ in range(draw(st.integers(1, 3))):
        x, y = draw(st.integers(4, 80)), draw(st.integers(4, 60))
        width, height = draw(st.integers(12, 44)), draw(st.integers(12, 34))
        box = [scale * v for v in (x, y, x + width, y + height)]
        (pen.ellipse if draw(st.booleans()) else pen.rectangle)(box, fill=255)
    return np.asarray(image)


def item_of(path, labels=(1,)):
    return DatasetItem("a", "a", path.parent / "image.png", path, labels=labels)


def mask_read(path, labels=(1,)):
    """The mask, and the texts of what was said of it."""
    with listening() as notes:
        found = read_mask(item_of(path, labels))
    return found, [text for _, text in notes]


# Soft edges


@quick
@given(shapes(scale=4), st.sampled_from(["png", "tif", "bmp"]), st.integers(1, 300))
def test_an_anti_aliased_mask_is_cut_at_half(tmp_path, large, suffix, label):
    soft = Image.fromarray(large).resize(SIZE[::-1], Image.Resampling.BOX)
    path = tmp_path / f"m.{suffix}"
    soft.save(path)
    found, said = mask_read(path, (label,))
    np.testing.assert_array_equal(found, np.where(np.asarray(soft) >= 128, label, 0))
    assert said == ([SOFT] if len(np.unique(np.asarray(soft))) > 2 else [])


@quick
@given(shapes(), st.integers(40, 100), st.sampled_from(["jpg", "png"]), st.booleans())
def test_a_mask_with_the_ringing_of_jpeg_is_cut_at_half(tmp_path, hard, quality, suffix, color):
    data = io.BytesIO()
    Image.fromarray(hard).convert("RGB" if color else "L").save(data, "JPEG", quality=quality)
    path = tmp_path / f"m.{suffix}"
    if suffix == "jpg":
        path.write_bytes(data.getvalue())
    else:
        Image.open(data).save(path)
    ringing = np.asarray(Image.open(data).convert("L"))
    found, said = mask_read(path)
    np.testing.assert_array_equal(found, ringing >= 128)
    assert said == ([SOFT] if len(np.unique(ringing)) > 2 else [])
    assert (found != (hard > 0)).mean() < 0.02


@pytest.mark.parametrize("quality", range(30, 101, 5))
def test_a_black_jpeg_is_an_empty_mask(tmp_path, quality):
    Image.new("L", SIZE[::-1]).save(tmp_path / "m.jpg", quality=quality)
    assert not mask_read(tmp_path / "m.jpg")[0].any()


@quick
@given(shapes(), st.floats(0.3, 1.5), st.sampled_from([np.uint16, np.float32, np.float64]))
def test_soft_masks_of_other_types_are_cut_at_half(tmp_path, hard, radius, dtype):
    soft = np.asarray(Image.fromarray(hard).filter(ImageFilter.GaussianBlur(radius)))
    level = soft / 255
    values = np.rint(level * 65535) if dtype == np.uint16 else level
    tifffile.imwrite(tmp_path / "m.tif", values.astype(dtype))
    np.testing.assert_array_equal(mask_read(tmp_path / "m.tif")[0], soft >= 128)


@pytest.mark.parametrize("top", [255, 254, 253, 200])
def test_two_values_are_background_and_object(tmp_path, top):
    hard = np.zeros(SIZE, np.uint8)
    hard[10:40, 20:60] = top
    Image.fromarray(hard).save(tmp_path / "m.png")
    found, said = mask_read(tmp_path / "m.png", (5,))
    np.testing.assert_array_equal(found, np.where(hard > 0, 5, 0))
    assert said == ([] if top == 255 else [f"the value {top} is taken as the object, as 255 is"])


def picture_like(kind):
    rng = np.random.default_rng(0)
    columns = np.mgrid[: SIZE[0], : SIZE[1]][1]
    if kind == "speckle":
        return (rng.rayleigh(40, SIZE)).clip(0, 255).astype(np.uint8)
    if kind == "ramp":
        return (columns * 2).astype(np.uint8)
    levels = np.zeros(SIZE, np.uint8)  # structures coded by grey
    levels[10:50, 10:60] = 255
    levels[50:80, 10:60] = 170
    levels[20:60, 80:110] = 85
    return levels


@pytest.mark.parametrize("kind", ["speckle", "ramp", "levels"])
@pytest.mark.parametrize("suffix", ["png", "jpg"])
def test_what_is_no_black_and_white_mask_is_refused(tmp_path, kind, suffix):
    path = tmp_path / f"m.{suffix}"
    Image.fromarray(picture_like(kind)).save(path)
    with pytest.raises(DatasetError, match=r"values .* pixels?\).* labels, 1; expected 0"):
        mask_read(path)
    assert black_and_white(picture_like(kind)) is None


def test_a_border_of_255_around_a_label_is_no_object(tmp_path):
    labels = np.zeros(SIZE, np.uint8)
    labels[18:62, 18:72] = 255
    labels[20:60, 20:70] = 1
    labels[30, 30] = 7
    Image.fromarray(labels).save(tmp_path / "m.png")
    with pytest.raises(DatasetError, match=r"7, 255 \(1, 376 pixels\)"):
        mask_read(tmp_path / "m.png")


def test_labels_of_several_classes_are_never_cut(tmp_path):
    labels = np.zeros(SIZE, np.uint8)
    labels[10:40, 10:40], labels[50:80, 50:80] = 1, 2
    Image.fromarray(labels).save(tmp_path / "m.png")
    np.testing.assert_array_equal(mask_read(tmp_path / "m.png", (1, 2))[0], labels)
    with pytest.raises(DatasetError, match=r"2 \(900 pixels\)"):
        mask_read(tmp_path / "m.png", (1,))


def test_a_palette_that_a_program_made_of_soft_greys_is_looked_up(tmp_path):
    soft = np.asarray(
        Image.fromarray(np.uint8(255) * (np.hypot(*np.mgrid[-48:48, -64:64]) < 30)).filter(
            ImageFilter.GaussianBlur(1)
        )
    )
    greys = np.unique(soft)[::-1]  # white first
    indices = np.searchsorted(-greys.astype(int), -soft.astype(int)).astype(np.uint8)
    image = Image.fromarray(indices, "P")
    image.putpalette([int(g) for grey in greys for g in (grey,) * 3])
    image.save(tmp_path / "m.png")
    np.testing.assert_array_equal(mask_read(tmp_path / "m.png")[0], soft >= 128)


# Alpha


@quick
@given(
    shapes(), st.sampled_from(["LA", "RGBA"]), st.sampled_from(["png", "tif"]),
    st.tuples(*[st.integers(0, 255)] * 3), st.booleans(), st.booleans(),
)  # fmt: skip
def test_a_mask_in_alpha_is_that_mask(tmp_path, hard, mode, suffix, color, soft, everywhere):
    alpha = Image.fromarray(hard)
    alpha = alpha.filter(ImageFilter.GaussianBlur(0.8)) if soft else alpha
    alpha = np.asarray(alpha)
    color = color if mode == "RGBA" else color[:1]
    # Elsewhere an editor leaves the same colour, or white, or black.
    elsewhere = color if everywhere else (255,) * len(color)
    pairs = zip(color, elsewhere, strict=True)
    bands = [np.where(alpha > 0, c, e).astype(np.uint8) for c, e in pairs]
    path = tmp_path / f"m.{suffix}"
    Image.merge(mode, [Image.fromarray(b) for b in (*bands, alpha)]).save(path)
    found, said = mask_read(path)
    np.testing.assert_array_equal(found, alpha >= 128)
    assert IN_ALPHA in said


@pytest.mark.parametrize("mode", ["LA", "RGBA"])
def test_a_mask_in_alpha_without_an_object_is_empty(tmp_path, mode):
    Image.new(mode, SIZE[::-1], (255,) * (len(mode) - 1) + (0,)).save(tmp_path / "m.png")
    assert not mask_read(tmp_path / "m.png")[0].any()


@quick
@given(shapes(), st.sampled_from(["opaque", "as the mask", "none"]), st.sampled_from([1, 255]))
def test_a_grey_mask_to_which_alpha_adds_nothing_is_read_as_grey(tmp_path, hard, kind, top):
    grey = np.minimum(hard, top)
    alpha = {"opaque": np.full_like(hard, 255), "as the mask": hard, "none": np.zeros_like(hard)}
    bands = [Image.fromarray(band) for band in (grey, grey, grey, alpha[kind])]
    Image.merge("RGBA", bands).save(tmp_path / "m.png")
    found, said = mask_read(tmp_path / "m.png")
    np.testing.assert_array_equal(found, hard > 0)
    assert said == []


def test_colours_and_an_alpha_that_say_two_things_are_refused(tmp_path):
    rng = np.random.default_rng(0)
    bands = [Image.fromarray(rng.integers(0, 255, SIZE, np.uint8)) for _ in range(4)]
    Image.merge("RGBA", bands).save(tmp_path / "m.png")
    with pytest.raises(ImageReadError, match="a picture with transparency"):
        mask_read(tmp_path / "m.png")
    Image.merge("RGB", bands[:3]).save(tmp_path / "m.png")
    with pytest.raises(ImageReadError, match="is a colour image"):
        mask_read(tmp_path / "m.png")


# The cases


def true_pixels(name):
    dataset = read_dataset(CASES / name)
    return [int((read_pair(item)[1] == 1).sum()) for item in dataset.items]


def test_case_04():
    base = CASES / "04-soft-masks" / "in"
    hard = read_dataset(base / "hard").items[0]
    soft = read_dataset(base / "ringing").items[0]
    np.testing.assert_array_equal(read_mask(soft), read_labels(soft.mask_path) >= 128)
    assert (read_mask(soft) != read_mask(hard)).mean() < 0.005
    assert set(np.unique(read_mask(soft))) == {0, 1}


def test_cases_07_and_15():
    assert true_pixels("07-alpha-masks/in/rgba") == [1513]
    assert true_pixels("15-bool-tiff-mask-inverted/in/b") == [1513]
    labels = read_labels(CASES / "07-alpha-masks" / "in" / "rgba" / "masks" / "1.png")
    assert int((labels > 0).sum()) == 1513


def test_a_jpeg_is_no_label_map_for_it_changes_the_numbers(tmp_path):
    Image.fromarray(np.eye(30, dtype=np.uint8) * 3).save(tmp_path / "m.jpg")
    with pytest.raises(ImageReadError, match="JPEG, which changes the numbers"):
        read_labels(tmp_path / "m.jpg")


@pytest.mark.parametrize("values", [(0, 1), (0, 77), (0, 255), (0, 40, 220, 255)])
def test_the_object_of_a_mask_of_one_object(tmp_path, values):
    hard = np.zeros(SIZE, np.uint8)
    hard[10:40, 20:60] = values[-1]
    if len(values) > 2:
        hard[9, 20:60], hard[40, 20:60] = values[1], values[2]
    Image.fromarray(hard).save(tmp_path / "m.png")
    expected = hard > (127 if len(values) > 2 else 0)
    np.testing.assert_array_equal(object_mask(tmp_path / "m.png", SIZE), expected)
    half = object_mask(tmp_path / "m.png", (48, 64))
    np.testing.assert_array_equal(half, expected[1::2, 1::2])
