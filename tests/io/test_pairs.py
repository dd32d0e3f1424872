"""An image and its label map."""

import numpy as np
import pytest
from PIL import Image

from napari_usgseg.errors import DatasetError
from napari_usgseg.io.datasets import DatasetItem
from napari_usgseg.io.pairs import read_pair


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
