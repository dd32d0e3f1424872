"""An image and its label map."""

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from PIL import Image

from napari_usgseg.core.errors import DatasetError
from napari_usgseg.core.metrics import dice
from napari_usgseg.core.notes import listening
from napari_usgseg.io.datasets import DatasetItem, read_mask, read_pair
from napari_usgseg.io.masks import RESCALED, same_shape

CASES = Path(__file__).parents[1] / "cases"


@pytest.fixture
def item(tmp_path):
    Image.new("L", (40, 30), 7).save(tmp_path / "image.png")
    Image.fromarray(np.eye(30, 40, dtype=np.uint8)).save(tmp_path / "mask.png")
    return DatasetItem("a", "a", tmp_path / "image.png", tmp_path / "mask.png")


def test_a_pair_is_read_in_one_size(item):
    image, labels = read_pair(item)
    assert image.shape == (30, 40, 3)
    np.testing.assert_array_equal(labels, np.eye(30, 40))


@pytest.mark.parametrize("size", [(30, 40), (20, 16), (41, 30), (80, 64), (40, 29), (80, 30)])
def test_a_label_map_of_another_size_is_named_with_both_sizes(item, size):
    Image.new("L", size).save(item.mask_path)
    with pytest.raises(DatasetError, match=rf"mask\.png: is {size[0]}x{size[1]}.*image 40x30"):
        read_pair(item)


def mask_of(item, values, labels):
    Image.fromarray(np.array([values], np.uint8)).save(item.mask_path)
    return replace(item, labels=labels)


@pytest.mark.parametrize(
    ("values", "labels", "read"),
    [
        ([0, 255], (1,), [0, 1]),
        ([255, 255], (3,), [3, 3]),
        ([0, 0], (1,), [0, 0]),
        ([0, 255], (255,), [0, 255]),
        ([0, 255], (), [0, 255]),
        ([0, 1], (7,), [0, 7]),
        ([0, 254], (300,), [0, 300]),
    ],
)
def test_a_mask_of_0_and_255_is_one_of_the_only_label(item, values, labels, read):
    np.testing.assert_array_equal(read_mask(mask_of(item, values, labels)), [read])


@pytest.mark.parametrize("values", [[0, 255], [0, 127], [0, 85, 170, 255]])
def test_grey_levels_in_place_of_several_labels_are_refused(item, values):
    found = mask_of(item, values, (1, 2))
    listed = ", ".join(map(str, values[1:]))
    with pytest.raises(DatasetError, match=rf"values {listed} .* labels, 1, 2; expected 0"):
        read_mask(found)


@pytest.mark.parametrize(
    ("values", "labels", "said"),
    [
        ([0, 1, 255], (1,), r"255 \(1 pixel\)"),  # 255 is "not annotated" in some masks
        ([0, 1, 3, 3], (1, 2), r"3 \(2 pixels\)"),  # another structure, which nobody named
        ([0, 2], (1,), r"2 \(1 pixel\)"),
        ([0, 127], (1,), r"127 \(1 pixel\)"),
        ([0, *range(5, 12)], (1,), r"5, 6, 7, 8, 9 \(1, 1, 1, 1, 1 pixels\), and 2 values more"),
    ],
)
def test_a_value_that_is_no_label_is_named_with_its_pixels(item, values, labels, said):
    with pytest.raises(DatasetError, match=rf"mask\.png: holds the values {said}"):
        read_mask(mask_of(item, values, labels))


# Another scale


@settings(deadline=None, max_examples=60)
@given(
    st.integers(8, 60), st.integers(8, 60), st.floats(1.3, 5),
    st.sampled_from([math.floor, round, math.ceil]), st.booleans(),
)  # fmt: skip
def test_a_mask_of_another_scale_is_brought_to_its_image_s_size(
    tmp_path_factory, height, width, scale, rounded, larger
):
    folder = tmp_path_factory.mktemp("pair")
    small = (height, width)
    large = (rounded(height * scale), rounded(width * scale))
    assume(same_shape(small, large))  # (very small ones may be off by much)
    image_hw, mask_hw = (small, large) if larger else (large, small)
    Image.new("L", image_hw[::-1], 7).save(folder / "image.png")
    mask = np.zeros(mask_hw, np.uint8)
    mask[mask_hw[0] // 4 : mask_hw[0] // 2, mask_hw[1] // 3 :] = 3
    Image.fromarray(mask).save(folder / "mask.png")
    item = DatasetItem("a", "a", folder / "image.png", folder / "mask.png", labels=(3, 4))
    with listening() as notes:
        image, labels = read_pair(item)
    assert notes.lines() == [f"{item.mask_path}: {RESCALED}"]
    assert labels.shape == image.shape[:2] == image_hw
    nearest = Image.fromarray(mask).resize(image_hw[::-1], Image.Resampling.NEAREST)
    assert (labels != np.asarray(nearest)).mean() < 0.1
    assert set(np.unique(labels)) <= {0, 3}


@settings(deadline=None, max_examples=200)
@given(st.integers(40, 900), st.integers(40, 900), st.floats(1.01, 9))
def test_every_rounding_of_a_scaled_size_is_the_same_shape(height, width, scale):
    for rounded in (math.floor, round, math.ceil):
        large = (rounded(height * scale), rounded(width * scale))
        different = height < large[0] and width < large[1]
        assert same_shape((height, width), large) == different
        assert same_shape(large, (height, width)) == different


@pytest.mark.parametrize("grey", [False, True])
def test_the_masks_of_case_40_are_read_at_their_images_size(tmp_path, grey):
    folder = CASES / "40-masks-of-another-scale" / "in" / "Hospital"
    for number, side in ((1, 420), (2, 512)):
        mask = Image.open(folder / f"mask_{number}.png")
        assert mask.size == (side, side)
        if grey:
            mask = mask.convert("L").resize((256, 256), Image.Resampling.BILINEAR)
        mask.save(tmp_path / "mask.png")
        item = DatasetItem(
            "a", "a", folder / f"Test_Image_{number}.png", tmp_path / "mask.png", labels=(1,)
        )
        labels = read_pair(item)[1]
        assert labels.shape == (128, 128)
        box = mask.convert("L").resize((128, 128), Image.Resampling.BOX)
        assert dice(labels > 0, np.asarray(box) >= 128) > 0.97
