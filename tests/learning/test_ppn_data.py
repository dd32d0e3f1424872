"""The images that a prompt predictor learns from."""

import numpy as np
import pytest
from PIL import Image

from napari_usgseg.core.errors import DatasetError
from napari_usgseg.io.atomic import write_over
from napari_usgseg.io.datasets import read_dataset
from napari_usgseg.io.labels import write_labels
from napari_usgseg.learning.labelled import load_chosen, load_items
from napari_usgseg.phantoms.phantom import write_phantom_dataset


def test_a_mask_of_another_size_is_named_before_anything_is_learnt(tmp_path):
    dataset = read_dataset(write_phantom_dataset(tmp_path / "data", 2, 0, size_hw=(96, 128)))
    assert [image.labels.shape for image in load_items(dataset.items)] == [(96, 128)] * 2
    wrong = dataset.items[1].mask_path
    write_labels(wrong, np.ones((48, 60), np.uint8), write_over)
    with pytest.raises(DatasetError, match=rf"{wrong.name}: is 60x48 pixels, its image 128x96"):
        load_items(dataset.items)


def test_images_that_cannot_be_read_are_named_and_others_are_drawn(tmp_path):
    dataset = read_dataset(write_phantom_dataset(tmp_path / "data", 6, 0, size_hw=(96, 128)))
    gone, cut = dataset.items[0].mask_path, dataset.items[1].image_path
    gone.unlink()
    cut.write_bytes(cut.read_bytes()[:100])
    for count in (4, None):
        chosen, rest, failures = load_chosen(dataset, count, 0, 0)
        names = sorted(image.image_id for image in chosen)
        assert names == [item.item_id for item in dataset.items[2:]]
        assert not rest
        assert {failure.path for failure in failures} == {gone, cut}
    with pytest.raises(DatasetError, match=rf"4 images, 5 were asked for; 2 .*{gone.name}"):
        load_chosen(dataset, 5, 0, 0)


def test_a_data_set_of_which_nothing_can_be_read_says_why(tmp_path):
    dataset = read_dataset(write_phantom_dataset(tmp_path / "data", 3, 0, size_hw=(96, 128)))
    for item in dataset.items:
        Image.fromarray(np.full((96, 128), 77, np.uint8)).save(item.mask_path)
    with pytest.raises(DatasetError, match=r"none of its 3 images .*holds the values 77 \(12288 "):
        load_chosen(dataset, None, 0, 0)
