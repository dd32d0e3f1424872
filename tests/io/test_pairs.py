"""An image and its label map."""

from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from napari_usgseg.errors import DatasetError
from napari_usgseg.io.datasets import DatasetItem
from napari_usgseg.io.pairs import read_mask, read_pair


@pytest.fixture
def item(tmp_path):
    Image.new("L", (40, 30), 7).save(tmp_path / "image.png")
    Image.fromarray(np.eye(30, 40, dtype=np.uint8)).save(tmp_path / "mask.png")
    return DatasetItem("a", "a", tmp_path / "image.png", tmp_path / "mask.png")


def test_a_pair_is_read_in_one_size(item):
    image, labels = read_pair(item)
    assert image.shape == (30, 40, 3)
    np.testing.assert_array_equal(labels, np.eye(30, 40))


@pytest.mark.parametrize("size", [(30, 40), (20, 15), (41, 30)])
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
        ([0, 1, 255], (1,), [0, 1, 255]),  # 255 is "not annotated" in some masks
        ([0, 255], (255,), [0, 255]),
        ([0, 255], (), [0, 255]),
        ([0, 2], (1,), [0, 2]),  # another structure, which the data set does not name
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
